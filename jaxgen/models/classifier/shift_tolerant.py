"""Shift-tolerant AlexNet and VGG-16: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022.

The backbones of ST-LPIPS. Every stride is replaced by a strided blur (Zhang, "Making Convolutional Networks
Shift-Invariant Again", 2019) with reflection padding of two pixels. AlexNet's first convolution has stride 1, and the
blur comes before its ReLU. Max pooling has stride 1, and a blur follows it. The published weights, which
`jaxgen.pretrained.perceptual_distances.st_lpips` loads, are backbones without a classifier. Here a mean over the last
feature map and one dense layer are added.
"""

import math
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.pool import max_pool
from jaxgen.tasks.classification import IMAGENET, Numbers, Recipe, classifier_task, imagenet, tiny

Kind = Literal["alex", "vgg"]
SMALLEST = {"alex": 21, "vgg": 18}  # pixels: every padded map has at least three rows
LAYERS: dict[str, tuple[str, ...]] = {  # the features that a perceptual distance reads
    "alex": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}


@dataclass(frozen=True)
class ShiftTolerant:
    """Hyper-parameters of a shift-tolerant AlexNet or VGG-16."""

    backbone: Kind = "alex"
    image: tuple[int, int, int] = (224, 224, 3)  # height, width, channels
    classes: int = 1000
    width: float = 1.0  # factor on the filters
    dropout: Decay = 0.5
    mean: Numbers = IMAGENET["mean"]
    std: Numbers = IMAGENET["std"]
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.01, weight_decay=5e-4))

    @property
    def smallest(self) -> int:
        """The least side of an image, in pixels."""
        return SMALLEST[self.backbone]

    @property
    def layers(self) -> tuple[str, ...]:
        """The feature maps that a perceptual distance compares."""
        return LAYERS[self.backbone]

    def net(self) -> "ShiftTolerantModule":
        """Return the network."""
        return ShiftTolerantModule(self.backbone, self.classes, self.width, self.dropout)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images too small for the reflection padding."""
        del steps
        if min(self.image[:2]) < self.smallest:
            least = f"{self.smallest}x{self.smallest}"
            raise InputError(f"This backbone needs images of at least {least}, not {self.image[0]}x{self.image[1]}.")
        return classifier_task(self.net(), self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


def blur_pool(x: Array, taps: int = 3, stride: int = 2, pad: int = 2) -> Array:
    """Return x [b h w c], padded by reflection, blurred by a binomial filter and subsampled: [b h' w' c].

    y_o = sum_k 2^-(taps - 1) C(taps - 1, k) x_(stride o + k - pad) along h and along w. h' is the size of a
    convolution's output.
    """
    for axis in (1, 2):
        x = jnp.pad(x, [(pad, pad) if axis == a else (0, 0) for a in range(4)], mode="reflect")
        last = x.shape[axis] - taps + 1  # positions of the filter
        below = [lax.slice_in_dim(x, k, last + k, stride, axis) for k in range(taps)]
        x = reduce(jnp.add, (math.comb(taps - 1, k) / 2 ** (taps - 1) * part for k, part in enumerate(below)))
    return x


class ShiftTolerantModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "pool", "relu1" ... "relu5" or "relu1_1" ... "relu5_3"}."""

    backbone: Kind
    classes: int
    width: float
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        out = self.alex(x) if self.backbone == "alex" else self.vgg(x)
        last = out[LAYERS[self.backbone][-1]]
        x = out["pool"] = last.astype(jnp.float32).mean((1, 2))  # [b c]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {**out, "logits": Dense(self.classes, name="head")(x).astype(jnp.float32)}

    def conv(self, x: Array, filters: int, kernel: int, pad: int, name: str) -> Array:
        he = nn.initializers.variance_scaling(2, "fan_in", "normal")
        size, pads = (kernel, kernel), ((pad, pad), (pad, pad))
        return Conv(int(filters * self.width), size, (1, 1), pads, kernel_init=he, name=name)(x)

    def alex(self, x: Array) -> dict[str, Array]:
        """Return AlexNet's features. The numbers in layer names count all layers, including poolings and blurs."""
        out = {}
        x = blur_pool(self.conv(x, 64, 11, 2, "slice1_0"))  # [b h/2 w/2 64]
        x = out["relu1"] = nn.relu(x)
        x = blur_pool(max_pool(x, 3, 1))  # [b h/4 w/4 64]
        x = out["relu2"] = nn.relu(self.conv(x, 192, 5, 2, "slice2_5"))
        x = blur_pool(max_pool(x, 3, 1))  # [b h/8 w/8 192]
        x = out["relu3"] = nn.relu(self.conv(x, 384, 3, 1, "slice3_9"))
        x = out["relu4"] = nn.relu(self.conv(x, 256, 3, 1, "slice4_11"))
        out["relu5"] = nn.relu(self.conv(x, 256, 3, 1, "slice5_13"))
        return out

    def vgg(self, x: Array) -> dict[str, Array]:
        out, place = {}, 0
        for stage, (convolutions, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
            if stage > 1:
                x = blur_pool(max_pool(x, 2, 1))  # [b h/2 w/2 c]
                place += 2
            for i in range(1, convolutions + 1):
                x = out[f"relu{stage}_{i}"] = nn.relu(self.conv(x, filters, 3, 1, f"slice{stage}_{place}"))
                place += 2
        return out


def preset(backbone: Kind, parameters: int) -> Preset:
    return Preset(
        imagenet(ShiftTolerant(backbone), 450_000),
        tiny=tiny(ShiftTolerant(backbone, image=(24, 24, 3), classes=10, width=1 / 16)),
        parameters=parameters,
    )


PRESETS = {"alexnet-shift-tolerant": preset("alex", 2_726_696), "vgg16-shift-tolerant": preset("vgg", 15_227_688)}
