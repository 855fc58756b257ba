"""The mu-law: levels of a sound's samples that lie closer where it is quiet. ITU-T G.711; WaveNet, section 2.2."""

import math

import jax.numpy as jnp

from jaxgen.core.types import Array

MU = 255.0
LEVELS = 256


def compress(x: Array) -> Array:
    """Return sign(x) ln(1 + mu |x|) / ln(1 + mu) of samples in [-1, 1]."""
    return jnp.sign(x) * jnp.log1p(MU * jnp.abs(x)) / math.log1p(MU)


def expand(y: Array) -> Array:
    """Return the samples in [-1, 1] of compressed ones."""
    return jnp.clip(jnp.sign(y) * jnp.expm1(jnp.abs(y) * math.log1p(MU)) / MU, -1, 1)  # rounding must not exceed 1


def to_levels(x: Array) -> Array:
    """Return the nearest of 256 levels of compressed samples, i32 of f32 in [-1, 1]. Silence is level 128."""
    return jnp.int32(jnp.floor((compress(jnp.clip(x, -1, 1)) + 1) * ((LEVELS - 1) / 2) + 0.5))


def values(levels: Array) -> Array:
    """Return the compressed samples of levels, k / 127.5 - 1; -1, which stands for no level, is 0."""
    return jnp.where(levels < 0, 0.0, levels / ((LEVELS - 1) / 2) - 1)


def from_levels(levels: Array) -> Array:
    """Return the samples in [-1, 1] of levels."""
    return expand(values(levels))
