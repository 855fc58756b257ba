"""SPAN: Wan, Yu, Li, Chen, Zou, Liu, Yin and Zuo 2024, "Swift Parameter-free Attention Network for Efficient
Super-Resolution".

Six blocks of three convolutions. Each block weights its features by a function of the same features, so that the
attention has no parameters. In training a convolution is the sum of a 1x1 convolution and of three convolutions in a
row, of 1x1, 3x3 and 1x1; without a non-linearity between them they are one 3x3 convolution. Here that convolution's
kernel is computed at each step, and the image is convolved once: the results and gradients are the same, and there is
no second form of the net to switch to. `fused` gives the weights of the 3x3 convolutions, which ncnn's published files
hold; model.expanded is off for those. Their numbers of parameters are the paper's: 481,324 at x2 and 498,208 at x4
(`span-52`, 52 channels), and 410,700 and 426,288 with the 48 channels of `span`, which is the one published for ncnn.
The schedule is a cosine, not steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import Rule, renamed
from jaxgen.models.super_resolution._parts import UNIFORM, centred, conv
from jaxgen.nn.conv import conv as convolve
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class SPAN:
    """Hyper-parameters of a SPAN."""

    image: Image = (256, 256, 3)  # clean training patches: height, width, channels
    scale: int = 4
    depth: int = 6  # blocks
    width: int = 48
    expanded: bool = True  # convolutions of four kernels, as in training; published files of ncnn hold their sums
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(learning_rate=5e-4)

    @property
    def constants(self) -> tuple[tuple[float, ...], ...]:
        """The values of a graph of the net beside its weights (interop/ncnn.py): the mean of the input."""
        return (centred(self.image[2]).mean,)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__scale=self.scale)
        channels = self.image[2]
        net = SPANNet(self.scale, self.depth, self.width, self.expanded, channels)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=channels, scales=(self.scale,)
        ).task()


class SPANNet(nn.Module):
    """x f32[b h w channels] in [0, 1] -> f32[b h*scale w*scale channels]. Section 3."""

    scale: int
    depth: int
    width: int
    expanded: bool
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        x = centred(self.channels).to_net(2 * x - 1)  # the output has no such range
        first = y = Expanded(self.width, self.expanded, name="conv_1")(x)  # [b h w width]
        outs, inner = [], y
        for i in range(self.depth):
            y, inner = Block(self.expanded, name=f"block_{i + 1}")(y)
            outs.append(y)
        y = Expanded(self.width, self.expanded, name="conv_2")(y)
        y = conv(self.width, "conv_cat", 1)(jnp.concatenate([first, y, outs[0], inner], -1))  # [b h w 4*width] first
        return depth_to_space(conv(self.channels * self.scale**2, "upsampler_0")(y), self.scale)


class Block(nn.Module):
    """Swift parameter-free attention, x f32[b h w c] -> its output and its inner features, f32[b h w c].

    The output is U V, U = x + H, V = sigmoid(H) - 1/2, where H are the features of three convolutions.
    """

    expanded: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        c = x.shape[-1]
        inner = nn.silu(Expanded(c, self.expanded, name="c1_r")(x))
        y = nn.silu(Expanded(c, self.expanded, name="c2_r")(inner))
        y = Expanded(c, self.expanded, name="c3_r")(y)
        return (x + y) * (nn.sigmoid(y) - 0.5), inner


class Expanded(nn.Module):
    """A 3x3 convolution, x f32[b h w c] -> f32[b h w features]; with `expanded` of four kernels.

    The three convolutions in a row are GAIN times as wide inside.
    """

    features: int
    expanded: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.expanded:
            return conv(self.features, "eval_conv")(x)
        c, n = x.shape[-1], self.features
        sizes = {
            "sk": (1, c, n),
            "conv_0": (1, c, GAIN * c),
            "conv_1": (3, GAIN * c, GAIN * n),
            "conv_2": (1, GAIN * n, n),
        }
        layers = {name: Affine((size, size, i, o), name=name)() for name, (size, i, o) in sizes.items()}
        kernel, bias = merged(layers)
        y = convolve(x.astype(kernel.dtype), kernel)
        return y + jnp.broadcast_to(bias, y.shape)


class Affine(nn.Module):
    """The kernel and the bias of a convolution, {"kernel": f32[h w in out], "bias": f32[out]}."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        bias = self.param("bias", nn.initializers.zeros, self.shape[-1:])
        return {"kernel": self.param("kernel", UNIFORM, self.shape), "bias": bias}


GAIN = 2


def merged(layers: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return the kernel f32[3 3 in out] and the bias f32[out] of one convolution for the four of `Expanded`.

    The image is padded before the first 1x1 convolution, so that its bias is there beyond the border as well.
    """
    skip, first, middle, last = (layers[name] for name in ("sk", "conv_0", "conv_1", "conv_2"))
    f32 = lambda layer: (layer["kernel"].astype(jnp.float32), layer["bias"].astype(jnp.float32))  # noqa: E731
    (k0, b0), (k1, b1), (k2, b2), (k3, b3) = map(f32, (skip, first, middle, last))
    with jax.default_matmul_precision("highest"):  # kernels are small, and products of them lose what rounding takes
        inner = jnp.einsum("hwmn,no->hwmo", k2, k3[0, 0])
        kernel = jnp.einsum("cm,hwmo->hwco", k1[0, 0], inner).at[1, 1].add(k0[0, 0])
        bias = jnp.einsum("m,hwmo->o", b1, inner) + b2 @ k3[0, 0] + b3 + b0
    return kernel.astype(skip["kernel"].dtype), bias.astype(skip["bias"].dtype)


def fused(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the same net with model.expanded off: each convolution's four kernels as one."""
    if "sk" in params:
        kernel, bias = merged(params)
        return {"eval_conv": {"kernel": kernel, "bias": bias}}
    return {name: fused(part) if isinstance(part, Mapping) else part for name, part in params.items()}


WEIGHT_NAMES: Rule = renamed((r"^(conv|block)\.(\d)", r"\1_\2"))


def preset(model: SPAN, parameters: int, merged: int) -> Preset:
    return Preset(row(model, 1_000_000, 64, optim=Optim(schedule="cosine")), tiny(SMALL), parameters, merged)


SMALL = SPAN(image=(16, 16, 3), scale=2, depth=2, width=8, recipe=Recipe(learning_rate=1e-3))
PRESETS = {"span": preset(SPAN(), 1_840_488, 426_288), "span-52": preset(SPAN(width=52), 2_157_136, 498_208)}
