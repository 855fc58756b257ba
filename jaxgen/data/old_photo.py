"""Degradation of old photographic prints: fading, stains, grain, creases, scratches, dust."""

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.data.blur import gaussian_blur
from jaxgen.data.degradation_ops import Key, broadcast_like, fold_keys, luma, smooth_field, uniform
from jaxgen.data.masks import line_coverage

Array = jax.Array

INK = (0.13, 0.09, 0.06)  # R, G, B of the darkest and the brightest colour of a yellowed print
PAPER = (0.97, 0.91, 0.78)


def old_photo(x: Array, keys: Key) -> tuple[Array, Array]:
    """Return x as an old print, clipped, and the mask of destroyed pixels, f32[b h w 1]."""
    x = stain(fade(x, keys), keys)
    x = add_grain(x, uniform(fold_keys(keys, "grain"), 2, 10), keys)
    x, holes = crease(x, keys)
    for degrade in (scratch, add_dust):
        x, more = degrade(x, keys)
        holes = jnp.maximum(holes, more)
    return jnp.clip(x, -1, 1), holes


def fade(x: Array, keys: Key, age: Array | None = None) -> Array:
    """Return x with less contrast and colours shifted to sepia, unevenly, by age f32[b] in [0, 1]."""
    age = uniform(fold_keys(keys, "age"), 0.2, 1) if age is None else age
    u = uniform(fold_keys(keys, "fade"), 0, 1, (4,))
    value = (jnp.clip(x, -1, 1) + 1) / 2
    light = broadcast_like(luma(value), x)
    ink, paper = (jnp.broadcast_to(colour_like(rgb, x), x.shape) for rgb in (INK, PAPER))
    sepia = ink + (paper - ink) * light ** broadcast_like(0.8 + 0.5 * u[:, 0], x)
    # Two thirds of the photographs were black and white originally.
    toned = value + broadcast_like(jnp.where(u[:, 1] < 0.67, 1.0, 0.6 * age), x) * (sepia - value)
    low, high = broadcast_like(0.3 * age * u[:, 2], x), broadcast_like(1 - 0.25 * age * u[:, 3], x)
    uneven = (
        0.08
        * broadcast_like(age, x)
        * broadcast_like(smooth_field(fold_keys(keys, "uneven"), (x.shape[1], x.shape[2]), max(x.shape[1:3]) / 3), x)
    )
    return 2 * (low + (high - low) * toned + uneven * (1 - toned)) - 1


def colour_like(rgb: tuple[float, float, float], x: Array) -> Array:
    """Return a colour as f32[1 1 1 c] for images x [b h w c]; for grey images, its luma."""
    colour = jnp.asarray(rgb, jnp.float32).reshape(1, 1, 1, 3)
    return colour if x.shape[-1] == 3 else luma(colour)


def stain(x: Array, keys: Key) -> Array:
    """Return x with a few brown stains, darker at the rim; some images have none."""
    size = x.shape[1], x.shape[2]
    field = smooth_field(fold_keys(keys, "stains"), size, max(size) / 5) + 0.15 * smooth_field(
        fold_keys(keys, "rim"), size, max(max(size) / 40, 1)
    )
    least = uniform(fold_keys(keys, "stained"), 0.9, 2.2)
    wet = jax.nn.sigmoid(18 * (field - broadcast_like(least, field)))
    dark = broadcast_like(0.35 * wet + 1.6 * wet * (1 - wet), x) * broadcast_like(
        uniform(fold_keys(keys, "strength"), 0.2, 0.6), x
    )
    brown = jnp.broadcast_to(colour_like((0.45, 0.33, 0.2), x), x.shape)
    return x + dark * (jnp.minimum(2 * brown - 1, x) - x)


def add_grain(x: Array, sigma: Array, keys: Key) -> Array:
    """Return x with grey grain about one pixel wide, strongest in the midtones; sigma f32[b] on a scale of 255."""
    noise = rng.normal(fold_keys(keys, "grains"), (*x.shape[1:3], 1))
    noise = gaussian_blur(noise, jnp.full(len(x), 0.6)) / 0.495  # restores the standard deviation
    middle = 1 - 0.6 * jnp.square(jnp.clip(x, -1, 1))
    return x + broadcast_like(sigma / 127.5, x) * broadcast_like(noise, x) * middle


def crease(x: Array, keys: Key) -> tuple[Array, Array]:
    """Return x with up to 4 folds with broken emulsion, and their mask f32[b h w 1]."""
    keys = fold_keys(keys, "creases")
    size = x.shape[1], x.shape[2]
    wide = line_coverage(keys, size, (0, 4), length=(0.3, 1.6), width=(14, 22), bend=0.03, rough=1.1)
    thin = line_coverage(
        keys, size, (0, 4), length=(0.3, 1.6), width=(1.2, 3.5), bend=0.03, rough=1.1
    )  # the same lines
    sides = uniform(fold_keys(keys, "side"), -1, 1, (wide.shape[1], 1, 1))
    x = x + broadcast_like(0.12 * (wide * sides).sum(1)[..., None], x)  # the paper is no longer flat
    return cover_with_paper(x, thin.max(1)[..., None], uniform(fold_keys(keys, "white"), 0.75, 1), keys)


def scratch(x: Array, keys: Key) -> tuple[Array, Array]:
    """Return x with 2 to 14 thin scratches, one in five of them dark, and their mask f32[b h w 1]."""
    keys = fold_keys(keys, "scratches")
    cover = line_coverage(
        keys, (x.shape[1], x.shape[2]), (2, 14), length=(0.03, 0.5), width=(0.6, 1.6), bend=0.25, rough=0.8
    )
    dark = uniform(fold_keys(keys, "dark"), 0, 1, (cover.shape[1], 1, 1)) < 0.2
    strength = uniform(fold_keys(keys, "strength"), 0.5, 1, (cover.shape[1], 1, 1))
    black = jnp.where(dark, cover * strength, 0).max(1)[..., None]
    x = x + 0.7 * broadcast_like(black, x) * (-0.9 - x)
    white = jnp.where(dark, 0, cover * strength).max(1)[..., None]
    x, holes = cover_with_paper(x, white, uniform(fold_keys(keys, "white"), 0.6, 1), keys)
    return x, jnp.maximum(holes, (black > 0.3).astype(jnp.float32))


def add_dust(x: Array, keys: Key) -> tuple[Array, Array]:
    """Return x with bright specks of dust, and their mask f32[b h w 1]."""
    keys = fold_keys(keys, "specks")
    size = x.shape[1], x.shape[2]
    field = smooth_field(fold_keys(keys, "dust"), size, max(min(size) / 110, 1.5))
    least = uniform(fold_keys(keys, "least"), 2.3, 3.2)
    cover = jnp.clip(4 * (field - broadcast_like(least, field)), 0, 1)
    return cover_with_paper(x, cover, uniform(fold_keys(keys, "white"), 0.5, 0.95), keys)


def cover_with_paper(x: Array, cover: Array, white: Array, keys: Key) -> tuple[Array, Array]:
    """Return x with fibrous paper of brightness white f32[b] showing by cover f32[b h w 1], and its mask."""
    fibres = 0.08 * rng.normal(fold_keys(keys, "fibres"), (*x.shape[1:3], 1))
    paper = jnp.broadcast_to(colour_like(PAPER, x), x.shape) * broadcast_like(white, x) + broadcast_like(fibres, x)
    return x + broadcast_like(cover, x) * (2 * paper - 1 - x), (cover > 0.3).astype(jnp.float32)
