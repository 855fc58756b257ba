"""Encoders and decoders of UNIT and MUNIT: stride-2 stages, residual blocks, upsampling."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.models.translation._generators import ReflectConv, Residual
from jaxgen.nn.instance_norm import InstanceNorm, standardise
from jaxgen.nn.precision import to_f32

Norm = Callable[[str], Callable[[Array], Array]]  # (name) -> the normalising module of a block
he = nn.initializers.he_normal()  # the authors' code


class Encoder(nn.Module):
    """x f32[b h w c] -> f32[b h/2^downs w/2^downs width 2^downs]; instance norm."""

    width: int
    downs: int
    blocks: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(InstanceNorm(name="norm_in")(ReflectConv(self.width, 7, he, name="in")(x)))
        for i in range(self.downs):
            down = ReflectConv(self.width << (i + 1), 4, he, 2, name=f"down_{i}")
            x = nn.relu(InstanceNorm(name=f"down_{i}_norm")(down(x)))  # [b h/2 w/2 2c]
        return ResidualBlocks(self.blocks, name="blocks")(x)


class ResidualBlocks(nn.Module):
    """Residual blocks, [b h w c] -> [b h w c]."""

    blocks: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i in range(self.blocks):
            x = Residual(kernel_init=he, name=f"block_{i}")(x)
        return x


class Decoder(nn.Module):
    """[b h w width 2^downs] -> f32[b h 2^downs w 2^downs channels] in [-1, 1]: residual blocks,
    then upsampling by repetition.

    `moments` f32[b 2 * blocks 2 c], if given, sets the norms of the blocks: means and roots of variances (AdaIN).
    """

    channels: int
    width: int
    downs: int
    blocks: int

    @nn.compact
    def __call__(self, x: Array, moments: Array | None = None) -> Array:
        for i in range(self.blocks):
            norm: Any = {} if moments is None else {"norm": adaptive_norm(moments[:, 2 * i : 2 * i + 2])}
            x = Residual(kernel_init=he, name=f"block_{i}", **norm)(x)
        for i in reversed(range(self.downs)):
            x = x.repeat(2, 1).repeat(2, 2)  # [b 2h 2w c]
            x = nn.relu(LayerNorm(name=f"up_{i}_norm")(ReflectConv(self.width << i, 5, he, name=f"up_{i}")(x)))
        return to_f32(jnp.tanh(ReflectConv(self.channels, 7, he, name="out")(x)))


def adaptive_norm(moments: Array) -> Norm:
    """Return the norms of a residual block, which set the means and roots of variances of channels.

    moments: f32[b 2 2 c], bias and scale of both norms. Huang and Belongie 2017, equation 8.
    """

    def norm(name: str) -> Callable[[Array], Array]:
        bias, scale = (moments[:, int(name[-1]), i, None, None].astype(moments.dtype) for i in range(2))  # [b 1 1 c]
        return lambda x: standardise(x) * scale.astype(x.dtype) + bias.astype(x.dtype)

    return norm


class LayerNorm(nn.Module):
    """x [b h w c], normalised over all values of an image, then a scale and a bias for each channel.

    Scales are initialised uniformly in [0, 1), as in the authors' code.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.uniform(1.0), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        scale, bias = (jnp.broadcast_to(v.astype(x.dtype), x.shape) for v in (scale, bias))
        return standardise(x, (1, 2, 3)) * scale + bias
