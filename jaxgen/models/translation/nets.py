"""Generators that several translators use: a residual one, and its parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.errors import InputError
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.patches import WEIGHTS
from jaxgen.nn.wide import wide

Array = jax.Array
Image = tuple[int, int, int]


def mirrored(x: Array, pixels: int) -> Array:
    """Return x [b h w c] with so many pixels more on each side, the picture's mirror image."""
    around = (pixels, pixels)
    return jnp.pad(x, ((0, 0), around, around, (0, 0)), "reflect")


class MirrorConv(nn.Module):
    """A k x k convolution with the picture's mirror image around it, x [b h w c] -> [b h w features]; k odd."""

    features: int
    kernel: int
    kernel_init: nn.initializers.Initializer = WEIGHTS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k = self.kernel
        conv = Conv(self.features, (k, k), padding="VALID", kernel_init=self.kernel_init, name="conv")
        return conv(mirrored(x, (k - 1) // 2))


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), [b h w c] -> [b h w c]. norm: (name) -> the module that does it."""

    norm: Callable[[str], Callable[[Array], Array]] = lambda name: InstanceNorm(name=name)
    kernel_init: nn.initializers.Initializer = WEIGHTS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = lambda name: MirrorConv(x.shape[-1], 3, self.kernel_init, name=name)  # noqa: E731
        y = nn.relu(self.norm("norm_0")(conv("conv_0")(x)))
        return x + self.norm("norm_1")(conv("conv_1")(y))


class ResNet(nn.Module):
    """x f32[b h w c] -> f32[b h w channels] in [-1, 1]; sides divisible by 2^downs. Johnson et al. 2016, as CycleGAN's.

    c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3 (Zhu et al. 2017, appendix 7.2), instance norm. With
    `upto`, features of the way in are returned instead, f32[b h w c]: the picture, both halvings' convolutions, and
    the blocks up to that one, those in `taps`.
    """

    channels: int
    width: int = 64
    blocks: int = 9
    downs: int = 2

    @nn.compact
    def __call__(self, x: Array, taps: tuple[int, ...] = ()) -> Any:
        found = [x]
        y = nn.relu(InstanceNorm(name="norm_in")(MirrorConv(self.width, 7, name="in")(x)))
        pads, down = ((1, 1), (1, 1)), {"kernel_size": (3, 3), "strides": (2, 2), "kernel_init": WEIGHTS}
        for i in range(self.downs):
            y = Conv(self.width << (i + 1), padding=pads, name=f"down_{i}", **down)(y)  # [b h/2 w/2 2c]
            found.append(y)
            y = nn.relu(InstanceNorm(name=f"down_{i}_norm")(y))
        for i in range(self.blocks):
            y = Residual(name=f"block_{i}")(y)
            if i in taps:
                found.append(y)
                if i == max(taps):
                    return found
        for i in reversed(range(self.downs)):
            up = ConvTranspose(self.width << i, padding=((1, 0), (1, 0)), name=f"up_{i}", **down)
            y = nn.relu(InstanceNorm(name=f"up_{i}_norm")(up(y)))  # [b 2h 2w c/2]
        return wide(jnp.tanh(MirrorConv(self.channels, 7, name="out")(y)))


def check_sides(image: Image, multiple: int, least: int = 1):
    """Raise InputError where both sides of a picture aren't multiples, or too few of them."""
    if image[0] % multiple or image[1] % multiple or min(image[:2]) < least * multiple:
        raise InputError(
            f"model.image is {image[0]}x{image[1]}: both sides must be multiples of {multiple}"
            + (f", at least {least * multiple}." if least > 1 else ".")
        )
