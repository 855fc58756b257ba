"""A residual generator that several translation models share, and its layers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.types import Image
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.patch_discriminator import SMALL_XAVIER, WEIGHTS, blur_downsample, reflect_pad
from jaxgen.nn.precision import to_f32
from jaxgen.nn.upfirdn import upfirdn2d

Array = jax.Array


class ReflectConv(nn.Module):
    """A k x k convolution with reflection padding of (k - 1) // 2 pixels.

    x [b h w c] -> [b h w features]; with stride 2 and an even k, [b h/2 w/2 features].
    """

    features: int
    kernel: int
    kernel_init: nn.initializers.Initializer = WEIGHTS
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, strides = self.kernel, (self.stride, self.stride)
        conv = Conv(self.features, (k, k), strides, "VALID", kernel_init=self.kernel_init, name="conv")
        return conv(reflect_pad(x, (k - 1) // 2))


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), [b h w c] -> [b h w c]. norm: (name) -> the module that normalises."""

    norm: Callable[[str], Callable[[Array], Array]] = lambda name: InstanceNorm(name=name)
    kernel_init: nn.initializers.Initializer = WEIGHTS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = lambda name: ReflectConv(x.shape[-1], 3, self.kernel_init, name=name)  # noqa: E731
        y = nn.relu(self.norm("norm_0")(conv("conv_0")(x)))
        return x + self.norm("norm_1")(conv("conv_1")(y))


class ResNet(nn.Module):
    """x f32[b h w c] -> f32[b h w channels] in [-1, 1]; sides divisible by 2^downs. Johnson et al. 2016, as CycleGAN's.

    c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3 (Zhu et al. 2017, appendix 7.2), instance norm. With
    `smooth`, as in the authors' code of CUT, it downsamples by a blur after the convolution, upsamples linearly before
    it, and starts from smaller weights. With `taps`, features of the encoder are returned instead, f32[b h w c]: the
    reflection-padded image, both stride-2 convolutions, and the outputs of the blocks with these numbers. With 0
    channels the output is the last feature map, [b h w width].
    """

    channels: int
    width: int = 64
    blocks: int = 9
    downs: int = 2
    smooth: bool = False

    @nn.compact
    def __call__(self, x: Array, taps: tuple[int, ...] = ()) -> Any:
        init = SMALL_XAVIER if self.smooth else WEIGHTS
        found = [reflect_pad(x, 3)]
        y = nn.relu(InstanceNorm(name="norm_in")(ReflectConv(self.width, 7, init, name="in")(x)))
        conv: dict[str, Any] = {"kernel_size": (3, 3), "kernel_init": init}
        strides, pads = (1, 1) if self.smooth else (2, 2), ((1, 1), (1, 1))
        for i in range(self.downs):
            y = Conv(self.width << (i + 1), strides=strides, padding=pads, name=f"down_{i}", **conv)(y)
            found.append(y)
            y = nn.relu(InstanceNorm(name=f"down_{i}_norm")(y))
            y = blur_downsample(y) if self.smooth else y  # [b h/2 w/2 2c]
        for i in range(self.blocks):
            y = Residual(kernel_init=init, name=f"block_{i}")(y)
            if i in taps:
                found.append(y)
                if i == max(taps):
                    return found
        for i in reversed(range(self.downs)):
            if self.smooth:
                y = Conv(self.width << i, padding=pads, name=f"up_{i}", **conv)(linear_upsample(y))
            else:
                up = {"strides": (2, 2), "padding": ((1, 0), (1, 0)), "name": f"up_{i}"}
                y = ConvTranspose(self.width << i, **up, **conv)(y)
            y = nn.relu(InstanceNorm(name=f"up_{i}_norm")(y))  # [b 2h 2w c/2]
        return to_f32(jnp.tanh(ReflectConv(self.channels, 7, init, name="out")(y))) if self.channels else y


def linear_upsample(x: Array) -> Array:
    """Return x [b h w c] upsampled linearly, [b 2h 2w c]; borders are padded by their edge pixels."""
    around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    return upfirdn2d(around, (0.125, 0.375, 0.375, 0.125), up=2, pad=(0, -1), gain=4)


def check_sides(image: Image, multiple: int, least: int = 1):
    """Raise InputError unless both sides of an image are multiples of `multiple`, and at least `least` times it."""
    if image[0] % multiple or image[1] % multiple or min(image[:2]) < least * multiple:
        raise InputError(
            f"model.image is {image[0]}x{image[1]}: both sides must be multiples of {multiple}"
            + (f", at least {least * multiple}." if least > 1 else ".")
        )
