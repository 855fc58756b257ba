"""Casting of network outputs to full precision."""

import jax
import jax.numpy as jnp


def to_f32(x: jax.Array) -> jax.Array:
    """Return x in f32, or unchanged if it is f64: the precision of losses and images, whatever that of the layers."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
