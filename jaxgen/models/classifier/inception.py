"""Inception-v3: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, table 1.

The variant in the graph of 2015-12-05, which FID, KID and the Inception score use: 1008 outputs (1000 classes and 8
that are never used), no auxiliary head, average pooling that excludes the padding, and in the last block max pooling
where the paper has average pooling. FID (Heusel et al. 2017) uses its "2048" features, the Inception score (Salimans et
al. 2016) its logits. Training uses SGD here; the paper used RMSProp with momentum.

Modules have the names of the published weights, also with a number after "_": `branch5x5_1`, not `branch5x5.1`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import avg_pool, max_pool
from jaxgen.tasks.classification import Numbers, Recipe, classifier_task, imagenet, tiny

SMALLEST = 75  # pixels, at which the last block is 1x1
ROW, COLUMN, SQUARE, CROSS = (1, 7), (7, 1), (3, 3), ((1, 3), (3, 1))  # CROSS: both, in parallel
Layer = tuple  # (channels, kernel), or (channels, kernel, 2) with stride 2 and no padding
Branches = tuple[tuple[str, tuple[Layer, ...]], ...]

BLOCK_A: Branches = (  # figure 5
    ("branch1x1", ((64, (1, 1)),)),
    ("branch5x5", ((48, (1, 1)), (64, (5, 5)))),
    ("branch3x3dbl", ((64, (1, 1)), (96, SQUARE), (96, SQUARE))),
)
BLOCK_B: Branches = (  # figure 10
    ("branch3x3", ((384, SQUARE, 2),)),
    ("branch3x3dbl", ((64, (1, 1)), (96, SQUARE), (96, SQUARE, 2))),
)
BLOCK_D: Branches = (
    ("branch3x3", ((192, (1, 1)), (320, SQUARE, 2))),
    ("branch7x7x3", ((192, (1, 1)), (192, ROW), (192, COLUMN), (192, SQUARE, 2))),
)
BLOCK_E: Branches = (  # figure 7
    ("branch1x1", ((320, (1, 1)),)),
    ("branch3x3", ((384, (1, 1)), (384, CROSS))),
    ("branch3x3dbl", ((448, (1, 1)), (384, SQUARE), (384, CROSS))),
)


def block_c(n: int) -> Branches:  # figure 6
    return (
        ("branch1x1", ((192, (1, 1)),)),
        ("branch7x7", ((n, (1, 1)), (n, ROW), (192, COLUMN))),
        ("branch7x7dbl", ((n, (1, 1)), (n, COLUMN), (n, ROW), (n, COLUMN), (192, ROW))),
    )


@dataclass(frozen=True)
class Inception:
    """Hyper-parameters of Inception-v3. `mean` and `std` are the graph's (x - 128) / 128 of x in 0 ... 255."""

    image: tuple[int, int, int] = (299, 299, 3)  # height, width, channels
    classes: int = 1008
    blocks: tuple[int, int, int] = (3, 4, 2)  # at 35x35, 17x17 and 8x8
    width: float = 1.0  # factor on all channels
    dropout: Decay = 0.2
    mean: Numbers = (128 / 255,)
    std: Numbers = (128 / 255,)
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.045, weight_decay=4e-5, smoothing=0.1))

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images that are too small, or a stage without a block."""
        del steps
        at_least(1, model__blocks=min(self.blocks))
        if min(self.image[:2]) < SMALLEST:
            raise InputError(f"Inception needs images of at least {SMALLEST}x{SMALLEST}, not {self.image[:2]}.")
        net = InceptionV3Module(self.classes, self.blocks, self.width, self.dropout)
        return classifier_task(net, self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


def fid_scale(image: Array) -> Array:
    """Return the input of the published weights from f32[b h w c] in [-1, 1]: (255 (image + 1) / 2 - 128) / 128."""
    return (image * 127.5 - 0.5) / 128


def he(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """N(0, 2 / fan_in), drawn as a vector: a draw with four axes takes XLA far longer to compile."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape) * math.sqrt(2 / math.prod(shape[:3]))


class BasicConv(nn.Module):
    """x [b h w c] -> [b h' w' features]: convolution, norm, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"

    @nn.compact
    def __call__(self, x, train: bool):
        strides = (self.stride, self.stride)
        kinds: dict[str, Any] = {"use_bias": False, "kernel_init": he, "name": "conv"}
        x = Conv(self.features, self.kernel, strides, self.padding, **kinds)(x)
        return nn.relu(BatchNorm(epsilon=1e-3, name="bn")(x, train))


class Block(nn.Module):
    """x [b h w c] -> [b h' w' sum of the branches]: the concatenated branches and the pooled x."""

    branches: Branches
    width: float
    pool: Literal["mean", "max", "stride"]  # "stride": the maximum at every other pixel, without a convolution
    pooled: int = 0  # channels of the convolution after the pooling

    @nn.compact
    def __call__(self, x, train: bool):
        out = []
        for branch, layers in self.branches:
            ends = [x]
            for i, (channels, kernel, *stride) in enumerate(layers, 1):
                name = branch if len(layers) == 1 else f"{branch}_{i}"
                pair = {f"{name}a": CROSS[0], f"{name}b": CROSS[1]} if kernel == CROSS else {name: kernel}
                rest: Any = (2, "VALID") if stride else ()
                scaled = int(channels * self.width)
                ends = [BasicConv(scaled, size, *rest, name=part)(ends[0], train) for part, size in pair.items()]
            out += ends
        if self.pool == "stride":
            return jnp.concatenate([*out, max_pool(x, 3, 2)], axis=-1)
        x = max_pool(x, 3, 1, 1) if self.pool == "max" else avg_pool(x, 3, 1, 1, count_padding=False)
        out.append(BasicConv(int(self.pooled * self.width), (1, 1), name="branch_pool")(x, train))
        return jnp.concatenate(out, axis=-1)


class InceptionV3Module(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "logits_unbiased", "64", "192", "768", "2048"}.

    The numbered features are feature maps averaged over their pixels, named by their channels at width 1: f32[b 64]
    after the first pooling, [b 192] after the second, [b 768] of the last 17x17 block, [b 2048] of the last block.
    """

    classes: int
    blocks: tuple[int, int, int]
    width: float
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        mean = lambda x: x.astype(jnp.float32).mean((1, 2))  # noqa: E731
        conv = lambda n, *rest, name: BasicConv(int(n * self.width), *rest, name=name)  # noqa: E731
        out = {}
        x = conv(32, SQUARE, 2, "VALID", name="Conv2d_1a_3x3")(x, train)  # [b 149 149 32]
        x = conv(32, SQUARE, 1, "VALID", name="Conv2d_2a_3x3")(x, train)
        x = conv(64, SQUARE, name="Conv2d_2b_3x3")(x, train)
        x = max_pool(x, 3, 2)  # [b 73 73 64]
        out["64"] = mean(x)
        x = conv(80, (1, 1), name="Conv2d_3b_1x1")(x, train)
        x = conv(192, SQUARE, 1, "VALID", name="Conv2d_4a_3x3")(x, train)
        x = max_pool(x, 3, 2)  # [b 35 35 192]
        out["192"] = mean(x)

        a, c, e = self.blocks
        letters = "bcdefghijklmnop"
        for i in range(a):  # [b 35 35 288]
            x = Block(BLOCK_A, self.width, "mean", 64 if i else 32, name=f"Mixed_5{letters[i]}")(x, train)
        x = Block(BLOCK_B, self.width, "stride", name="Mixed_6a")(x, train)  # [b 17 17 768]
        for i in range(c):
            narrow = 128 if i == 0 else 192 if i == c - 1 else 160
            x = Block(block_c(narrow), self.width, "mean", 192, name=f"Mixed_6{letters[i]}")(x, train)
        out["768"] = mean(x)
        x = Block(BLOCK_D, self.width, "stride", name="Mixed_7a")(x, train)  # [b 8 8 1280]
        for i in range(e):  # [b 8 8 2048]
            pool = "max" if i == e - 1 else "mean"
            x = Block(BLOCK_E, self.width, pool, 192, name=f"Mixed_7{letters[i]}")(x, train)
        x = out["2048"] = mean(x)

        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        fc = Dense(self.classes, name="fc")
        out["logits"] = fc(x).astype(jnp.float32)
        bias = fc.variables["params"]["bias"].astype(jnp.float32)
        out["logits_unbiased"] = out["logits"] - jnp.broadcast_to(bias, out["logits"].shape)
        return out


WEIGHT_NAMES = renamed((r"^(Mixed\w+\.branch\w+)\.(\d)", r"\1_\2"))


PRESETS = {
    "inception-v3-fid": Preset(
        imagenet(Inception(), 4_000_000, batch=32, optim=Optim(schedule="cosine", warmup=5000, clip=2.0), every=50_000),
        tiny=tiny(Inception(image=(75, 75, 3), classes=10, blocks=(1, 1, 1), width=1 / 16)),
        parameters=23_850_960,
    )
}
