"""SRResNet: Ledig, Theis, Huszar, Caballero, Cunningham, Acosta, Aitken, Tejani, Totz, Wang and Shi 2017,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network".

SRGAN's generator, trained by the mean squared error only: 16 residual blocks with batch norm and PReLU, then sub-pixel
convolutions. PReLU has one slope for each layer, and there is no bias before batch norm. The layers have the names of
Lornatang's SRGAN-PyTorch.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import conv, factors
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.prelu import PReLU
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class SRResNet:
    """Hyper-parameters of SRResNet."""

    image: Image = (96, 96, 3)  # clean training patches: height, width, channels
    scale: int = 4
    depth: int = 16  # blocks
    width: int = 64
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(loss="l2")

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width)
        factors(self.scale)
        channels = self.image[2]
        net = SRResNetModule(self.scale, self.depth, self.width, channels)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=channels, scales=(self.scale,)
        ).task()


class SRResNetModule(nn.Module):
    """x f32[b h w channels] in [0, 1] -> f32[b h*scale w*scale channels]. Section 2.1, figure 4."""

    scale: int
    depth: int
    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        first = y = PReLU(name="conv1_1")(conv(self.width, "conv1_0", 9)(x))  # [b h w width]
        for i in range(self.depth):
            y = Block(name=f"trunk_{i}")(y, train)
        y = first + BatchNorm(name="conv2_1")(conv(self.width, "conv2_0", bias=False)(y), train)
        for i, factor in enumerate(factors(self.scale)):
            y = Upsample(factor, name=f"upsampling_{i}")(y)  # [b h*factor w*factor width]
        return conv(self.channels, "conv3", 9)(y)


class Block(nn.Module):
    """x + norm(conv(prelu(norm(conv(x))))), x f32[b h w c] -> f32[b h w c]."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        c = x.shape[-1]
        y = BatchNorm(name="rcb_1")(conv(c, "rcb_0", bias=False)(x), train)
        y = conv(c, "rcb_3", bias=False)(PReLU(name="rcb_2")(y))
        return x + BatchNorm(name="rcb_4")(y, train)


class Upsample(nn.Module):
    """A sub-pixel convolution and PReLU, x f32[b h w c] -> f32[b h*factor w*factor c]."""

    factor: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = conv(x.shape[-1] * self.factor**2, "upsample_block_0")(x)
        return PReLU(name="upsample_block_2")(depth_to_space(y, self.factor))


SMALL = SRResNet((16, 16, 3), scale=2, depth=2, width=8, recipe=Recipe(loss="l2", learning_rate=1e-3))
PRESETS = {"srresnet": Preset(row(SRResNet(), 1_000_000, 16), tiny(SMALL), 1_547_350)}
