"""Blur kernels f32[b k k], one per image, of sum 1, and convolution with them; k is an odd `size`.

Widths and lengths are f32[b], in pixels; angles are f32[b], in radians, 0 along the rows.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from jaxgen.core import rng
from jaxgen.data.degradation_ops import Key, broadcast_like, fold_keys, uniform

Array = jax.Array


def gaussian_blur(x: Array, sigma: Array) -> Array:
    """Return x blurred by an isotropic Gaussian, sigma f32[b] in pixels, with mirrored borders.

    The Gaussian is separable: two products with a matrix per image, the fastest form on a CPU.
    """
    rows, columns = (_gaussian_rows(n, sigma) for n in x.shape[1:3])
    y = jnp.einsum("bhwc,bHh->bHwc", x, rows, precision="highest")
    return jnp.einsum("bhwc,bWw->bhWc", y, columns, precision="highest")


def _gaussian_rows(n: int, sigma: Array) -> Array:
    """Return the weights f32[b n n] of n pixels in each of n outputs, including the two adjacent mirror images."""
    i, j = np.mgrid[:n, :n]
    places = np.stack([q for m in (-1, 0, 1) for q in (2 * n * m + j, 2 * n * m - 1 - j)])  # [6 n n]
    square = jnp.asarray(np.square(places - i), jnp.float32)[None]  # [1 6 n n]
    narrow = 0.5 / jnp.square(jnp.maximum(sigma, 1e-3))  # sigma = 0 gives the identity
    w = jnp.exp(-square * narrow.reshape(-1, 1, 1, 1)).sum(1)  # [b n n]
    return w / w.sum(-1, keepdims=True)


def filter_images(x: Array, kernels: Array) -> Array:
    """Return y[b, o] = sum_j kernels[b, j] x[b, o + j - k // 2], kernels f32[b k k], k odd; borders are mirrored.

    It uses Fourier transforms: direct convolution of each image with its own 21 x 21 kernel is far slower on a CPU.
    """
    _, h, w, _ = x.shape
    half = kernels.shape[-1] // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), "symmetric")
    size: Any = [next_fast_len(n + 2 * half, real=True) for n in (h, w)]
    waves = jnp.fft.rfft2(jnp.moveaxis(padded, -1, 1), size)  # [b c H W/2+1]
    waves = waves * broadcast_like(jnp.conj(jnp.fft.rfft2(kernels, size))[:, None], waves)
    return jnp.moveaxis(jnp.fft.irfft2(waves, size)[..., :h, :w], 1, -1)


# ---------------------------------------------------------------- kernels


def gaussian_kernels(along: Array, across: Array, angle: Array, power: Array, size: int) -> Array:
    """Return exp(-q^power / 2), q = (u / along)^2 + (v / across)^2: a Gaussian, generalised if power is not 1."""
    return _normalised(jnp.exp(-0.5 * _ellipse(along, across, angle, power, size)))


def plateau_kernels(along: Array, across: Array, angle: Array, power: Array, size: int) -> Array:
    """Return 1 / (1 + q^power), q as above. Both: Wang et al. 2021, "Real-ESRGAN", section 3.1 and appendix A."""
    return _normalised(1 / (1 + _ellipse(along, across, angle, power, size)))


def sinc_kernels(cutoff: Array, size: int) -> Array:
    """Return the ideal low-pass filter f32[b k k] (it rings), cutoff in radians/pixel: Wang et al. 2021, equation 6."""
    square = jnp.maximum(jnp.square(_places(size)).sum(0)[None], 1e-9)  # [1 k k]
    cutoff = cutoff.reshape(-1, 1, 1)
    return _normalised(cutoff**2 / (2 * math.pi) * jinc(cutoff * jnp.sqrt(square)))


def crop_kernels(kernels: Array, sides: Array) -> Array:
    """Return kernels f32[b k k] with zeros outside a central square of odd side i32[b]."""
    far = jnp.abs(_places(kernels.shape[-1])).max(0)[None]  # [1 k k]
    return _normalised(jnp.where(far <= (sides // 2).reshape(-1, 1, 1), kernels, 0))


def identity_kernel(size: int) -> Array:
    """Return the identity kernel f32[1 k k]."""
    return (jnp.abs(_places(size)).max(0) == 0).astype(jnp.float32)[None]


def line_kernels(length: Array, angle: Array, size: int) -> Array:
    """Return f32[b size size], motion blur of `length` pixels along a line; angle 0 is along the rows."""
    t = jnp.asarray((np.arange(4 * size) + 0.5) / (4 * size) - 0.5, jnp.float32)[None]  # [1 s]
    y, x = (t * (length * f(angle)).reshape(-1, 1) for f in (jnp.sin, jnp.cos))  # [b s]
    return _path_kernels(y, x, size)


def shake_kernels(length: Array, keys: Key, size: int) -> Array:
    """Return f32[b size size], blur of a shaking hand with a path of `length` pixels, centred at its mean.

    The direction of the path is a random walk with occasional sudden turns (cf. Boracchi & Foi 2012, section IV).
    """
    steps = 4 * size
    normal = rng.normal(fold_keys(keys, "turn"), (steps,))
    jolts = uniform(fold_keys(keys, "jolt"), 0, 1, (steps,)) < 3 / steps
    turns = normal * jnp.where(jolts, 1.5, 2.5 / math.sqrt(steps))
    angle = jnp.cumsum(turns, 1) + broadcast_like(uniform(fold_keys(keys, "start"), 0, 2 * math.pi), turns)
    step = broadcast_like(length / steps, turns)
    y, x = (jnp.cumsum(step * f(angle), 1) for f in (jnp.sin, jnp.cos))
    return _path_kernels(y - y.mean(1, keepdims=True), x - x.mean(1, keepdims=True), size)


def _path_kernels(y: Array, x: Array, size: int) -> Array:
    """Return kernels f32[b size size] of points [b s] around the centre, each split over its four nearest pixels."""
    place = jnp.asarray(np.arange(size) - size // 2, jnp.float32).reshape(1, 1, -1)
    down, across = (jnp.maximum(1 - jnp.abs(a[..., None] - place), 0) for a in (y, x))  # [b s size]
    return jnp.einsum("bsi,bsj->bij", down, across, precision="highest") / y.shape[1]


def jinc(x: Array) -> Array:
    """Return J1(x) / x to 1e-7, x >= 0: Abramowitz and Stegun, 9.4.4 and 9.4.6."""
    t = jnp.square(jnp.minimum(x, 3) / 3)
    near = (0.5, -0.56249985, 0.21093573, -0.03954289, 0.00443319, -0.00031761, 0.00001109)
    y = jnp.maximum(x, 3)
    size = (0.79788456, 0.00000156, 0.01659667, 0.00017105, -0.00249511, 0.00113653, -0.00020033)
    turn = (-2.35619449, 0.12499612, 0.00005650, -0.00637879, 0.00074348, 0.00079824, -0.00029166)
    far = _series(size, 3 / y) * jnp.cos(y + _series(turn, 3 / y)) / (y * jnp.sqrt(y))
    return jnp.where(x <= 3, _series(near, t), far)


def _series(numbers: tuple[float, ...], x: Array) -> Array:
    total = jnp.zeros_like(x)
    for number in reversed(numbers):
        total = total * x + number
    return total


def _places(size: int) -> Array:
    """Return row and column offsets from the centre, f32[2 k k]."""
    return jnp.asarray(np.mgrid[:size, :size] - size // 2, jnp.float32)


def _ellipse(along: Array, across: Array, angle: Array, power: Array, size: int) -> Array:
    """Return q^power, f32[b k k]; q = 1 on the ellipse."""
    y, x = _places(size)[:, None]  # [1 k k]
    along, across, angle, power = (a.reshape(-1, 1, 1) for a in (along, across, angle, power))
    u, v = x * jnp.cos(angle) + y * jnp.sin(angle), y * jnp.cos(angle) - x * jnp.sin(angle)
    return (jnp.square(u / along) + jnp.square(v / across)) ** power


def _normalised(kernels: Array) -> Array:
    return kernels / kernels.sum((1, 2), keepdims=True)
