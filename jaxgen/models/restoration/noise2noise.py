"""Noise2Noise: Lehtinen, Munkberg, Hasselgren, Laine, Karras, Aittala and Aila 2018, "Noise2Noise: Learning Image
Restoration without Clean Data".

The target is a second noisy copy of the image, with other noise of another level. Given the input, the mean of the
target equals that of the clean image, so the squared error has the same minimiser: training without clean data gives
the same result, more slowly. Any net can be used: the paper's U-Net (unet.py), DnCNN or NAFNet. The two copies may
differ in their noise only, and its mean must be 0.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.data.degradations import Degradation
from jaxgen.models.restoration import dncnn, nafnet, unet
from jaxgen.tasks.restoration import DegradeFn, Image, PixelRange, Recipe, RestorationTask, TrainingPair, row, tiny


@dataclass(frozen=True)
class Noise2Noise:
    """Hyper-parameters of a denoiser trained without clean images."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    net: Literal["unet", "dncnn", "nafnet"] = "unet"
    width: int = 48  # channels at full resolution
    depth: int = 5  # stride-2 stages of a U-Net or NAFNet; layers of a DnCNN
    degradation: Degradation = Degradation(noise=(0, 50))
    recipe: Recipe = Recipe(loss="l2", learning_rate=3e-4, beta2=0.99)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2 if self.net == "dncnn" else 1, model__depth=self.depth)
        at_least(1, model__width=self.width)
        return RestorationTask(
            self.module(),
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            multiple=1 if self.net == "dncnn" else 2**self.depth,
            pixels=unet.CENTRED if self.net == "unet" else PixelRange(),
            colour="each",
            make_pair=noisy_target,
        ).task()

    def module(self) -> nn.Module:
        """Return the net, (x, train) -> f32[b h w channels]."""
        channels = self.image[2]
        if self.net == "dncnn":
            return dncnn.DnCNNNet(self.depth, self.width, True, channels)
        if self.net == "nafnet":
            two = (2,) * self.depth
            return nafnet.NAFNetModule(self.width, two, 2, two, channels)
        return unet.UNetModule(self.width, self.depth, channels)


def noisy_target(clean: Array, keys: Key, degrade: DegradeFn) -> TrainingPair:
    """Return a pair of two noisy copies of the image: input and target. Section 2, equation 6."""
    others = jax.vmap(lambda key: rng.fold(key, "target"))(keys)
    return TrainingPair(degrade(clean, keys), degrade(clean, others)["degraded"])


PRESETS = {
    "noise2noise": Preset(
        row(Noise2Noise(), 300_000, 4, optim=Optim(schedule="cosine")),
        tiny(dataclasses.replace(Noise2Noise(), image=(16, 16, 3), width=12, depth=2)),
        991_203,
    )
}
