"""Convolutions for all models: one trilinear form, three primitives closed under differentiation, CPU formulations.

With images x, kernel k and output gradient y, the form is

    T(x, k, y) = sum_{n, o, j, i, c} x[n, s o + d j - lo, i] k[j, i, c] y[n, o, c].

The convolution is dT/dy(x, k), its input gradient (the transposed convolution) is dT/dx(y, k), its kernel gradient is
dT/dk(x, y). Each of the three is bilinear, and its derivatives are the other two: derivatives of any order, forward and
reverse, need no fourth function. They lower to XLA's convolution, except on CPUs, where XLA's gradients are slower than
the formulations of conv_forms.py (tests/benchmarks/conv.py).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgen.nn.conv_forms import (
    NO_PADS,
    Geometry,
    Pads,
    Pair,
    cpu_conv,
    cpu_input_grad,
    cpu_kernel_grad,
    input_shape,
    kernel_shape,
    output_shape,
    per_axis,
    xla_conv,
    xla_input_grad,
    xla_kernel_grad,
)

Padding = str | Pads
# Rematerialisation policy of layers in nn.scan: keep the products for the backward pass and recompute the rest. A kept
# value is copied into an array of all layers and out again, which takes longer than recomputing norms, activations and
# attention scores.
REMAT_POLICY = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names("conv")
)


# ---------------------------------------------------------------- public functions and layers


def conv(
    x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "SAME", dilation: Pair = (1, 1), groups: int = 1
) -> Array:
    """Convolve images: y[n, o, c] = sum_{j, i} x[n, s o + d j - lo, i] kernel[j, i, c].

    x [b h w c_in], kernel [kh kw c_in/groups c_out] -> [b h' w' c_out]; h' = (h + lo + hi - d (kh - 1) - 1) // s + 1.
    padding: "SAME" (h' = ceil(h / s), an odd pixel of padding goes to the end), "VALID" (none) or ((lo, hi), (lo, hi)).
    Raises ValueError if shapes do not match, groups do not divide the channels, or the output would be empty.
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
        totals = per_axis(lambda size, span, s: max((-(-size // s) - 1) * s + span - size, 0), *sizes)
        padding = per_axis(lambda total: (total // 2, total - total // 2), totals)
    geometry = geometry._replace(pads=_pads("conv", padding))
    if any(size < 1 for size in geometry.output):  # sizes can be symbolic (jax.export): they have no minimum
        raise ValueError(f"conv: no room for a {geometry.window} window in {geometry.image} padded by {geometry.pads}.")
    return conv_p.bind(x, kernel, geometry=geometry)


def conv_transpose(x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "SAME") -> Array:
    """Scatter pixels through the kernel: y[n, s i + j - lo, c] = sum over all such i, j and over k of x[n, i, k] kernel[j, k, c].

    x [b h w c_in], kernel [kh kw c_in c_out] -> [b h' w' c_out]; h' = (h - 1) s + kh - lo - hi. The kernel is not
    flipped: PyTorch's ConvTranspose2d with (lo, hi) = (p, p - output_padding); flax's ConvTranspose with the kernel
    flipped in h and w, or with transpose_kernel=True and the kernel's channels swapped. "SAME" makes h' = s h, "VALID"
    crops nothing. Raises ValueError if shapes do not match or the output would be empty.
    """  # noqa: E501
    _check("conv_transpose", x, kernel, x.shape[-1])
    window = kernel.shape[0], kernel.shape[1]
    if padding == "SAME":
        padding = per_axis(lambda k, s: (max(k - s, 0) // 2, k - s - max(k - s, 0) // 2), window, strides)
    pads = _pads("conv_transpose", padding)
    image = per_axis(lambda size, k, s, pad: (size - 1) * s + k - sum(pad), x.shape[1:3], window, strides, pads)
    if any(size < 1 for size in image):
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
    return NO_PADS if isinstance(padding, str) else per_axis(tuple, padding)


class Conv(nn.Module):
    """A convolution and a bias, x [b h w c] -> [b h' w' features], computed in the dtype of its kernel."""

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


# ---------------------------------------------------------------- the three primitives


def _primitive(name: str, shape: Callable, xla: Callable, cpu: Callable, shared: tuple[Pair, Pair]) -> Primitive:
    """Return a bilinear primitive; `shared` gives, for each operand, the axis it shares with the result, in both."""
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))
    primitive.def_abstract_eval(lambda a, b, *, geometry: ShapedArray(shape(a, b, geometry), a.dtype))

    def batch(operands: list[Array], axes: tuple[int | None, int | None], *, geometry: Geometry):
        size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
        only = axes.index(None) ^ 1 if None in axes else None  # the only vmapped operand, if one
        if only is not None and (geometry.groups == 1 or shared[only][0] == 0):
            axis, out = shared[only]
            operands = [a if b is None else _merge(a, b, axis) for a, b in zip(operands, axes, strict=True)]
        else:  # the vmapped axis becomes groups of channels, the last axis of all three arrays
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
    lower_on_cpu(primitive, cpu)
    return primitive


def lower_on_cpu(primitive: Primitive, formulation: Callable):
    """Compute a primitive on CPUs by a formulation (a, b, geometry) -> result."""

    def in_f32(a: Array, b: Array, *, geometry: Geometry) -> Array:
        """Compute bf16 inputs in f32: as fast on a CPU, and sums of products keep their precision."""
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return formulation(a.astype(dtype), b.astype(dtype), geometry).astype(a.dtype)

    mlir.register_lowering(primitive, mlir.lower_fun(in_f32, multiple_results=False), platform="cpu")


def _merge(a: Array, axis: int, into: int) -> Array:
    """Merge a vmapped axis into another as its slower part: [... v c ...] -> [... v*c ...]."""
    a = jnp.moveaxis(a, axis, into)
    return a.reshape(*a.shape[:into], -1, *a.shape[into + 2 :])


conv_p = _primitive("conv", output_shape, xla_conv, cpu_conv, ((0, 0), (3, 3)))
input_grad_p = _primitive("conv_input_grad", input_shape, xla_input_grad, cpu_input_grad, ((0, 0), (2, 3)))
kernel_grad_p = _primitive("conv_kernel_grad", kernel_shape, xla_kernel_grad, cpu_kernel_grad, ((3, 2), (3, 3)))

ad.defbilinear(
    conv_p, lambda y, _, k, **g: input_grad_p.bind(y, k, **g), lambda y, x, _, **g: kernel_grad_p.bind(x, y, **g)
)
ad.defbilinear(
    input_grad_p, lambda x, _, k, **g: conv_p.bind(x, k, **g), lambda x, y, _, **g: kernel_grad_p.bind(x, y, **g)
)
ad.defbilinear(
    kernel_grad_p, lambda k, _, y, **g: input_grad_p.bind(y, k, **g), lambda k, x, _, **g: conv_p.bind(x, k, **g)
)
