"""Pooling over windows of pixels."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = tuple[int, int]


def max_pool(x: Array, window: int, stride: int, pad: int = 0) -> Array:
    """Return the maximum of each window, x [b h w c] -> [b h' w' c], h' = (h + 2 pad - window) // stride + 1.

    Raises ValueError if no window fits.
    """
    if any(size + 2 * pad < window for size in x.shape[1:3]):
        raise ValueError(f"max_pool: no room for a {window}x{window} window in {x.shape[1]}x{x.shape[2]} pixels.")
    if pad:
        low = np.asarray(-np.inf, x.dtype)
        x = lax.pad(x, low, ((0, 0, 0), (pad, pad, 0), (pad, pad, 0), (0, 0, 0)))
    # Along h, then along w, by pairwise maxima. The gradient of XLA's own pooling is a scatter, 3 to 20 times slower on
    # CPUs. The gradient of `max` over axes divides by the number of elements equal to the maximum, which can be 0 when
    # XLA computes x twice with different rounding.
    for axis in (1, 2):
        last = (x.shape[axis] - window) // stride * stride + 1  # one past the first pixel of the last window
        x = reduce(jnp.maximum, [lax.slice_in_dim(x, k, k + last, stride, axis) for k in range(window)])
    return x


def avg_pool(x: Array, window: int, stride: int, pad: int = 0, count_padding: bool = True) -> Array:
    """Return the mean of each window, x [b h w c] -> [b h' w' c].

    count_padding: whether the zeros of the padding count; TensorFlow's "SAME" pooling does not count them
    """
    if window == stride and not pad:  # windows do not overlap: faster on CPUs
        b, h, w, c = x.shape
        x = x[:, : h - h % window, : w - w % window].reshape(b, h // window, window, w // window, window, c)
        return x.mean((2, 4))
    shape, steps = (1, window, window, 1), (1, stride, stride, 1)
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, shape, steps, pads)
    if count_padding or not pad:
        return total / (window * window)
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    counts = lax.reduce_window(ones, np.zeros((), x.dtype), lax.add, shape, steps, pads)
    return total / jnp.broadcast_to(counts, total.shape)


def adaptive_avg_pool(x: Array, size: Pair) -> Array:
    """Return means over a grid of `size` windows that cover x, as in PyTorch: x [b h w c] -> [b *size c]."""
    if x.shape[1:3] == size:
        return x
    rows, columns = (jnp.asarray(_windows(*pair), x.dtype) for pair in zip(x.shape[1:3], size, strict=True))
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("oh,pw,bhwc->bopc", rows, columns, x, precision=precision)


def _windows(size: int, parts: int) -> np.ndarray:
    """Return f64[parts size]: row i averages pixels floor(i size / parts) ... ceil((i + 1) size / parts)."""
    weights = np.zeros((parts, size))
    for i in range(parts):
        first, last = i * size // parts, -(-(i + 1) * size // parts)
        weights[i, first:last] = 1 / (last - first)
    return weights


def flatten(x: Array) -> Array:
    """[b h w c] -> [b c*h*w], channels first, as the dense layers of published checkpoints expect."""
    return jnp.moveaxis(x, 3, 1).reshape(x.shape[0], -1)
