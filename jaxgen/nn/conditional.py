"""Layers that depend on a class, or on a vector that describes what to draw."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgen.core.errors import InputError
from jaxgen.nn.conv import Dense
from jaxgen.nn.norm import batch_statistics

NAMES = "scale", "bias"
Initializer = nn.initializers.Initializer


class Embed(nn.Module):
    """label i32[b] -> its row of a table, [b features] in the table's dtype; zeros for a label that is no class.

    Raises InputError where there is no label.
    """

    classes: int
    features: int
    embedding_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, label: Array | None) -> Array:
        if label is None:
            raise InputError(f"A network for {self.classes} classes must be told the labels: give label i32[b].")
        table = self.param("embedding", self.embedding_init, (self.classes, self.features))
        # A product and not a look-up, whose gradient GPUs add up in any order.
        return jnp.matmul(jax.nn.one_hot(label, self.classes, dtype=table.dtype), table, precision="highest")


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation of x [b ... c] by (x - mean) / sqrt(var + epsilon) * (1 + scale(y)) + bias(y).

    With classes, y is a label i32[b], and scale and bias are tables of one row per class. Without, y is a vector
    [b d], and they are linear maps of it. Statistics are those of all classes together, as BatchNorm's. The result is
    in x's dtype. De Vries et al. 2017, section 3; as in Brock et al. 2019, the maps start from 1 and not from 0.
    """

    classes: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    kernel_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, y: Array | None, train: bool) -> Array:
        channels = x.shape[-1]
        if self.classes:
            scale, bias = (Embed(self.classes, channels, self.kernel_init, name=name)(y) for name in NAMES)
        elif y is None:
            raise InputError("A conditional batch norm without classes needs a vector [b d] to depend on.")
        else:
            dense: Any = partial(Dense, channels, use_bias=False, kernel_init=self.kernel_init)
            scale, bias = (dense(name=name)(y) for name in NAMES)
        mean, var = batch_statistics(self, x, self.momentum, train)
        root = lax.rsqrt(var + self.epsilon)
        factor = (1 + scale.astype(jnp.float32)) * jnp.broadcast_to(root, scale.shape)  # [b c]
        mean = jnp.broadcast_to(mean.astype(x.dtype), x.shape)
        # Straight to x's shape, for the reason that BatchNorm gives.
        factor, bias = (lax.broadcast_in_dim(v.astype(x.dtype), x.shape, (0, x.ndim - 1)) for v in (factor, bias))
        return (x - mean) * factor + bias
