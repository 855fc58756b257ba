"""CARN: Ahn, Kang and Sohn 2018, "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network".

Three cascading blocks of three residual blocks each. In a block and around the blocks, a 1x1 convolution reads what
came in and the outputs of all steps so far. One net enlarges by 2, 3 and 4: each factor has sub-pixel convolutions of
its own, and all of them are counted in the paper's 1,592,000 parameters. `carn-m` is the mobile net: its 3x3
convolutions have four groups, and the residual blocks of a cascading block share their weights. It is the net that the
authors publish, whose upsampling has groups as well; the paper's has smaller kernels there, and 412,000 parameters.

Each step averages the loss over the factors, for which the authors draw one factor a step.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import Layout, Path, Rule, plain
from jaxgen.models.super_resolution._parts import UNIFORM, centred, conv, factors
from jaxgen.nn.conv import Conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class CARN:
    """Hyper-parameters of a CARN."""

    image: Image = (192, 192, 3)  # clean training patches: height, width, channels
    scales: tuple[int, ...] = (2, 3, 4)
    depth: int = 3  # cascading blocks, and residual blocks in each
    width: int = 64
    mobile: bool = False  # residual blocks of a cascading block share their weights and end in a 1x1 convolution
    groups: int = 1  # of channels
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(learning_rate=1e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__groups=self.groups)
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise InputError(f"model.scales must be different factors, not {self.scales}.")
        if self.width % self.groups:
            raise InputError(f"model.width must be a multiple of model.groups, {self.groups}, not {self.width}.")
        for scale in self.scales:
            factors(scale)
        channels = self.image[2]
        net = CARNNet(self.scales, self.depth, self.width, self.mobile, self.groups, channels)
        how = {"channels": channels, "scales": self.scales, "pixels": centred(channels, 1.0)}
        return SeveralScales(net, self.image, self.recipe, self.degradation, **how).task()


class SeveralScales(RestorationTask):
    """The task of a net that has an output for each factor: `net.clone(scale=2)` is the net that enlarges by 2."""

    net: "CARNNet"

    def at(self, scale: int) -> RestorationTask:
        """Return the task of one factor, with the same parameters."""
        own = {name: value for name, value in vars(self).items() if name not in ("net", "scales")}
        return RestorationTask(self.net.clone(scale=scale), **own, scales=(scale,))

    def check(self):
        for scale in self.scales:
            self.at(scale).check()

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        found = [self.at(s).loss(params, context, batch, rng.fold(key, f"x{s}")) for s in self.scales]
        metrics = {f"psnr_x{s}": aux.metrics["psnr"] for s, (_, aux) in zip(self.scales, found, strict=True)}
        return jnp.stack([value for value, _ in found]).mean(), Aux(metrics, {})

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        return self.at(round(scale)).restore(params, context, given, keys, scale)


class CARNNet(nn.Module):
    """x f32[b h w channels] -> f32[b h*scale w*scale channels]. Section 3.1.

    scale: the factor; None runs all of them, as at initialisation, and returns the last one's image
    """

    scales: tuple[int, ...]
    depth: int
    width: int
    mobile: bool
    groups: int
    channels: int
    scale: int | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        blocks = [Block(self.depth, self.mobile, self.groups, name=f"b{i + 1}") for i in range(self.depth)]
        x = cascaded(blocks, conv(self.width, "entry")(x))  # [b h w width]
        last = conv(self.channels, "exit")
        for scale in self.scales if self.scale is None else (self.scale,):
            y = x
            for i, factor in enumerate(factors(scale)):
                y = grouped(self.width * factor**2, f"upsample_up{scale}_body_{3 * i}", self.groups)(y)
                y = depth_to_space(nn.relu(y), factor)  # [b h*factor w*factor width]
            image = last(y)
        return image


class Block(nn.Module):
    """A cascading block, x f32[b h w c] -> f32[b h w c]. Section 3.1; mobile: section 3.2."""

    depth: int
    mobile: bool
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.mobile:
            return cascaded([Residual(True, self.groups, name="b1")] * self.depth, x)
        return cascaded([Residual(False, self.groups, name=f"b{i + 1}") for i in range(self.depth)], x)


class Residual(nn.Module):
    """relu(x + R(x)), where R is two 3x3 convolutions, and on mobiles a 1x1 one, x f32[b h w c] -> f32[b h w c]."""

    mobile: bool
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = grouped(c, "body_2", self.groups)(nn.relu(grouped(c, "body_0", self.groups)(x)))
        y = conv(c, "body_4", 1)(nn.relu(y)) if self.mobile else y
        return nn.relu(x + y)


def cascaded(steps: Sequence[Callable[[Array], Array]], x: Array) -> Array:
    """Return the output of steps, each of which reads a mixture of x and of all outputs before it, f32[b h w c].

    Call it inside a module; the 1x1 convolutions are named c1_body_0, c2_body_0, ...
    """
    kept = out = x
    for i, step in enumerate(steps):
        kept = jnp.concatenate([kept, step(out)], -1)  # [b h w (i+2)*c]
        out = nn.relu(conv(x.shape[-1], f"c{i + 1}_body_0", 1)(kept))  # [b h w c]
    return out


def grouped(features: int, name: str, groups: int) -> Conv:
    return Conv(features, (3, 3), groups=groups, kernel_init=UNIFORM, name=name)


def weight_name(model: CARN, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """The plain rule, and the factor is left out of the names of a net with one factor, as in the authors' code."""
    name, layout = plain(model, net, path, shape)
    name = name.replace("_body", ".body").replace("upsample_", "upsample.")
    return name if len(model.scales) > 1 else re.sub(r"\.up\d\.", ".up.", name), layout


WEIGHT_NAMES: Rule = weight_name


def preset(model: CARN, parameters: int) -> Preset:
    small = replace(SMALL, mobile=model.mobile, groups=min(model.groups, 2))
    return Preset(row(model, 600_000, 64, optim=Optim(schedule="cosine")), tiny(small), parameters)


SMALL = CARN((24, 24, 3), depth=2, width=8, recipe=Recipe(learning_rate=1e-3))
PRESETS = {"carn": preset(CARN(), 1_591_939), "carn-m": preset(CARN(mobile=True, groups=4), 414_787)}
