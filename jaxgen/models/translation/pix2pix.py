"""pix2pix: Isola, Zhu, Zhou and Efros 2017, "Image-to-Image Translation with Conditional Adversarial Networks".

A U-Net translates an image. A discriminator of 70x70 patches classifies true and generated pairs, and the L1 distance
from the true image has a weight of 100. Batch norm over one image, as in the paper's training and tests, is here
instance norm with a scale and a bias at any batch size, so that an output depends on its own input only. The only noise
is dropout, which stays on at inference, as in the paper. The rate is constant over the first half of the steps and
falls to 0 over the second, as in the authors' code.

The paper's weight of the distance, 100, is meant for images of 256x256. At 64x64 the discriminator has no influence
with it, and FID is that of the generator trained alone; 10 works.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset, Run
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.models.translation._generators import Image, check_sides
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.patch_discriminator import WEIGHTS
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.paired_translation import HALF, PairedTranslation, check_pairs, row, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig


@dataclass(frozen=True)
class Pix2Pix:
    """Hyper-parameters of a pix2pix."""

    image: Image = (256, 256, 3)
    depth: int = 8  # number of stride-2 stages, down to one pixel
    width: int = 64  # channels of the first layer, doubled at each stage, up to 8 times as many
    dropout: Decay = 0.5  # rate
    dropped: int = 3  # number of decoder layers with dropout
    pixel: float = 100.0  # weight of the L1 distance (lambda)
    game: PatchGANConfig = PatchGANConfig("non-saturating", norm="affine")

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width)
        at_least(0, model__dropped=self.dropped, model__dropout=self.dropout)
        if self.dropout >= 1:
            raise InputError(f"model.dropout must be below 1, not {self.dropout}.")
        check_sides(self.image, 1 << self.depth)
        noisy = self.dropout > 0 and self.dropped > 0
        return PairedTranslation(self.image, self.net, self.game, self.pixel, 1 << self.depth, noisy).task()

    def check_run(self, run: Run):
        check_pairs(run, "pix2pix")

    @property
    def net(self) -> "UNet":
        widths = tuple(self.width * min(2**i, 8) for i in range(self.depth))
        return UNet(widths, self.image[2], self.dropout, self.dropped)


class UNet(nn.Module):
    """(x f32[b h w c], keys Key[b]) -> f32[b h w channels] in [-1, 1]; sides divisible by 2^depth. Appendix 6.1.1.

    Encoder C64-C128-C256-C512-C512..., LeakyReLU 0.2, no norm in the first and the last layer. The decoder mirrors it:
    ReLU, skip connections by concatenation, dropout in the first `dropped` layers, tanh. A code z f32[b n], if given,
    is appended to the input of each encoder layer. With norms without scale and bias (not `affine`) convolutions have
    a bias.
    """

    widths: tuple[int, ...]
    channels: int
    dropout: float
    dropped: int
    affine: bool = True
    kernel_init: nn.initializers.Initializer = WEIGHTS

    @nn.compact
    def __call__(self, x: Array, keys: Key, z: Array | None = None) -> Array:
        plain: dict[str, Any] = {"kernel_size": (4, 4), "strides": (2, 2), "kernel_init": self.kernel_init}
        skips, deepest, bias = [], len(self.widths) - 1, not self.affine
        for i, features in enumerate(self.widths):
            x = x if z is None else append_code(x, z)
            y = Conv(features, use_bias=bias, name=f"down_{i}", **plain)(nn.leaky_relu(x, 0.2) if i else x)
            x = InstanceNorm(self.affine, name=f"down_{i}_norm")(y) if 0 < i < deepest else y  # [b h/2 w/2 c]
            skips.append(x)
        for i in reversed(range(len(self.widths))):
            x = nn.relu(x if i == deepest else jnp.concatenate([skips[i], x], -1))
            if i:
                up = ConvTranspose(self.widths[i - 1], use_bias=bias, name=f"up_{i}", **plain)
                x = InstanceNorm(self.affine, name=f"up_{i}_norm")(up(x))  # [b 2h 2w c/2]
                if deepest - i < self.dropped and self.dropout:
                    x = apply_dropout(x, self.dropout, keys, i)
        return to_f32(jnp.tanh(ConvTranspose(self.channels, name="up_0", **plain)(x)))


def append_code(x: Array, z: Array) -> Array:
    """Return images with their codes as constant channels, f32[b h w c + n]."""
    planes = jnp.broadcast_to(z[:, None, None].astype(x.dtype), (*x.shape[:3], z.shape[1]))
    return jnp.concatenate([x, planes], -1)


def apply_dropout(x: Array, rate: float, keys: Key, layer: int) -> Array:
    """Return x [b h w c] after dropout: zeros drawn by each image's key, and the rest divided by 1 - rate."""
    draw = lambda key: jax.random.bernoulli(rng.fold(key, f"dropout {layer}"), 1 - rate, x.shape[1:])  # noqa: E731
    return jnp.where(jax.vmap(draw)(keys), x / (1 - rate), 0).astype(x.dtype)


SMALL = Pix2Pix((16, 16, 3), 3, 4, game=PatchGANConfig("non-saturating", norm="affine", layers=1, width=4))
PRESETS = {"pix2pix": Preset(row(Pix2Pix(), 400_000, optim=HALF), tiny(SMALL), 57_182_660)}
