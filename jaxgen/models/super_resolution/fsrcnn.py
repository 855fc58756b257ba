"""FSRCNN: Dong, Loy and Tang 2016, "Accelerating the Super-Resolution Convolutional Neural Network".

An hourglass on the luma of the small image: features are reduced from d to s channels, mapped by m convolutions,
expanded again, and upsampled by a transposed convolution of stride `scale`. FSRCNN(56, 12, 4) has 12,464 weights, 173
biases and 172 slopes of PReLU, one for each channel. Adam replaces SGD with two learning rates, and the number of steps
is chosen for it.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import TRANSPOSED, Layout, Path, Rule, plain
from jaxgen.models.super_resolution._parts import conv
from jaxgen.nn.conv import ConvTranspose
from jaxgen.nn.prelu import PReLU
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class FSRCNN:
    """Hyper-parameters of an FSRCNN."""

    image: Image = (20, 20, 3)  # clean training patches: height, width, channels
    scale: int = 2
    width: int = 56  # d
    shrunk: int = 12  # s
    depth: int = 4  # m
    degradation: Degradation = Degradation(rounded=False)  # the authors' images are doubles of MATLAB
    recipe: Recipe = Recipe(loss="l2", learning_rate=1e-3)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__scale=self.scale)
        at_least(1, model__width=self.width, model__shrunk=self.shrunk)
        at_least(0, model__depth=self.depth)
        if self.scale > 9:
            raise InputError(f"model.scale must be at most 9, the side of the kernel, not {self.scale}.")
        net = FSRCNNNet(self.scale, self.width, self.shrunk, self.depth)
        return RestorationTask(net, self.image, self.recipe, self.degradation, channels=1, scales=(self.scale,)).task()


class FSRCNNNet(nn.Module):
    """x f32[b h w 1], luma in [0, 1] -> f32[b h*scale w*scale 1]. Section 3.2."""

    scale: int
    width: int
    shrunk: int
    depth: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        he = nn.initializers.he_normal()  # section 3.3
        layers = [(self.width, 5, "first_part", 0), (self.shrunk, 1, "mid_part", 0)]
        layers += [(self.shrunk, 3, "mid_part", 2 * i) for i in range(1, self.depth + 1)]
        layers += [(self.width, 1, "mid_part", 2 * self.depth + 2)]
        for features, size, part, i in layers:
            x = conv(features, f"{part}_{i}", size, kernel_init=he)(x)
            x = PReLU(each=True, name=f"{part}_{i + 1}")(x)
        pads = (4, 5 - self.scale)  # the output's sides are exactly `scale` times the input's
        normal = nn.initializers.normal(0.001)
        last = ConvTranspose(1, (9, 9), (self.scale, self.scale), (pads, pads), kernel_init=normal, name="last_part")
        return last(x)  # [b h*scale w*scale 1]


def weight_name(model: FSRCNN, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """The plain rule, but that the last layer is a transposed convolution."""
    name, layout = plain(model, net, path, shape)
    return name, TRANSPOSED if path == ("last_part", "kernel") else layout


WEIGHT_NAMES: Rule = weight_name


SMALL = FSRCNN(image=(16, 16, 3), width=8, shrunk=4, depth=1)
PRESETS = {"fsrcnn": Preset(row(FSRCNN(), 200_000, 128, optim=Optim(schedule="cosine")), tiny(SMALL), 12_809)}
