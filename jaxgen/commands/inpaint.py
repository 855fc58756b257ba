"""python -m jaxgen inpaint: masked parts of an image filled in by a diffusion model."""

from pathlib import Path
from typing import Literal

from jaxgen.commands.shared import PNG, Folder, ImageFile
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Seed
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def inpaint(
    run: Folder,
    image: ImageFile,
    mask: Path,
    method: Literal["repaint", "ddnm", "dps"] = "repaint",
    times: int = 5,
    noise: float = 0.0,
    count: int = 7,
    seed: Seed = 0,
    label: str | None = None,
    sampling: str = "",
    out: Path = Path("inpainted.png"),
    overwrite: bool = False,
):
    """Fill in the masked part of an image with a diffusion model. The output shows the masked image, then the results.

    Args:
        run: the run folder of a diffusion or flow model
        image: an image file; it is cropped and resized to the model's size
        mask: an image of the same size, white in the part to fill in
        method: repaint repeats each sampling step, so that both parts fit together; ddnm restores the known part in
            each step of the run's own sampler; dps guides the samples by the gradient of the error in the known part
        times: number of times that repaint takes each step
        noise: standard deviation of the noise in the image, on the scale 0-255 (dps only)
        count: number of results
        seed: the random seed
        label: the class of the results, by name or number, for a class-conditional model; unset: no class
        sampling: settings that replace the run's model.sampling, such as steps=50
        out: the output file, a .png
        overwrite: replace existing files
    """
    import jax.numpy as jnp

    from jaxgen.diffusion import conditions
    from jaxgen.inference import inpainting

    at_least(1, times=times)
    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=[image, mask])
    editor = ImageEditor(run, count, seed, label, sampling, out)
    if method != "repaint":
        editor.check_pixels("write --method repaint")
    inpainting.check(editor.denoiser)
    known, hidden = editor.read(image), editor.read_mask(mask, image)

    def solve(denoise, d, keys, given):
        x0, unknown = given
        if method == "repaint":
            return inpainting.repainted(denoise, d, keys, x0, unknown, times)
        left = jnp.broadcast_to(1 - unknown, x0.shape)
        return editor.solve(method, denoise, d, keys, x0 * left, conditions.masking(left), noise)

    editor.finish(solve, (known, hidden), known * (1 - hidden) - hidden, f"by {method}")
