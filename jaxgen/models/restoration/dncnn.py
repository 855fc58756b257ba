"""DnCNN: Zhang, Zuo, Chen, Meng and Zhang 2017, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image
Denoising".

A stack of 3x3 convolutions finds the noise, x^ = y - R(y), and is trained by |R(y) - (y - x)|^2, which is |x^ - x|^2.
In between, batch norm, which "folded" weights have in their convolutions. `dncnn-25` is the paper's DnCNN-S, for one
level of noise; `dncnn-blind` DnCNN-B, for levels from 0 to 55; `dncnn-3` mends noise, enlarges by 2, 3 or 4 and takes
JPEG's artefacts away, and is given interpolated pictures.

Measured: not yet measured.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.config import Optim, Preset
from jaxgen.core import Array, Task
from jaxgen.data.degradations import Degradation
from jaxgen.errors import at_least
from jaxgen.models.restoration.supervised import Image, Recipe, restoration_task, row, tiny
from jaxgen.nn.conv import Conv
from jaxgen.nn.norm import BatchNorm


@dataclass(frozen=True)
class DnCNN:
    """Hyper-parameters of a DnCNN."""

    image: Image = (40, 40, 1)  # the patches that it is trained on: height, width, channels
    depth: int = 17
    width: int = 64
    norm: bool = True  # batch norm; published weights have it folded into the convolutions
    degradation: Degradation = Degradation(noise=(25, 25))
    recipe: Recipe = Recipe(loss="l2", learning_rate=1e-3)

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be."""
        del steps
        at_least(2, model__depth=self.depth)
        at_least(1, model__width=self.width)
        net = Net(self.depth, self.width, self.norm, self.image[2])
        return restoration_task(net, self.image, self.recipe, self.degradation, channels=self.image[2], colour="each")


class Net(nn.Module):
    """x f32[b h w channels] -> the same without its noise."""

    depth: int
    width: int
    norm: bool
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = nn.relu(conv(self.width, "model_0")(x))  # [b h w width]
        for i in range(1, self.depth - 1):
            y = conv(self.width, f"model_{2 * i}", bias=not self.norm)(y)
            y = BatchNorm(name=f"norm_{i}")(y, train) if self.norm else y
            y = nn.relu(y)
        return x - conv(self.channels, f"model_{2 * (self.depth - 1)}")(y)


def conv(features: int, name: str, bias: bool = True) -> Conv:
    return Conv(features, (3, 3), use_bias=bias, kernel_init=nn.initializers.he_normal(), name=name)


SCHEDULE = Optim(schedule="cosine")


def preset(model: DnCNN, parameters: int) -> Preset:
    small = DnCNN(image=(16, 16, 1), depth=4, width=8, degradation=model.degradation)
    return Preset(row(model, 50_000, 128, optim=SCHEDULE), tiny(small), parameters)


PRESETS = {"dncnn": preset(DnCNN(), 556_097)}
