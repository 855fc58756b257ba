"""EDSR: Lim, Son, Kim, Nah and Lee 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution".

Residual blocks without batch norm on the small image, then sub-pixel convolutions. `edsr` is the authors' baseline of
16 blocks of 64 channels; `edsr-full` is the paper's net of 32 blocks of 256 channels, with residuals multiplied by 0.1
for stable training. Pixels are from 0 to 255 minus DIV2K's mean. The schedule is a cosine, not steps. Nets for
all scales are trained from scratch, not from the net for scale 2.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import centred, conv, factors, upsampled
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class EDSR:
    """Hyper-parameters of EDSR."""

    image: Image = (96, 96, 3)  # clean training patches: height, width, channels
    scale: int = 2
    depth: int = 16  # blocks
    width: int = 64
    residual_scale: float = 1.0
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width)
        factors(self.scale)
        channels = self.image[2]
        net = EDSRNet(self.scale, self.depth, self.width, self.residual_scale, channels)
        how = {"channels": channels, "scales": (self.scale,), "pixels": centred(channels)}
        return RestorationTask(net, self.image, self.recipe, self.degradation, **how).task()


class EDSRNet(nn.Module):
    """x f32[b h w channels] -> f32[b h*scale w*scale channels]. Section 3.2, figure 3."""

    scale: int
    depth: int
    width: int
    residual_scale: float
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        y = backbone(x, self.depth, self.width, self.residual_scale)  # [b h w width]
        return conv(self.channels, "tail_1")(upsampled(y, self.scale, "tail_0"))


def backbone(x: Array, depth: int, width: int, residual_scale: float = 1.0) -> Array:
    """Return EDSR's features, x f32[b h w c] -> f32[b h w width]. Call it inside a module."""
    first = y = conv(width, "head_0")(x)
    for i in range(depth):
        y = Block(residual_scale, name=f"body_{i}")(y)
    return first + conv(width, f"body_{depth}")(y)


class Block(nn.Module):
    """x + s W_2 relu(W_1 x), x f32[b h w c] -> f32[b h w c]. Figure 2c, section 3.3."""

    scale: float  # s

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        return x + self.scale * conv(c, "body_2")(nn.relu(conv(c, "body_0")(x)))


def preset(model: EDSR, parameters: int) -> Preset:
    small = EDSR((16, 16, 3), depth=2, width=8, residual_scale=model.residual_scale, recipe=Recipe(learning_rate=1e-3))
    return Preset(row(model, 300_000, 16, optim=Optim(schedule="cosine")), tiny(small), parameters)


PRESETS = {
    "edsr": preset(EDSR(), 1_369_859),
    "edsr-full": preset(EDSR(depth=32, width=256, residual_scale=0.1), 40_729_603),
}
