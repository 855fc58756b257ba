"""pix2pixHD: Wang, Liu, Zhu, Tao, Kautz and Catanzaro 2018, "High-Resolution Image Synthesis and Semantic Manipulation
with Conditional GANs": its generators and its discriminators.

Learns from pairs, as pix2pix (paired_translation.py), with a residual generator of four stride-2 stages,
discriminators at three scales with a least-squares loss, and feature matching in place of a pixel distance. With
`enhanced`, a second generator of half the width surrounds the first one, for images twice as large (2048x1024): it
downsamples the image once, adds the global generator's features of the downsampled image, and upsamples the sum. The
authors train the global generator first, at its own size (`--start-from` its run), and freeze it for the first tenth of
the epochs; here both are trained from the start. The instance encoder is not implemented. The authors' code defaults to
two discriminators; the paper has three.

The authors add the distance between features of VGG-19, with a weight of 10; in the paper it is an option. That
backbone is not available offline, and its weight does not suit another one: `perceptual` is 0 here, and other values
compare the same layers of ST-LPIPS's VGG-16 (pip install jaxgen[perceptual]).
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Preset, Run
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.models.translation._generators import Image, ReflectConv, Residual, ResNet, check_sides
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.patch_discriminator import WEIGHTS, PatchVariant, mean_downsample
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import backbones
from jaxgen.tasks.paired_translation import HALF, JITTERED, LAYERS, PairedTranslation, check_pairs, row, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig

GAME = PatchGANConfig(features=10.0, scales=3, form=PatchVariant(around=2))


@dataclass(frozen=True)
class Pix2PixHD:
    """Hyper-parameters of a pix2pixHD."""

    image: Image = (512, 1024, 3)
    width: int = 64  # channels of the generator's first layer
    downs: int = 4  # its stride-2 stages
    blocks: int = 9  # its residual blocks
    enhanced: int = 0  # residual blocks of the second generator (the authors: 3); 0: none
    pixel: float = 0.0  # weight of the L1 distance
    perceptual: float = 0.0  # weight of the distance between a frozen net's features
    backbone: str = "vgg16"  # that net; or random, or a classifier's run folder
    game: PatchGANConfig = GAME

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__downs=self.downs, model__blocks=self.blocks)
        at_least(0, model__enhanced=self.enhanced)
        if self.enhanced and self.width % 2:
            raise InputError(
                f"model.width must be even for model.enhanced, not {self.width}: the second generator has half of it."
            )
        stages = self.downs + (self.enhanced > 0)
        check_sides(self.image, 1 << stages, 2)
        how: Any = {"multiple": 1 << stages, "perceptual": self.perceptual, "backbone": self.backbone}
        return PairedTranslation(self.image, self.net, self.game, self.pixel, **how).task()

    def check_run(self, run: Run):
        check_pairs(run, "pix2pixhd")
        if self.perceptual > 0:
            backbones.check(self.backbone, tuple(LAYERS), self.image)

    @property
    def net(self) -> "Global | Enhancer":
        channels = self.image[2]
        net = ResNet(0 if self.enhanced else channels, self.width, self.blocks, self.downs)
        return Enhancer(net, channels, self.width // 2, self.enhanced) if self.enhanced else Global(net)


class Global(nn.Module):
    """(x f32[b h w c], keys) -> f32[b h w channels]: a generator without noise."""

    net: ResNet

    @nn.compact
    def __call__(self, x: Array, keys: Key) -> Array:
        del keys
        return self.net(x)


class Enhancer(nn.Module):
    """(x f32[b h w c], keys) -> f32[b h w channels] in [-1, 1], around `net` [b h/2 w/2 c] -> [b h/2 w/2 2 width].

    Section 3.1, G2 around G1: c7s1-32, d64, plus G1's features of the downsampled image, residual blocks of 64, u32,
    c7s1-3; instance norm.
    """

    net: ResNet
    channels: int
    width: int
    blocks: int

    @nn.compact
    def __call__(self, x: Array, keys: Key) -> Array:
        del keys
        conv: dict[str, Any] = {"kernel_size": (3, 3), "strides": (2, 2), "kernel_init": WEIGHTS}
        y = nn.relu(InstanceNorm(name="norm_in")(ReflectConv(self.width, 7, name="in")(x)))
        y = Conv(2 * self.width, padding=((1, 1), (1, 1)), name="down", **conv)(y)
        y = nn.relu(InstanceNorm(name="down_norm")(y)) + self.net(mean_downsample(x))  # [b h/2 w/2 2c]
        for i in range(self.blocks):
            y = Residual(name=f"block_{i}")(y)
        y = ConvTranspose(self.width, padding=((1, 0), (1, 0)), name="up", **conv)(y)
        y = nn.relu(InstanceNorm(name="up_norm")(y))  # [b h w c]
        return to_f32(jnp.tanh(ReflectConv(self.channels, 7, name="out")(y)))


SMALL = Pix2PixHD((16, 16, 3), 4, 1, 1, game=replace(GAME, scales=2, layers=1, width=4))
WHOLE = replace(JITTERED, crop="center")
FULL = {"steps": 600_000, "data": WHOLE, "optim": HALF}
PRESETS = {
    "pix2pixhd": Preset(row(Pix2PixHD(), **FULL), tiny(SMALL), 190_746_694),
    "pix2pixhd-local": Preset(
        row(Pix2PixHD((1024, 2048, 3), enhanced=3), **FULL), tiny(replace(SMALL, enhanced=1)), 191_005_254
    ),
}
