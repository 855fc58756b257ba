"""Style images, from files or drawn patterns, and the content and style losses of style transfer."""

from collections.abc import Callable, Sequence
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
from jaxgen.nn.resample import resize_image
from jaxgen.pretrained.backbones import Backbone

ROUNDING = 1e-10  # of a relative squared distance: up to 1e-15 for images of 64x64, more for larger images
PATTERNS = ("waves", "checks", "dots")  # drawn styles, which need no file


def check(styles: Sequence[str]):
    """Raise InputError where a style is neither a file nor the name of a pattern, or there is none."""
    at_least(1, model__styles=len(styles))
    for style in styles:
        if style not in PATTERNS and not Path(style).expanduser().is_file():
            raise InputError(f"There is no style image {style}: name a file, or one of {', '.join(PATTERNS)}.")


def names(styles: Sequence[str]) -> tuple[str, ...]:
    """Return the styles' names: file names without their endings, and a number at the end of equal names."""
    short = [Path(style).stem for style in styles]
    return tuple(name if short.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(short))


def style_image(style: str, size: int) -> np.ndarray:
    """Return a style's image f32[h w 3] in [-1, 1], downsampled so that its longer side is at most `size` pixels."""
    if style in PATTERNS:
        return pattern(style, size)
    return fitted(three_channels(photo.read(Path(style).expanduser()).pixels), size)


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """Return an image [h w 1] or [h w 3] with three channels."""
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return an image, downsampled so that its longer side is at most `size` pixels; 0: unchanged."""
    height, width = pixels.shape[:2]
    if not size or max(height, width) <= size:
        return pixels
    small = round(height * size / max(height, width)), round(width * size / max(height, width))
    return np.asarray(resize_image(jnp.asarray(pixels), (max(small[0], 1), max(small[1], 1)), "reflect"))


def pattern(name: str, size: int) -> np.ndarray:
    """Return a drawn pattern f32[size size 3] in [-1, 1]."""
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


def unit_features(backbone: Backbone, image: Array, layers: Sequence[str]) -> list[Array]:
    """Return a backbone's feature maps with features of unit length at each position, as LPIPS compares them.

    The length of features grows steeply with contrast. With their full length a net learns to paint without contrast
    (content loss), or puts a whole style into one spot of the image (Gram matrices, which are sums of squares).
    """
    return [unit(x) for x in backbone.features(image, layers)]


def grams(
    backbone: Backbone,
    styles: Sequence[str],
    size: int,
    layers: Sequence[str],
    features: Callable[[Backbone, Array, Sequence[str]], list[Array]] = unit_features,
) -> list[Array]:
    """Return the Gram matrices of several styles' features, f32[n c c] for each layer."""
    each = [features(backbone, jnp.asarray(style_image(style, size))[None], layers) for style in styles]
    return [jnp.concatenate([gram(x) for x in maps]) for maps in zip(*each, strict=True)]


def relative_distance(x: Array, target: Array) -> Array:
    """Return |x - target|^2 / |target|^2 of each example, f32[b], independent of the scale of features.

    Differences up to rounding count as 0: otherwise Adam would make full steps from their gradients.
    """
    axes = tuple(range(1, x.ndim))
    return nn.relu(jnp.square(x - target).sum(axes) / (jnp.square(target).sum(axes) + 1e-12) - ROUNDING)


def content_distance(maps: Sequence[Array], targets: Sequence[Array]) -> Array:
    """Return the mean over layers of |F - P|^2 / |P|^2, maps [b h w c], f32[b]."""
    return reduce(jnp.add, (relative_distance(x, y) for x, y in zip(maps, targets, strict=True))) / len(maps)


def style_distance(maps: Sequence[Array], targets: Sequence[Array]) -> Array:
    """Return the mean over layers of |G(F) - A|^2 / |A|^2, maps [b h w c] and Gram matrices [b c c], f32[b]."""
    return reduce(jnp.add, (relative_distance(gram(x), a) for x, a in zip(maps, targets, strict=True))) / len(maps)


def roughness(x: Array, known: Array | None = None) -> Array:
    """Return the mean squared difference between neighbours of x [b h w c], f32[b]: squared total variation.

    known: an image with edges that cost nothing: a difference counts only as far as it is larger than there
    """
    down, across = (jnp.abs(jnp.diff(x, axis=axis)) for axis in (1, 2))
    if known is not None:
        down, across = (nn.relu(d - jnp.abs(jnp.diff(known, axis=axis))) for d, axis in ((down, 1), (across, 2)))
    return jnp.square(down).mean((1, 2, 3)) + jnp.square(across).mean((1, 2, 3))
