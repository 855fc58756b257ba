"""PatchGAN discriminators: one logit per patch of an image, at one or several scales."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.nn.conv import Conv
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.upfirdn import upfirdn2d

Array = jax.Array
Norm = Literal["batch", "affine", "instance", "none"]
WEIGHTS = nn.initializers.normal(0.02)
# Xavier's initialisation times 0.02, as in CUT and BicycleGAN.
SMALL_XAVIER = nn.initializers.variance_scaling(0.02**2, "fan_avg", "normal")
PADS = ((1, 1), (1, 1))


@dataclass(frozen=True)
class PatchVariant:
    """Differences of a discriminator from the PatchGAN of pix2pix, which CycleGAN and VQGAN use too."""

    around: int = 1  # pixels of padding of a 4x4 convolution
    mirror: bool = False  # reflection padding instead of zeros
    blur: bool = False  # downsample by a blur after the convolution, not by its stride
    pointwise: bool = False  # all layers downsample, and the last convolution is 1x1
    faint: bool = False  # initialise from Xavier's times 0.02, not from N(0, 0.02^2)
    thinner: bool = False  # each smaller scale has half the channels of the scale above


class PatchDiscriminator(nn.Module):
    """PatchGAN discriminator, x f32[b h w c] -> logits f32[b h' w'], each of a patch, of 70x70 pixels with 3 layers.

    Isola et al. 2017, appendix 6.1.2: C64-C128-C256-C512, the first without a norm, LeakyReLU 0.2. All layers but the
    last two downsample by 2; the last two reduce the size by one pixel. norm: "batch"; "affine" or "instance", which
    is instance norm with or without learned scale and bias; or "none". With `layered`, the features of all layers are
    returned, f32[b h w c] each, with the logits f32[b h' w'] last.
    """

    layers: int = 3
    width: int = 64
    norm: Norm = "batch"
    layered: bool = False
    form: PatchVariant = PatchVariant()

    @nn.compact
    def __call__(self, x: Array) -> Array | list[Array]:
        features_of, form = [], self.form

        def conv(x: Array, features: int, name: str, k: int = 4, stride: int = 1, bias: bool = True) -> Array:
            around = form.around if k > 1 else 0
            pads: Any = "VALID" if form.mirror else ((around, around), (around, around))
            init = SMALL_XAVIER if form.faint else WEIGHTS
            layer = Conv(features, (k, k), (stride, stride), pads, use_bias=bias, kernel_init=init, name=name)
            return layer(reflect_pad(x, around) if form.mirror else x)

        for i in range(self.layers + (not form.pointwise)):
            downsamples = i < self.layers
            # The bias of a norm makes that of the convolution redundant.
            bias = i == 0 or self.norm in ("instance", "none")
            x = conv(x, self.width * min(2**i, 8), f"layer_{i}", 4, 2 if downsamples and not form.blur else 1, bias)
            if i and self.norm == "batch":
                x = BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args), name=f"norm_{i}")(x, True)
            elif i and self.norm != "none":
                x = InstanceNorm(self.norm == "affine", name=f"norm_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            x = blur_downsample(x) if form.blur and downsamples else x  # [b h/2 w/2 c]; the last [b h-1 w-1 c]
            features_of.append(x)
        logits = to_f32(conv(x, 1, "out", 1 if form.pointwise else 4)[..., 0])
        return [*features_of, logits] if self.layered else logits


class MultiscaleDiscriminator(nn.Module):
    """Multi-scale PatchGAN: `scales` discriminators, each of images downsampled by 2 from the previous scale.

    x f32[b h w c] -> a list over scales of lists over layers: f32[b h w c], with the logits f32[b h' w'] last. Wang et
    al. 2018 (pix2pixHD), section 3.2; as in the authors' code, downsampling is a mean over 3x3 pixels that ignores
    pixels beyond the border.
    """

    scales: int = 1
    layers: int = 3
    width: int = 64
    norm: Norm = "instance"
    form: PatchVariant = PatchVariant()

    @nn.compact
    def __call__(self, x: Array) -> list[list[Array]]:
        outputs = []
        for i in range(self.scales):
            width = max(self.width >> i, 1) if self.form.thinner else self.width
            outputs.append(PatchDiscriminator(self.layers, width, self.norm, True, self.form, name=f"scale_{i}")(x))
            x = mean_downsample(x)
        return outputs


def reflect_pad(x: Array, pixels: int) -> Array:
    """Return x [b h w c] padded by `pixels` on each side with its mirror image."""
    pad = (pixels, pixels)
    return jnp.pad(x, ((0, 0), pad, pad, (0, 0)), "reflect")


def blur_downsample(x: Array) -> Array:
    """Blur x by 1, 2, 1 with reflection padding and keep every second pixel, [b ceil(h/2) ceil(w/2) c] (Zhang 2019)."""
    return upfirdn2d(reflect_pad(x, 1), (0.25, 0.5, 0.25), down=2)


def mean_downsample(x: Array) -> Array:
    """Return the mean of 3x3 pixels around every second pixel, [b ceil(h/2) ceil(w/2) c], ignoring the padding."""
    pads: Any = PADS
    return nn.avg_pool(x, (3, 3), (2, 2), pads, count_include_pad=False)


def check_patches(image: tuple[int, int, int], layers: int, scales: int = 1, form: PatchVariant = PatchVariant()):
    """Raise InputError if an image is too small for a discriminator with `layers` layers at its smallest scale."""
    least = ((1 if form.pointwise else 4) << layers) * 2 ** (scales - 1)
    if min(image[:2]) < least:
        raise InputError(
            f"A discriminator of {layers} layers{f' at {scales} scales' if scales > 1 else ''} needs images of at "
            f"least {least}x{least}, not {image[0]}x{image[1]}: make --model.game.layers smaller."
        )
