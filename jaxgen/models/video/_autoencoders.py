"""Encoder and decoder of clips by convolutions over time and space, for the models that compress clips."""

import math

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.types import Array
from jaxgen.nn.backbones.adm_unet import GroupNorm
from jaxgen.nn.conv import Dense
from jaxgen.nn.conv3d import Conv3D, ConvTranspose3D, Triple
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import attention

HEADS = 2  # of axial attention


def strides_of(down: Triple) -> list[Triple]:
    """Return the strides of each convolution that together reduce frames, height and width by these powers of 2."""
    left = [side.bit_length() - 1 for side in down]
    return [tuple(2 if count > i else 1 for count in left) for i in range(max(left))]  # pyright: ignore


def check_clip(down: Triple, frames: int, image: tuple[int, int, int]):
    """Raise InputError for factors that are no powers of 2, and for clips that they do not divide."""
    if any(side < 1 or side & (side - 1) for side in down) or max(down) == 1:
        raise InputError(f"model.down must be powers of 2, not all 1, such as 4 4 4; not {' '.join(map(str, down))}.")
    for name, size, side in zip(("frames", "height", "width"), (frames, *image[:2]), down, strict=True):
        if size % side:
            raise InputError(f"The {name} of a clip must be a multiple of model.down={side}, not {size}.")


class ClipEncoder(nn.Module):
    """clip f32[b t h w c] -> f32[b t' h' w' outputs], smaller by the strides. Yan et al. 2021, appendix A."""

    down: Triple
    width: int
    blocks: int
    outputs: int
    axial: bool = True  # attention in the residual blocks

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, strides in enumerate(strides_of(self.down)):
            x = nn.relu(Conv3D(self.width, (4, 4, 4), strides, name=f"convs_{i}")(x))  # [b t/s h/s w/s c]
        x = Conv3D(self.width, (3, 3, 3), name="conv_last")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.axial, name=f"res_stack_{i}")(x)
        x = nn.relu(norm(x, "res_norm"))
        return to_f32(Conv3D(self.outputs, (1, 1, 1), name="out")(x))


class ClipDecoder(nn.Module):
    """latents f32[b t' h' w' d] -> f32[b t h w channels], unbounded."""

    down: Triple
    width: int
    blocks: int
    channels: int
    axial: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv3D(self.width, (1, 1, 1), name="in")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.axial, name=f"res_stack_{i}")(x)
        x = nn.relu(norm(x, "res_norm"))
        steps = strides_of(self.down)
        for i, strides in enumerate(steps):
            last = i == len(steps) - 1
            x = ConvTranspose3D(self.channels if last else self.width, (4, 4, 4), strides, name=f"convts_{i}")(x)
            x = x if last else nn.relu(x)  # [b s*t s*h s*w c]
        return to_f32(x)


class ResidualBlock(nn.Module):
    """x f32[b t h w c] -> x and the output of two convolutions, and of axial attention."""

    axial: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = nn.relu(norm(x, "norm_0"))
        y = Conv3D(max(c // 2, 1), (3, 3, 3), use_bias=False, name="conv_0")(y)
        y = Conv3D(c, (1, 1, 1), use_bias=False, name="conv_1")(nn.relu(norm(y, "norm_1")))
        if self.axial:
            y = nn.relu(norm(y, "norm_2"))
            y = sum((AxialAttention(axis, name=f"attn_{name}")(y) for name, axis in (("w", 3), ("h", 2), ("t", 1))))
        return x + y


class AxialAttention(nn.Module):
    """Attention along one axis of x f32[b t h w c] -> the same shape. Ho et al. 2019, axial attention."""

    axis: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        init = nn.initializers.normal(1 / math.sqrt(c))
        part = lambda name: Dense(c, use_bias=False, kernel_init=init, name=name)(x)  # noqa: E731
        query, both = part("w_qs"), jnp.concatenate([part("w_ks"), part("w_vs")], -1)
        line = lambda v: jnp.moveaxis(v, self.axis, 3)  # noqa: E731  [b ... n c]
        shape, n = line(query).shape, x.shape[self.axis]
        mixed = attention(line(query).reshape(-1, n, c), line(both).reshape(-1, n, 2 * c), HEADS)
        return Dense(c, kernel_init=init, name="fc")(jnp.moveaxis(mixed.reshape(shape), 3, self.axis))


def norm(x: Array, name: str) -> Array:
    """Return x f32[b t h w c] normalised in groups of channels, over all frames."""
    b, t, h, w, c = x.shape
    return GroupNorm(name=name)(x.reshape(b, t * h, w, c)).reshape(x.shape)
