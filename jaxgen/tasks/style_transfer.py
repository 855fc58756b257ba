"""Images whose style is wanted, from files or drawn, and what is asked of an image in their style."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array
from jaxgen.losses.perceptual import gram
from jaxgen.media import photo
from jaxgen.metrics.lpips import unit
from jaxgen.nn.resample import resize
from jaxgen.pretrained.backbones import Backbone

ROUNDING = 1e-10  # of a squared distance over a square: up to 1e-15 in images of 64x64, the more the larger
DRAWN = ("waves", "checks", "dots")  # patterns that need no file


def check(styles: Sequence[str]):
    """Raise InputError where a style is neither a file nor the name of a drawn pattern, or there is none."""
    at_least(1, model__styles=len(styles))
    for style in styles:
        if style not in DRAWN and not Path(style).expanduser().is_file():
            raise InputError(f"There is no style image {style}: name a file, or one of {', '.join(DRAWN)}.")


def names(styles: Sequence[str]) -> tuple[str, ...]:
    """Return the styles' names, those of their files without the ending, told apart by numbers where they are alike."""
    short = [Path(style).stem for style in styles]
    return tuple(name if short.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(short))


def picture(style: str, size: int) -> np.ndarray:
    """Return a style's image f32[h w 3] in [-1, 1], a larger one made small to `size` pixels of its longer side."""
    return drawn(style, size) if style in DRAWN else fitted(colour(photo.read(Path(style).expanduser()).pixels), size)


def colour(pixels: np.ndarray) -> np.ndarray:
    """Return an image [h w 1] or [h w 3] with three channels."""
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return an image made small to `size` pixels of its longer side, where it is larger; 0: as it is."""
    height, width = pixels.shape[:2]
    if not size or max(height, width) <= size:
        return pixels
    small = round(height * size / max(height, width)), round(width * size / max(height, width))
    return np.asarray(resize(jnp.asarray(pixels), (max(small[0], 1), max(small[1], 1)), edges="reflect"))


def drawn(name: str, size: int) -> np.ndarray:
    """Return a pattern f32[size size 3] in [-1, 1]."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    if name == "waves":
        level = np.sin(0.4 * (y + 3 * np.sin(0.25 * x)))
    elif name == "checks":
        level = np.sign(np.sin(0.5 * x) * np.sin(0.5 * y))
    else:
        level = np.where(np.hypot(x % 10 - 5, y % 10 - 5) < 3, 1, -1)
    low, high = {"waves": ((-0.8, -0.5, 0.2), (0.9, 0.8, 0.6))}.get(name, ((-0.6, -0.9, -0.9), (0.9, 0.3, -0.4)))
    share = (level[..., None] + 1) / 2
    return (share * np.array(high) + (1 - share) * np.array(low)).astype(np.float32)


def directions(backbone: Backbone, image: Array, layers: Sequence[str]) -> list[Array]:
    """Return a backbone's maps with features of unit length at each place, as LPIPS compares them.

    Their length grows steeply with contrast, and a net that learns to paint then learns to have none (content), or puts
    all of a style into one spot of the image (Gram matrices, which are sums of squares).
    """
    return [unit(x) for x in backbone.features(image, layers)]


def grams(backbone: Backbone, styles: Sequence[str], size: int, layers: Sequence[str]) -> list[Array]:
    """Return the Gram matrices of several styles' directions, f32[n c c] of each layer."""
    each = [directions(backbone, jnp.asarray(picture(style, size))[None], layers) for style in styles]
    return [jnp.concatenate([gram(x) for x in maps]) for maps in zip(*each, strict=True)]


def apart(made: Array, wish: Array) -> Array:
    """Return |a - b|^2 / |b|^2 of each example, f32[b]: whatever the backbone's scale, layers and weights are alike.

    What differs by rounding alone does not, lest Adam make full steps of its slopes.
    """
    axes = tuple(range(1, made.ndim))
    return nn.relu(jnp.square(made - wish).sum(axes) / (jnp.square(wish).sum(axes) + 1e-12) - ROUNDING)


def content_distance(maps: Sequence[Array], clean: Sequence[Array]) -> Array:
    """Return the mean over layers of |F - P|^2 / |P|^2, maps [b h w c], f32[b]."""
    return reduce(jnp.add, (apart(x, y) for x, y in zip(maps, clean, strict=True))) / len(maps)


def style_distance(maps: Sequence[Array], wanted: Sequence[Array]) -> Array:
    """Return the mean over layers of |G(F) - A|^2 / |A|^2, maps [b h w c] and Gram matrices [b c c], f32[b]."""
    return reduce(jnp.add, (apart(gram(x), a) for x, a in zip(maps, wanted, strict=True))) / len(maps)


def roughness(x: Array, known: Array | None = None) -> Array:
    """Return the mean squared difference between neighbours of x [b h w c], f32[b]: total variation, squared.

    known: an image whose own edges cost nothing: a difference counts as far as it is larger than there
    """
    down, across = (jnp.abs(jnp.diff(x, axis=axis)) for axis in (1, 2))
    if known is not None:
        down, across = (nn.relu(d - jnp.abs(jnp.diff(known, axis=axis))) for d, axis in ((down, 1), (across, 2)))
    return jnp.square(down).mean((1, 2, 3)) + jnp.square(across).mean((1, 2, 3))
