"""Image resampling as two matrix products, one per axis; the weights are computed on the host in float64.

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
    """Return the cubic kernel with a = -1/2, as in MATLAB, Pillow and jax.image. Keys 1981, equation 15.

    xp: numpy or jax.numpy
    """
    t = xp.abs(t)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return xp.where(t <= 1, near, xp.where(t < 2, far, 0))


KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {  # half width and kernel
    "bilinear": (1, lambda t: np.maximum(1 - np.abs(t), 0)),
    "bicubic": (2, cubic),
    "lanczos3": (3, lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)),
}
EDGES = ("renormalise", "reflect")


def weight_matrix(n: int, taps: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return f64[m n] with weights w [m k], normalised to sum 1, at columns taps [m k]."""
    out = np.zeros((len(taps), n))
    np.add.at(out, (np.arange(len(taps))[:, None], taps), w)
    return out / out.sum(1, keepdims=True)


@lru_cache(maxsize=64)
def resampling_weights(n: int, m: int, scale: float, method: str, antialias: bool, edges: str) -> np.ndarray:
    """Return f64[m n], the weights of n old pixels in each of m new ones; the first edges of both images coincide.

    Pixel i of the new image lies at u = (i + 1/2) / scale - 1/2 in pixels of the old one.
    """
    at_least(1, height_or_width=min(n, m))
    choose(edges, EDGES, "treatment of edges")
    choose(method, ["nearest", *KERNELS], "method of resampling")
    place = (np.arange(m)[:, None] + 0.5) / scale  # [m 1], measured from the edge of the image
    if method == "nearest":
        return weight_matrix(n, np.clip(np.floor(place).astype(int), 0, n - 1), np.ones((m, 1)))
    half, kernel = KERNELS[method]
    widening = max(1 / scale, 1) if antialias else 1.0
    reach = math.ceil(half * widening) + 1
    taps = np.floor(place).astype(int) + np.arange(-reach, reach + 1)  # [m k]
    w = kernel((place - 0.5 - taps) / widening)  # [m k]
    if edges == "reflect":  # 1 0 | 0 1 ... n-1 | n-1 n-2, repeated as needed
        taps = taps % (2 * n)
        return weight_matrix(n, np.minimum(taps, 2 * n - 1 - taps), w)
    return weight_matrix(n, np.clip(taps, 0, n - 1), np.where((taps >= 0) & (taps < n), w, 0))


def apply_weights(x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Return x [... h w c] resampled by the weights rows [H h] and columns [W w]: [... H W c]."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"Only images of floats can be resampled, not of {x.dtype}.")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    # Full f32 even if the default is TF32 or bf16: the pixels of a metric must not depend on the device.
    y = jnp.einsum("...hwc,Hh->...Hwc", x.astype(dtype), jnp.asarray(rows, dtype), precision="highest")
    return jnp.einsum("...hwc,Ww->...hWc", y, jnp.asarray(columns, dtype), precision="highest").astype(x.dtype)


def resize(x: Array, size: Size, method: str = "bicubic", antialias: bool = True, edges: str = "renormalise") -> Array:
    """Return x [... h w c] resampled to size, [... H W c]; the corners of both images coincide.

    method:    "nearest" (never antialiased), "bilinear", "bicubic" or "lanczos3"
    antialias: when shrinking, widen the kernel by old size / new size
    edges:     "renormalise" ignores pixels past the border and divides the weights by their sum, as in Pillow,
               TensorFlow 2 and jax.image; "reflect" extends the image by its mirror image, as in MATLAB
    Raises InputError for an unknown name or an empty image.
    """
    h, w, _ = x.shape[-3:]
    if not (isinstance(h, int) and isinstance(w, int)):  # a program that is exported for any size (jax.export)
        return _enlarged(_enlarged(x, -3, size[0] // h, method, edges), -2, size[1] // w, method, edges)
    rows, columns = (resampling_weights(n, m, m / n, method, antialias, edges) for n, m in ((h, size[0]), (w, size[1])))
    return apply_weights(x, rows, columns)


def _enlarged(x: Array, axis: int, scale: Any, method: str, edges: str) -> Array:
    """Return x enlarged along an axis of unknown size by a whole number: its weights repeat after every old pixel."""
    at_least(1, scale=int(scale))  # raises for a scale that depends on the size
    scale, n = int(scale), x.shape[axis]
    half, kernel = KERNELS[choose(method, KERNELS, "method of resampling for any size")]
    reach = math.ceil(half)
    taps = np.arange(-reach, reach + 1)
    w = kernel((np.arange(scale)[:, None] + 0.5) / scale - 0.5 - taps)  # [scale k], new pixels of an old one
    w = w / w.sum(1, keepdims=True)
    x = jnp.moveaxis(x, axis, 0)

    def weighted(x: Array, mode: str) -> Array:
        padded = jnp.pad(
            x.astype(jnp.promote_types(x.dtype, jnp.float32)), [(reach, reach)] + [(0, 0)] * (x.ndim - 1), mode=mode
        )
        shifted = jnp.stack([jax.lax.slice_in_dim(padded, i, i + n) for i in range(len(taps))])  # [k n ...]
        y = jnp.tensordot(jnp.asarray(w, padded.dtype), shifted, 1, precision="highest")  # [scale n ...]
        return jnp.moveaxis(y, 0, 1).reshape(n * scale, *x.shape[1:])

    if choose(edges, EDGES, "treatment of edges") == "reflect":
        y = weighted(x, "symmetric")
    else:
        y = weighted(x, "constant") / weighted(jnp.ones_like(x), "constant")
    return jnp.moveaxis(y.astype(x.dtype), 0, axis)


def resize_image(x: Array, size: Size, edges: str = "renormalise") -> Array:
    """Return an image x [... h w c] in [-1, 1] resized by antialiased bicubic, clipped: bicubic overshoots at edges."""
    return jnp.clip(resize(x, size, "bicubic", True, edges), -1, 1)


def resize_clean(x: Array, size: Size) -> Array:
    """Return x [... h w c] in [-1, 1] resampled as by Pillow's bicubic filter on float channels, clipped, unrounded.

    Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", section 3; the authors'
    clean-fid clips to 0 ... 255.
    """
    return resize_image(x, size)


def imresize(x: Array, scale: float) -> Array:
    """Return x [... h w c] as MATLAB's imresize(x, scale): bicubic, antialiased, mirrored, [... ceil(h scale) ... c].

    If h * scale is not an integer, coordinates are still scaled by `scale`, not by the ratio of the sizes. Unrounded
    and unclipped, as MATLAB does for doubles.
    """
    at_least(0, scale=scale)
    h, w, _ = x.shape[-3:]
    rows, columns = (resampling_weights(n, math.ceil(n * scale), scale, "bicubic", True, "reflect") for n in (h, w))
    return apply_weights(x, rows, columns)


@lru_cache(maxsize=64)
def corner_weights(n: int, m: int) -> np.ndarray:
    """Return the weights f64[m n] of linear interpolation at u = i (n - 1) / (m - 1)."""
    u = np.arange(m) * ((n - 1) / max(m - 1, 1))
    low = np.minimum(np.floor(u).astype(int), max(n - 2, 0))
    taps = np.minimum(np.stack([low, low + 1], 1), n - 1)  # [m 2]
    return weight_matrix(n, taps, np.stack([1 - (u - low), u - low], 1))


def resize_corners(x: Array, size: Size) -> Array:
    """Return x [... h w c] resampled linearly so that the centres of the corner pixels coincide, [... H W c].

    PyTorch's interpolate with align_corners=True.
    """
    h, w, _ = x.shape[-3:]
    return apply_weights(x, corner_weights(h, size[0]), corner_weights(w, size[1]))


@lru_cache(maxsize=64)
def tf1_weights(n: int, m: int) -> np.ndarray:
    """Return the weights f64[m n] of linear interpolation at u = i n / m, computed in f32 as TensorFlow 1 does."""
    at_least(1, height_or_width=min(n, m))
    u = np.arange(m, dtype=np.float32) * np.float32(n / m)
    low = np.floor(u)
    taps = np.minimum(np.stack([low, low + 1], 1).astype(int), n - 1)  # [m 2]
    return weight_matrix(n, taps, np.stack([1 - (u - low), u - low], 1))


def resize_tf1(x: Array, size: Size) -> Array:
    """Return x [... h w c] as TensorFlow 1's resize_bilinear(align_corners=False), used by FID's Inception graph.

    No antialiasing; pixel i lies at i h / H, which shifts the image by up to half a pixel.
    """
    h, w, _ = x.shape[-3:]
    return apply_weights(x, tf1_weights(h, size[0]), tf1_weights(w, size[1]))
