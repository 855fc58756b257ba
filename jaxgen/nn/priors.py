"""Priors of latent vectors z."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.types import Array, Key

Prior = Callable[[Key, Array | None], Array]  # (keys Key[b], psi f32[b] or None) -> z f32[b latent]


def normal(latent: int) -> Prior:
    """Return the prior N(0, 1); with psi below 1, psi times a normal truncated to [-2, 2].

    Brock et al. 2019, section 3.1: the truncation trick.
    """

    def draw(keys: Key, psi: Array | None = None) -> Array:
        z = rng.normal(keys, (latent,))
        if psi is None:
            return z
        cut = jax.vmap(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (latent,)))(keys)
        psi = jnp.broadcast_to(psi[:, None], z.shape)
        return jnp.where(psi < 1, psi * cut, z)

    return draw


def uniform(latent: int) -> Prior:
    """Return the uniform prior on [-1, 1), or on [-psi, psi)."""

    def draw(keys: Key, psi: Array | None = None) -> Array:
        z = rng.uniform(keys, (latent,))
        return z if psi is None else z * jnp.broadcast_to(psi[:, None], z.shape)

    return draw
