"""Layers conditioned on a class label or on a vector."""

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
    """Embedding of labels i32[b], [b features] in the table's dtype; zeros for a label outside the classes.

    Raises InputError if `label` is None.
    """

    classes: int
    features: int
    embedding_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, label: Array | None) -> Array:
        if label is None:
            raise InputError(f"A network for {self.classes} classes needs labels: give label i32[b].")
        table = self.param("embedding", self.embedding_init, (self.classes, self.features))
        # A matrix product, not a look-up: on GPUs the gradient of a look-up is summed in an undefined order.
        return jnp.matmul(jax.nn.one_hot(label, self.classes, dtype=table.dtype), table, precision="highest")


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation of x [b ... c] by (x - mean) / sqrt(var + epsilon) * (1 + scale(y)) + bias(y).

    With classes, y is a label i32[b]; scale and bias are tables with one row per class. Without classes, y is a vector
    [b d]; scale and bias are linear maps of y. The statistics are taken over all classes together, as in BatchNorm. The
    result has x's dtype. De Vries et al. 2017, section 3; the factor is 1 + scale, as in Brock et al. 2019.
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
            raise InputError("A conditional batch norm without classes needs a conditioning vector [b d].")
        else:
            dense: Any = partial(Dense, channels, use_bias=False, kernel_init=self.kernel_init)
            scale, bias = (dense(name=name)(y) for name in NAMES)
        mean, var = batch_statistics(self, x, self.momentum, train)
        root = lax.rsqrt(var + self.epsilon)
        factor = (1 + scale.astype(jnp.float32)) * jnp.broadcast_to(root, scale.shape)  # [b c]
        mean = jnp.broadcast_to(mean.astype(x.dtype), x.shape)
        # Broadcast directly to x's shape; BatchNorm's docstring gives the reason.
        factor, bias = (lax.broadcast_in_dim(v.astype(x.dtype), x.shape, (0, x.ndim - 1)) for v in (factor, bias))
        return (x - mean) * factor + bias
