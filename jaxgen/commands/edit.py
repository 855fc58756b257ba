"""python -m jaxgen edit: variations, blends and restorations by a diffusion model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, Picture
from jaxgen.core.errors import InputError
from jaxgen.inference.editing import ImageEditor, check_noise
from jaxgen.media import output_files


def edit(
    run: Folder,
    picture: Picture,
    how: Literal["variation", "blend", "colourise", "deblur"] = "variation",
    other: Path | None = None,
    strength: float = 0.5,
    sigma: float = 1.0,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("edited.png"),
    overwrite: bool = False,
):
    """Change an image: what was given, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size
        how: variation adds noise and takes it out again (SDEdit); blend goes to another image on a great circle
            between the noise that leads to both; colourise keeps the grey; deblur undoes a Gaussian blur
        other: the image that blend goes to
        strength: the share of the sampler's steps that variation takes, in (0, 1]
        sigma: pixels of the blur
        method: of colourise and deblur: ddnm sets what is known right in each step; dps leads the samples to it by a
            gradient
        noise: of the image, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is drawn; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    import jax.numpy as jnp

    from jaxgen.diffusion import conditions, samplers

    check_noise(noise, method)
    output_files.check(out, PNG, overwrite, given=filter(None, [picture, other]))
    editor = ImageEditor(run, count, seed, label, sampling, out)
    given: Any = editor.read(picture)
    shown = given
    if (other is None) == (how == "blend"):
        raise InputError("--other names the image that --how blend goes to: give both or neither.")
    if how in ("colourise", "deblur"):
        editor.check_pixels("--how is variation or blend")
    elif method == "dps":
        raise InputError(f"--method dps is of what is known of an image: --how {how} takes none.")
    if how == "colourise" and editor.image[2] != 3:
        raise InputError("This model's images are not of three channels: it can't colourise.")
    rest, way = conditions.last_steps(editor.taus, strength), conditions.gaussian_blur(sigma)
    if how == "blend":
        assert other is not None
        given = shown = np.concatenate([given, editor.read(other)])  # [2 h w c]
    if how == "colourise":
        way = conditions.greyscale()
        given = way.forward(given)
        shown = np.asarray(way.back(given))

    def vary(denoise, d, keys, x0):
        x = conditions.add_noise(d.encode(x0), float(rest[0]), keys, d.frame)
        return d.decode(editor.sample(denoise, d, keys, rest, x))

    def blend(denoise, d, keys, both):
        one, two = conditions.invert(denoise, d.encode(both), d.taus, d.frame)
        x = conditions.slerp(one, two, jnp.linspace(0, 1, count))
        return d.decode(samplers.heun(denoise, x, d.taus))

    def undo(denoise, d, keys, y):
        return editor.solve(method, denoise, d, keys, y, way, noise)

    paint = {"variation": vary, "blend": blend}.get(how, undo)
    editor.finish(paint, given, shown, f"by {how}")
