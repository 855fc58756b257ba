"""RRDBNet: Wang, Yu, Wu, Gu, Liu, Dong, Qiao and Loy 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial
Networks".

ESRGAN's generator: 23 residual-in-residual dense blocks, then two upsampling steps by the nearest pixel and a
convolution. Here it is trained by L1 only, which is the first half of the paper's training. For scales 2 and 1 blocks
of pixels are first moved into channels, as in BasicSR; the layers have BasicSR's names. `rrdb-6` has six blocks, as
Real-ESRGAN's net for anime. The schedule is a cosine, not steps.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import conv
from jaxgen.nn.shuffle import space_to_depth
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny

SMALL_HE = nn.initializers.variance_scaling(0.01 * 2, "fan_in", "normal")  # He's initialisation times 0.1, section 3.4


@dataclass(frozen=True)
class RRDB:
    """Hyper-parameters of RRDBNet."""

    image: Image = (128, 128, 3)  # clean training patches: height, width, channels
    scale: int = 4  # 1, 2 or 4
    depth: int = 23  # blocks
    width: int = 64
    growth: int = 32  # channels that each convolution of a dense block adds
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(learning_rate=2e-4, beta2=0.99)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__growth=self.growth)
        if self.scale not in (1, 2, 4):
            raise InputError(f"model.scale must be 1, 2 or 4, not {self.scale}.")
        channels = self.image[2]
        net = RRDBNet(self.scale, self.depth, self.width, self.growth, channels)
        how = {"channels": channels, "scales": (self.scale,), "multiple": 4 // self.scale}
        return RestorationTask(net, self.image, self.recipe, self.degradation, **how).task()


class RRDBNet(nn.Module):
    """x f32[b h w channels] in [0, 1] -> f32[b h*scale w*scale channels]. Section 3.1, figures 3 and 4."""

    scale: int
    depth: int
    width: int
    growth: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        first = y = conv(self.width, "conv_first")(space_to_depth(x, 4 // self.scale))  # a quarter of the output's size
        for i in range(self.depth):
            y = Block(self.growth, name=f"body_{i}")(y)
        y = first + conv(self.width, "conv_body")(y)
        for name in ("conv_up1", "conv_up2"):
            y = leaky(conv(self.width, name)(doubled(y)))  # [b 2h 2w width]
        return conv(self.channels, "conv_last")(leaky(conv(self.width, "conv_hr")(y)))


class Block(nn.Module):
    """x + 0.2 times the output of three dense blocks, x f32[b h w c] -> f32[b h w c]. Figure 4, right."""

    growth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i in (1, 2, 3):
            y = DenseBlock(self.growth, name=f"rdb{i}")(y)
        return x + 0.2 * y


class DenseBlock(nn.Module):
    """x + 0.2 times five convolutions with dense connections, x f32[b h w c] -> f32[b h w c]."""

    growth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x
        for i in (1, 2, 3, 4):
            y = leaky(conv(self.growth, f"conv{i}", kernel_init=SMALL_HE)(features))
            features = jnp.concatenate([features, y], -1)  # [b h w c+i*growth]
        return x + 0.2 * conv(x.shape[-1], "conv5", kernel_init=SMALL_HE)(features)


def leaky(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


def doubled(x: Array) -> Array:
    """Return x upsampled by the nearest pixel, [b h w c] -> [b 2h 2w c]."""
    return x.repeat(2, 1).repeat(2, 2)


def preset(model: RRDB, parameters: int) -> Preset:
    return Preset(row(model, 1_000_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), parameters)


SMALL = RRDB((16, 16, 3), depth=1, width=8, growth=4, recipe=Recipe(learning_rate=1e-3))
PRESETS = {"rrdb": preset(RRDB(), 16_697_987), "rrdb-6": preset(RRDB(depth=6), 4_467_779)}
