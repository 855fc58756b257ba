"""The translators of SimVP: nets between encoder and decoder, for the frames of a clip as channels.

x f32[b h w t*c] -> the same shape. Modules are named after OpenSTL's.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.nn.backbones.adm_unet import UNIFORM, GroupNorm
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm

WINDOWS = 3, 5, 7, 11  # of an inception block
GROUPS = 8  # of its convolutions
DILATION = 3  # of the second depthwise convolution: with 5x5 before it, 7x7 at this dilation see 23x23 pixels
SCALE = 1e-2  # of residual branches at the start


class Inception(nn.Module):
    """A U-Net without resampling, of inception blocks: Gao et al. 2022, section 3.2 (IncepU)."""

    hidden: int
    depth: int  # blocks of the encoder, and of the decoder

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        y, skips = x, []
        for i in range(self.depth):
            y = InceptionBlock(self.hidden // 2, self.hidden, name=f"enc_{i}")(y)
            skips.append(y)
        skips.pop()  # the last one is the decoder's input
        for i in range(self.depth):
            y = jnp.concatenate([y, skips.pop()], -1) if i else y
            features = self.hidden if i < self.depth - 1 else x.shape[-1]
            y = InceptionBlock(self.hidden // 2, features, name=f"dec_{i}")(y)
        return y


class InceptionBlock(nn.Module):
    """The sum of grouped convolutions of several sizes, x f32[b h w c] -> f32[b h w features].

    `hidden` and `features` are multiples of GROUPS.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x, parts = Conv(self.hidden, (1, 1), kernel_init=UNIFORM, name="conv1")(x), []
        for i, side in enumerate(WINDOWS):
            y = Conv(self.features, (side, side), groups=GROUPS, kernel_init=UNIFORM, name=f"layers_{i}_conv")(x)
            parts.append(nn.leaky_relu(GroupNorm(GROUPS, name=f"layers_{i}_norm")(y), 0.2))
        return functools.reduce(jnp.add, parts)


class Meta(nn.Module):
    """A stack of blocks that mix pixels and channels: Tan et al. 2022, "SimVP: Towards Simple yet Powerful
    Spatiotemporal Predictive Learning", section 3.2."""

    kind: Literal["gsta", "tau", "convmixer"]
    hidden: int
    depth: int
    ratio: int = 8  # of the hidden features of an MLP

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        channels, y = x.shape[-1], x
        for i in range(self.depth):
            features = self.hidden if i < self.depth - 1 else channels
            y = MetaBlock(self.kind, features, self.ratio, name=f"enc_{i}")(y, train)
        return y


class MetaBlock(nn.Module):
    """A block, and a linear map where the number of channels changes, x f32[b h w c] -> f32[b h w features]."""

    kind: str
    features: int
    ratio: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        mixer = self.kind == "convmixer"
        block = ConvMixer(name="block") if mixer else Gated(self.kind == "tau", self.ratio, name="block")
        y = block(x, train)
        # This one has PyTorch's default initialisation.
        same = x.shape[-1] == self.features
        return y if same else Conv(self.features, (1, 1), kernel_init=UNIFORM, name="reduction")(y)


class ConvMixer(nn.Module):
    """Depthwise and pointwise convolutions: Trockman and Kolter 2022, "Patches Are All You Need?"."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = gelu(depthwise(x, 11, "conv_dw"))
        x = x + BatchNorm(name="norm_1")(y, train)
        return BatchNorm(name="norm_2")(gelu(pointwise(x, x.shape[-1], "conv_pw")), train)


class Gated(nn.Module):
    """Attention by large kernels, and an MLP with a depthwise convolution.

    gSTA: Tan et al. 2022. TAU, with `temporal`: Tan et al. 2023, section 3.2.
    """

    temporal: bool
    ratio: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for i, branch in (1, Attention(self.temporal, name="attn")), (2, MLP(self.ratio, name="mlp")):
            scale = self.param(f"layer_scale_{i}", nn.initializers.constant(SCALE), (x.shape[-1],)).astype(x.dtype)
            y = branch(BatchNorm(name=f"norm{i}")(x, train))
            x = x + jnp.broadcast_to(scale, y.shape) * y
        return x


class Attention(nn.Module):
    """Pixels weighted by what is around them, x f32[b h w c] -> the same shape."""

    temporal: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = gelu(pointwise(x, c, "proj_1"))
        y = Gate(self.temporal, name="spatial_gating_unit")(y)
        return pointwise(y, c, "proj_2") + x


class Gate(nn.Module):
    """Large-kernel attention, x f32[b h w c] -> the same shape."""

    temporal: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = depthwise(depthwise(x, 5, "conv0"), 7, "conv_spatial", DILATION)
        if not self.temporal:
            made, gate = jnp.split(pointwise(y, 2 * c, "conv1"), 2, -1)  # [b h w c] each
            return jax.nn.sigmoid(gate) * made
        # The authors' code divides the channels by c // 16, not by 16: 16 features remain of any c of 64 or more.
        few = c // max(c // 16, 4)
        means = nn.relu(Dense(few, use_bias=False, kernel_init=UNIFORM, name="fc_0")(x.mean((1, 2))))  # [b few]
        weight = jax.nn.sigmoid(Dense(c, use_bias=False, kernel_init=UNIFORM, name="fc_2")(means))  # [b c]
        return jnp.broadcast_to(weight[:, None, None], x.shape) * pointwise(y, c, "conv1") * x


class MLP(nn.Module):
    """Two linear maps with a depthwise convolution between, x f32[b h w c] -> the same shape."""

    ratio: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = depthwise(pointwise(x, self.ratio * x.shape[-1], "fc1"), 3, "dwconv_dwconv")
        return pointwise(gelu(y), x.shape[-1], "fc2")


def gelu(x: Array) -> Array:
    return nn.gelu(x, approximate=False)


def depthwise(x: Array, side: int, name: str, dilation: int = 1) -> Array:
    c = x.shape[-1]
    init = nn.initializers.normal(math.sqrt(2 / side**2))  # He's, by the number of outputs of each channel
    return Conv(c, (side, side), dilation=(dilation, dilation), groups=c, kernel_init=init, name=name)(x)


def pointwise(x: Array, features: int, name: str) -> Array:
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    return Conv(features, (1, 1), kernel_init=init, name=name)(x)
