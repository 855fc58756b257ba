"""Shifted convolutions: like masked ones (masked_conv.py), but without a mask: the kernel lies before the pixel.

Salimans et al. 2017, "PixelCNN++", section 2.4 and 2.5: down-shifted kernels see the rows above and the row itself,
down-right-shifted ones the pixels above and to the left, and the pixel itself. They can have strides, and be
transposed, so a net can have several resolutions. Weights are normalised: w = g v / |v| (Salimans and Kingma 2016).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.conv import Pair, conv, conv_transpose
from jaxgen.nn.masked_conv import Place

Array = jax.Array
NORMAL = nn.initializers.normal(0.05)


def coarse(place: Place, factor: int = 2) -> Place:
    """Return the place of a place at a resolution that is lower by a factor."""
    column = None if place.column is None else place.column // factor
    return Place(place.row // factor, column, place.width // factor)


def normalised(module: nn.Module, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the weights g v / |v| of a shape, |v| that of each output, and the bias."""
    v = module.param("kernel", NORMAL, shape)
    g = module.param("weight_scale", nn.initializers.ones, shape[-1:])
    bias = module.param("bias", nn.initializers.zeros, shape[-1:])
    axes = tuple(range(len(shape) - 1))
    length = jnp.sqrt(jnp.square(v).sum(axes, keepdims=True) + 1e-12)
    return jnp.expand_dims(g, axes) * v / length, bias


def added(y: Array, bias: Array) -> Array:
    return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


class NormalisedDense(nn.Module):
    """A linear map of the channels with normalised weights, [... c] -> [... features]."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = normalised(self, (x.shape[-1], self.features))
        return added(x.astype(kernel.dtype) @ kernel, bias)


class ShiftedConv(nn.Module):
    """A convolution whose kernel begins `above` rows above a pixel and `left` columns to its left, x [b h w c].

    With a place it computes one pixel or one row of its output, as MaskedConv does; the place is that of its input, and
    with a stride the output is that of the coarse pixel or row in which the place lies. A strict layer is a net's first
    one, and takes all that is known of the image.
    """

    features: int
    kernel_size: Pair
    above: int
    left: int
    stride: int = 1
    strict: bool = False

    @nn.compact
    def __call__(self, x: Array, place: Place | None = None) -> Array:
        (high, wide), s = self.kernel_size, self.stride
        kernel, bias = normalised(self, (high, wide, x.shape[-1], self.features))
        x = x.astype(kernel.dtype)
        right = max(wide - 1 - self.left, 0)
        pads = (0, 0), (self.above, 0), (self.left, right), (0, 0)
        if place is None:
            y = conv(jnp.pad(x, pads), kernel, (s, s), "VALID")
            return added(y[:, : x.shape[1] // s, : x.shape[2] // s], bias)
        row = place.row // s * s
        column = 0 if place.column is None else place.column // s * s
        size = place.width + self.left + right if place.column is None else wide
        if self.strict:
            whole, shape = jnp.pad(x, pads), (len(x), high, size, x.shape[3])
            known = jax.lax.dynamic_slice(whole, (0, row, column, 0), shape)
        else:
            slots = self.above + s  # with a stride, the present row may be the second one of its coarse row
            shape = (len(x), slots, place.width + self.left + right, x.shape[3])
            cache = self.variable("cache", "inputs", jnp.zeros, shape, x.dtype)
            start = 0 if place.column is None else place.column
            cache.value = jax.lax.dynamic_update_slice(cache.value, x, (0, place.row % slots, self.left + start, 0))
            found = jax.lax.dynamic_slice_in_dim(cache.value, column, size, 2)
            known = jnp.take(found, (row - self.above + jnp.arange(high)) % slots, axis=1)
        if place.column is None:
            y = conv(known, kernel, (1, s), "VALID")[:, :, : place.width // s]  # [b 1 w f]
        else:
            y = (known.reshape(len(x), -1) @ kernel.reshape(-1, self.features))[:, None, None]  # [b 1 1 f]
        return added(y, bias)


class ShiftedConvTranspose(nn.Module):
    """A transposed convolution with stride 2 and a kernel of 2 rows, x [b h w c] -> [b 2h 2w features].

    wide: 3 for down-shifted ones, which mix neighbours of a row; 2 for down-right-shifted ones. With a place, that of
    the output, x is the coarse pixel [b 1 1 c] or row [b 1 w c] in which it lies.
    """

    features: int
    wide: int

    @nn.compact
    def __call__(self, x: Array, place: Place | None = None) -> Array:
        kernel, bias = normalised(self, (2, self.wide, x.shape[-1], self.features))
        x, pads = x.astype(kernel.dtype), ((0, 0), (self.wide - 2, 0))
        if place is None:
            return added(conv_transpose(x, kernel, (2, 2), pads), bias)
        part = jax.lax.dynamic_slice_in_dim(kernel, place.row % 2, 1, 0)
        if place.column is None:
            return added(conv_transpose(x, part, (1, 2), pads), bias)
        return added(x @ jax.lax.dynamic_slice_in_dim(part, place.column % 2, 1, 1)[0, 0], bias)
