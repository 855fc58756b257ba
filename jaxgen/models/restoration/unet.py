"""A plain U-Net for restoration: Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical
Image Segmentation", as in Lehtinen et al. 2018, "Noise2Noise", appendix A.1.

3x3 convolutions and leaky ReLU, 2x2 max pooling, upsampling by repetition, and skip connections by concatenation, the
last one from the noisy image. The output is the clean image itself. `unet-denoise` is the paper's baseline: the same
net and noise as `noise2noise`, but trained on clean images. A cosine schedule over all steps replaces the decay over
the last 30 %.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv
from jaxgen.nn.pool import max_pool
from jaxgen.tasks.restoration import Image, PixelRange, Recipe, RestorationTask, row, tiny

CENTRED = PixelRange(mean=(0.5,))  # the net's inputs are in [-0.5, 0.5]


@dataclass(frozen=True)
class UNet:
    """Hyper-parameters of a U-Net for restoration."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 48  # channels of the encoder; the decoder has twice as many
    depth: int = 5  # number of stride-2 downsampling stages
    degradation: Degradation = Degradation(noise=(0, 50))
    recipe: Recipe = Recipe(loss="l2", learning_rate=3e-4, beta2=0.99)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth)
        net, multiple = UNetModule(self.width, self.depth, self.image[2]), 2**self.depth
        return RestorationTask(
            net,
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            multiple=multiple,
            pixels=CENTRED,
            colour="each",
        ).task()


class UNetModule(nn.Module):
    """x f32[b h w channels] -> the restored image; both sides are multiples of 2^depth. Table 2."""

    width: int
    depth: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train

        def layer(x: Array, features: int, name: str) -> Array:
            return nn.leaky_relu(conv(features, name, 2.0)(x), 0.1)

        skips, y = [x], layer(x, self.width, "enc_conv0")  # [b h w width]
        for i in range(1, self.depth + 1):
            y = max_pool(layer(y, self.width, f"enc_conv{i}"), 2, 2)  # [b h/2 w/2 width]
            skips.append(y)
        y = layer(skips.pop(), self.width, f"enc_conv{self.depth + 1}")
        for i in range(self.depth, 0, -1):
            y = jnp.concatenate([nearest_upsample(y), skips.pop()], -1)  # [b 2h 2w c+c']
            wide, narrow = (2 * self.width, 2 * self.width) if i > 1 else (4 * self.width // 3, 2 * self.width // 3)
            y = layer(y, wide, f"dec_conv{i}a")
            y = layer(y, narrow, f"dec_conv{i}b")
        return conv(self.channels, "dec_conv1c", 1.0)(y)


def conv(features: int, name: str, scale: float) -> Conv:
    """Return a 3x3 convolution with kernels initialised from N(0, scale / fan_in)."""
    return Conv(features, (3, 3), kernel_init=nn.initializers.variance_scaling(scale, "fan_in", "normal"), name=name)


PRESETS = {
    "unet-denoise": Preset(
        row(UNet(), 300_000, 4, optim=Optim(schedule="cosine")),
        tiny(UNet((16, 16, 3), width=12, depth=2)),
        991_203,
    )
}
