"""Upsample with zeros, filter, downsample: the FIR resampling of StyleGAN2 (Karras et al. 2020a).

It is one linear primitive. Its transpose is the same primitive with up and down exchanged and the filter reversed, so
derivatives of any order are as fast as the forward pass. It computes a sum of shifted images for each phase of the
output and never multiplies by an inserted zero. XLA fuses the sum of a phase into one loop, in f32 for every dtype.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Taps = Sequence[float] | np.ndarray
LONG = 6  # from this many taps on, two passes of n taps cost less than one of n^2


class Axis(NamedTuple):
    """y[o] = sum_i taps[i] z[down o + i - lo], where z[up j] = x[j] and is 0 elsewhere."""

    taps: tuple[float, ...]  # reversed: a correlation's
    up: int
    down: int
    lo: int
    hi: int

    def size(self, n: int) -> int:
        """The output size for n input pixels."""
        return (n * self.up + self.lo + self.hi - len(self.taps)) // self.down + 1

    def transposed(self, n: int) -> "Axis":
        """The transpose of this map on n pixels."""
        hi = n * self.up - self.size(n) * self.down + self.lo - self.up + 1
        return Axis(self.taps[::-1], self.down, self.up, len(self.taps) - 1 - self.lo, hi)

    def phase(self, p: int) -> list[tuple[float, int]]:
        """The pairs (tap, j) of phase p: y[up a + p] = sum of tap x[down a + j]."""
        places = [(tap, self.down * p + i - self.lo) for i, tap in enumerate(self.taps)]
        return [(tap, place // self.up) for tap, place in places if place % self.up == 0]


def upfirdn2d(x: Array, taps: Taps, up: int = 1, down: int = 1, pad: Pair | Pads = (0, 0), gain: float = 1.0) -> Array:
    """Insert up - 1 zeros after each pixel, pad or crop, convolve with taps (outer) taps, keep every down-th pixel.

    x [b h w c] of any float dtype, taps f[n] -> [b h' w' c]; h' = (up h + lo + hi - n) // down + 1. `pad` is (lo, hi)
    or ((lo, hi), (lo, hi)) in pixels after the zeros, negative ones crop; `gain` multiplies the result. Raises
    ValueError if x is not a batch of images or the output would be empty.

    Measured on 2 busy cores, f32[16 64 64 64] and 1, 3, 3, 1, milliseconds of the map and of its transpose, best of 14
    alternating rounds: up 2: 76 and 83 (separable sums of strided slices and inserted zeros 149 and 284, banded
    matrices 236 and 271, depthwise convolution 4618 and 372), down 2: 2.2 and 1.0 (1.9 and 4.8; 9.2 and 7.8; 41 and
    868), blur: 5.9 and 3.2 (4.9 and 64; 29 and 29; 235 and 228).
    """
    pads: Any = (pad, pad) if isinstance(pad[0], int) else pad
    root = float(np.sqrt(gain))
    reverse = tuple(float(tap) * root for tap in np.asarray(taps, np.float64)[::-1])
    h, w = (Axis(reverse, up, down, lo, hi) for lo, hi in pads)
    if x.ndim != 4 or h.size(x.shape[1]) < 1 or w.size(x.shape[2]) < 1:
        raise ValueError(f"upfirdn2d: nothing is left of x {x.shape} with {len(reverse)} taps, padded by {pads}.")
    if len(reverse) < LONG:
        return upfirdn_p.bind(x, axes=(h, w))
    still = Axis((1.0,), 1, 1, 0, 0)
    return upfirdn_p.bind(upfirdn_p.bind(x, axes=(h, still)), axes=(still, w))


def upsample(x: Array, taps: Taps, factor: int = 2) -> Array:
    """Return x [b h w c] enlarged, [b f*h f*w c]; taps of sum 1 preserve the brightness."""
    n = len(taps)
    return upfirdn2d(x, taps, up=factor, pad=((n + factor - 1) // 2, (n - factor) // 2), gain=factor**2)


def downsample(x: Array, taps: Taps, factor: int = 2) -> Array:
    """Return x [b h w c] shrunk, [b h/f w/f c]."""
    n = len(taps)
    return upfirdn2d(x, taps, down=factor, pad=((n - factor + 1) // 2, (n - factor) // 2))


def blur(x: Array, taps: Taps) -> Array:
    """Return x [b h w c] filtered, of the same size."""
    n = len(taps)
    return upfirdn2d(x, taps, pad=(n // 2, (n - 1) // 2))


# ---------------------------------------------------------------- the primitive


def _shape(x: Array | ShapedArray, axes: tuple[Axis, Axis]) -> tuple[int, ...]:
    return (x.shape[0], axes[0].size(x.shape[1]), axes[1].size(x.shape[2]), x.shape[3])


def _sum(x: Array, axes: tuple[Axis, Axis]) -> Array:
    (b, height, width, c), (h, w) = _shape(x, axes), axes
    rows, columns = -(-height // h.up), -(-width // w.up)  # of each phase
    places = [[j for p in range(axis.up) for _, j in axis.phase(p)] or [0] for axis in axes]
    low = [-min(place) for place in places]
    ends = [
        max(place) + (size - 1) * axis.down + 1 - n
        for place, size, axis, n in zip(places, (rows, columns), axes, x.shape[1:3], strict=True)
    ]
    padded = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    config = ((0, 0, 0), (low[0], ends[0], 0), (low[1], ends[1], 0), (0, 0, 0))
    padded = lax.pad(padded, jnp.zeros((), padded.dtype), config)

    def term(tap: float, top: int, left: int) -> Array:
        stop = (b, top + (rows - 1) * h.down + 1, left + (columns - 1) * w.down + 1, c)
        return tap * lax.slice(padded, (0, top, left, 0), stop, (1, h.down, w.down, 1))

    def phase(p: int, q: int) -> Array:
        pairs = product(h.phase(p), w.phase(q))
        terms = [term(s * t, low[0] + i, low[1] + j) for (s, i), (t, j) in pairs]
        return reduce(jnp.add, terms) if terms else jnp.zeros((b, rows, columns, c), padded.dtype)

    if h.up == w.up == 1:
        return phase(0, 0).astype(x.dtype)
    phases = jnp.stack([jnp.stack([phase(p, q) for q in range(w.up)], 3) for p in range(h.up)], 2)
    y = phases.reshape(b, rows * h.up, columns * w.up, c)  # [b rows p columns q c] -> [b h w c]
    return y[:, :height, :width].astype(x.dtype)


def _transpose(y: Array, x: ad.UndefinedPrimal, *, axes: tuple[Axis, Axis]) -> list[Array]:
    sizes = x.aval.shape[1:3]
    return [upfirdn_p.bind(y, axes=tuple(axis.transposed(n) for axis, n in zip(axes, sizes, strict=True)))]


def _batch(operands: list[Array], batched: list[int], *, axes: tuple[Axis, Axis]) -> tuple[Array, int]:
    x = jnp.moveaxis(operands[0], batched[0], 0)
    y = upfirdn_p.bind(x.reshape(-1, *x.shape[2:]), axes=axes)  # [v b h w c] -> [v*b h w c]
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


upfirdn_p = Primitive("upfirdn2d")
upfirdn_p.def_impl(jax.jit(upfirdn_p.bind, static_argnames="axes"))
upfirdn_p.def_abstract_eval(lambda x, *, axes: ShapedArray(_shape(x, axes), x.dtype))
batching.primitive_batchers[upfirdn_p] = _batch  # pyright: ignore[reportArgumentType]
mlir.register_lowering(upfirdn_p, mlir.lower_fun(_sum, multiple_results=False))
ad.deflinear2(upfirdn_p, _transpose)
