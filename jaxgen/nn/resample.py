"""Resampling of images as two matrix products, one per axis, with weights from the host in float64.

Every function takes x [... h w c] of any float dtype and returns that dtype; the sums are f32 (f64 for f64).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least, choose

Array = jax.Array
Size = tuple[int, int]  # height, width


def cubic(t: Any, xp: Any = np) -> Any:
    """Keys 1981, equation 15, which is his a = -1/2: as in MATLAB, Pillow and jax.image. xp: numpy or jax.numpy."""
    t = xp.abs(t)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return xp.where(t <= 1, near, xp.where(t < 2, far, 0))


KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {  # half the width, and the kernel
    "bilinear": (1, lambda t: np.maximum(1 - np.abs(t), 0)),
    "bicubic": (2, cubic),
    "lanczos3": (3, lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)),
}
EDGES = ("renormalise", "reflect")


def weight_matrix(n: int, taps: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return f64[m n] with the weights w [m k], divided by their sum, in columns taps [m k]."""
    out = np.zeros((len(taps), n))
    np.add.at(out, (np.arange(len(taps))[:, None], taps), w)
    return out / out.sum(1, keepdims=True)


@lru_cache(maxsize=64)
def resampling_weights(n: int, m: int, scale: float, method: str, antialias: bool, edges: str) -> np.ndarray:
    """Return f64[m n], the weights of n pixels in each of m, the images' first edges laid on one another.

    Pixel i of the new image lies at u = (i + 1/2) / scale - 1/2 of the old one, in pixels.
    """
    at_least(1, height_or_width=min(n, m))
    choose(edges, EDGES, "treatment of edges")
    choose(method, ["nearest", *KERNELS], "method of resampling")
    place = (np.arange(m)[:, None] + 0.5) / scale  # [m 1], from the image's edge
    if method == "nearest":
        return weight_matrix(n, np.clip(np.floor(place).astype(int), 0, n - 1), np.ones((m, 1)))
    half, kernel = KERNELS[method]
    wide = max(1 / scale, 1) if antialias else 1.0
    reach = math.ceil(half * wide) + 1
    taps = np.floor(place).astype(int) + np.arange(-reach, reach + 1)  # [m k]
    w = kernel((place - 0.5 - taps) / wide)  # [m k]
    if edges == "reflect":  # 1 0 | 0 1 ... n-1 | n-1 n-2, as often as it takes
        taps = taps % (2 * n)
        return weight_matrix(n, np.minimum(taps, 2 * n - 1 - taps), w)
    return weight_matrix(n, np.clip(taps, 0, n - 1), np.where((taps >= 0) & (taps < n), w, 0))


def apply_weights(x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Return x [... h w c] under rows [H h] and columns [W w]: [... H W c]."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"Only images of floats can be resampled, not of {x.dtype}.")
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # Full f32 also where the default is TF32 or bf16: a metric's pixels must not depend on the device.
    y = jnp.einsum("...hwc,Hh->...Hwc", x.astype(wide), jnp.asarray(rows, wide), precision="highest")
    return jnp.einsum("...hwc,Ww->...hWc", y, jnp.asarray(columns, wide), precision="highest").astype(x.dtype)


def resize(x: Array, size: Size, method: str = "bicubic", antialias: bool = True, edges: str = "renormalise") -> Array:
    """Return x [... h w c] resampled to size, [... H W c], its corners on the old corners.

    method:    "nearest" (never antialiased), "bilinear", "bicubic" or "lanczos3"
    antialias: widen the kernel by the old size over the new one where that shrinks the image
    edges:     past the border there is nothing, and the weights inside are divided by their sum ("renormalise", as in
               Pillow, TensorFlow 2 and jax.image), or the image's mirror image ("reflect", as in MATLAB)
    Raises InputError for an unknown name or an empty image.
    """
    h, w, _ = x.shape[-3:]
    rows, columns = (resampling_weights(n, m, m / n, method, antialias, edges) for n, m in ((h, size[0]), (w, size[1])))
    return apply_weights(x, rows, columns)


def resize_clean(x: Array, size: Size) -> Array:
    """Return x [... h w c] resampled as Pillow's bicubic does each channel as floats, unrounded and unclipped.

    Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", section 3.
    """
    return resize(x, size, "bicubic", True, "renormalise")


def imresize(x: Array, scale: float) -> Array:
    """Return x [... h w c] as MATLAB's imresize(x, scale): bicubic, antialiased, mirrored, [... ceil(h scale) ... c].

    Where h * scale isn't whole the factor between the coordinates stays `scale`, and so isn't that of the sizes.
    Unrounded and unclipped, as MATLAB's of doubles.
    """
    at_least(0, scale=scale)
    h, w, _ = x.shape[-3:]
    rows, columns = (resampling_weights(n, math.ceil(n * scale), scale, "bicubic", True, "reflect") for n in (h, w))
    return apply_weights(x, rows, columns)


@lru_cache(maxsize=64)
def tf1_weights(n: int, m: int) -> np.ndarray:
    """Return f64[m n] of linear interpolation at u = i n / m, computed in f32 as there."""
    at_least(1, height_or_width=min(n, m))
    u = np.arange(m, dtype=np.float32) * np.float32(n / m)
    low = np.floor(u)
    taps = np.minimum(np.stack([low, low + 1], 1).astype(int), n - 1)  # [m 2]
    return weight_matrix(n, taps, np.stack([1 - (u - low), u - low], 1))


def resize_tf1(x: Array, size: Size) -> Array:
    """Return x [... h w c] as TensorFlow 1's resize_bilinear(align_corners=False), which is inside the graph of FID.

    No antialiasing, and pixel i lies at i h / H: the image is shifted by up to half a pixel.
    """
    h, w, _ = x.shape[-3:]
    return apply_weights(x, tf1_weights(h, size[0]), tf1_weights(w, size[1]))
