"""RCAN: Zhang, Li, Li, Wang, Zhong and Fu 2018, "Image Super-Resolution Using Very Deep Residual Channel Attention
Networks".

Ten groups of twenty residual blocks with channel attention, residual connections around every block, every group and
all groups, then sub-pixel convolutions. Pixels have EDSR's range; the authors' code has two fixed layers for it, and
counts 24 parameters more. The schedule is a cosine, not steps.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import ChannelAttention, centred, conv, factors, upsampled
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class RCAN:
    """Hyper-parameters of RCAN."""

    image: Image = (96, 96, 3)  # clean training patches: height, width, channels
    scale: int = 2
    groups: int = 10
    blocks: int = 20  # of each group
    width: int = 64
    reduction: int = 16  # of the channels in the attention
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__groups=self.groups, model__blocks=self.blocks, model__width=self.width)
        at_least(1, model__reduction=self.reduction)
        factors(self.scale)
        channels = self.image[2]
        net = RCANNet(self.scale, self.groups, self.blocks, self.width, self.reduction, channels)
        how = {"channels": channels, "scales": (self.scale,), "pixels": centred(channels)}
        return RestorationTask(net, self.image, self.recipe, self.degradation, **how).task()


class RCANNet(nn.Module):
    """x f32[b h w channels] -> f32[b h*scale w*scale channels]. Section 3.1, figure 2."""

    scale: int
    groups: int
    blocks: int
    width: int
    reduction: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        first = y = conv(self.width, "head_0")(x)  # [b h w width]
        group = nn.jit(Group)  # equal groups are traced once, in a third of the time
        for i in range(self.groups):
            y = group(self.blocks, self.reduction, name=f"body_{i}")(y)
        y = first + conv(self.width, f"body_{self.groups}")(y)
        return conv(self.channels, "tail_1")(upsampled(y, self.scale, "tail_0"))


class Group(nn.Module):
    """Blocks and a convolution, with a residual connection around them, x f32[b h w c] -> f32[b h w c]. Section 3.2."""

    blocks: int
    reduction: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i in range(self.blocks):
            y = Block(self.reduction, name=f"body_{i}")(y)
        return x + conv(x.shape[-1], f"body_{self.blocks}")(y)


class Block(nn.Module):
    """x + R(W_2 relu(W_1 x)), where R is channel attention, x f32[b h w c] -> f32[b h w c]. Section 3.3, figure 4."""

    reduction: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = conv(c, "body_2")(nn.relu(conv(c, "body_0")(x)))
        return x + ChannelAttention(self.reduction, name="body_3")(y)


SMALL = RCAN((16, 16, 3), groups=1, blocks=2, width=16, reduction=2, recipe=Recipe(learning_rate=1e-3))
PRESETS = {"rcan": Preset(row(RCAN(), 1_000_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), 15_444_643)}
