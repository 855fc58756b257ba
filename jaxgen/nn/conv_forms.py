"""Formulations of a convolution and of its two gradients: XLA's own, and faster ones for CPUs.

T(x, k, y) is the trilinear form of jaxgen.nn.conv. A Geometry holds what the shapes of two arrays leave open about the
third.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array, lax

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
LAYOUT = ("NHWC", "HWIO", "NHWC")
NO_PADS = ((0, 0), (0, 0))
FEW_PIXELS = 32  # up to this many pixels per image, matrix products beat XLA's convolution on a CPU
MANY_PRODUCTS = 2**26  # above this many products, it pays to lay the batch side by side
BAND_SIZE = 2**20  # largest number of elements in a band of patches that stays in a CPU's cache


def per_axis(function: Callable, *pairs: Any) -> Any:
    """Return the function applied to h and to w."""
    return tuple(map(function, *pairs))


class Geometry(NamedTuple):
    """Sizes, strides and padding that the shapes of two arrays do not determine about the third."""

    image: Pair  # h, w of x
    window: Pair  # h, w of k
    strides: Pair = (1, 1)
    pads: Pads = NO_PADS  # (lo, hi) of h and w; negative ones crop
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def spans(self) -> Pair:
        """The extent of a window in pixels of x, first to last."""
        return per_axis(lambda k, d: (k - 1) * d + 1, self.window, self.dilation)

    @property
    def output(self) -> Pair:
        """h, w of y."""
        sizes = self.image, self.pads, self.spans, self.strides
        return per_axis(lambda size, pad, span, s: (size + sum(pad) - span) // s + 1, *sizes)


# ---------------------------------------------------------------- XLA's formulation, everywhere but on CPUs


def output_shape(x: Any, k: Any, g: Geometry):
    return (x.shape[0], *g.output, k.shape[3])


def input_shape(y: Any, k: Any, g: Geometry):
    return (y.shape[0], *g.image, k.shape[2] * g.groups)


def kernel_shape(x: Any, y: Any, g: Geometry):
    return (*g.window, x.shape[3] // g.groups, y.shape[3])


def xla_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    _, _, strides, pads, dilation, groups = geometry
    if min(*pads[0], *pads[1]) < 0:  # on CPUs JAX 0.10 hands it to a library that reads outside the image
        x = _pad(x, per_axis(lambda pad: (min(pad[0], 0), min(pad[1], 0)), pads))
        pads = per_axis(lambda pad: (max(pad[0], 0), max(pad[1], 0)), pads)
    options: Any = {"rhs_dilation": dilation, "dimension_numbers": LAYOUT, "feature_group_count": groups}
    return lax.conv_general_dilated(x, k, strides, pads, **options)


def xla_input_grad(y: Array, k: Array, geometry: Geometry) -> Array:
    return _transpose(lambda x: xla_conv(x, k, geometry), input_shape(y, k, geometry), y)


def xla_kernel_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    return _transpose(lambda k: xla_conv(x, k, geometry), kernel_shape(x, y, geometry), y)


def _transpose(linear: Callable, shape: tuple[int, ...], y: Array) -> Array:
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, y.dtype))(y)[0]


# ---------------------------------------------------------------- the formulations for CPUs
# A strided convolution equals a unit-stride convolution of folded arrays (space to depth). Its gradients are those of
# the folded convolution, unfolded by the transpose of folding. At unit stride, all three use _correlate or
# _correlate_grad.


def cpu_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    if _is_depthwise(k, geometry):
        return _depthwise(x, k, geometry)
    if _uses_xla(geometry):
        return xla_conv(x, k, geometry)
    if geometry.strides == (1, 1):
        return _correlate(x, k, geometry)
    if math.prod(geometry.output) > FEW_PIXELS:
        return _padded_conv(x, k, geometry)
    return _correlate(_fold_image(x, geometry), _fold_kernel(k, geometry), _folded(geometry))


def cpu_input_grad(y: Array, k: Array, geometry: Geometry) -> Array:
    if _is_depthwise(k, geometry):
        return _depthwise(y, k[::-1, ::-1], _flipped(geometry))
    if _uses_xla(geometry):
        return xla_input_grad(y, k, geometry)
    if geometry.strides != (1, 1):
        folded = cpu_input_grad(y, _fold_kernel(k, geometry), _folded(geometry))
        return _transpose(lambda x: _fold_image(x, geometry), input_shape(y, k, geometry), folded)
    return _correlate(y, k, _flipped(geometry), transposed=True)


def cpu_kernel_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    if geometry.groups > 1 and geometry.strides == (1, 1) and x.shape[3] > geometry.groups:
        return _grouped_grad(_pad(x, geometry.pads), y, geometry)
    if _uses_xla(geometry):
        return xla_kernel_grad(x, y, geometry)
    if geometry.strides == (1, 1):
        return _correlate_grad(_pad(x, geometry.pads), y, geometry)
    folded = cpu_kernel_grad(_fold_image(x, geometry), y, _folded(geometry))
    return _transpose(lambda k: _fold_kernel(k, geometry), kernel_shape(x, y, geometry), folded)


def _flipped(geometry: Geometry) -> Geometry:
    """Return the geometry of the convolution that computes the input gradient of a unit-stride convolution."""
    sizes = geometry.image, geometry.output, geometry.spans, geometry.pads
    pads = per_axis(lambda size, out, span, pad: (span - 1 - pad[0], size + pad[0] - out), *sizes)
    return Geometry(geometry.output, geometry.window, (1, 1), pads, geometry.dilation, geometry.groups)


def _is_depthwise(k: Array, geometry: Geometry) -> bool:
    return geometry.strides == (1, 1) and k.shape[2] == 1 < geometry.groups == k.shape[3]


def _depthwise(x: Array, k: Array, geometry: Geometry) -> Array:
    """Return a depthwise convolution as a sum of shifted, scaled images, much faster than XLA's form."""
    taps = k.reshape(-1, k.shape[3])
    below = _window_taps(_pad(x, geometry.pads), geometry, geometry.output)
    return reduce(jnp.add, [part * tap[None, None, None] for part, tap in zip(below, taps, strict=True)])


def _grouped_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    """Return dk by one product per group and tap, x already padded, much faster than XLA's form."""
    g = geometry.groups
    below = [rearrange(part, "n h w (g i) -> g i (n h w)", g=g) for part in _window_taps(x, geometry, geometry.output)]
    y = rearrange(y, "n h w (g o) -> g (n h w) o", g=g)
    taps = jnp.stack([part @ y for part in below])  # [kh*kw g i o]
    return rearrange(taps, "(a b) g i o -> a b i (g o)", a=geometry.window[0])


def _uses_xla(geometry: Geometry) -> bool:
    return geometry.groups > 1 or (geometry.strides != (1, 1) and geometry.dilation != (1, 1))


def _folded(geometry: Geometry) -> Geometry:
    window = per_axis(lambda k, s: -(-k // s), geometry.window, geometry.strides)
    return Geometry(per_axis(lambda out, k: out + k - 1, geometry.output, window), window)


def _fold_image(x: Array, geometry: Geometry) -> Array:
    """[n h w c] -> [n h/s w/s q*q*c]: the window covers only the first q = min(s, k) pixels of each stride."""
    sizes = geometry.image, _folded(geometry).image, geometry.strides, geometry.pads
    return _fold(_pad(x, per_axis(lambda size, f, s, pad: (pad[0], f * s - size - pad[0]), *sizes)), geometry)


def _fold_kernel(k: Array, geometry: Geometry) -> Array:
    """[kh kw i o] -> [kh/s kw/s q*q*i o], folded as an image with i*o channels; only the phases move."""
    x = k.reshape(1, *k.shape[:2], -1)
    x = _fold(_pad(x, per_axis(lambda size, s: (0, -size % s), geometry.window, geometry.strides)), geometry)
    return x.reshape(*x.shape[1:3], -1, k.shape[3])


def _fold(x: Array, geometry: Geometry) -> Array:
    (sh, sw), (kh, kw) = geometry.strides, geometry.window
    x = rearrange(x, "n (h p) (w q) c -> n h p w q c", p=sh, q=sw)[:, :, :kh, :, :kw]
    return rearrange(x, "n h p w q c -> n h w (p q c)")


def _pad(x: Array, pads: Pads) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))


def _window_taps(x: Array, geometry: Geometry, size: Pair) -> list[Array]:
    """Return, for each tap of the window, the pixels of x that it multiplies, [n size c]."""
    (kh, kw), (dh, dw), (h, w) = geometry.window, geometry.dilation, size
    return [x[:, i * dh : i * dh + h, j * dw : j * dw + w] for i in range(kh) for j in range(kw)]


def _correlate(x: Array, k: Array, geometry: Geometry, transposed: bool = False) -> Array:
    """y[n, o] = sum_j x[n, o + d j - lo] k[j], by matrix products where XLA's convolution is slower.

    transposed: k is flipped and its channels are [c_out c_in]; half of the formulations need not undo that.
    """
    size, (kh, kw), taps = geometry.output, geometry.window, math.prod(geometry.window)
    c_in, c_out = (k.shape[3], k.shape[2]) if transposed else (k.shape[2], k.shape[3])
    pixels = math.prod(size), math.prod(geometry.image)
    # Gather: patches are smaller than y, or there are few pixels. Scatter: products are smaller than x, or few pixels.
    gather = taps * c_in <= c_out or pixels[0] <= min(FEW_PIXELS, pixels[1])
    if not gather and (taps * c_out <= c_in or pixels[1] <= FEW_PIXELS):
        products = lax.dot_general(x, k, (((3,), (3 if transposed else 2,)), ((), ())))  # [n h w kh kw c_out]
        terms = []
        for i, j in [(i, j) for i in range(kh) for j in range(kw)]:
            tap = (kh - 1 - i, kw - 1 - j) if transposed else (i, j)
            sizes = tap, geometry.dilation, geometry.image, size, geometry.pads
            shift = per_axis(lambda t, d, n, m, pad: (pad[0] - t * d, m - n - pad[0] + t * d), *sizes)
            terms.append(_pad(products[:, :, :, i, j], shift))
        return reduce(jnp.add, terms)
    k = k[::-1, ::-1].swapaxes(2, 3) if transposed else k
    if not gather:
        return _padded_conv(x, k, geometry)
    below = _window_taps(_pad(x, geometry.pads), geometry, size)
    if taps * c_in <= c_out:
        return jnp.concatenate(below, axis=-1) @ k.reshape(-1, c_out)
    terms = [part @ tap for part, tap in zip(below, k.reshape(taps, c_in, c_out), strict=True)]
    return reduce(jnp.add, terms)


def _padded_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    """Return XLA's convolution, always with padding: JAX 0.10 passes unpadded ones to a slower library."""
    if _is_narrow(x, k, geometry):
        return _side_by_side_conv(x, k, geometry)
    if geometry.pads != NO_PADS:
        return xla_conv(x, k, geometry)
    return xla_conv(x, k, geometry._replace(pads=((0, 1), (0, 0))))[:, : geometry.output[0]]


def _is_narrow(x: Array, k: Array, geometry: Geometry) -> bool:
    """Whether XLA's convolution would use a single core: its tasks are parts of a row of a minimum size."""
    n, width, (kh, kw, c_in, c_out) = x.shape[0], geometry.output[1], k.shape
    one = c_out <= 64 or (c_out <= 128 and width <= 32 and kh * kw * c_in < 700)
    if not isinstance(n, int):  # an exported program has a symbolic batch size
        return False
    return (
        n > 1
        and width <= 64
        and one
        and min(c_in, c_out) >= 32
        and n * math.prod(geometry.output) * k.size > MANY_PRODUCTS
    )


def _side_by_side_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    """Convolve the images of a batch side by side, as one wide image with zeros between them."""
    n, h, w, c = x.shape
    (lo, _), step, span, out = geometry.pads[1], geometry.strides[1], geometry.spans[1], geometry.output[1]
    pitch = -(-max(w + lo, (out - 1) * step + span - lo) // step) * step
    x = _pad(x, ((0, 0), (0, pitch - w))).swapaxes(0, 1)  # [h n pitch c]
    pads = geometry.pads[0], (lo, span - step - lo)
    y = xla_conv(x.reshape(1, h, n * pitch, c), k, geometry._replace(image=(h, n * pitch), pads=pads))
    return y.reshape(-1, n, pitch // step, k.shape[3])[:, :, :out].swapaxes(0, 1)


def _correlate_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    """dk[j] = sum_{n, o} x[n, o + d j] y[n, o], x already padded."""
    size, taps, (c_in, c_out) = y.shape[1:3], math.prod(geometry.window), (x.shape[3], y.shape[3])
    if 4 * c_out <= c_in:  # gather patches of the narrower array: sum_{n, p} x[n, p] y[n, p - d j]
        flipped = _correlate_grad(_pad(y, per_axis(lambda span: (span - 1, span - 1), geometry.spans)), x, geometry)
        return flipped[::-1, ::-1].swapaxes(2, 3)

    def product(x: Array, y: Array) -> Array:
        patches = jnp.concatenate(_window_taps(x, geometry, (y.shape[1], y.shape[2])), axis=-1)
        a, b = patches.reshape(-1, taps * c_in), y.reshape(-1, c_out)
        a, b = (a, b) if first else (b, a)
        return lax.dot_general(a, b, (((0,), (0,)), ((), ())))

    def band(i: Array, total: Array) -> Array:
        above = lax.dynamic_slice_in_dim(x, i * rows, rows + geometry.spans[0] - 1, axis=1)
        return total + product(above, lax.dynamic_slice_in_dim(y, i * rows, rows, axis=1))

    # XLA's product takes half as long with the narrow matrix first, unless there are so few pixels that transposing the
    # result costs more.
    first = taps * c_in <= c_out or y.shape[0] * math.prod(size) <= 2048
    # The patches of all rows do not fit into the cache; those of a band do. Bands never cut the batch, which may be
    # sharded.
    fit = BAND_SIZE // (y.shape[0] * size[1] * taps * c_in)
    rows = max((r for r in range(1, size[0] + 1) if size[0] % r == 0 and r <= fit), default=1)
    if rows == size[0] or taps == 1:
        total = product(x, y)
    else:
        total = lax.fori_loop(
            0, size[0] // rows, band, jnp.zeros((taps * c_in, c_out) if first else (c_out, taps * c_in), x.dtype)
        )
    total = total if first else total.T  # [taps*c_in c_out]
    return total.reshape(*geometry.window, c_in, c_out)
