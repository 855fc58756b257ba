"""EfficientNet-Lite: Tan and Le, "EfficientNet: Rethinking Model Scaling for CNNs", ICML 2019, in its Lite variant.

The network of table 1 for small devices: ReLU6 in place of swish, no squeeze-and-excitation, and a stem and a head of
fixed width. `width` and `depth` scale the rest (section 3.3); 1 and 1 are Lite0. The initialisation is that of the
authors' code. Training uses SGD here; the paper used RMSProp and an EMA of the weights. With the published weights,
which `jaxgen.pretrained.perceptual_distances.efficientnet_lite0` loads, it is PyTorch's package
efficientnet_lite_pytorch, TensorFlow's "SAME" padding included.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgen.core.config import Optim, Preset
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.tasks.classification import Numbers, Recipe, classifier_task, imagenet, tiny

# (blocks, kernel, stride, expansion, channels)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
HE = nn.initializers.variance_scaling(2, "fan_out", "normal")
DEPTHWISE = nn.initializers.variance_scaling(2, "fan_in", "normal")  # TensorFlow's [k k c 1] has a fan-out of k k
DENSE = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


@dataclass(frozen=True)
class EfficientNetLite:
    """Hyper-parameters of an EfficientNet-Lite. `mean` and `std` are (x - 127) / 128 of x in 0 ... 255."""

    image: tuple[int, int, int] = (224, 224, 3)  # height, width, channels
    classes: int = 1000
    width: float = 1.0  # factor on the channels of the stages, rounded to a multiple of 8
    depth: float = 1.0  # factor on the blocks of the stages 2 to 6
    stem: int = 32  # channels
    head: int = 1280  # channels
    dropout: Decay = 0.2
    drop_path: Decay = 0.2  # probability that the last block is skipped for an example; linear from 0 at the first
    mean: Numbers = (127 / 255,)
    std: Numbers = (128 / 255,)
    recipe: Recipe = field(default_factory=lambda: Recipe(weight_decay=1e-5, smoothing=0.1))

    def net(self) -> "EfficientNetLiteModule":
        """Return the network."""
        return EfficientNetLiteModule(
            self.classes, self.width, self.depth, self.stem, self.head, self.dropout, self.drop_path
        )

    def task(self, steps: int) -> Task:
        """Return the training task."""
        del steps
        normal = {"mean": self.mean, "std": self.std}
        return classifier_task(self.net(), self.image, self.classes, self.recipe, normal)


def scale(image: Array) -> Array:
    """Return the input of the published weights from f32[b h w c] in [-1, 1]: (255 (image + 1) / 2 - 127) / 128."""
    return (image * 127.5 + 0.5) / 128


def round_to_8(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and at least 90 % of the channels."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def conv(features: int, kernel: int, stride: int, name: str, groups: int = 1):
    init = HE if groups == 1 else DEPTHWISE
    kinds: dict[str, Any] = {"use_bias": False, "kernel_init": init, "name": name, "groups": groups}
    return Conv(features, (kernel, kernel), (stride, stride), "SAME", **kinds)


def norm(name: str):
    return BatchNorm(momentum=0.99, epsilon=1e-3, name=name)


class Block(nn.Module):
    """Inverted residual, x [b h w c] -> [b h/stride w/stride features]: expand, depthwise convolution, project."""

    features: int
    kernel: int
    stride: int
    expansion: int
    drop_path: float

    @nn.compact
    def __call__(self, x, train: bool):
        y, wide = x, x.shape[-1] * self.expansion
        if self.expansion > 1:
            y = nn.relu6(norm("_bn0")(conv(wide, 1, 1, "_expand_conv")(y), train))
        y = nn.relu6(norm("_bn1")(conv(wide, self.kernel, self.stride, "_depthwise_conv", wide)(y), train))
        y = norm("_bn2")(conv(self.features, 1, 1, "_project_conv")(y), train)
        if x.shape != y.shape:
            return y
        # Huang et al. 2016, "Deep Networks with Stochastic Depth": drops the whole block of an example
        return x + nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


class EfficientNetLiteModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "stem", "stage1" ... "stage7", "head", "pool"}."""

    classes: int
    width: float
    depth: float
    stem: int
    head: int
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x, train: bool):
        # `depth` does not scale the first and the last stage.
        repeats = [n if i in (0, 6) else math.ceil(self.depth * n) for i, (n, *_) in enumerate(STAGES)]
        out, place = {}, 0
        x = out["stem"] = nn.relu6(norm("_bn0")(conv(self.stem, 3, 2, "_conv_stem")(x), train))  # [b h/2 w/2 32]
        for stage, (blocks, (_, kernel, stride, expansion, channels)) in enumerate(
            zip(repeats, STAGES, strict=True), 1
        ):
            for i in range(blocks):
                drop = self.drop_path * place / sum(repeats)
                plan = (round_to_8(self.width * channels), kernel, stride if i == 0 else 1, expansion, drop)
                x = Block(*plan, name=f"_blocks_{place}")(x, train)
                place += 1
            out[f"stage{stage}"] = x
        x = out["head"] = nn.relu6(norm("_bn1")(conv(self.head, 1, 1, "_conv_head")(x), train))  # [b h/32 w/32 1280]
        x = out["pool"] = x.astype(jnp.float32).mean((1, 2))  # [b 1280]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        out["logits"] = Dense(self.classes, kernel_init=DENSE, name="_fc")(x).astype(jnp.float32)
        return out


PRESETS = {
    "efficientnet-lite0": Preset(
        imagenet(EfficientNetLite(), 1_750_000, optim=Optim(schedule="cosine", warmup=25_000), every=25_000),
        tiny=tiny(EfficientNetLite(image=(64, 64, 3), classes=10, width=0.1, depth=0.3, stem=8, head=32)),
        parameters=4_652_008,
    )
}
