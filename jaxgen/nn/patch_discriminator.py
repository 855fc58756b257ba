"""A critic that judges an image patch by patch, and several of them that see it at several sizes."""

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
SMALL_XAVIER = nn.initializers.variance_scaling(
    0.02**2, "fan_avg", "normal"
)  # Xavier's, times 0.02: CUT's and BicycleGAN's
PADS = ((1, 1), (1, 1))


@dataclass(frozen=True)
class PatchVariant:
    """How critics of one size differ from pix2pix's, which are CycleGAN's and VQGAN's, too."""

    around: int = 1  # pixels around what a 4x4 convolution sees
    mirror: bool = False  # they are the mirror image, not zeros
    blur: bool = False  # a blur after a convolution halves, not its stride
    pointwise: bool = False  # all layers halve, and the last convolution is 1x1
    faint: bool = False  # weights start from Xavier's times 0.02, not from N(0, 0.02^2)
    thinner: bool = False  # a critic has half the channels of the one that sees images twice as large


class PatchDiscriminator(nn.Module):
    """x f32[b h w c] -> logits f32[b h' w'], each of a patch of the image, 70x70 of them with 3 layers.

    Isola et al. 2017, appendix 6.1.2: C64-C128-C256-C512, the first without a norm, LeakyReLU 0.2. Every layer halves
    but the last two, which take a pixel off. norm: of the batch; of each image alone, with ("affine") or without
    ("instance") learned scale and bias; or none. With `layered` all layers' answers are returned, f32[b h w c], the
    logits f32[b h' w'] last.
    """

    layers: int = 3
    width: int = 64
    norm: Norm = "batch"
    layered: bool = False
    form: PatchVariant = PatchVariant()

    @nn.compact
    def __call__(self, x: Array) -> Array | list[Array]:
        said, form = [], self.form

        def conv(x: Array, features: int, name: str, k: int = 4, stride: int = 1, bias: bool = True) -> Array:
            around = form.around if k > 1 else 0
            pads: Any = "VALID" if form.mirror else ((around, around), (around, around))
            init = SMALL_XAVIER if form.faint else WEIGHTS
            net = Conv(features, (k, k), (stride, stride), pads, use_bias=bias, kernel_init=init, name=name)
            return net(reflect_pad(x, around) if form.mirror else x)

        for i in range(self.layers + (not form.pointwise)):
            halves = i < self.layers
            # A norm that has biases of its own makes others needless.
            bias = i == 0 or self.norm in ("instance", "none")
            x = conv(x, self.width * min(2**i, 8), f"layer_{i}", 4, 2 if halves and not form.blur else 1, bias)
            if i and self.norm == "batch":
                x = BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args), name=f"norm_{i}")(x, True)
            elif i and self.norm != "none":
                x = InstanceNorm(self.norm == "affine", name=f"norm_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            x = blur_downsample(x) if form.blur and halves else x  # [b h/2 w/2 c]; the last [b h-1 w-1 c]
            said.append(x)
        logits = to_f32(conv(x, 1, "out", 1 if form.pointwise else 4)[..., 0])
        return [*said, logits] if self.layered else logits


class MultiscaleDiscriminator(nn.Module):
    """x f32[b h w c] -> what `scales` critics say, each of an image half as large as the one before.

    A list by scale, of lists by layer: f32[b h w c], the logits f32[b h' w'] last. Wang et al. 2018 (pix2pixHD),
    section 3.2; as in the authors' code images are halved by a mean over 3x3 pixels without those beyond the border.
    """

    scales: int = 1
    layers: int = 3
    width: int = 64
    norm: Norm = "instance"
    form: PatchVariant = PatchVariant()

    @nn.compact
    def __call__(self, x: Array) -> list[list[Array]]:
        said = []
        for i in range(self.scales):
            width = max(self.width >> i, 1) if self.form.thinner else self.width
            said.append(PatchDiscriminator(self.layers, width, self.norm, True, self.form, name=f"scale_{i}")(x))
            x = mean_downsample(x)
        return said


def reflect_pad(x: Array, pixels: int) -> Array:
    """Return x [b h w c] with so many pixels more on each side, the image's mirror image."""
    around = (pixels, pixels)
    return jnp.pad(x, ((0, 0), around, around, (0, 0)), "reflect")


def blur_downsample(x: Array) -> Array:
    """Return every second pixel [b ceil(h/2) ceil(w/2) c] of x under 1, 2, 1, its mirror image around (Zhang 2019)."""
    return upfirdn2d(reflect_pad(x, 1), (0.25, 0.5, 0.25), down=2)


def mean_downsample(x: Array) -> Array:
    """Return [b ceil(h/2) ceil(w/2) c]: the mean of the 3x3 pixels around every second one, as far as there are any."""
    pads: Any = PADS
    return nn.avg_pool(x, (3, 3), (2, 2), pads, count_include_pad=False)


def check_patches(image: tuple[int, int, int], layers: int, scales: int = 1, form: PatchVariant = PatchVariant()):
    """Raise InputError where an image is too small for a critic of so many layers, at the smallest of its scales."""
    least = ((1 if form.pointwise else 4) << layers) * 2 ** (scales - 1)
    if min(image[:2]) < least:
        raise InputError(
            f"A critic of {layers} halvings{f' at {scales} scales' if scales > 1 else ''} sees images of at least "
            f"{least}x{least}, not {image[0]}x{image[1]}: make --model.game.layers smaller."
        )
