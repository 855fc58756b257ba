"""ADM's U-Net: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021, section 3.

The U-Net of DDPM (Ho et al. 2020, appendix B) with attention at several resolutions, heads of a fixed width, residual
blocks that resample, and GroupNorm with a scale and shift that are linear in the embedding of time and label. DDPM's
U-Net is `scale_shift=False, resblock_updown=False, head_width=0, heads=1`, with the same number of parameters. DDPM's
code differs in details: epsilon 1e-6, sines before cosines with frequencies down to 1 / period, stride-2 convolutions
padded at the end only, Glorot initialisation. Here kernels are initialised as in PyTorch, which openai/guided-diffusion
uses, and biases with 0.
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
from jaxgen.nn.transformer import attention, scan_layers, self_attention

Array = jax.Array
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default: within 1 / sqrt(fan_in)
ZEROS = nn.initializers.zeros
GROUPS = 32  # the largest number of groups of a GroupNorm


class UNet(nn.Module):
    """U-Net of a denoiser: x [b h w c] and times t f32[b] -> f32[b h w features_out]; the initial output is 0.

    It has len(multipliers) resolutions. The outputs of the stem and of each block of the contracting path are
    concatenated to the inputs of the expanding path. Times are embedded without scaling. Labels i32[b] are 0 ...
    `classes`; `classes` is the null label, which all images get if `label` is None. `second` f32[b] is a second scalar
    (a step size, another time), embedded like t; it must also be given at initialisation. In training, dropout uses
    rngs["dropout"]. Raises InputError if the sides are not divisible or the heads do not divide the channels.
    """

    features_out: int
    width: int  # base number of channels, and length of a sinusoid
    multipliers: tuple[int, ...]  # channels of each resolution, in units of width
    depth: int  # residual blocks per resolution of the contracting path; the expanding path has one more
    attention: tuple[int, ...]  # heights of the feature maps with attention; the middle always has it
    heads: int = 0  # of attention; used if head_width is 0
    head_width: int = 64  # channels of a head
    classes: int = 0  # number of classes without the null label; 0: unconditional
    dropout: float = 0.0
    scale_shift: bool = True  # the embedding scales and shifts the second GroupNorm (FiLM); else it is added before
    resblock_updown: bool = True  # resample in residual blocks; else by a stride-2 convolution, or after upsampling
    frames: int = 0  # of a clip, whose frames x has in a row; attention over time follows each attention over pixels

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        check_unet(self, *x.shape[1:3])
        embedding = self.embed(t, label, second)  # [b 4*width]
        x, skips = contracting_path(self, x, embedding, train)
        repeats = self.depth - 1
        for level in reversed(range(len(self.multipliers))):
            name = f"decoder_{level}"
            x = stage(self, x, level, f"{name}_first")(x, skips.pop(), embedding, train)
            taken = [skips.pop() for _ in range(repeats)]
            x, _ = scan_stages(stage(self, x, level, f"{name}_rest"), repeats, x, taken, embedding, train)
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
        """Return the embedding of time, second scalar and label, [b 4*width]."""
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
        return nn.silu(found)  # the first operation of every block


def contracting_path(net: Any, x: Array, embedding: Array, train: bool) -> tuple[Array, list[Array]]:
    """Return x [b h w c] after the contracting path and the middle of a U-Net, and the output of each block."""
    levels, repeats = range(len(net.multipliers)), net.depth - 1
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
        x, given = scan_stages(stage(net, x, level, f"{name}_rest"), repeats, x, [], embedding, train)
        skips += given
    x = block(net, x.shape[-1], "middle_first")(x, embedding, train)
    heads, frames = head_count(net, x.shape[-1]), getattr(net, "frames", 0)
    x = Attention(heads, name="middle_attention")(x)
    x = TimeAttention(heads, frames, name="middle_time")(x) if frames else x
    return block(net, x.shape[-1], "middle_last")(x, embedding, train), skips


def block(net: Any, features: int, name: str, resample: Callable[[Array], Array] | None = None) -> "Block":
    """Return a residual block with the settings of a U-Net."""
    return Block(features, net.dropout, net.scale_shift, resample, name=name)


def stage(net: Any, x: Array, level: int, name: str) -> "Stage":
    """Return a block of resolution `level`, with attention if maps of x's height have it."""
    features = net.multipliers[level] * net.width
    heads = head_count(net, features) if x.shape[1] in net.attention else 0
    return Stage(features, heads, net.dropout, net.scale_shift, getattr(net, "frames", 0), name=name)


def head_count(net: Any, channels: int) -> int:
    """Return the number of attention heads of a U-Net. Raises InputError if they do not divide the channels."""
    if channels % (net.head_width or net.heads):
        what = f"heads of {net.head_width}" if net.head_width else f"{net.heads} heads"
        raise InputError(f"A map of {channels} channels can't be split into {what} for attention.")
    return channels // net.head_width if net.head_width else net.heads


def check_unet(net: Any, height: int, width: int):
    """Raise InputError for invalid settings of a U-Net, or sides that it cannot downsample."""
    at_least(1, width=net.width, depth=net.depth, multipliers=min(net.multipliers, default=0))
    at_least(1, heads=net.head_width or net.heads)
    factor = 2 ** (len(net.multipliers) - 1)
    if height % factor or width % factor:
        raise InputError(f"Both sides of an image must be multiples of {factor}, not {height}x{width}.")


class Stage(nn.Module):
    """A residual block of x [b h w c], concatenated with a skip [b h w c'] if given; then attention if `heads` > 0."""

    features: int
    heads: int
    dropout: float
    scale_shift: bool
    frames: int = 0  # attention over so many frames follows

    @nn.compact
    def __call__(self, x: Array, skip: Array | None, embedding: Array, train: bool) -> Array:
        if skip is not None:
            x = jnp.concatenate([x, skip], -1)  # [b h w c+c']
        x = Block(self.features, self.dropout, self.scale_shift, name="block")(x, embedding, train)  # [b h w features]
        x = Attention(self.heads, name="attention")(x) if self.heads else x
        return TimeAttention(self.heads, self.frames, name="time")(x) if self.heads and self.frames else x


def scan_stages(
    layer: Stage, length: int, x: Array, skips: list[Array], embedding: Array, train: bool
) -> tuple[Array, list[Array]]:
    """Return x [b h w c] after `length` identical layers, and the output of each; layer i takes skips[i], if any."""
    if not length:
        return x, []
    beside = jnp.stack(skips) if skips else None
    x, given = scan_layers(layer, length, x, (beside,), (embedding, train), keep=True)
    return x, list(given)


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), x [b h w c] -> [b h' w' features], conditioned on embedding [b d].

    If the number of channels changes, the skip is a 1x1 convolution of x. `resample` is applied to x and before the
    first convolution (BigGAN's block). The last convolution is initialised with 0.
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
        modulation = Dense(self.features * (1 + self.scale_shift), kernel_init=UNIFORM, name="embed")(embedding)
        norm = GroupNorm(name="norm2")
        y = norm(y, *jnp.split(modulation, 2, 1)) if self.scale_shift else norm(y + modulation[:, None, None])
        y = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(y))
        y = conv(self.features, "conv2", init=ZEROS)(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), kernel_init=UNIFORM, name="skip")(x)
        return x + y


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v over pixels, x [b h w c] -> [b h w c]; d = c / heads.

    q, k and v are linear in norm(x). Scores and softmax are f32; W is initialised with 0.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = Dense(3 * c, kernel_init=UNIFORM, name="qkv")(GroupNorm(name="norm")(x))
        mixed = self_attention(qkv.reshape(b, h * w, 3 * c), self.heads).reshape(b, h, w, c)
        return x + Dense(c, kernel_init=ZEROS, name="proj")(mixed)


class TimeAttention(nn.Module):
    """Attention over the frames of each pixel, x [b*t h w c] -> the same shape; each head has a bias for each distance.

    Otherwise as Attention. Ho et al. 2022, "Video Diffusion Models", section 3: relative positions in time.
    """

    heads: int
    frames: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        (_, h, w, c), t = x.shape, self.frames
        qkv = Dense(3 * c, kernel_init=UNIFORM, name="qkv")(GroupNorm(name="norm")(x))
        qkv = qkv.reshape(-1, t, h * w, 3 * c).swapaxes(1, 2).reshape(-1, t, 3 * c)  # [b*h*w t 3*c]
        table = self.param("distance", nn.initializers.normal(0.02), (2 * t - 1, self.heads))
        bias = jnp.moveaxis(to_f32(table)[jnp.arange(t)[:, None] - jnp.arange(t)[None] + t - 1], 2, 0)  # [heads t t]
        query, both = jnp.split(qkv, [c], -1)
        mixed = attention(query, both, self.heads, bias=bias)  # [b*h*w t c]
        mixed = mixed.reshape(-1, h * w, t, c).swapaxes(1, 2).reshape(-1, h, w, c)  # [b*t h w c]
        return x + Dense(c, kernel_init=ZEROS, name="proj")(mixed)


class GroupNorm(nn.Module):
    """Group normalisation of x [b h w c]: (x - mean) / sqrt(var + 1e-5) * scale + bias, statistics per channel group.

    The number of groups is the largest divisor of c up to 32: at width 32 each channel is a group. Groups of 4 channels
    or more, as in EDM's code, gave no better digits at width 16. With `factor` and `shift` [b c] the result y becomes
    y (1 + factor) + shift. Statistics are f32; the result has x's dtype. Wu and He 2018, section 3.1.

    The variance is E[y^2] - E[y]^2, as in flax, of y = x - stop_gradient(mean). The subtraction does not change the
    value, only its rounding, which is as good as with two passes; derivatives of any order stay exact. On a CPU this
    is faster than the two passes of flax.
    """

    groups: int = 0  # 0: as many as said above

    @nn.compact
    def __call__(self, x: Array, factor: Array | None = None, shift: Array | None = None) -> Array:
        c = x.shape[-1]
        groups = self.groups or max(n for n in range(1, GROUPS + 1) if c % n == 0)

        def mean(x: Array) -> Array:
            """Return the mean over the group of each channel, [b h w c] -> [b c]."""
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
    """Return a 3x3 convolution, padded by one pixel on every side."""
    return Conv(features, (3, 3), (stride, stride), ((1, 1), (1, 1)), kernel_init=init, name=name)


def mean_downsample(x: Array) -> Array:
    """Return the mean of each 2x2 pixels, [b h w c] -> [b h/2 w/2 c]."""
    return avg_pool(x, 2, 2)


def nearest_upsample(x: Array) -> Array:
    """Return x enlarged by 2 with nearest neighbours, [b h w c] -> [b 2*h 2*w c]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
