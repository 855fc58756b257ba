"""The networks of BigGAN: SNGAN's blocks with a shared class embedding, a hierarchical z and self-attention.

Brock, Donahue and Simonyan 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", appendices B
and C. The training task applies spectral normalisation to the weights; it is not part of these networks.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgen.core.errors import InputError
from jaxgen.models.gan._sngan_nets import DiscriminatorBlock, GeneratorBlock, ProjectionHead
from jaxgen.nn.attention import PixelAttention
from jaxgen.nn.conditional import Embed
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm

Initializer = nn.initializers.Initializer
ORTHOGONAL = nn.initializers.orthogonal()


class BigGANGenerator(nn.Module):
    """z f32[b latent] and, with classes, label i32[b] -> image f32[b h w c] in [-1, 1].

    base:      height and width of the image, divided by 2^blocks
    widths:    channels of the first layer and after each block; at 32x32 the authors have (256, 256, 256, 256)
    attention: self-attention follows the block whose output has this short side; 0 for none
    embedding: size of the class embedding that all batch norms share; 0 gives each batch norm its own table of classes
    hierarchy: split z into 1 + blocks equal parts: one for the first layer, one for the batch norms of each block
    Raises InputError for a z that can't be split like this.
    """

    base: tuple[int, int]
    widths: tuple[int, ...]
    channels: int
    classes: int = 0
    attention: int = 0
    embedding: int = 128
    hierarchy: bool = True
    kernel_init: Initializer = ORTHOGONAL

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, keys: Array | None = None, *, train: bool) -> Array:
        height, width = self.base
        blocks = len(self.widths) - 1
        weights: Any = {"kernel_init": self.kernel_init}
        if self.hierarchy and z.shape[-1] % (1 + blocks):
            raise InputError(f"z has {z.shape[-1]} numbers, which must be a multiple of its {1 + blocks} parts.")
        if self.hierarchy and self.classes and not self.embedding:
            raise InputError("A hierarchical z needs a class embedding of size 1 or more.")
        first, *rest = jnp.split(z, 1 + blocks, -1) if self.hierarchy else [z]  # [b latent/(1+blocks)]
        tables, shared = self.classes, []
        if self.classes and self.embedding:
            tables, shared = 0, [Embed(self.classes, self.embedding, self.kernel_init, name="embed")(label)]  # [b e]
        x = Dense(height * width * self.widths[0], **weights)(first)
        x = x.reshape(-1, height, width, self.widths[0])  # [b h w c]
        inits: Any = {f"{part}_init": self.kernel_init for part in ("norm", "residual", "shortcut")}
        for i, features in enumerate(self.widths[1:]):
            parts = [*shared, *rest[i : i + 1]]
            condition = jnp.concatenate(parts, -1) if parts else label if tables else None  # [b d]
            block = GeneratorBlock(features, tables, 1e-5, **inits, name=f"block{i + 1}")
            x = block(x, condition, train)  # [b 2h 2w c]
            if self.attention == min(x.shape[1:3]):
                x = PixelAttention(**weights, name="attention")(x)
        x = nn.relu(BatchNorm()(x, train))
        x = Conv(self.channels, (3, 3), **weights)(x)
        return jnp.tanh(x.astype(jnp.float32))


class BigGANDiscriminator(nn.Module):
    """image f32[b h w c] and, with classes, label i32[b] -> logits f32[b].

    widths:    channels after each block; at 32x32 the authors have (256, 256, 256, 256)
    downs:     number of first blocks that halve the sides; the authors have 2 at 32x32, and all but the last above
    attention: self-attention follows the block whose output has this short side; 0 for none
    """

    widths: tuple[int, ...]
    downs: int
    classes: int = 0
    attention: int = 0
    kernel_init: Initializer = ORTHOGONAL

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Array:
        inits: Any = {f"{part}_init": self.kernel_init for part in ("residual", "shortcut")}
        for i, features in enumerate(self.widths):
            block = DiscriminatorBlock(features, down=i < self.downs, first=i == 0, **inits, name=f"block{i + 1}")
            x = block(x)  # [b h/2 w/2 c]
            if i < self.downs and self.attention == min(x.shape[1:3]):
                x = PixelAttention(kernel_init=self.kernel_init, name="attention")(x)
        phi = nn.relu(x).astype(jnp.float32).sum((1, 2))  # [b c]
        return ProjectionHead(self.classes, use_bias=True, kernel_init=self.kernel_init, name="head")(phi, label)
