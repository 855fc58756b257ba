"""Explicit keys: named folds, and noise that depends on each sample's own key only."""

import zlib

import jax
import jax.numpy as jnp


def fold(key: jax.Array, name: str) -> jax.Array:
    """Return the key's child called `name`: the same for the same name, wherever it is drawn."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def sample_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """Return Key[b], one for each sample index i32[b]: sample i is the same in whatever batch it is drawn."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def normal(keys: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Return N(0, 1) noise f32[b *shape], one draw for each of Key[b]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def uniform(keys: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Return noise uniform in [-1, 1), f32[b *shape], one draw for each of Key[b]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1, 1))(keys)
