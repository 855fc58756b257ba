"""The dtype that leaves a net."""

import jax
import jax.numpy as jnp


def to_f32(x: jax.Array) -> jax.Array:
    """Return x in f32, or in f64 if it is: what losses and images are computed in whatever the layers' precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
