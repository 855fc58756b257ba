"""The networks of R3GAN (config E): residual blocks of grouped convolutions without normalisation.

Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline", section 4.3 and appendix; constants from
the authors' code.
"""

import math
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxgen.core.errors import InputError
from jaxgen.nn.conditional import Embed
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.resample import apply_weights

SLOPE = 0.2  # of the leaky ReLU
GAIN = 2 / (1 + SLOPE**2)  # of the variance, to keep it the same through the leaky ReLU


def fan_in_normal(gain: float) -> nn.initializers.Initializer:
    """Return an initializer that draws from N(0, gain / fan_in)."""
    return nn.initializers.variance_scaling(gain, "fan_in", "normal")


@lru_cache(maxsize=64)
def downsampling_matrix(n: int) -> np.ndarray:
    """Return the matrix f64[n/2 n] that filters by [1 3 3 1] / 8 with stride 2, with zeros outside the image."""
    rows = np.arange(n // 2)[:, None]
    taps = 2 * rows - 1 + np.arange(4)  # [n/2 4]
    inside = (taps >= 0) & (taps < n)
    out = np.zeros((n // 2, n))
    np.add.at(out, (rows, taps.clip(0, n - 1)), np.where(inside, np.array([1, 3, 3, 1]) / 8, 0))
    return out


def downsample(x: Array) -> Array:
    """Return x [b h w c] with even sides, filtered by [1 3 3 1] / 8 and downsampled by 2, [b h/2 w/2 c]."""
    return apply_weights(x, downsampling_matrix(x.shape[1]), downsampling_matrix(x.shape[2]))


def upsample(x: Array) -> Array:
    """Return x [b h w c] upsampled by 2 with zeros between pixels, and filtered by [1 3 3 1] / 4, [b 2h 2w c]."""
    return apply_weights(x, 2 * downsampling_matrix(2 * x.shape[1]).T, 2 * downsampling_matrix(2 * x.shape[2]).T)


class ResidualBlock(nn.Module):
    """x + conv1(lrelu(conv3(lrelu(conv1(x))))), x [b h w c] -> [b h w c]; conv3 is grouped and has more channels.

    depth is the number of blocks in the network: the initial scale falls with its fourth root, and the last convolution
    starts at 0 (Zhang et al. 2019, "Fixup Initialization", section 3).
    """

    cardinality: int  # number of groups
    expansion: int
    depth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        middle = x.shape[-1] * self.expansion
        if middle % self.cardinality:
            raise InputError(f"{middle} channels can't be split into {self.cardinality} groups: give a divisor.")
        init = fan_in_normal(GAIN / math.sqrt(self.depth))
        y = Conv(middle, (1, 1), kernel_init=init, name="conv1")(x)
        y = nn.leaky_relu(y, SLOPE)
        y = Conv(middle, (3, 3), groups=self.cardinality, kernel_init=init, name="conv2")(y)
        y = nn.leaky_relu(y, SLOPE)
        return x + Conv(x.shape[-1], (1, 1), use_bias=False, kernel_init=nn.initializers.zeros, name="conv3")(y)


def pointwise(features: int, name: str) -> Conv:
    """Return a 1x1 convolution without bias."""
    return Conv(features, (1, 1), use_bias=False, kernel_init=fan_in_normal(1), name=name)


class R3GANGenerator(nn.Module):
    """z f32[b latent] and, with classes, label i32[b] -> image f32[b h w c], unbounded.

    base:        height and width of the image, divided by 2^(stages - 1)
    widths:      channels of each stage, from the base to the image
    blocks:      residual blocks of each stage
    cardinality: groups of the 3x3 convolutions of each stage
    expansion:   channels of the 3x3 convolutions, divided by those of the stage
    embedding:   size of the class embedding, which is concatenated to z
    On CIFAR-10 the authors have four stages of width 768, 2 blocks, cardinality 96, and expansion 2.
    """

    base: tuple[int, int]
    widths: tuple[int, ...]
    channels: int
    blocks: tuple[int, ...]
    cardinality: tuple[int, ...]
    expansion: int = 2
    classes: int = 0
    embedding: int = 64

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, keys: Array | None = None, *, train: bool) -> Array:
        if self.classes:
            init = nn.initializers.normal(self.classes**-0.5)
            z = jnp.concatenate([z, Embed(self.classes, self.embedding, init, name="embed")(label).astype(z.dtype)], -1)
        depth = sum(self.blocks)
        height, width = self.base
        first = self.widths[0]
        basis = self.param("basis", nn.initializers.normal(1.0), (height, width, first))
        x = Dense(first, use_bias=False, kernel_init=fan_in_normal(1), name="mix")(z).astype(basis.dtype)  # [b c]
        shape = (z.shape[0], height, width, first)
        x = jnp.broadcast_to(basis, shape) * jnp.broadcast_to(x[:, None, None, :], shape)  # [b h w c]
        for i, (features, blocks, groups) in enumerate(zip(self.widths, self.blocks, self.cardinality, strict=True)):
            if i:
                x = x if x.shape[-1] == features else pointwise(features, f"transition{i + 1}")(x)
                x = upsample(x)  # [b 2h 2w c]
            for j in range(blocks):
                x = ResidualBlock(groups, self.expansion, depth, name=f"block{i + 1}_{j + 1}")(x)
        return pointwise(self.channels, "to_image")(x).astype(jnp.float32)


class R3GANDiscriminator(nn.Module):
    """image f32[b h w c] and, with classes, label i32[b] -> logits f32[b].

    The fields are those of the generator, with two differences. The stages are in the order from the image to the
    base. `embedding` is the size of the image's and of the class's embedding; the logit is their inner product. The
    authors' size is widths[0]. Raises InputError for odd sides before a downsampling.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    cardinality: tuple[int, ...]
    expansion: int = 2
    classes: int = 0
    embedding: int = 768

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Array:
        depth = sum(self.blocks)
        x = pointwise(self.widths[0], "from_image")(x)
        for i, (features, blocks, groups) in enumerate(zip(self.widths, self.blocks, self.cardinality, strict=True)):
            if i:
                if x.shape[1] % 2 or x.shape[2] % 2:
                    raise InputError(f"{x.shape[1]}x{x.shape[2]} pixels can't be halved: give fewer stages.")
                x = downsample(x)  # [b h/2 w/2 c]
                x = x if x.shape[-1] == features else pointwise(features, f"transition{i + 1}")(x)
            for j in range(blocks):
                x = ResidualBlock(groups, self.expansion, depth, name=f"block{i + 1}_{j + 1}")(x)
        height, width, last = x.shape[1:]
        basis = self.param("basis", nn.initializers.normal((height * width) ** -0.5), (height, width, last))
        x = jnp.einsum("bhwc,hwc->bc", x.astype(basis.dtype), basis)
        x = Dense(self.embedding if self.classes else 1, use_bias=False, kernel_init=fan_in_normal(1), name="mix")(x)
        if not self.classes:
            return x[:, 0].astype(jnp.float32)
        init = nn.initializers.normal((self.classes * self.embedding) ** -0.5)
        embedded = Embed(self.classes, self.embedding, init, name="embed")(label)
        return (x.astype(jnp.float32) * embedded.astype(jnp.float32)).sum(-1)
