"""SRCNN: Dong, Loy, He and Tang 2014 and 2016, "Image Super-Resolution Using Deep Convolutional Networks".

Three convolutions on the luma of an interpolated image: patch extraction, non-linear mapping, reconstruction. This is
the paper's largest net, 9-5-5 with 64 and 32 channels. Borders are zero-padded; in training the paper does not pad.
Adam replaces SGD with two learning rates, and the number of steps is chosen for it.
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._parts import conv
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class SRCNN:
    """Hyper-parameters of an SRCNN."""

    image: Image = (33, 33, 3)  # clean training patches: height, width, channels
    scale: int = 2
    kernels: tuple[int, int, int] = (9, 5, 5)  # f1, f2, f3
    widths: tuple[int, int] = (64, 32)  # n1, n2
    degradation: Degradation = Degradation(rounded=False)  # the authors' images are doubles of MATLAB
    recipe: Recipe = Recipe(loss="l2")

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__scale=self.scale)
        at_least(1, model__widths=min(self.widths), model__kernels=min(self.kernels))
        if not all(k % 2 for k in self.kernels):
            raise InputError(f"model.kernels must be odd, not {self.kernels}: even kernels shift the image.")
        net = SRCNNNet(self.kernels, self.widths)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=1, scales=(self.scale,), interpolated=True
        ).task()


class SRCNNNet(nn.Module):
    """x f32[b h w 1], the luma of an interpolated image in [0, 1] -> the restored luma. 2016, section 3.1."""

    kernels: tuple[int, int, int]
    widths: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        f1, f2, f3 = self.kernels
        gaussian = nn.initializers.normal(0.001)  # section 3.3
        x = nn.relu(conv(self.widths[0], "conv1", f1, kernel_init=gaussian)(x))  # (1), [b h w n1]
        x = nn.relu(conv(self.widths[1], "conv2", f2, kernel_init=gaussian)(x))  # (2), [b h w n2]
        return conv(1, "conv3", f3, kernel_init=gaussian)(x)  # (3)


SMALL = SRCNN(image=(16, 16, 3), widths=(8, 8), kernels=(5, 3, 3), recipe=Recipe(loss="l2", learning_rate=1e-3))
PRESETS = {"srcnn": Preset(row(SRCNN(), 1_000_000, 128, optim=Optim(schedule="cosine")), tiny(SMALL), 57_281)}
