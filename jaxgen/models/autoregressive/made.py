"""MADE: Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015.

A multilayer perceptron whose masks leave each output only the inputs before it. A hidden unit of degree m sees inputs
up to number m (equations 8 and 9). The pixels are in the order of reading, and degrees are spread evenly over the
units: the paper also draws orders and masks at random, and averages over them. On black and white images an output is
one logit. The paper's best nets have 8,000 units in a layer; the preset's layers are smaller.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.config import Data
from jaxgen.core.ranges import Count, Range
from jaxgen.core.types import Array, Context, Params, PyTree
from jaxgen.models.autoregressive._pixels import LEVELS, PixelModel, row
from jaxgen.nn.precision import to_f32


@dataclass(frozen=True)
class MADE(PixelModel):
    """Hyper-parameters of a MADE."""

    levels: Annotated[int, Range(2, LEVELS)] = 2  # of a pixel; 2: black and white, with --data.binarise
    hidden: tuple[Count, ...] = (1000, 1000)  # units of each hidden layer

    @property
    def module(self) -> "MADENet":
        return MADENet(self.image, self.hidden, self.levels)

    def init_cache(self, params: Params, context: Context, conditioning, count: int) -> PyTree:
        """Return the sums that enter the first layer's units when no level is known, f32[b hidden]."""
        bias = params["net"]["layers_0"]["bias"]
        return jnp.broadcast_to(bias, (count, *bias.shape))

    def step(self, params: Params, context: Context, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        value = jnp.where(i > 0, self.values(jnp.maximum(token, 0)), 0).astype(cache.dtype)
        found = self.module.apply({"params": params["net"]}, cache, value, i, method="next")
        return found  # pyright: ignore[reportReturnType]


def masks(dimensions: int, hidden: tuple[int, ...], units: int) -> list[np.ndarray]:
    """Return the mask bool[in out] of each layer, for `units` outputs of each dimension."""
    steps = max(dimensions - 1, 1)
    degrees = [np.arange(1, dimensions + 1), *(1 + np.arange(count) * steps // count for count in hidden)]
    between = [before[:, None] <= after[None] for before, after in pairwise(degrees)]
    last = degrees[-1][:, None] < np.repeat(degrees[0], units)[None]
    return [*between, last]


class MaskedDense(nn.Module):
    """A masked linear map and a bias, f32[b in] -> f32[b out]."""

    mask: np.ndarray

    def setup(self):
        self.kernel = self.param("kernel", nn.initializers.he_normal(), self.mask.shape)
        self.bias = self.param("bias", nn.initializers.zeros, self.mask.shape[1:])

    @property
    def masked(self) -> Array:
        return self.kernel * self.mask.astype(self.kernel.dtype)

    def __call__(self, x: Array, only: tuple[Array, int] | None = None) -> Array:
        """Return all outputs, or with only = (start, count) those from `start` on."""
        kernel, bias = self.masked, self.bias
        if only:
            kernel, bias = (jax.lax.dynamic_slice_in_dim(w, *only, axis=w.ndim - 1) for w in (kernel, bias))
        y = x.astype(kernel.dtype) @ kernel
        return y + jnp.broadcast_to(bias, y.shape)


class MADENet(nn.Module):
    """Values f32[b h w c] -> logits f32[b h w c levels]."""

    image: tuple[int, int, int]
    hidden: tuple[int, ...]
    levels: int

    @property
    def units(self) -> int:
        """Outputs for each level of the image: one logit for two levels."""
        return 1 if self.levels == 2 else self.levels

    def setup(self):
        self.layers = [MaskedDense(mask) for mask in masks(math.prod(self.image), self.hidden, self.units)]

    def __call__(self, x: Array, label: Array | None = None) -> Array:
        h = self.layers[0](x.reshape(len(x), -1))  # [b h w c] -> [b n]
        for layer in self.layers[1:]:
            h = layer(nn.relu(h))
        return self.logits(h.reshape(*x.shape, self.units))

    def logits(self, out: Array) -> Array:
        """Return the logits of all levels; those of level 0 of two are 0."""
        return to_f32(jnp.concatenate([jnp.zeros_like(out), out], -1) if self.levels == 2 else out)

    def next(self, sums: Array, value: Array, i: Array) -> tuple[Array, Array]:
        """Return the logits f32[b levels] of level i, given the value f32[b] before it and the first layer's sums."""
        row = jax.lax.dynamic_index_in_dim(self.layers[0].masked, jnp.maximum(i - 1, 0), 0, keepdims=False)
        h = sums = sums + value[:, None] * row[None]
        for layer in self.layers[1:-1]:
            h = layer(nn.relu(h))
        return self.logits(self.layers[-1](nn.relu(h), (i * self.units, self.units))), sums


PRESETS = {"made": row(MADE(), 2_570_784, Data("digits", binarise="fixed"), hidden=(80, 80))}
