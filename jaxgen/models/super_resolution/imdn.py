"""IMDN: Hui, Gao, Yang and Wang 2019, "Lightweight Image Super-Resolution with Information Multi-distillation Network".

Six blocks. Each one has four convolutions; after each of these it keeps a quarter of the channels and processes the
rest, and then applies contrast-aware channel attention to the kept channels. The outputs of all blocks are fused, and
one sub-pixel convolution makes the image. `imdn` enlarges by 4, as the published weights in the tests do. The
schedule is a cosine, not steps.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import ChannelAttention, conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class IMDN:
    """Hyper-parameters of an IMDN."""

    image: Image = (192, 192, 3)  # clean training patches: height, width, channels
    scale: int = 4
    depth: int = 6  # blocks
    width: int = 64
    reduction: int = 16  # of the channels in the attention
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(learning_rate=2e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__scale=self.scale, model__reduction=self.reduction)
        at_least(4, model__width=self.width)
        if self.width % 4:
            raise InputError(f"model.width must be a multiple of 4, not {self.width}: a quarter is kept.")
        channels = self.image[2]
        net = IMDNNet(self.scale, self.depth, self.width, self.reduction, channels)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=channels, scales=(self.scale,)
        ).task()


class IMDNNet(nn.Module):
    """x f32[b h w channels] in [0, 1] -> f32[b h*scale w*scale channels]. Section 3.1, figure 1."""

    scale: int
    depth: int
    width: int
    reduction: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        first = y = conv(self.width, "fea_conv")(x)  # [b h w width]
        kept = []
        for i in range(self.depth):
            y = Block(self.reduction, name=f"IMDB{i + 1}")(y)
            kept.append(y)
        y = leaky(conv(self.width, "c_0", 1)(jnp.concatenate(kept, -1)))
        y = conv(self.width, "LR_conv")(y) + first
        return depth_to_space(conv(self.channels * self.scale**2, "upsampler_0")(y), self.scale)


class Block(nn.Module):
    """Information distillation: features kept step by step, x f32[b h w c] -> f32[b h w c]. Section 3.2, figure 2."""

    reduction: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        kept, rest = [], x
        for i in (1, 2, 3):
            part, rest = jnp.split(leaky(conv(c, f"c{i}")(rest)), [c // 4], -1)  # [b h w c/4], [b h w 3c/4]
            kept.append(part)
        kept.append(conv(c // 4, "c4")(rest))
        weighted = ChannelAttention(self.reduction, contrast=True, name="cca")(jnp.concatenate(kept, -1))  # [b h w c]
        return conv(c, "c5", 1)(weighted) + x


def leaky(x: Array) -> Array:
    return nn.leaky_relu(x, 0.05)


SMALL = IMDN(image=(24, 24, 3), scale=2, depth=2, width=16, reduction=2, recipe=Recipe(learning_rate=1e-3))
PRESETS = {"imdn": Preset(row(IMDN(), 1_000_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), 715_176)}
