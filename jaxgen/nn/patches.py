"""A critic that judges a picture patch by patch, and several of them that see it at several sizes."""

from typing import Any, Literal

import jax
from flax import linen as nn

from jaxgen.errors import InputError
from jaxgen.nn.conv import Conv
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.wide import wide

Array = jax.Array
Norm = Literal["batch", "affine", "instance", "none"]
WEIGHTS = nn.initializers.normal(0.02)
PADS = ((1, 1), (1, 1))


class Patches(nn.Module):
    """x f32[b h w c] -> logits f32[b h' w'], each of a patch of the picture, 70x70 of them with 3 layers.

    Isola et al. 2017, appendix 6.1.2: C64-C128-C256-C512, the first without a norm, LeakyReLU 0.2. Every layer halves
    but the last two, which take a pixel off. norm: of the batch; of each picture alone, with ("affine") or without
    ("instance") learned scale and bias; or none. With `layered` all layers' answers are returned, f32[b h w c], the
    logits f32[b h' w'] last.
    """

    layers: int = 3
    width: int = 64
    norm: Norm = "batch"
    layered: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array | list[Array]:
        said = []
        for i in range(self.layers + 1):
            strides = (2, 2) if i < self.layers else (1, 1)
            features = self.width * min(2**i, 8)
            # A norm that has biases of its own makes others needless.
            bias = i == 0 or self.norm in ("instance", "none")
            x = Conv(features, (4, 4), strides, PADS, use_bias=bias, kernel_init=WEIGHTS, name=f"layer_{i}")(x)
            if i and self.norm == "batch":
                x = BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args), name=f"norm_{i}")(x, True)
            elif i and self.norm != "none":
                x = InstanceNorm(self.norm == "affine", name=f"norm_{i}")(x)
            x = nn.leaky_relu(x, 0.2)  # [b h/2 w/2 c]; the last [b h-1 w-1 c]
            said.append(x)
        logits = wide(Conv(1, (4, 4), (1, 1), PADS, kernel_init=WEIGHTS, name="out")(x)[..., 0])
        return [*said, logits] if self.layered else logits


class Pyramid(nn.Module):
    """x f32[b h w c] -> what `scales` critics say, each of a picture half as large as the one before.

    A list by scale, of lists by layer: f32[b h w c], the logits f32[b h' w'] last. Wang et al. 2018 (pix2pixHD),
    section 3.2; as in the authors' code pictures are halved by a mean over 3x3 pixels without those beyond the border.
    """

    scales: int = 1
    layers: int = 3
    width: int = 64
    norm: Norm = "instance"

    @nn.compact
    def __call__(self, x: Array) -> list[list[Array]]:
        said = []
        for i in range(self.scales):
            said.append(Patches(self.layers, self.width, self.norm, True, name=f"scale_{i}")(x))
            x = halved(x)
        return said


def halved(x: Array) -> Array:
    """Return [b ceil(h/2) ceil(w/2) c]: the mean of the 3x3 pixels around every second one, as far as there are any."""
    pads: Any = PADS
    return nn.avg_pool(x, (3, 3), (2, 2), pads, count_include_pad=False)


def check_patches(image: tuple[int, int, int], layers: int, scales: int = 1):
    """Raise InputError where a picture is too small for a critic of so many layers, at the smallest of its scales."""
    least = (4 << layers) * 2 ** (scales - 1)
    if min(image[:2]) < least:
        raise InputError(
            f"A critic of {layers} halvings{f' at {scales} scales' if scales > 1 else ''} sees pictures of at least "
            f"{least}x{least}, not {image[0]}x{image[1]}: make --model.game.layers smaller."
        )
