"""python -m jaxgen upscale: an image enlarged by a diffusion model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, ImageFile
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def upscale(
    run: Folder,
    image: ImageFile,
    factor: int = 2,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: Seed = 0,
    label: str | None = None,
    sampling: str = "",
    out: Path = Path("upscaled.png"),
    overwrite: bool = False,
):
    """Enlarge an image with a diffusion model. Averaged over squares of pixels, each result equals the image.

    The output shows the small image, then the results.

    Args:
        run: the run folder of a diffusion or flow model
        image: an image file; it is cropped and resized to the model's size divided by the factor
        factor: the scale factor, the side of a square in pixels
        method: ddnm corrects the averages in each step; dps guides the samples by the gradient of their error
        noise: standard deviation of the noise in the image, on the scale 0-255 (dps only)
        count: number of results
        seed: the random seed
        label: the class of the results, by name or number, for a class-conditional model; unset: no class
        sampling: settings that replace the run's model.sampling, such as steps=50
        out: the output file, a .png
        overwrite: replace existing files
    """
    from jaxgen.diffusion import conditions

    at_least(2, factor=factor)
    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=[image])
    editor = ImageEditor(run, count, seed, label, sampling, out)
    editor.check_pixels("it can't enlarge images")
    h, w, c = editor.image
    if h % factor or w % factor:
        raise InputError(f"--factor {factor} must divide both sides of the model's {h}x{w} images.")
    small: Any = editor.read(image, (h // factor, w // factor, c))
    measurement = conditions.box_downsampling(factor)

    def solve(denoise, d, keys, y):
        return editor.solve(method, denoise, d, keys, y, measurement, noise)

    editor.finish(solve, small, np.asarray(measurement.back(small)), f"from {w // factor}x{h // factor}")
