"""python -m jaxgen upscale: an image enlarged by a diffusion model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, Picture
from jaxgen.core.errors import InputError, at_least
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def upscale(
    run: Folder,
    picture: Picture,
    factor: int = 2,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("upscaled.png"),
    overwrite: bool = False,
):
    """Draw images of the model's size whose means over squares are a given image: the small one, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size over factor
        factor: pixels of a square's side
        method: ddnm sets the means right in each step; dps leads the samples to them by a gradient
        noise: of the image, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is drawn; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    from jaxgen.diffusion import conditions

    at_least(2, factor=factor)
    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=[picture])
    editor = ImageEditor(run, count, seed, label, sampling, out)
    editor.check_pixels("it can't enlarge images")
    h, w, c = editor.image
    if h % factor or w % factor:
        raise InputError(f"--factor {factor} must divide both sides of the model's {h}x{w} images.")
    small: Any = editor.read(picture, (h // factor, w // factor, c))
    way = conditions.box_downsampling(factor)

    def paint(denoise, d, keys, y):
        return editor.solve(method, denoise, d, keys, y, way, noise)

    editor.finish(paint, small, np.asarray(way.back(small)), f"from {w // factor}x{h // factor}")
