"""EDM2's U-Net: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", 2024, figure 21.

The U-Net of nn/unet.py, in layers of nn/magnitude.py (config G): no biases and no norms of groups, but on the way down
each block makes every pixel's magnitude 1; attention between normalised vectors; resampling by means and doubling. A
block is told of time and label by a factor of each channel. With 64x64x4 latents, 1000 classes and the sizes that are
its defaults here it has as many parameters as in the authors' code, NVlabs/edm2: at width 128 (XS) 124,713,125, at 192
(S) 280,212,709, at 256 (M) 497,807,653, at 320 (L) 777,497,957, at 384 (XL) 1,119,283,621, at 448 (XXL) 1,523,164,645.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.nn.backbones.adm_unet import check_unet, head_count, mean_downsample, nearest_upsample, scan_stages
from jaxgen.nn.magnitude import Conv, Dense, fourier, mp_cat, mp_silu, mp_sum, normalise
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import self_attention

Array = jax.Array
RESIDUAL_SHARE = 0.3  # share of what a residual branch adds, convolutions' or attention's
MAX_ACTIVATION = 256.0  # to which activations are clipped


class MPUNet(nn.Module):
    """What a denoiser says of x [b h w c] at times t f32[b], f32[b h w features_out]; a fresh one says 0.

    x and times should have a magnitude of about 1, or times of 1 / bandwidth. Labels i32[b] are from 0 to `classes`,
    which is the null label, that of all images where `label` is None, and adds nothing to what is told of time.
    `second` f32[b], where the net was initialised with it, is another number, told as the time is. In training,
    dropout draws from rngs["dropout"]. Raises InputError where the sides can't be halved as often, or the heads don't
    divide the channels.
    """

    features_out: int
    width: int  # channels that multipliers are of
    multipliers: tuple[int, ...] = (1, 2, 3, 4)  # channels of each resolution, in widths
    depth: int = 3  # blocks of each resolution on the way down; one more on the way up
    attention: tuple[int, ...] = (16, 8)  # heights of the maps that have attention, beside the smallest's middle
    heads: int = 0  # of attention; read where head_width is 0
    head_width: int = 64  # channels of a head
    classes: int = 0  # labels but the null one; with 0 the net takes none
    dropout: float = 0.0
    bandwidth: float = 1.0  # of the frequencies by which times are told

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        check_unet(self, *x.shape[1:3])
        embedding = self.embed(t, label, second)  # [b d]

        def block(x: Array, name: str, features: int, heads: int = 0, resample: Callable | None = None) -> Any:
            return Block(features, heads, self.dropout, not name.startswith(("encoder", "down")), resample, name=name)

        def stage(x: Array, level: int, name: str) -> Any:
            features = self.multipliers[level] * self.width
            return block(x, name, features, head_count(self, features) if x.shape[1] in self.attention else 0)

        levels, alike = range(len(self.multipliers)), self.depth - 1
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)  # [b h w c+1]: what biases are made of
        x = Conv(self.multipliers[0] * self.width, name="stem")(x)
        skips = [x]
        for level in levels:
            if level:
                x = block(x, f"down_{level}", x.shape[-1], resample=mean_downsample)(
                    x, None, embedding, train
                )  # [b h/2 w/2 c]
                skips.append(x)
            name = f"encoder_{level}"
            x = stage(x, level, f"{name}_first")(x, None, embedding, train)
            skips.append(x)
            x, given = scan_stages(stage(x, level, f"{name}_rest"), alike, x, [], embedding, train)
            skips += given
        x = block(x, "middle_first", x.shape[-1], head_count(self, x.shape[-1]))(x, None, embedding, train)
        x = block(x, "middle_last", x.shape[-1])(x, None, embedding, train)
        for level in reversed(levels):
            name = f"decoder_{level}"
            x = stage(x, level, f"{name}_first")(x, skips.pop(), embedding, train)
            taken = [skips.pop() for _ in range(alike)]
            x, _ = scan_stages(stage(x, level, f"{name}_rest"), alike, x, taken, embedding, train)
            x = stage(x, level, f"{name}_last")(x, skips.pop(), embedding, train)
            if level:
                x = block(x, f"up_{level}", x.shape[-1], resample=nearest_upsample)(
                    x, None, embedding, train
                )  # [b 2*h 2*w c]
        return to_f32(Conv(self.features_out, gain=True, name="out")(x))

    def embed(self, t: Array, label: Array | None, second: Array | None) -> Array:
        """Return what the blocks are told of the time, the second number and the label, [b d], d the most channels."""
        features = self.width * max(self.multipliers)

        def tell(t: Array, name: str) -> Array:
            return Dense(features, name=name)(fourier(t, self.width * self.multipliers[0], self.bandwidth))

        found = tell(t, "time")
        if second is not None:
            found = mp_sum(found, tell(second, "second"))
        if label is not None and not self.classes:
            raise InputError("This U-Net takes no labels: its `classes` is 0.")
        if self.classes:
            label = jnp.full(t.shape, self.classes) if label is None else label
            one_hot = jax.nn.one_hot(label, self.classes) * math.sqrt(self.classes)  # the null label's is 0
            found = mp_sum(found, Dense(features, name="label")(one_hot))
        return mp_silu(found)


class Block(nn.Module):
    """x + conv(silu((1 + gain told) conv(silu(x)))), then attention if there are heads, each sum an mp_sum.

    x [b h w c] and, where given, a skip [b h w c'] beside it -> [b h' w' features], told of an embedding [b d]; all is
    resampled first. Where the channels change, x goes through a 1x1 convolution: on the way down at once, and its
    pixels are normalised; on the way up beside the branch.
    """

    features: int
    heads: int
    dropout: float
    up: bool  # on the way up
    resample: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, x: Array, skip: Array | None, embedding: Array, train: bool) -> Array:
        if skip is not None:
            x = mp_cat(x, skip)  # [b h w c+c']
        if self.resample:
            x = self.resample(x)  # [b h' w' c]
        plain = x if x.shape[-1] == self.features else Conv(self.features, 1, name="skip")(x)  # [b h' w' features]
        if not self.up:
            x = plain = normalise(plain)
        y = Conv(self.features, name="conv1")(mp_silu(x))
        scale = 1 + Dense(self.features, gain=True, name="embed")(embedding)  # [b features]
        y = mp_silu(y * scale[:, None, None])
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        x = mp_sum(plain, Conv(self.features, name="conv2")(y), RESIDUAL_SHARE)
        if self.heads:
            x = mp_sum(x, Attention(self.heads, name="attention")(x), RESIDUAL_SHARE)
        return jnp.clip(x, -MAX_ACTIVATION, MAX_ACTIVATION)


class Attention(nn.Module):
    """W softmax(q k^T / sqrt(d)) v over pixels, x [b h w c] -> [b h w c]; d = c / heads.

    Each head's q, k and v are linear in x and normalised, so that scores are sqrt(d) times a cosine.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = Dense(3 * c, name="qkv")(x).reshape(b, h * w, 3 * self.heads, c // self.heads)
        mixed = self_attention(normalise(qkv).reshape(b, h * w, 3 * c), self.heads).reshape(b, h, w, c)
        return Dense(c, name="proj")(mixed)
