"""EDM2's U-Net: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", 2024, figure 21.

The U-Net of adm_unet.py with the layers of nn/magnitude.py (config G): no biases and no GroupNorm; each block of the
contracting path normalises every pixel to magnitude 1; attention uses normalised vectors; resampling is by means and
nearest neighbours. Time and label scale the channels of a block. With 64x64x4 latents, 1000 classes and the default
sizes it has as many parameters as the authors' code, NVlabs/edm2: at width 128 (XS) 124,713,125, at 192
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
RESIDUAL_SHARE = 0.3  # weight t of the residual branch in mp_sum, of convolutions and attention
MAX_ACTIVATION = 256.0  # bound to which activations are clipped


class MPUNet(nn.Module):
    """Magnitude-preserving U-Net: x [b h w c], times t f32[b] -> f32[b h w features_out]; the initial output is 0.

    x should have a magnitude of about 1, and t of about 1 / bandwidth. Labels i32[b] are 0 ... `classes`; `classes` is
    the null label, which all images get if `label` is None; its embedding is 0. `second` f32[b] is a second scalar,
    embedded like t; it must also be given at initialisation. In training, dropout uses rngs["dropout"]. Raises
    InputError if the sides are not divisible or the heads do not divide the channels.
    """

    features_out: int
    width: int  # base number of channels
    multipliers: tuple[int, ...] = (1, 2, 3, 4)  # channels of each resolution, in units of width
    depth: int = 3  # blocks per resolution of the contracting path; the expanding path has one more
    attention: tuple[int, ...] = (16, 8)  # heights of the feature maps with attention; the middle always has it
    heads: int = 0  # of attention; used if head_width is 0
    head_width: int = 64  # channels of a head
    classes: int = 0  # number of classes without the null label; 0: unconditional
    dropout: float = 0.0
    bandwidth: float = 1.0  # of the frequencies of the time embedding

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

        levels, repeats = range(len(self.multipliers)), self.depth - 1
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)  # [b h w c+1]; the constant channel replaces biases
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
            x, given = scan_stages(stage(x, level, f"{name}_rest"), repeats, x, [], embedding, train)
            skips += given
        x = block(x, "middle_first", x.shape[-1], head_count(self, x.shape[-1]))(x, None, embedding, train)
        x = block(x, "middle_last", x.shape[-1])(x, None, embedding, train)
        for level in reversed(levels):
            name = f"decoder_{level}"
            x = stage(x, level, f"{name}_first")(x, skips.pop(), embedding, train)
            taken = [skips.pop() for _ in range(repeats)]
            x, _ = scan_stages(stage(x, level, f"{name}_rest"), repeats, x, taken, embedding, train)
            x = stage(x, level, f"{name}_last")(x, skips.pop(), embedding, train)
            if level:
                x = block(x, f"up_{level}", x.shape[-1], resample=nearest_upsample)(
                    x, None, embedding, train
                )  # [b 2*h 2*w c]
        return to_f32(Conv(self.features_out, gain=True, name="out")(x))

    def embed(self, t: Array, label: Array | None, second: Array | None) -> Array:
        """Return the embedding of time, second scalar and label, [b d]; d is the largest number of channels."""
        features = self.width * max(self.multipliers)

        def number(t: Array, name: str) -> Array:
            return Dense(features, name=name)(fourier(t, self.width * self.multipliers[0], self.bandwidth))

        found = number(t, "time")
        if second is not None:
            found = mp_sum(found, number(second, "second"))
        if label is not None and not self.classes:
            raise InputError("This U-Net takes no labels: its `classes` is 0.")
        if self.classes:
            label = jnp.full(t.shape, self.classes) if label is None else label
            one_hot = jax.nn.one_hot(label, self.classes) * math.sqrt(self.classes)  # 0 for the null label
            found = mp_sum(found, Dense(features, name="label")(one_hot))
        return mp_silu(found)


class Block(nn.Module):
    """x + conv(silu((1 + gain W e) conv(silu(x)))), then attention if `heads` > 0; each sum is an mp_sum.

    x [b h w c], concatenated with a skip [b h w c'] if given -> [b h' w' features], conditioned on embedding e [b d].
    Resampling comes first. If the number of channels changes, x passes a 1x1 convolution: in the contracting path
    before the branch, with its pixels normalised; in the expanding path on the skip only.
    """

    features: int
    heads: int
    dropout: float
    up: bool  # whether the block is in the expanding path or the middle
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

    q, k and v are linear in x and normalised per head, so that a score is sqrt(d) times a cosine.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = Dense(3 * c, name="qkv")(x).reshape(b, h * w, 3 * self.heads, c // self.heads)
        mixed = self_attention(normalise(qkv).reshape(b, h * w, 3 * c), self.heads).reshape(b, h, w, c)
        return Dense(c, name="proj")(mixed)
