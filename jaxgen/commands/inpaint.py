"""python -m jaxgen inpaint: hidden parts of an image filled in by a diffusion model."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import PNG, Folder, Picture
from jaxgen.core.errors import at_least
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def inpaint(
    run: Folder,
    picture: Picture,
    mask: Path,
    method: Literal["repaint", "ddnm", "dps"] = "repaint",
    times: int = 5,
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("inpainted.png"),
    overwrite: bool = False,
):
    """Paint what is hidden of an image, in several ways: what is left of it, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size
        mask: an image of the same size, white where it is to be painted
        method: repaint takes each step several times, so that both parts fit each other; ddnm sets the known part right
            in each step of the run's own sampler; dps leads the samples to it by a gradient
        times: how often repaint takes a step
        noise: of the image, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is painted; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    import jax.numpy as jnp

    from jaxgen.diffusion import conditions
    from jaxgen.inference import inpainting

    at_least(1, times=times)
    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=[picture, mask])
    editor = ImageEditor(run, count, seed, label, sampling, out)
    if method != "repaint":
        editor.check_pixels("write --method repaint")
    inpainting.check(editor.denoiser)
    known, hidden = editor.read(picture), editor.read_mask(mask, picture)

    def paint(denoise, d, keys, given):
        x0, unknown = given
        if method == "repaint":
            return inpainting.repainted(denoise, d, keys, x0, unknown, times)
        left = jnp.broadcast_to(1 - unknown, x0.shape)
        return editor.solve(method, denoise, d, keys, x0 * left, conditions.masking(left), noise)

    editor.finish(paint, (known, hidden), known * (1 - hidden) - hidden, f"by {method}")
