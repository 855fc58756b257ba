"""LPIPS: Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features ...", CVPR 2018."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxgen.core.errors import InputError

EPSILON = 1e-10  # as in the published implementation


def unit(x: Array) -> Array:
    """Return x / (|x| + epsilon) over the channels of x [b h w c], in f32; the gradient is finite at x = 0."""
    x = x.astype(jnp.float32)
    square = (x * x).sum(-1, keepdims=True)  # [b h w 1]
    safe = jnp.where(square > 0, square, 1)
    norm = jnp.where(square > 0, jnp.sqrt(safe), 0)
    return x / jnp.broadcast_to(norm + EPSILON, x.shape)


def lpips(features_a: Sequence[Array], features_b: Sequence[Array], heads: Sequence[Array]) -> Array:
    """Return sum_l mean_hw sum_c w_lc (unit(a_l) - unit(b_l))^2, equation 1: f32[b].

    features: a list over layers l of [b h_l w_l c_l]; heads: the weights w_l >= 0, f32[c_l].
    Raises InputError if the numbers of layers differ.
    """
    if not len(features_a) == len(features_b) == len(heads):
        raise InputError(f"lpips: {len(features_a)} and {len(features_b)} feature maps, but {len(heads)} heads.")
    total = jnp.zeros(features_a[0].shape[0])
    for a, b, w in zip(features_a, features_b, heads, strict=True):
        difference = unit(a) - unit(b)
        total += jnp.einsum("bhwc,c->bhw", difference * difference, w, precision="highest").mean((1, 2))
    return total
