"""Convolutions over time, height and width, by the two-dimensional ones of conv.py.

A convolution in time is linear in the frames: the frames that one output frame sees are laid side by side as channels,
and convolved as one image. So the formulations for CPUs serve videos as well, and no third kind of primitive is needed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from jaxgen.nn.conv import _biased, conv, conv_transpose

Triple = tuple[int, int, int]
Pads = Sequence[tuple[int, int]]  # before and after, of time, height and width


def conv3d(x: Array, kernel: Array, strides: Triple = (1, 1, 1), padding: str | Pads = "SAME") -> Array:
    """Return x [b t h w c] convolved with a kernel [kt kh kw c c'], [b t' h' w' c'].

    padding: "SAME", t' = ceil(t / stride), as conv.conv pads; or the pixels and frames that are added at each end.
    """
    taps, stride = kernel.shape[0], strides[0]
    time: Any
    space: Any
    if isinstance(padding, str):
        total = max((-(-x.shape[1] // stride) - 1) * stride + taps - x.shape[1], 0)
        time, space = (total // 2, total - total // 2), "SAME"
    else:
        time, *rest = padding
        space = tuple(rest)
    x = jnp.pad(x, ((0, 0), time, (0, 0), (0, 0), (0, 0))) if any(time) else x
    frames = (x.shape[1] - taps) // stride + 1
    if frames < 1:
        raise ValueError(f"conv3d: no room for {taps} frames in {x.shape[1]}.")
    seen = [x[:, i : i + (frames - 1) * stride + 1 : stride] for i in range(taps)]
    stacked = jnp.concatenate(seen, -1).reshape(-1, *x.shape[2:4], taps * x.shape[-1])  # [b*t' h w kt*c]
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])  # [kh kw kt*c c']
    y = conv(stacked, flat, strides[1:], space)
    return y.reshape(-1, frames, *y.shape[1:])  # [b t' h' w' c']


def conv3d_transpose(x: Array, kernel: Array, strides: Triple = (1, 1, 1), padding: str | Pads = "SAME") -> Array:
    """Return x [b t h w c] scattered through a kernel [kt kh kw c c'], as conv.conv_transpose does, [b t' h' w' c'].

    padding: "SAME", t' = t * stride; or the pixels and frames that are cropped at each end, as PyTorch's padding.
    """
    taps, stride, features = kernel.shape[0], strides[0], kernel.shape[-1]
    time: Any
    space: Any
    if isinstance(padding, str):
        extra = max(taps - stride, 0)
        time, space = (extra // 2, taps - stride - extra // 2), "SAME"
    else:
        time, *rest = padding
        space = tuple(rest)
    b, t = x.shape[:2]
    flat = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], taps * features)  # [kh kw c kt*c']
    y = conv_transpose(x.reshape(-1, *x.shape[2:]), flat, strides[1:], space)
    y = y.reshape(b, t, *y.shape[1:3], taps, features)
    whole, none, zero = (t - 1) * stride + taps, (0, 0, 0), jnp.zeros((), y.dtype)
    made = sum(
        jax.lax.pad(y[..., i, :], zero, (none, (i, whole - i - (t - 1) * stride - 1, stride - 1), none, none, none))
        for i in range(taps)
    )
    return jnp.asarray(made)[:, time[0] : whole - time[1]]


class Conv3D(nn.Module):
    """A convolution and a bias, x [b t h w c] -> [b t' h' w' features], computed in the dtype of its kernel."""

    features: int
    kernel_size: Triple
    strides: Triple = (1, 1, 1)
    padding: str | Pads = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = conv3d(x.astype(kernel.dtype), kernel, self.strides, self.padding)
        return checkpoint_name(_biased(self, y), "conv")


class ConvTranspose3D(nn.Module):
    """A transposed convolution and a bias, x [b t h w c] -> [b t' h' w' features], in the dtype of its kernel."""

    features: int
    kernel_size: Triple
    strides: Triple = (1, 1, 1)
    padding: str | Pads = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = conv3d_transpose(x.astype(kernel.dtype), kernel, self.strides, self.padding)
        return checkpoint_name(_biased(self, y), "conv")
