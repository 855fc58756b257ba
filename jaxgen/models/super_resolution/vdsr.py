"""VDSR: Kim, Lee and Lee 2016, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks".

Twenty 3x3 convolutions predict the residual of an interpolated image, x^ = x + f(x), for its luma. One net is trained
for the scales 2, 3 and 4 together. There are no biases, as in the published weights (pytorch-vdsr's). Adam replaces the
paper's SGD with a high rate and adjustable clipping (section 3.2), and the number of steps is chosen for it.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import renamed
from jaxgen.models.super_resolution._parts import conv
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class VDSR:
    """Hyper-parameters of a VDSR."""

    image: Image = (41, 41, 3)  # clean training patches: height, width, channels
    scales: tuple[int, ...] = (2, 3, 4)
    depth: int = 20
    width: int = 64
    bias: bool = False
    degradation: Degradation = Degradation(rounded=False)  # the authors' images are doubles of MATLAB
    recipe: Recipe = Recipe(loss="l2")

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__depth=self.depth, model__scales=min(self.scales, default=0))
        at_least(1, model__width=self.width)
        net = VDSRNet(self.depth, self.width, self.bias)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=1, scales=self.scales, interpolated=True
        ).task()


class VDSRNet(nn.Module):
    """x f32[b h w 1], the luma of an interpolated image in [0, 1] -> the restored luma. Section 3.1."""

    depth: int
    width: int
    bias: bool

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        he = nn.initializers.he_normal()
        y = nn.relu(conv(self.width, "input", bias=self.bias, kernel_init=he)(x))  # [b h w width]
        for i in range(self.depth - 2):
            y = nn.relu(conv(self.width, f"residual_layer_{i}", bias=self.bias, kernel_init=he)(y))
        return x + conv(1, "output", bias=self.bias, kernel_init=he)(y)


WEIGHT_NAMES = renamed((r"^(residual_layer\.\d+)\.", r"\1.conv."))


SCHEDULE = Optim(schedule="cosine", clip=0.4)
SMALL = VDSR(image=(16, 16, 3), depth=4, width=8, recipe=Recipe(loss="l2", learning_rate=1e-3))
PRESETS = {"vdsr": Preset(row(VDSR(), 100_000, 64, optim=SCHEDULE), tiny(SMALL), 664_704)}
