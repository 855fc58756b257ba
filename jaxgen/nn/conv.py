"""Convolutions for every model: one trilinear form, three primitives closed under differentiation, a CPU formulation.

With images x, kernel k and output gradient y, T(x, k, y) = sum_{n, o, j, i, c} x[n, s o + d j - lo, i] k[j, i, c] y[n, o, c].
The convolution is dT/dy(x, k), its input gradient (the transposed convolution) is dT/dx(y, k), its kernel gradient is
dT/dk(x, y). Each is bilinear and each one's derivatives are the other two, so derivatives of any order, forward and
reverse, meet no fourth function. They lower to XLA's convolution, except on CPUs, where its gradients are 2 to 100 times
slower than the formulations in the second half of this file (measured by tests/benchmarks/conv.py).
"""  # noqa: E501

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Padding = str | Pads
LAYOUT = ("NHWC", "HWIO", "NHWC")
NO_PADS = ((0, 0), (0, 0))
FEW = 32  # pixels in an image, up to which XLA's convolution is slower on a CPU than matrix products
BAND = 2**20  # numbers in a band of patches, beyond which it leaves a CPU's cache


def _each(function: Callable, *pairs: Any) -> Any:
    """Apply a function to h and to w."""
    return tuple(map(function, *pairs))


class Geometry(NamedTuple):
    """What two of the three arrays do not say about the third."""

    image: Pair  # h, w of x
    window: Pair  # h, w of k
    strides: Pair = (1, 1)
    pads: Pads = NO_PADS  # (lo, hi) of h and w; negative ones crop
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def spans(self) -> Pair:
        """The pixels of x from the first to the last below a window."""
        return _each(lambda k, d: (k - 1) * d + 1, self.window, self.dilation)

    @property
    def output(self) -> Pair:
        """h, w of y."""
        sizes = self.image, self.pads, self.spans, self.strides
        return _each(lambda size, pad, span, s: (size + sum(pad) - span) // s + 1, *sizes)


# ---------------------------------------------------------------- what models call


def conv(
    x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "SAME", dilation: Pair = (1, 1), groups: int = 1
) -> Array:
    """Convolve images: y[n, o, c] = sum_{j, i} x[n, s o + d j - lo, i] kernel[j, i, c].

    x [b h w c_in], kernel [kh kw c_in/groups c_out] -> [b h' w' c_out]; h' = (h + lo + hi - d (kh - 1) - 1) // s + 1.
    "SAME" makes h' = ceil(h / s), an odd pixel of padding at the end; "VALID" pads nothing; else ((lo, hi), (lo, hi)).
    Raises ValueError where shapes do not fit, groups do not divide the channels, or the output would be empty.
    """
    if groups < 1 or x.shape[-1] % groups or kernel.shape[-1] % groups:
        channels = f"{x.shape[-1]} input and {kernel.shape[-1]} output channels"
        raise ValueError(f"conv: {groups} groups do not divide {channels}.")
    _check("conv", x, kernel, x.shape[-1] // groups)
    geometry = Geometry(
        (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), strides, NO_PADS, dilation, groups
    )
    if padding == "SAME":
        sizes = geometry.image, geometry.spans, strides
        totals = _each(lambda size, span, s: max((-(-size // s) - 1) * s + span - size, 0), *sizes)
        padding = _each(lambda total: (total // 2, total - total // 2), totals)
    geometry = geometry._replace(pads=_pads("conv", padding))
    if min(geometry.output) < 1:
        raise ValueError(f"conv: no room for a {geometry.window} window in {geometry.image} padded by {geometry.pads}.")
    return conv_p.bind(x, kernel, geometry=geometry)


def conv_transpose(x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "SAME") -> Array:
    """Scatter pixels through the kernel: y[n, s i + j - lo, c] = sum over all such i, j and over k of x[n, i, k] kernel[j, k, c].

    x [b h w c_in], kernel [kh kw c_in c_out] -> [b h' w' c_out]; h' = (h - 1) s + kh - lo - hi. The kernel is not
    flipped: PyTorch's ConvTranspose2d with (lo, hi) = (p, p - output_padding); flax's ConvTranspose with the kernel
    flipped in h and w, or with transpose_kernel=True and the kernel's channels swapped. "SAME" makes h' = s h, "VALID"
    crops nothing. Raises ValueError where shapes do not fit or the output would be empty.
    """  # noqa: E501
    _check("conv_transpose", x, kernel, x.shape[-1])
    window = kernel.shape[0], kernel.shape[1]
    if padding == "SAME":
        padding = _each(lambda k, s: (max(k - s, 0) // 2, k - s - max(k - s, 0) // 2), window, strides)
    pads = _pads("conv_transpose", padding)
    image = _each(lambda size, k, s, pad: (size - 1) * s + k - sum(pad), x.shape[1:3], window, strides, pads)
    if min(image) < 1:
        raise ValueError(f"conv_transpose: nothing of {x.shape} is left with a {window} window cropped by {pads}.")
    return input_grad_p.bind(x, kernel.swapaxes(2, 3), geometry=Geometry(image, window, strides, pads))


def _check(name: str, x: Array, kernel: Array, channels: int):
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"{name}: x is [b h w c] and the kernel [kh kw c_in c_out], not {x.shape} and {kernel.shape}.")
    if kernel.shape[2] != channels:
        raise ValueError(f"{name}: the kernel {kernel.shape} should take {channels} channels, as x is {x.shape}.")
    if x.dtype != kernel.dtype:
        raise ValueError(f"{name}: x is {x.dtype} and the kernel {kernel.dtype}: cast x to the kernel's dtype.")


def _pads(name: str, padding: Padding) -> Pads:
    if isinstance(padding, str) and padding != "VALID":
        raise ValueError(f'{name}: padding is "SAME", "VALID" or ((lo, hi), (lo, hi)), not {padding!r}.')
    return NO_PADS if isinstance(padding, str) else _each(tuple, padding)


class Conv(nn.Module):
    """A convolution and a bias, x [b h w c] -> [b h' w' features], computed in the dtype of the kernel it is given."""

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "SAME"
    dilation: Pair = (1, 1)
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1] // self.groups, self.features))
        y = conv(x.astype(kernel.dtype), kernel, self.strides, self.padding, self.dilation, self.groups)
        return checkpoint_name(_biased(self, y), "conv")


class ConvTranspose(nn.Module):
    """A transposed convolution and a bias, x [b h w c] -> [b h' w' features], computed in the dtype of its kernel."""

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = conv_transpose(x.astype(kernel.dtype), kernel, self.strides, self.padding)
        return checkpoint_name(_biased(self, y), "conv")


class Dense(nn.Module):
    """A linear map of the last axis and a bias, x [... c] -> [... features], computed in the dtype of its kernel."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return checkpoint_name(_biased(self, x.astype(kernel.dtype) @ kernel), "dense")


def _biased(module: Any, y: Array) -> Array:
    if not module.use_bias:
        return y
    bias = module.param("bias", module.bias_init, (module.features,))
    return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


# ---------------------------------------------------------------- XLA's formulation, everywhere but on CPUs


def _output_shape(x: Any, k: Any, g: Geometry):
    return (x.shape[0], *g.output, k.shape[3])


def _input_shape(y: Any, k: Any, g: Geometry):
    return (y.shape[0], *g.image, k.shape[2] * g.groups)


def _kernel_shape(x: Any, y: Any, g: Geometry):
    return (*g.window, x.shape[3] // g.groups, y.shape[3])


def xla_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    _, _, strides, pads, dilation, groups = geometry
    options: Any = {"rhs_dilation": dilation, "dimension_numbers": LAYOUT, "feature_group_count": groups}
    return lax.conv_general_dilated(x, k, strides, pads, **options)


def xla_input_grad(y: Array, k: Array, geometry: Geometry) -> Array:
    return _transpose(lambda x: xla_conv(x, k, geometry), _input_shape(y, k, geometry), y)


def xla_kernel_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    return _transpose(lambda k: xla_conv(x, k, geometry), _kernel_shape(x, y, geometry), y)


def _transpose(linear: Callable, shape: tuple[int, ...], y: Array) -> Array:
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, y.dtype))(y)[0]


# ---------------------------------------------------------------- the formulations for CPUs
# A strided convolution is one at unit stride of folded arrays (space to depth); its gradients are the gradients of that
# one, unfolded by the transpose of folding. At unit stride all three are _correlate or _correlate_grad.


def cpu_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    if _is_xlas(geometry):
        return xla_conv(x, k, geometry)
    if geometry.strides == (1, 1):
        return _correlate(x, k, geometry)
    if math.prod(geometry.output) > FEW:
        return _padded_conv(x, k, geometry)
    return _correlate(_fold_image(x, geometry), _fold_kernel(k, geometry), _folded(geometry))


def cpu_input_grad(y: Array, k: Array, geometry: Geometry) -> Array:
    if _is_xlas(geometry):
        return xla_input_grad(y, k, geometry)
    if geometry.strides != (1, 1):
        folded = cpu_input_grad(y, _fold_kernel(k, geometry), _folded(geometry))
        return _transpose(lambda x: _fold_image(x, geometry), _input_shape(y, k, geometry), folded)
    sizes = geometry.image, geometry.output, geometry.spans, geometry.pads
    pads = _each(lambda size, out, span, pad: (span - 1 - pad[0], size + pad[0] - out), *sizes)
    flipped = Geometry(geometry.output, geometry.window, (1, 1), pads, geometry.dilation)
    return _correlate(y, k, flipped, transposed=True)


def cpu_kernel_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    if _is_xlas(geometry):
        return xla_kernel_grad(x, y, geometry)
    if geometry.strides == (1, 1):
        return _correlate_grad(_pad(x, geometry.pads), y, geometry)
    folded = cpu_kernel_grad(_fold_image(x, geometry), y, _folded(geometry))
    return _transpose(lambda k: _fold_kernel(k, geometry), _kernel_shape(x, y, geometry), folded)


def _is_xlas(geometry: Geometry) -> bool:
    return geometry.groups > 1 or (geometry.strides != (1, 1) and geometry.dilation != (1, 1))


def _folded(geometry: Geometry) -> Geometry:
    window = _each(lambda k, s: -(-k // s), geometry.window, geometry.strides)
    return Geometry(_each(lambda out, k: out + k - 1, geometry.output, window), window)


def _fold_image(x: Array, geometry: Geometry) -> Array:
    """[n h w c] -> [n h/s w/s q*q*c]: only the first q = min(s, k) pixels of a stride meet a window's taps."""
    sizes = geometry.image, _folded(geometry).image, geometry.strides, geometry.pads
    return _fold(_pad(x, _each(lambda size, f, s, pad: (pad[0], f * s - size - pad[0]), *sizes)), geometry)


def _fold_kernel(k: Array, geometry: Geometry) -> Array:
    """[kh kw i o] -> [kh/s kw/s q*q*i o], as an image with i*o channels: no axis moves but the phases."""
    x = k.reshape(1, *k.shape[:2], -1)
    x = _fold(_pad(x, _each(lambda size, s: (0, -size % s), geometry.window, geometry.strides)), geometry)
    return x.reshape(*x.shape[1:3], -1, k.shape[3])


def _fold(x: Array, geometry: Geometry) -> Array:
    (sh, sw), (kh, kw) = geometry.strides, geometry.window
    x = rearrange(x, "n (h p) (w q) c -> n h p w q c", p=sh, q=sw)[:, :, :kh, :, :kw]
    return rearrange(x, "n h p w q c -> n h w (p q c)")


def _pad(x: Array, pads: Pads) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))


def _below(x: Array, geometry: Geometry, size: Pair) -> list[Array]:
    """The [n size c] pixels of x that lie below each tap of the window."""
    (kh, kw), (dh, dw), (h, w) = geometry.window, geometry.dilation, size
    return [x[:, i * dh : i * dh + h, j * dw : j * dw + w] for i in range(kh) for j in range(kw)]


def _correlate(x: Array, k: Array, geometry: Geometry, transposed: bool = False) -> Array:
    """y[n, o] = sum_j x[n, o + d j - lo] k[j], by matrix products where XLA's convolution is the slower.

    `transposed` says that k is flipped and its channels are [c_out c_in], which half of the formulations never undo.
    """
    size, (kh, kw), taps = geometry.output, geometry.window, math.prod(geometry.window)
    c_in, c_out = (k.shape[3], k.shape[2]) if transposed else (k.shape[2], k.shape[3])
    pixels = math.prod(size), math.prod(geometry.image)
    gather = taps * c_in <= c_out or pixels[0] <= min(FEW, pixels[1])  # patches are smaller than y, or few
    if not gather and (taps * c_out <= c_in or pixels[1] <= FEW):  # scatter: products are smaller than x, or few
        products = lax.dot_general(x, k, (((3,), (3 if transposed else 2,)), ((), ())))  # [n h w kh kw c_out]
        terms = []
        for i, j in [(i, j) for i in range(kh) for j in range(kw)]:
            tap = (kh - 1 - i, kw - 1 - j) if transposed else (i, j)
            sizes = tap, geometry.dilation, geometry.image, size, geometry.pads
            shift = _each(lambda t, d, n, m, pad: (pad[0] - t * d, m - n - pad[0] + t * d), *sizes)
            terms.append(_pad(products[:, :, :, i, j], shift))
        return reduce(jnp.add, terms)
    k = k[::-1, ::-1].swapaxes(2, 3) if transposed else k
    if not gather:
        return _padded_conv(x, k, geometry)
    below = _below(_pad(x, geometry.pads), geometry, size)
    if taps * c_in <= c_out:
        return jnp.concatenate(below, axis=-1) @ k.reshape(-1, c_out)
    terms = [part @ tap for part, tap in zip(below, k.reshape(taps, c_in, c_out), strict=True)]
    return reduce(jnp.add, terms)


def _padded_conv(x: Array, k: Array, geometry: Geometry) -> Array:
    """XLA's convolution, never without padding: JAX 0.10 gives that to a library that takes three times as long."""
    if geometry.pads != NO_PADS:
        return xla_conv(x, k, geometry)
    return xla_conv(x, k, geometry._replace(pads=((0, 1), (0, 0))))[:, : geometry.output[0]]


def _correlate_grad(x: Array, y: Array, geometry: Geometry) -> Array:
    """dk[j] = sum_{n, o} x[n, o + d j] y[n, o], where x is padded already."""
    size, taps, (c_in, c_out) = y.shape[1:3], math.prod(geometry.window), (x.shape[3], y.shape[3])
    if 4 * c_out <= c_in:  # gather patches of the narrower array: sum_{n, p} x[n, p] y[n, p - d j]
        flipped = _correlate_grad(_pad(y, _each(lambda span: (span - 1, span - 1), geometry.spans)), x, geometry)
        return flipped[::-1, ::-1].swapaxes(2, 3)

    def product(x: Array, y: Array) -> Array:
        patches = jnp.concatenate(_below(x, geometry, (y.shape[1], y.shape[2])), axis=-1)
        a, b = patches.reshape(-1, taps * c_in), y.reshape(-1, c_out)
        a, b = (a, b) if first else (b, a)
        return lax.dot_general(a, b, (((0,), (0,)), ((), ())))

    def band(i: Array, total: Array) -> Array:
        above = lax.dynamic_slice_in_dim(x, i * rows, rows + geometry.spans[0] - 1, axis=1)
        return total + product(above, lax.dynamic_slice_in_dim(y, i * rows, rows, axis=1))

    # XLA's product takes half as long with the narrow matrix first, unless few pixels make the turning back dearer.
    first = taps * c_in <= c_out or y.shape[0] * math.prod(size) <= 2048
    # The patches of all the rows leave the cache, those of a band stay. Never bands of the batch: it may be sharded.
    fit = BAND // (y.shape[0] * size[1] * taps * c_in)
    rows = max((r for r in range(1, size[0] + 1) if size[0] % r == 0 and r <= fit), default=1)
    if rows == size[0] or taps == 1:
        total = product(x, y)
    else:
        total = lax.fori_loop(
            0, size[0] // rows, band, jnp.zeros((taps * c_in, c_out) if first else (c_out, taps * c_in), x.dtype)
        )
    total = total if first else total.T  # [taps*c_in c_out]
    return total.reshape(*geometry.window, c_in, c_out)


# ---------------------------------------------------------------- the three primitives


def _primitive(name: str, shape: Callable, xla: Callable, cpu: Callable, shared: tuple[Pair, Pair]) -> Primitive:
    """Make a bilinear primitive; `shared` is, by operand, the axis that it and the result share, and the result's."""
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))
    primitive.def_abstract_eval(lambda a, b, *, geometry: ShapedArray(shape(a, b, geometry), a.dtype))

    def wide(a: Array, b: Array, *, geometry: Geometry) -> Array:
        """Compute bf16 in f32: no slower on a CPU, and the sums of products are kept."""
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return cpu(a.astype(dtype), b.astype(dtype), geometry).astype(a.dtype)

    def batch(operands: list[Array], axes: tuple[int | None, int | None], *, geometry: Geometry):
        size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
        only = axes.index(None) ^ 1 if None in axes else None  # the one operand that is vmapped
        if only is not None and (geometry.groups == 1 or shared[only][0] == 0):
            axis, out = shared[only]
            operands = [a if b is None else _merge(a, b, axis) for a, b in zip(operands, axes, strict=True)]
        else:  # as groups of channels, which are the last axis of all three
            out, geometry = 3, geometry._replace(groups=geometry.groups * size)
            full = [
                jnp.stack([a] * size) if b is None else jnp.moveaxis(a, b, 0)
                for a, b in zip(operands, axes, strict=True)
            ]
            operands = [_merge(a, 0, 3) for a in full]
        result = primitive.bind(*operands, geometry=geometry)
        return result.reshape(*result.shape[:out], size, -1, *result.shape[out + 1 :]), out

    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(wide, multiple_results=False), platform="cpu")
    return primitive


def _merge(a: Array, axis: int, into: int) -> Array:
    """Make a vmapped axis the slower part of another: [... v c ...] -> [... v*c ...]."""
    a = jnp.moveaxis(a, axis, into)
    return a.reshape(*a.shape[:into], -1, *a.shape[into + 2 :])


conv_p = _primitive("conv", _output_shape, xla_conv, cpu_conv, ((0, 0), (3, 3)))
input_grad_p = _primitive("conv_input_grad", _input_shape, xla_input_grad, cpu_input_grad, ((0, 0), (2, 3)))
kernel_grad_p = _primitive("conv_kernel_grad", _kernel_shape, xla_kernel_grad, cpu_kernel_grad, ((3, 2), (3, 3)))

ad.defbilinear(
    conv_p, lambda y, _, k, **g: input_grad_p.bind(y, k, **g), lambda y, x, _, **g: kernel_grad_p.bind(x, y, **g)
)
ad.defbilinear(
    input_grad_p, lambda x, _, k, **g: conv_p.bind(x, k, **g), lambda x, y, _, **g: kernel_grad_p.bind(x, y, **g)
)
ad.defbilinear(
    kernel_grad_p, lambda k, _, y, **g: input_grad_p.bind(y, k, **g), lambda k, x, _, **g: conv_p.bind(x, k, **g)
)
