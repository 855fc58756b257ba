"""DnCNN: Zhang, Zuo, Chen, Meng and Zhang 2017, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image
Denoising".

A stack of 3x3 convolutions predicts the noise, x^ = y - R(y), and minimises |R(y) - (y - x)|^2, which is |x^ - x|^2.
The inner layers have batch norm; "folded" published weights have it inside the convolutions (`norm` is off for those).
`dncnn` is the paper's DnCNN-S, for one noise level, `dncnn-blind` its DnCNN-B, for levels from 0 to 55, `dncnn-colour`
its CDnCNN-B. `dncnn-3` removes noise or JPEG artefacts, or enlarges by 2, 3 or 4; its inputs are interpolated images.

Adam with a cosine schedule replaces the paper's SGD with rates from 0.1 to 0.0001. Steps and batches are the paper's.
"""

from dataclasses import dataclass, replace
from typing import Any

from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.nn.conv import Conv
from jaxgen.nn.norm import BatchNorm
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class DnCNN:
    """Hyper-parameters of a DnCNN."""

    image: Image = (40, 40, 1)  # training patches: height, width, channels
    channels: int = 1  # of the net; one of 1 channel restores each channel of colour, or the luma if it enlarges
    depth: int = 17
    width: int = 64
    norm: bool = True  # batch norm; published weights have it folded into the convolutions
    scales: tuple[int, ...] = (1,)  # factors of enlargement; with any but (1,), each patch gets one kind of degradation
    degradation: Degradation = Degradation(noise=(25, 25))
    recipe: Recipe = Recipe(loss="l2", learning_rate=1e-3)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__depth=self.depth)
        at_least(1, model__width=self.width)
        at_least(1, model__scales=min(self.scales, default=0))
        net, many = DnCNNNet(self.depth, self.width, self.norm, self.channels), self.scales != (1,)
        colour = "luma" if many else "each"
        fixed: Any = {"channels": self.channels, "scales": self.scales, "interpolated": many}
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, **fixed, colour=colour, one_kind=many
        ).task()


class DnCNNNet(nn.Module):
    """x f32[b h w channels] -> the denoised image."""

    depth: int
    width: int
    norm: bool
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        step = 3 if self.norm else 2  # names are positions in the authors' list of layers, including activations
        y = nn.relu(conv(self.width, "model_0")(x))  # [b h w width]
        for i in range(2, step * (self.depth - 2) + 2, step):
            y = conv(self.width, f"model_{i}", bias=not self.norm)(y)
            y = nn.relu(BatchNorm(name=f"model_{i + 1}")(y, train) if self.norm else y)
        # A small initial scale: with He's initialisation the first predicted noise is ten times too large.
        return x - conv(self.channels, f"model_{step * (self.depth - 2) + 2}", variance=0.02)(y)


def conv(features: int, name: str, bias: bool = True, variance: float = 2.0) -> Conv:
    init = nn.initializers.variance_scaling(variance, "fan_in", "truncated_normal")
    return Conv(features, (3, 3), use_bias=bias, kernel_init=init, name=name)


def preset(model: DnCNN, parameters: int, steps: int) -> Preset:
    degradation = BLIND if model.scales == (1,) else model.degradation
    small = replace(model, image=(16, 16, model.channels), depth=4, width=8, degradation=degradation)
    return Preset(row(model, steps, 128, optim=Optim(schedule="cosine")), tiny(small), parameters)


BLIND, THREE = Degradation(noise=(0, 55)), Degradation(rounded=False, noise=(0, 55), jpeg=(5, 99))
PRESETS = {  # 50 epochs of 128 x 1,600, 3,000 and 8,000 patches
    "dncnn": preset(DnCNN(), 556_097, 80_000),
    "dncnn-blind": preset(DnCNN(image=(50, 50, 1), depth=20, degradation=BLIND), 667_073, 150_000),
    "dncnn-colour": preset(DnCNN(image=(50, 50, 3), channels=3, depth=20, degradation=BLIND), 669_379, 150_000),
    "dncnn-3": preset(DnCNN(image=(50, 50, 1), depth=20, scales=(1, 2, 3, 4), degradation=THREE), 667_073, 400_000),
}
