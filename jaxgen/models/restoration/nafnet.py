"""NAFNet: Chen, Chu, Zhang and Sun 2022, "Simple Baselines for Image Restoration".

A U-Net of blocks without activation functions: pairs of channels are multiplied (SimpleGate), and channels are scaled
by a linear map of their means over the image (simplified channel attention). The decoder's output is a residual, added
to the input image. The presets are the paper's denoisers for SIDD, trained here on Gaussian noise of 0 to 50 of 255
where the paper has camera noise. TLC, which computes the means over windows of the training size at test time, is not
implemented.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import Layout, Path, Rule, plain
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.nn.transformer import layer_norm
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class NAFNet:
    """Hyper-parameters of a NAFNet."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 32  # channels at full resolution, doubled at each stage
    encoder: tuple[int, ...] = (2, 2, 4, 8)  # blocks at each resolution, from the finest on
    middle: int = 12  # blocks at the coarsest resolution
    decoder: tuple[int, ...] = (2, 2, 2, 2)  # blocks at each resolution, from the coarsest on
    degradation: Degradation = Degradation(noise=(0, 50))
    recipe: Recipe = Recipe(loss="psnr", learning_rate=1e-3, beta2=0.9)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width)
        fewest = min((*self.encoder, *self.decoder), default=0)
        at_least(0, model__middle=self.middle, model__encoder_and_decoder=fewest)
        if len(self.encoder) != len(self.decoder):
            raise InputError("model.encoder and model.decoder must have the same number of resolutions.")
        net = NAFNetModule(self.width, self.encoder, self.middle, self.decoder, self.image[2])
        multiple = 2 ** len(self.encoder)
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, channels=self.image[2], multiple=multiple
        ).task()


class NAFNetModule(nn.Module):
    """x f32[b h w channels] -> the restored image; both sides are multiples of 2^len(encoder)."""

    width: int
    encoder: tuple[int, ...]
    middle: int
    decoder: tuple[int, ...]
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        y, skips = conv(self.width, 3, "intro")(x), []  # [b h w width]
        for level, blocks in enumerate(self.encoder):
            for i in range(blocks):
                y = Block(name=f"encoders_{level}_{i}")(y)
            skips.append(y)
            y = conv(2 * y.shape[-1], 2, f"downs_{level}", stride=2)(y)  # [b h/2 w/2 2c]
        for i in range(self.middle):
            y = Block(name=f"middle_blks_{i}")(y)
        for level, blocks in enumerate(self.decoder):
            y = conv(2 * y.shape[-1], 1, f"ups_{level}_0", bias=False)(y)
            y = depth_to_space(y, 2) + skips.pop()  # [b 2h 2w c/2]
            for i in range(blocks):
                y = Block(name=f"decoders_{level}_{i}")(y)
        return x + conv(self.channels, 3, "ending")(y)


class Block(nn.Module):
    """x [b h w c] -> the same shape; beta and gamma start at 0, so the block starts as the identity. Figure 2 (c)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]

        def gated(y: Array, name: str) -> Array:
            factor = self.param(name, nn.initializers.zeros, (c,)).astype(y.dtype)
            return jnp.broadcast_to(factor, y.shape) * y

        y = conv(2 * c, 1, "conv1")(layer_norm("norm1")(x))
        y = simple_gate(conv(2 * c, 3, "conv2", groups=2 * c)(y))
        means = y.mean((1, 2), keepdims=True)  # [b 1 1 c]
        y = y * jnp.broadcast_to(conv(c, 1, "sca_1")(means), y.shape)
        x = x + gated(conv(c, 1, "conv3")(y), "beta")
        y = simple_gate(conv(2 * c, 1, "conv4")(layer_norm("norm2")(x)))
        return x + gated(conv(c, 1, "conv5")(y), "gamma")


def simple_gate(x: Array) -> Array:
    """Return the product of both halves of the channels, [b h w 2c] -> [b h w c]: SimpleGate."""
    a, b = jnp.split(x, 2, -1)
    return a * b


def conv(features: int, side: int, name: str, stride: int = 1, bias: bool = True, groups: int = 1) -> Conv:
    size, strides = (side, side), (stride, stride)
    return Conv(features, size, strides, groups=groups, use_bias=bias, kernel_init=UNIFORM, name=name)


def weight_name(model: NAFNet, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """The plain rule, but that a block's two gates are [1 c 1 1]."""
    name, layout = plain(model, net, path, shape)
    gate = Layout(lambda x: x.reshape(1, -1, 1, 1), lambda x: x.reshape(-1))
    return name, gate if path[-1] in ("beta", "gamma") else layout


WEIGHT_NAMES: Rule = weight_name


def preset(width: int, steps: int, batch: int, parameters: int) -> Preset:
    model, optim = NAFNet(width=width), Optim(schedule="cosine", clip=0.01)
    small = NAFNet(image=(16, 16, 3), width=8, encoder=(1,), middle=1, decoder=(1,))
    return Preset(row(model, steps, batch, optim=optim), tiny(small), parameters)


PRESETS = {
    "nafnet": preset(32, 200_000, 32, 29_159_715),
    "nafnet-64": preset(64, 400_000, 64, 115_982_915),
}
