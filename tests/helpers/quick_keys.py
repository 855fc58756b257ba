"""Random keys that compile quickly: a hash of a few operations instead of Threefry's twenty rounds.

Threefry, once for every parameter, is most of what a tiny net's initialisation compiles. These keys suffice for tests
that ask whether numbers differ, not how they are distributed. A key's numbers depend on that key alone.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl


def _mix(x):
    """Return the finaliser of MurmurHash3, u32[...]."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _pair(key, hashed):
    return jnp.stack([_mix(key[0] + hashed), _mix(key[1] + hashed * jnp.uint32(3))], -1)  # u32[... 2]


def _seed(seed):
    return _pair(jnp.zeros(2, jnp.uint32), _mix(seed.astype(jnp.uint32)))


def _fold_in(key, data):
    return _pair(key, _mix(jnp.asarray(data).astype(jnp.uint32) + jnp.uint32(0x9E3779B9)))


def _split(key, shape):
    return _pair(key, _mix(_count(shape) + jnp.uint32(0x7F4A7C15)))


def _bits(key, bit_width, shape):
    bits = _mix((_count(shape) + key[0]) * jnp.uint32(0x9E3779B1) ^ key[1])
    return bits.astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bit_width])


def _count(shape):
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


QUICK = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_bits, fold_in=_fold_in, name="quick", tag="quick"
)


def quick_key(seed: int) -> jax.Array:
    return jax.random.key(seed, impl=QUICK)
