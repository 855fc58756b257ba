"""python -m jaxgen edit: variations, blends, colourisation and deblurring by a diffusion model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, ImageFile
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Seed
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def edit(
    run: Folder,
    image: ImageFile,
    how: Literal["variation", "blend", "colourise", "deblur"] = "variation",
    other: Path | None = None,
    strength: float = 0.5,
    sigma: float = 1.0,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: Seed = 0,
    label: str | None = None,
    sampling: str = "",
    out: Path = Path("edited.png"),
    overwrite: bool = False,
):
    """Edit an image with a diffusion model. The output shows the input, then the results.

    Args:
        run: the run folder of a diffusion or flow model
        image: an image file; it is cropped and resized to the model's size
        how: variation adds noise and removes it again (SDEdit); blend interpolates to another image, on a great circle
            between the noise of both; colourise adds colour to the image's grey levels; deblur removes a Gaussian blur
        other: the second image of blend
        strength: the share of the sampler's steps that variation takes, in (0, 1]
        sigma: standard deviation of the blur, in pixels
        method: for colourise and deblur: ddnm corrects the known values in each step; dps guides the samples by the
            gradient of their error
        noise: standard deviation of the noise in the image, on the scale 0-255 (dps only)
        count: number of results
        seed: the random seed
        label: the class of the results, by name or number, for a class-conditional model; unset: no class
        sampling: settings that replace the run's model.sampling, such as steps=50
        out: the output file, a .png
        overwrite: replace existing files
    """
    import jax.numpy as jnp

    from jaxgen.diffusion import conditions, samplers

    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=filter(None, [image, other]))
    editor = ImageEditor(run, count, seed, label, sampling, out)
    given: Any = editor.read(image)
    shown = given
    if (other is None) == (how == "blend"):
        raise InputError("--other names the second image of --how blend: give both or neither.")
    if how in ("colourise", "deblur"):
        editor.check_pixels("--how is variation or blend")
    elif method == "dps":
        raise InputError(f"--method dps is for --how colourise or deblur, not {how}.")
    if how == "colourise" and editor.image[2] != 3:
        raise InputError("This model's images have no three channels: it can't colourise.")
    rest, measurement = conditions.last_steps(editor.taus, strength), conditions.gaussian_blur(sigma)
    if how == "blend":
        assert other is not None
        given = shown = np.concatenate([given, editor.read(other)])  # [2 h w c]
    if how == "colourise":
        measurement = conditions.greyscale()
        given = measurement.forward(given)
        shown = np.asarray(measurement.back(given))

    def vary(denoise, d, keys, x0):
        x = conditions.add_noise(d.encode(x0), float(rest[0]), keys, d.frame)
        return d.decode(editor.sample(denoise, d, keys, rest, x))

    def blend(denoise, d, keys, both):
        one, two = conditions.invert(denoise, d.encode(both), d.taus, d.frame)
        x = conditions.slerp(one, two, jnp.linspace(0, 1, count))
        return d.decode(samplers.heun(denoise, x, d.taus))

    def undo(denoise, d, keys, y):
        return editor.solve(method, denoise, d, keys, y, measurement, noise)

    solve = {"variation": vary, "blend": blend}.get(how, undo)
    editor.finish(solve, given, shown, f"by {how}")
