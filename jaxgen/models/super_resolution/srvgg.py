"""SRVGGNetCompact: Wang, Xie, Dong and Shan 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data", the small nets of the authors' repository (https://github.com/xinntao/Real-ESRGAN).

3x3 convolutions and PReLUs in a row on the small image, and sub-pixels at the end; what the image is nearest to is
added. `srvgg` has the size of realesr-general-x4v3, `srvgg-16` that of realesr-animevideov3. Here they are trained by
L1 only, on the paper's damaged images; the published ones are trained as GANs afterwards. The schedule is a cosine, not
steps.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import conv
from jaxgen.nn.prelu import PReLU
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class SRVGG:
    """Hyper-parameters of an SRVGGNetCompact."""

    image: Image = (256, 256, 3)  # clean training patches: height, width, channels
    scale: int = 4
    depth: int = 32  # convolutions between the first and the last one
    width: int = 64
    degradation: Degradation = Degradation(pipeline="real-esrgan")
    recipe: Recipe = Recipe(learning_rate=2e-4, beta2=0.99)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__scale=self.scale)
        at_least(0, model__depth=self.depth)
        channels = self.image[2]
        net = SRVGGNet(self.scale, self.depth, self.width, channels)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=channels, scales=(self.scale,)
        ).task()


class SRVGGNet(nn.Module):
    """x f32[b h w channels] in [0, 1] -> f32[b h*scale w*scale channels]."""

    scale: int
    depth: int
    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        y = x
        for i in range(self.depth + 1):  # names are positions in the authors' list of layers
            y = PReLU(each=True, name=f"body_{2 * i + 1}")(conv(self.width, f"body_{2 * i}")(y))  # [b h w width]
        y = conv(self.channels * self.scale**2, f"body_{2 * self.depth + 2}")(y)
        return depth_to_space(y, self.scale) + x.repeat(self.scale, 1).repeat(self.scale, 2)


def preset(model: SRVGG, parameters: int) -> Preset:
    return Preset(row(model, 1_000_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), parameters)


SMALL = SRVGG((16, 16, 3), scale=2, depth=2, width=8, degradation=Degradation(), recipe=Recipe(learning_rate=1e-3))
PRESETS = {"srvgg": preset(SRVGG(), 1_213_296), "srvgg-16": preset(SRVGG(depth=16), 621_424)}
