"""PixelCNN++: Salimans, Karpathy, Chen and Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic
Mixture Likelihood and Other Modifications", ICLR 2017.

Two streams: one of whole rows (down), one of pixels (down and right), each a U-Net of gated residual blocks at three
resolutions with skip connections (section 2.3, figure 2). A pixel's distribution is a mixture of discretised logistic
variables (equations 1 and 2); the means of green and blue depend linearly on the colours before them (equation 3).
Sizes are those of the authors' net for CIFAR-10. Weights are normalised, but no first batch initialises their gains:
they are 1, which is what a batch of unit variance gives.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import logsumexp

from jaxgen.core import rng
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Range
from jaxgen.core.types import Array, Aux, Context, Key, Params, PyTree
from jaxgen.losses.elbo import discretised_logistic, sum_per_example
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.models.autoregressive._pixels import LEVELS, ConvPixelModel, row
from jaxgen.nn.masked_conv import Place
from jaxgen.nn.precision import to_f32
from jaxgen.nn.shifted_conv import NormalisedDense, ShiftedConv, ShiftedConvTranspose, coarse


@dataclass(frozen=True)
class PixelCNNPlus(ConvPixelModel):
    """Hyper-parameters of a PixelCNN++."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    levels: Annotated[int, Range(LEVELS, LEVELS)] = LEVELS  # of a pixel
    learning_rate: float = 1e-3  # of Adam
    ema: Decay = 0.9995  # decay of the EMA
    width: Count = 160  # features
    blocks: Count = 5  # residual blocks at each resolution
    scales: Count = 3  # resolutions
    components: Count = 10  # logistic variables of a mixture
    dropout: Decay = 0.5  # in the residual blocks

    def check(self):
        if any(side % 2 ** (self.scales - 1) for side in self.image[:2]):
            raise InputError(
                f"model.image={self.image[0]}x{self.image[1]} can't be divided by two {self.scales - 1} times: see "
                "model.scales."
            )

    @property
    def module(self) -> "PixelCNNPlusNet":
        features = self.components * mixture_size(self.image[2])
        return PixelCNNPlusNet(self.width, self.blocks, self.scales, features, self.dropout)

    def mixture(self, out: Array) -> "Mixture":
        return Mixture.of(out, self.components, self.image[2])

    def logits(self, params: Params, x: Array, label: Array | None = None) -> Array:
        out: Any = self.module.apply({"params": params["net"]}, x, label)
        return self.mixture(out).level_logits(x)

    def log_prob(
        self,
        params: Params,
        context: Context,
        batch,
        keys: Key | None = None,
        samples: int = 1,
        dropout: Key | None = None,
    ) -> Array:
        """Return log P of the images' levels in nats, f32[b]. It is exact: keys and samples are not used."""
        x = self.values(self.tokens(batch["image"]))
        rngs = {} if dropout is None else {"dropout": dropout}
        out: Any = self.module.apply({"params": params["net"]}, x, rngs=rngs)
        return sum_per_example(self.mixture(out).log_prob(x))

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        dropout = rng.fold(key, "dropout") if self.dropout and context.train else None
        log_p = self.log_prob(params, context, batch, dropout=dropout).mean()
        return bits_per_dimension(log_p, math.prod(self.image), DISCRETE), Aux({"nll": -log_p})

    def pixel(self, params: Params, cache: PyTree, row: Array, column: Array) -> tuple[Array, PyTree]:
        inputs = cache["known"], cache["above"], None, Place(row, column, self.image[1])
        out, pixels = self.apply(params, cache["pixels"], "pixels", *inputs)
        size = len(out), 1, 1, self.image[2]
        known = jax.lax.dynamic_slice(cache["known"], (0, row, column, 0), size)
        return self.mixture(out).level_logits(known)[:, 0, 0], {**cache, "pixels": pixels}


# ---- the mixture


def mixture_size(channels: int) -> int:
    """Return the number of parameters of one component: a logit, a mean and a scale of each channel, coefficients."""
    return 1 + 2 * channels + channels * (channels - 1) // 2


class Mixture(NamedTuple):
    """A mixture of m logistic variables for each pixel of c channels.

    logits: f32[b h w m]; means, log_scales: f32[b h w m c]; coefficients: f32[b h w m c(c-1)/2], those of the second
    channel first
    """

    logits: Array
    means: Array
    log_scales: Array
    coefficients: Array

    @classmethod
    def of(cls, out: Array, count: int, channels: int) -> "Mixture":
        """Return the mixture of a net's outputs f32[b h w count mixture_size]."""
        out = to_f32(out).reshape(*out.shape[:3], count, -1)
        parts = jnp.split(out, [1, 1 + channels, 1 + 2 * channels], -1)
        return cls(parts[0][..., 0], parts[1], jnp.maximum(parts[2], -7.0), jnp.tanh(parts[3]))

    def given(self, x: Array) -> Array:
        """Return the means f32[b h w m c] of each channel, given those before it in x f32[b h w c]. Equation 3."""
        means, first = [], 0
        for channel in range(x.shape[-1]):
            own = self.coefficients[..., first : first + channel]
            means.append(self.means[..., channel] + (own * x[..., None, :channel]).sum(-1))
            first += channel
        return jnp.stack(means, -1)

    def parts(self, x: Array) -> Array:
        """Return log P of each channel's level by each component, f32[b h w m c]."""
        means = self.given(x)
        return discretised_logistic(jnp.broadcast_to(x[..., None, :], means.shape), means, self.log_scales)

    def log_prob(self, x: Array) -> Array:
        """Return log P of each pixel of images in [-1, 1], f32[b h w]."""
        return logsumexp(jax.nn.log_softmax(self.logits) + self.parts(x).sum(-1), axis=-1)

    def level_logits(self, x: Array) -> Array:
        """Return log P of every level of each channel, given the channels before it in x, f32[b h w c 256]."""
        parts = self.parts(x)
        before = jnp.cumsum(parts, -1) - parts
        weights = jax.nn.log_softmax(self.logits[..., None] + before, -2)  # of components, given what is before
        levels = jnp.arange(LEVELS) / ((LEVELS - 1) / 2) - 1
        means, scales = (v[..., None] for v in (self.given(x), self.log_scales))
        shape = (*means.shape[:-1], LEVELS)  # [b h w m c 256]
        wide = [jnp.broadcast_to(v, shape) for v in (levels, means, scales)]
        return logsumexp(weights[..., None] + discretised_logistic(*wide), axis=-3)


# ---- the net


def concat_elu(x: Array) -> Array:
    return jnp.concatenate([nn.elu(x), nn.elu(-x)], -1)


def shifted(y: Array, place: Place | None, axis: int) -> Array:
    """Return y [b h w c] with zeros in its first row (axis 1) or column (axis 2), as the authors' shifts leave them."""
    known = None if place is None else (place.row, place.column)[axis - 1]
    index = jnp.arange(y.shape[axis]) if known is None else known[None]
    return y * jnp.expand_dims(index > 0, [i for i in range(4) if i != axis]).astype(y.dtype)


class Block(nn.Module):
    """A gated residual block; `down`: of the stream of rows. `a` is of another layer."""

    width: int
    down: bool
    dropout: float

    @nn.compact
    def __call__(self, x: Array, a: Array | None = None, place: Place | None = None) -> Array:
        shape = {"kernel_size": (2, 3) if self.down else (2, 2), "above": 1, "left": 1}
        h = ShiftedConv(self.width, **shape, name="first")(concat_elu(x), place)
        if a is not None:
            h = h + NormalisedDense(self.width, name="link")(concat_elu(a))
        h = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(concat_elu(h))
        value, gate = jnp.split(ShiftedConv(2 * self.width, **shape, name="second")(h, place), 2, -1)
        return x + value * nn.sigmoid(gate)


class PixelCNNPlusNet(nn.Module):
    """Values f32[b h w c] -> the mixture's parameters f32[b h w features]; with a place those of one pixel."""

    width: int
    blocks: int
    scales: int
    features: int
    dropout: float

    def setup(self):
        width, scales = self.width, range(self.scales)
        first = {"features": width, "strict": True}
        self.first_rows = ShiftedConv(kernel_size=(2, 3), above=2, left=1, **first)
        self.first_above = ShiftedConv(kernel_size=(1, 3), above=1, left=1, **first)
        self.first_left = ShiftedConv(kernel_size=(2, 1), above=1, left=1, **first)
        more = [self.blocks + (scale < self.scales - 1) for scale in scales]  # on the way up, at finer resolutions
        make = lambda down, count: [Block(width, down, self.dropout) for _ in range(count)]  # noqa: E731
        self.rows_down, self.pixels_down = ([make(down, self.blocks) for _ in scales] for down in (True, False))
        self.rows_up, self.pixels_up = ([make(down, count) for count in more] for down in (True, False))
        between = range(self.scales - 1)
        self.rows_shrink = [ShiftedConv(width, (2, 3), 1, 1, 2) for _ in between]
        self.pixels_shrink = [ShiftedConv(width, (2, 2), 1, 1, 2) for _ in between]
        self.rows_grow = [ShiftedConvTranspose(width, 3) for _ in between]
        self.pixels_grow = [ShiftedConvTranspose(width, 2) for _ in between]
        self.out = NormalisedDense(self.features)

    def __call__(self, x: Array, label: Array | None = None) -> Array:
        return self.pixels(x, self.rows(x, label), label)

    def padded(self, x: Array) -> Array:
        """Return x with a channel of ones, which shows a kernel where the image ends."""
        return jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)

    def places(self, place: Place | None) -> list[Place | None]:
        """Return a place at each resolution."""
        return [None if place is None else coarse(place, 2**scale) for scale in range(self.scales)]

    def rows(self, x: Array, label: Array | None = None, place: Place | None = None) -> tuple[Array, ...]:
        """Return the features of the stream of rows that each block of the other stream takes, in its order.

        A coarse row is computed at both of its rows, and comes out the same.
        """
        places, found = self.places(place), []
        u = shifted(self.first_rows(self.padded(x), place), place, 1)
        kept = [u]
        for scale in range(self.scales):
            for block in self.rows_down[scale]:
                u = block(u, None, places[scale])
                found.append(u)
                kept.append(u)
            if scale + 1 < self.scales:
                u = self.rows_shrink[scale](u, places[scale])
                kept.append(u)
        u = kept.pop()
        for scale in reversed(range(self.scales)):
            for block in self.rows_up[scale]:
                u = block(u, kept.pop(), places[scale])
                found.append(u)
            if scale:
                u = self.rows_grow[scale - 1](u, places[scale - 1])
        return tuple(found)

    def pixels(
        self, x: Array, above: tuple[Array, ...], label: Array | None = None, place: Place | None = None
    ) -> Array:
        """Return the mixture's parameters, of the image or of one pixel."""
        places, links, x = self.places(place), iter(above), self.padded(x)

        def link(scale: int) -> Array:
            features, at = next(links), places[scale]
            if at is None:
                return features
            assert at.column is not None
            return jax.lax.dynamic_slice_in_dim(features, at.column, 1, 2)  # [b 1 w c] -> [b 1 1 c]

        h = shifted(self.first_above(x, place), place, 1) + shifted(self.first_left(x, place), place, 2)
        kept = [h]
        for scale in range(self.scales):
            for block in self.pixels_down[scale]:
                h = block(h, link(scale), places[scale])
                kept.append(h)
            if scale + 1 < self.scales:
                h = self.pixels_shrink[scale](h, places[scale])
                kept.append(h)
        h = kept.pop()
        for scale in reversed(range(self.scales)):
            for block in self.pixels_up[scale]:
                h = block(h, jnp.concatenate([link(scale), kept.pop()], -1), places[scale])
            if scale:
                h = self.pixels_grow[scale - 1](h, places[scale - 1])
        return to_f32(self.out(nn.elu(h)))


PRESETS = {"pixelcnn-plus": row(PixelCNNPlus(), 53_659_080, Data("shapes"), width=4, blocks=1, scales=2, components=2)}
