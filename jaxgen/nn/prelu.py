"""Rectifier with a learned slope below zero."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class PReLU(nn.Module):
    """max(x, 0) + a min(x, 0), x [... c]; a is a scalar or, with `each`, one number per channel; it starts at 1/4.

    He et al. 2015, "Delving Deep into Rectifiers", equation 1.
    """

    each: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        slope = self.param("weight", nn.initializers.constant(0.25), (x.shape[-1] if self.each else 1,))
        return jnp.maximum(x, 0) + jnp.broadcast_to(slope.astype(x.dtype), x.shape) * jnp.minimum(x, 0)
