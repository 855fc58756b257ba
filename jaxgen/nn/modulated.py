"""Layers of StyleGAN2: equalised learning rate and modulated convolutions (Karras et al. 2020a, section 2).

A layer with an equalised learning rate initialises its kernel from N(0, 1) and multiplies it by 1 / sqrt(fan in) at
run time (Karras et al. 2018, section 4.1), so that Adam updates all layers at the same relative rate.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from jaxgen.nn.conv import conv, conv_transpose
from jaxgen.nn.upfirdn import downsample, upfirdn2d, upsample

FIR = np.array([1.0, 3.0, 3.0, 1.0]) / 8
SQRT2 = math.sqrt(2)
NORMAL = nn.initializers.normal(1.0)


def scaled_leaky_relu(x: Array, gain: float = SQRT2) -> Array:
    """Return LeakyReLU 0.2 times a gain that preserves the variance of the activations, x [...]."""
    return nn.leaky_relu(x, 0.2) * gain


def resampled_conv(x: Array, kernel: Array, up: int = 1, down: int = 1) -> Array:
    """Convolve and resample (FIR): x [b h w c_in], kernel [k k c_in c_out], k odd -> [b h*up/down w*up/down c_out].

    Up: transposed convolution, then filter; down: filter, then strided convolution (section 4.1, figure 7).
    """
    size, n = kernel.shape[0], len(FIR)
    side = size // 2
    if up > 1 and size == 1:
        return upsample(conv(x, kernel), FIR, up)
    if up > 1:
        y = conv_transpose(x, kernel, (up, up), "VALID")  # [b up*(h-1)+k up*(w-1)+k c_out]
        pad = (side + (n + up - 1) // 2 - (size - 1), side + (n - up) // 2 - (size - up))
        return upfirdn2d(y, FIR, pad=pad, gain=up**2)
    if down > 1 and size == 1:
        return conv(downsample(x, FIR, down), kernel)
    if down > 1:
        pad = (side + (n - down + 1) // 2, side + (n - down) // 2)
        return conv(upfirdn2d(x, FIR, pad=pad), kernel, (down, down), "VALID")
    return conv(x, kernel, padding=((side, side), (side, side)))


def modulated_conv(x: Array, kernel: Array, style: Array, up: int = 1, demodulate: bool = True) -> Array:
    """Convolve each image with its own kernel, w'' = s w / sqrt(sum (s w)^2 + 1e-8), summed over k, k, c_in.

    x [b h w c_in], kernel [k k c_in c_out], style [b c_in] -> [b h*up w*up c_out] in the kernel's dtype. A convolution
    is linear, so s can scale the input channels and the root the output channels; all images then share one kernel.
    Karras et al. 2020a, section 2.2, equations 1 to 3.
    """
    x = x.astype(kernel.dtype) * style.astype(kernel.dtype)[:, None, None, :]  # equation 1
    y = resampled_conv(x, kernel, up)
    return y * demodulation(kernel, style).astype(y.dtype)[:, None, None, :] if demodulate else y  # equation 3


def demodulation(kernel: Array, style: Array) -> Array:
    """Return 1 / the standard deviation of each output for inputs of unit variance, f32[b c_out] (equation 2)."""
    kernel, style = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (kernel, style))
    power = jnp.sum(kernel * kernel, (0, 1))  # [c_in c_out]
    return lax.rsqrt(jnp.matmul(style * style, power, precision="highest") + 1e-8)


class EqualDense(nn.Module):
    """x [... c] -> [... features] in the kernel's dtype: m (x @ kernel / sqrt(c) + bias), then LeakyReLU.

    m is the learning rate multiplier; the kernel is initialised from N(0, 1) / m and the bias with `bias`.
    """

    features: int
    activate: bool = False
    multiplier: float = 1.0
    bias: float = 0.0
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = nn.initializers.normal(1 / self.multiplier)
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        y = x.astype(kernel.dtype) @ (kernel * (self.multiplier / math.sqrt(x.shape[-1])))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.constant(self.bias), (self.features,))
            y = y + jnp.broadcast_to(bias.astype(y.dtype) * self.multiplier, y.shape)
        y = checkpoint_name(y, "dense")
        return scaled_leaky_relu(y) if self.activate else y


class EqualConv(nn.Module):
    """x [b h w c] -> [b h*up/down w*up/down features] in the kernel's dtype, then LeakyReLU and a gain."""

    features: int
    size: int = 3
    up: int = 1
    down: int = 1
    activate: bool = True
    use_bias: bool = True
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", NORMAL, (self.size, self.size, x.shape[-1], self.features))
        equal = kernel * (1 / math.sqrt(self.size**2 * x.shape[-1]))
        y = resampled_conv(x.astype(kernel.dtype), equal, self.up, self.down)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(y.dtype)[None, None, None, :]
        y = checkpoint_name(y, "conv")
        return scaled_leaky_relu(y, SQRT2 * self.gain) if self.activate else y * self.gain
