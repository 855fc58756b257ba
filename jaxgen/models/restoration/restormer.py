"""Restormer: Zamir, Arora, Khan, Hayat, Khan and Yang 2022, "Restormer: Efficient Transformer for High-Resolution Image
Restoration".

A U-Net of transformer blocks with attention across channels, not pixels, so that its cost is linear in the number of
pixels. Scores are cosines between the channels' maps; queries and keys come from 1x1 and depthwise 3x3 convolutions
(MDTA). The feed-forward net is gated, with the same kinds of convolutions (GDFN). The output is added to the image.
The preset is the blind colour denoiser, with norms without bias and centring, as in the authors' denoisers. Here
patches stay at 128 pixels, where the paper goes from 128 to 384 and from batches of 64 to 8; the cosine schedule starts
at once, not after 92,000 steps; images are not mixed with each other, as half of the authors' batches are.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.nn.precision import to_f32
from jaxgen.nn.shuffle import depth_to_space, space_to_depth
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class Restormer:
    """Hyper-parameters of a Restormer."""

    image: Image = (128, 128, 3)  # training patches: height, width, channels
    width: int = 48  # channels at full resolution, doubled at each stage
    blocks: tuple[int, ...] = (4, 6, 6, 8)  # at each resolution, from the finest on; the same down and up
    refinement: int = 4  # blocks at full resolution at the end
    heads: tuple[int, ...] = (1, 2, 4, 8)  # of attention, at each resolution
    expansion: float = 2.66  # factor on the channels inside a feed-forward net
    centred: bool = False  # norms subtract the mean and add a bias
    degradation: Degradation = Degradation(noise=(0, 50))
    recipe: Recipe = Recipe(loss="l1", learning_rate=3e-4, weight_decay=1e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__heads=min(self.heads, default=0))
        at_least(0, model__blocks=min(self.blocks, default=-1), model__refinement=self.refinement)
        at_least(1 / self.width, model__expansion=self.expansion)
        if len(self.heads) != len(self.blocks):
            raise InputError("model.heads and model.blocks must have the same number of resolutions.")
        uneven = [h for i, h in enumerate(self.heads) if self.width * 2**i % h]
        if uneven or self.width % 2:
            raise InputError(
                f"model.width {self.width} must be even and, doubled at each stage, divisible by model.heads."
            )
        return RestorationTask(
            self.module(),
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            multiple=2 ** (len(self.blocks) - 1),
            colour="each",
        ).task()

    def module(self) -> "RestormerNet":
        """Return the net, (x, train) -> f32[b h w channels]."""
        rest = self.refinement, self.heads, self.expansion, self.centred, self.image[2]
        return RestormerNet(self.width, self.blocks, *rest)


class RestormerNet(nn.Module):
    """x f32[b h w channels] -> the restored image; both sides are multiples of 2^(len(blocks) - 1)."""

    width: int
    blocks: tuple[int, ...]
    refinement: int
    heads: tuple[int, ...]
    expansion: float
    centred: bool
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train

        def stage(y: Array, level: int, count: int, name: str) -> Array:
            for i in range(count):
                y = Block(self.heads[level], self.expansion, self.centred, name=f"{name}_{i}")(y)
            return y

        last, skips = len(self.blocks) - 1, []
        y = conv(self.width, 3, "patch_embed_proj")(x)  # [b h w width]
        for level in range(last):
            y = stage(y, level, self.blocks[level], f"encoder_level{level + 1}")
            skips.append(y)
            name = f"down{level + 1}_{level + 2}_body_0"
            y = space_to_depth(conv(y.shape[-1] // 2, 3, name)(y), 2)  # [b h/2 w/2 2c]
        y = stage(y, last, self.blocks[last], "latent")
        for level in reversed(range(last)):
            name = f"up{level + 2}_{level + 1}_body_0"
            y = depth_to_space(conv(2 * y.shape[-1], 3, name)(y), 2)  # [b 2h 2w c/2]
            y = jnp.concatenate([y, skips.pop()], -1)  # [b 2h 2w c]
            if level:  # full resolution keeps both halves
                y = conv(y.shape[-1] // 2, 1, f"reduce_chan_level{level + 1}")(y)
            y = stage(y, level, self.blocks[level], f"decoder_level{level + 1}")
        y = stage(y, 0, self.refinement, "refinement")
        return x + conv(self.channels, 3, "output")(y)


class Block(nn.Module):
    """x <- x + attention(norm(x)), then x <- x + feed_forward(norm(x)), x [b h w c] -> [b h w c]."""

    heads: int
    expansion: float
    centred: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x + Attention(self.heads, name="attn")(Norm(self.centred, name="norm1")(x))
        return x + FeedForward(self.expansion, name="ffn")(Norm(self.centred, name="norm2")(x))


class Attention(nn.Module):
    """Attention over the channels of each head, W (softmax(t q k^T) v), x [b h w c] -> [b h w c]. Equation 1.

    q and k [d h*w] have rows of norm 1, t is learned. Scores and softmax are in f32.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h, c = x.shape[1], x.shape[3]
        qkv = conv(3 * c, 3, "qkv_dwconv", groups=3 * c)(conv(3 * c, 1, "qkv")(x))
        q, k, v = rearrange(qkv, "b h w (three n d) -> three b n d (h w)", three=3, n=self.heads)
        t = to_f32(self.param("temperature", nn.initializers.ones, (self.heads, 1, 1)))
        scores = jnp.einsum("bnip,bnjp->bnij", unit(q), unit(k), preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores * jnp.broadcast_to(t[None], scores.shape), -1).astype(v.dtype)
        mixed = rearrange(jnp.einsum("bnij,bnjp->bnip", weights, v), "b n d (h w) -> b h w (n d)", h=h)
        return conv(c, 1, "project_out")(mixed)


class FeedForward(nn.Module):
    """W (gelu(a) b); a and b are depthwise 3x3 convolutions of a linear map of x [b h w c] -> [b h w c]. Equation 2."""

    expansion: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        hidden = 2 * int(c * self.expansion)
        y = conv(hidden, 3, "dwconv", groups=hidden)(conv(hidden, 1, "project_in")(x))
        a, b = jnp.split(y, 2, -1)
        return conv(c, 1, "project_out")(nn.gelu(a, approximate=False) * b)


class Norm(nn.Module):
    """x / sqrt(var + 1e-5) * scale; with `centred`, (x - mean) / sqrt(var + 1e-5) * scale + bias.

    Statistics are over the channels of a pixel, in f32; the result is in x's dtype.
    """

    centred: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        y = to_f32(x)
        rest = y - jnp.broadcast_to(y.mean(-1, keepdims=True), y.shape)
        factor = jax.lax.rsqrt((rest * rest).mean(-1, keepdims=True) + 1e-5)
        y = (rest if self.centred else y) * jnp.broadcast_to(factor, y.shape) * jnp.broadcast_to(to_f32(scale), y.shape)
        if self.centred:
            y = y + jnp.broadcast_to(to_f32(self.param("bias", nn.initializers.zeros, x.shape[-1:])), y.shape)
        return y.astype(x.dtype)


def unit(x: Array) -> Array:
    """Return x [... p] divided by its norm, or by 1e-12 where that is more; f32."""
    x = to_f32(x)
    squares = jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24)  # before the root: its gradient at 0 is infinite
    return x * jnp.broadcast_to(jax.lax.rsqrt(squares), x.shape)


def conv(features: int, side: int, name: str, groups: int = 1) -> Conv:
    return Conv(features, (side, side), groups=groups, use_bias=False, kernel_init=UNIFORM, name=name)


WEIGHT_NAMES = renamed(
    (r"^(down\d|up\d)\.(\d)_body", r"\1_\2.body"), ("_proj\\.", ".proj."), (r"(norm\d)\.", r"\1.body.")
)


PRESETS = {
    "restormer": Preset(
        row(Restormer(), 300_000, 64, optim=Optim(schedule="cosine", clip=0.01)),
        tiny(Restormer((16, 16, 3), width=8, blocks=(1, 1), refinement=1, heads=(1, 2))),
        26_111_668,
    )
}
