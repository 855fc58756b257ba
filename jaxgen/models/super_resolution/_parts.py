"""Layers that several super-resolution nets share, and the range of pixels at their inputs."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array
from jaxgen.nn.conv import Conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import PixelRange

UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's: within 1 / sqrt(fan_in)
DIV2K = (0.4488, 0.4371, 0.4040)  # the mean red, green and blue of DIV2K's images


def centred(channels: int, span: float = 255.0) -> PixelRange:
    """Return a pixel range with mean 0 over DIV2K, for images of three channels."""
    return PixelRange(span, DIV2K if channels == 3 else (0.0,))


def conv(features: int, name: str, size: int = 3, bias: bool = True, kernel_init: Callable = UNIFORM) -> Conv:
    """Return a convolution that keeps the size, x [b h w c] -> [b h w features]."""
    return Conv(features, (size, size), use_bias=bias, kernel_init=kernel_init, name=name)


def factors(scale: int) -> tuple[int, ...]:
    """Return the factors of upsampling steps: powers of 2 in steps of 2, or 3. Raises InputError for other scales."""
    at_least(2, model__scale=scale)
    if scale & (scale - 1) == 0:
        return (2,) * (scale.bit_length() - 1)
    if scale != 3:
        raise InputError(f"model.scale must be 3 or a power of 2, not {scale}.")
    return (3,)


def upsampled(x: Array, scale: int, name: str) -> Array:
    """Return features upsampled by sub-pixel convolutions, x f32[b h w c] -> f32[b h*scale w*scale c].

    Lim et al. 2017, figure 3. Call it inside a module; the convolutions are named NAME_0, NAME_2, ...
    """
    c = x.shape[-1]
    for i, factor in enumerate(factors(scale)):
        x = depth_to_space(conv(c * factor**2, f"{name}_{2 * i}")(x), factor)
    return x


class ChannelAttention(nn.Module):
    """x s, s = sigmoid(W_2 relu(W_1 z)), where z is the mean of each channel, x f32[b h w c] -> f32[b h w c].

    Zhang et al. 2018, equations 6 to 9, with c / reduction hidden units. With `contrast`, z is the mean plus the
    standard deviation: Hui et al. 2019, equation 4.
    """

    reduction: int = 16
    contrast: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        z = x.mean((1, 2), keepdims=True)  # [b 1 1 c]
        if self.contrast:  # keeps the root's gradient finite in constant channels
            z = z + jnp.sqrt(jnp.square(x - z).mean((1, 2), keepdims=True) + 1e-12)
        z = nn.relu(conv(max(c // self.reduction, 1), "conv_du_0", 1)(z))  # [b 1 1 c/reduction]
        return x * nn.sigmoid(conv(c, "conv_du_2", 1)(z))
