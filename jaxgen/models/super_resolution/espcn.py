"""ESPCN: Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert and Wang 2016, "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network".

Three convolutions on the luma of the small image; the last one has scale^2 output channels, which are rearranged into
pixels: the sub-pixel convolution. Activations are tanh, which the paper finds better than ReLU. Adam replaces SGD, and
the number of steps is chosen for it.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class ESPCN:
    """Hyper-parameters of an ESPCN."""

    image: Image = (34, 34, 3)  # clean training patches: height, width, channels
    scale: int = 2
    widths: tuple[int, int] = (64, 32)  # n1, n2
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(loss="l2", learning_rate=1e-3)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__scale=self.scale)
        at_least(1, model__widths=min(self.widths))
        net = ESPCNNet(self.scale, self.widths)
        return RestorationTask(net, self.image, self.recipe, self.degradation, channels=1, scales=(self.scale,)).task()


class ESPCNNet(nn.Module):
    """x f32[b h w 1], luma in [0, 1] -> f32[b h*scale w*scale 1]. Section 2."""

    scale: int
    widths: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        x = nn.tanh(conv(self.widths[0], "first_part_0", 5)(x))  # (1), [b h w n1]
        x = nn.tanh(conv(self.widths[1], "first_part_2")(x))  # (2), [b h w n2]
        return depth_to_space(conv(self.scale**2, "last_part_0")(x), self.scale)  # (3)


SMALL = ESPCN(image=(16, 16, 3), widths=(8, 8))
PRESETS = {"espcn": Preset(row(ESPCN(), 200_000, 128, optim=Optim(schedule="cosine")), tiny(SMALL), 21_284)}
