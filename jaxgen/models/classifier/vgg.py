"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

Table 1's configurations A, B, D and E (11, 13, 16 and 19 layers), without and with batch normalisation. For images of
other sizes than 224x224, the last map is pooled to the 7x7 that the dense layers need.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import adaptive_avg_pool, flatten, max_pool
from jaxgen.tasks.classification import IMAGENET, Numbers, Recipe, classifier_task, imagenet, tiny

STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions
WIDTHS = (1, 2, 4, 8, 8)  # times `width`


@dataclass(frozen=True)
class VGG:
    """Hyper-parameters of a VGG."""

    depth: Literal[11, 13, 16, 19] = 16
    batch_norm: bool = False
    image: tuple[int, int, int] = (224, 224, 3)  # height, width, channels
    classes: int = 1000
    width: int = 64  # channels of the first stage
    hidden: int = 4096  # units of the two dense layers
    dropout: Decay = 0.5
    mean: Numbers = IMAGENET["mean"]
    std: Numbers = IMAGENET["std"]
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.01, weight_decay=5e-4))

    @property
    def smallest(self) -> int:
        """The least side of an image, in pixels."""
        return 32

    def net(self) -> "VGGModule":
        """Return the network."""
        return VGGModule(self.depth, self.batch_norm, self.classes, self.width, self.hidden, self.dropout)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images too small for five stride-2 stages."""
        del steps
        if min(self.image[:2]) < self.smallest:
            raise InputError(f"VGG needs images of at least 32x32, not {self.image[0]}x{self.image[1]}.")
        return classifier_task(self.net(), self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


class VGGModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "conv1_1" ... "conv5_4", "fc6", "fc7"}, after their ReLU."""

    depth: int
    batch_norm: bool
    classes: int
    width: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        he = nn.initializers.variance_scaling(2, "fan_out", "normal")
        out, place = {}, 0  # place: torchvision counts convolutions, norms, ReLUs and poolings in one sequence
        for stage, (convolutions, factor) in enumerate(zip(STAGES[self.depth], WIDTHS, strict=True), 1):
            for i in range(1, convolutions + 1):
                x = Conv(factor * self.width, (3, 3), kernel_init=he, name=f"features_{place}")(x)
                if self.batch_norm:
                    x = BatchNorm(name=f"features_{place + 1}")(x, train)
                x = out[f"conv{stage}_{i}"] = nn.relu(x)
                place += 3 if self.batch_norm else 2
            x = max_pool(x, 2, 2)  # [b h/2 w/2 c]
            place += 1
        x = flatten(adaptive_avg_pool(x, (7, 7)))  # [b 49 c]
        for name, place in (("fc6", 0), ("fc7", 3)):
            x = Dense(self.hidden, kernel_init=nn.initializers.normal(0.01), name=f"classifier_{place}")(x)
            x = out[name] = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = Dense(self.classes, kernel_init=nn.initializers.normal(0.01), name="classifier_6")(x)
        return {**out, "logits": logits.astype(jnp.float32)}


TINY = tiny(VGG(11, True, image=(32, 32, 3), classes=10, width=4, hidden=16))


def preset(depth: Literal[11, 13, 16, 19], batch_norm: bool, parameters: int) -> Preset:
    run = imagenet(VGG(depth, batch_norm), 370_000)
    return Preset(run, TINY, parameters)


PRESETS = {
    "vgg11": preset(11, False, 132_863_336),
    "vgg13": preset(13, False, 133_047_848),
    "vgg16": preset(16, False, 138_357_544),
    "vgg19": preset(19, False, 143_667_240),
    "vgg11-bn": preset(11, True, 132_868_840),
    "vgg13-bn": preset(13, True, 133_053_736),
    "vgg16-bn": preset(16, True, 138_365_992),
    "vgg19-bn": preset(19, True, 143_678_248),
}
