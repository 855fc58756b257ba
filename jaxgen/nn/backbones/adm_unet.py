"""ADM's U-Net: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021, section 3.

The U-Net of DDPM (Ho et al. 2020, appendix B) with attention at several resolutions, heads of a fixed width, residual
blocks that resample, and GroupNorm whose scale and shift are linear in the embedding of time and label. DDPM's own has
`scale_shift=False, resblock_updown=False, head_width=0, heads=1`, and as many parameters; in its code the epsilon is
1e-6, sines come first with frequencies down to 1 / period, the convolution of stride 2 is padded at the end only, and
kernels start as Glorot's. Here they start as PyTorch's, which are those of openai/guided-diffusion, and biases at 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import scan_layers, self_attention

Array = jax.Array
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's: within 1 / sqrt(fan_in)
ZEROS = nn.initializers.zeros
GROUPS = 32  # at most, of a GroupNorm's channels


class UNet(nn.Module):
    """What a denoiser says of x [b h w c] at times t f32[b], f32[b h w features_out]; a fresh one says 0.

    x goes down through len(multipliers) resolutions and up again; what each block on the way down (and the stem) gave
    is laid beside what comes up. Times are embedded as they come. Labels i32[b] are from 0 to `classes`, which is the
    null label, that of all images where `label` is None. `second` f32[b], where the net was initialised with it, is
    another number (a step size, another time), told in the same way. In training, dropout draws from rngs["dropout"].
    Raises InputError where the sides can't be halved as often, or the heads don't divide the channels.
    """

    features_out: int
    width: int  # channels that multipliers are of, and numbers in a sinusoid
    multipliers: tuple[int, ...]  # channels of each resolution, in widths
    depth: int  # residual blocks of each resolution on the way down; one more on the way up
    attention: tuple[int, ...]  # heights of the maps that have attention, beside the smallest's middle
    heads: int = 0  # of attention; read where head_width is 0
    head_width: int = 64  # channels of a head
    classes: int = 0  # labels but the null one; with 0 the net takes none
    dropout: float = 0.0
    scale_shift: bool = True  # the embedding scales and shifts the second GroupNorm (FiLM), else is added before it
    resblock_updown: bool = True  # residual blocks resample, else a 3x3 convolution of stride 2, or after doubling

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        check_unet(self, *x.shape[1:3])
        embedding = self.embed(t, label, second)  # [b 4*width]
        x, skips = contracting_path(self, x, embedding, train)
        alike = self.depth - 1
        for level in reversed(range(len(self.multipliers))):
            name = f"decoder_{level}"
            x = stage(self, x, level, f"{name}_first")(x, skips.pop(), embedding, train)
            taken = [skips.pop() for _ in range(alike)]
            x, _ = scan_stages(stage(self, x, level, f"{name}_rest"), alike, x, taken, embedding, train)
            x = stage(self, x, level, f"{name}_last")(x, skips.pop(), embedding, train)
            if level:
                name, c = f"up_{level}", x.shape[-1]
                if self.resblock_updown:
                    x = block(self, c, name, nearest_upsample)(x, embedding, train)
                else:
                    x = conv(c, name)(nearest_upsample(x))
        x = nn.silu(GroupNorm(name="out_norm")(x))
        return to_f32(conv(self.features_out, "out", init=ZEROS)(x))

    def embed(self, t: Array, label: Array | None, second: Array | None) -> Array:
        """Return what the blocks are told of the time, the second number and the label, [b 4*width]."""
        features = 4 * self.width
        found = ScalarEmbedding(self.width, features, UNIFORM, name="time")(t)
        if second is not None:
            found = found + ScalarEmbedding(self.width, features, UNIFORM, name="second")(second)
        if label is not None and not self.classes:
            raise InputError("This U-Net takes no labels: its `classes` is 0.")
        if self.classes:
            label = jnp.full(t.shape, self.classes) if label is None else label
            table = nn.Embed(self.classes + 1, features, embedding_init=nn.initializers.normal(1.0), name="label")
            found = found + table(label)
        return nn.silu(found)  # every block's first step


def contracting_path(net: Any, x: Array, embedding: Array, train: bool) -> tuple[Array, list[Array]]:
    """Return x [b h w c] on its way down a net with a U-Net's numbers, after the middle, and what each block gave."""
    levels, alike = range(len(net.multipliers)), net.depth - 1
    x = conv(net.multipliers[0] * net.width, "stem")(x)
    skips = [x]
    for level in levels:
        if level:
            name, c = f"down_{level}", x.shape[-1]
            x = (
                block(net, c, name, mean_downsample)(x, embedding, train)
                if net.resblock_updown
                else conv(c, name, 2)(x)
            )
            skips.append(x)  # [b h/2 w/2 c]
        name = f"encoder_{level}"
        x = stage(net, x, level, f"{name}_first")(x, None, embedding, train)
        skips.append(x)
        x, given = scan_stages(stage(net, x, level, f"{name}_rest"), alike, x, [], embedding, train)
        skips += given
    x = block(net, x.shape[-1], "middle_first")(x, embedding, train)
    x = Attention(head_count(net, x.shape[-1]), name="middle_attention")(x)
    return block(net, x.shape[-1], "middle_last")(x, embedding, train), skips


def block(net: Any, features: int, name: str, resample: Callable[[Array], Array] | None = None) -> "Block":
    """Return a residual block of a net with a U-Net's numbers."""
    return Block(features, net.dropout, net.scale_shift, resample, name=name)


def stage(net: Any, x: Array, level: int, name: str) -> "Stage":
    """Return a block of one of its resolutions, with attention where maps of x's height have it."""
    features = net.multipliers[level] * net.width
    heads = head_count(net, features) if x.shape[1] in net.attention else 0
    return Stage(features, heads, net.dropout, net.scale_shift, name=name)


def head_count(net: Any, channels: int) -> int:
    """Return the number of a U-Net's heads of attention. Raises InputError where they don't divide the channels."""
    if channels % (net.head_width or net.heads):
        what = f"heads of {net.head_width}" if net.head_width else f"{net.heads} heads"
        raise InputError(f"A map of {channels} channels can't be split into {what} for attention.")
    return channels // net.head_width if net.head_width else net.heads


def check_unet(net: Any, height: int, width: int):
    """Raise InputError for numbers that make no U-Net, or sides that it can't halve."""
    at_least(1, width=net.width, depth=net.depth, multipliers=min(net.multipliers, default=0))
    at_least(1, heads=net.head_width or net.heads)
    factor = 2 ** (len(net.multipliers) - 1)
    if height % factor or width % factor:
        raise InputError(f"Both sides of an image must be multiples of {factor}, not {height}x{width}.")


class Stage(nn.Module):
    """A block, of x [b h w c] and, where given, a skip [b h w c'] beside it, and attention if there are heads."""

    features: int
    heads: int
    dropout: float
    scale_shift: bool

    @nn.compact
    def __call__(self, x: Array, skip: Array | None, embedding: Array, train: bool) -> Array:
        if skip is not None:
            x = jnp.concatenate([x, skip], -1)  # [b h w c+c']
        x = Block(self.features, self.dropout, self.scale_shift, name="block")(x, embedding, train)  # [b h w features]
        return Attention(self.heads, name="attention")(x) if self.heads else x


def scan_stages(
    layer: Stage, length: int, x: Array, skips: list[Array], embedding: Array, train: bool
) -> tuple[Array, list[Array]]:
    """Return x [b h w c] after so many layers alike, and what each gave; each takes one of `skips`, if any."""
    if not length:
        return x, []
    beside = jnp.stack(skips) if skips else None
    x, given = scan_layers(layer, length, x, (beside,), (embedding, train), keep=True)
    return x, list(given)


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), x [b h w c] -> [b h' w' features], told of an embedding [b d].

    Where the channels change, x goes through a 1x1 convolution. `resample` is applied to x and before the first
    convolution (BigGAN's block). The last convolution starts at 0.
    """

    features: int
    dropout: float
    scale_shift: bool
    resample: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, x: Array, embedding: Array, train: bool) -> Array:
        y = nn.silu(GroupNorm(name="norm1")(x))
        if self.resample:
            x, y = self.resample(x), self.resample(y)  # [b h' w' c]
        y = conv(self.features, "conv1")(y)
        told = Dense(self.features * (1 + self.scale_shift), kernel_init=UNIFORM, name="embed")(embedding)
        norm = GroupNorm(name="norm2")
        y = norm(y, *jnp.split(told, 2, 1)) if self.scale_shift else norm(y + told[:, None, None])
        y = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(y))
        y = conv(self.features, "conv2", init=ZEROS)(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), kernel_init=UNIFORM, name="skip")(x)
        return x + y


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v over pixels, x [b h w c] -> [b h w c]; d = c / heads.

    q, k and v are linear in norm(x). Scores and softmax are f32; W starts at 0.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = Dense(3 * c, kernel_init=UNIFORM, name="qkv")(GroupNorm(name="norm")(x))
        mixed = self_attention(qkv.reshape(b, h * w, 3 * c), self.heads).reshape(b, h, w, c)
        return x + Dense(c, kernel_init=ZEROS, name="proj")(mixed)


class GroupNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) * scale + bias, the statistics those of a group of channels, x [b h w c].

    There are 32 groups, or the most below that divide c: in a net of width 32 each channel is one. Groups of 4 channels
    or more, as in EDM's code, made no better digits at width 16. With `factor` and `shift` [b c] the result y becomes y
    (1 + factor) + shift. Statistics are f32, the result is in x's dtype. Wu and He 2018, section 3.1.

    The variance is E[y^2] - E[y]^2, like flax's, of y = x - mean held constant: that changes nothing but the rounding,
    which is that of two passes, so derivatives of any order are exact without going through the constant. On a CPU it
    is faster than flax's own two passes.
    """

    @nn.compact
    def __call__(self, x: Array, factor: Array | None = None, shift: Array | None = None) -> Array:
        c = x.shape[-1]
        groups = max(n for n in range(1, GROUPS + 1) if c % n == 0)

        def mean(x: Array) -> Array:
            """Return the mean of each channel's group, [b h w c] -> [b c]."""
            each = x.mean((1, 2)).reshape(-1, groups, c // groups).mean(-1, keepdims=True)
            return jnp.broadcast_to(each, (x.shape[0], groups, c // groups)).reshape(-1, c)

        scale, bias = (
            to_f32(self.param(name, init, (c,)))[None]  # [1 c]
            for name, init in (("scale", nn.initializers.ones), ("bias", ZEROS))
        )
        if factor is not None and shift is not None:
            factor = 1 + to_f32(factor)
            scale, bias = scale * factor, bias * factor + to_f32(shift)  # [b c]
        y = to_f32(x)
        y = y - jax.lax.stop_gradient(mean(y))[:, None, None]
        rest = mean(y)
        scale = scale * jax.lax.rsqrt(mean(y * y) - rest * rest + 1e-5)
        bias = bias - rest * scale
        return (y * scale[:, None, None] + bias[:, None, None]).astype(x.dtype)


def conv(features: int, name: str, stride: int = 1, init: nn.initializers.Initializer = UNIFORM) -> Conv:
    """Return a 3x3 convolution, padded by a pixel on every side."""
    return Conv(features, (3, 3), (stride, stride), ((1, 1), (1, 1)), kernel_init=init, name=name)


def mean_downsample(x: Array) -> Array:
    """Return the mean of each 2x2 pixels, [b h w c] -> [b h/2 w/2 c]."""
    return avg_pool(x, 2, 2)


def nearest_upsample(x: Array) -> Array:
    """Return x with every pixel as 2x2, [b h w c] -> [b 2*h 2*w c]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
