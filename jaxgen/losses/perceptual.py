"""Perceptual losses between feature maps, per example: lists over layers of f32[b h w c] -> f32[b]."""

from collections.abc import Iterable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp

from jaxgen.core.types import Array

FeatureMaps = Sequence[Array]


def feature_loss(made: FeatureMaps, clean: FeatureMaps, power: int = 1, weights: Sequence[float] = ()) -> Array:
    """Return the sum over layers of mean |a - b|^power, weighted per layer if weights are given.

    Johnson et al. 2016, equation 2, has power 2.
    """
    layers = zip(made, clean, weights or [1.0] * len(made), strict=True)
    return _total(w * (jnp.abs(a - b) ** power).mean((1, 2, 3)) for a, b, w in layers)


def gram(x: Array) -> Array:
    """Return the Gram matrix of the channels / (h w c), x [b h w c] -> [b c c]. Johnson et al. 2016, equation 3."""
    b, h, w, c = x.shape
    return _squared(x.reshape(b, h * w, c)) / (h * w * c)


@jax.custom_jvp
def _squared(x: Array) -> Array:
    """Return X^T X, [b n c] -> [b c c]. Its derivative M + M^T needs one product M instead of JAX's two."""
    return jnp.einsum("bni,bnj->bij", x, x)


@_squared.defjvp
def _squared_jvp(given: tuple[Array], moved: tuple[Array]) -> tuple[Array, Array]:
    [x], [dx] = given, moved
    half = jnp.einsum("bni,bnj->bij", x, dx)
    return _squared(x), half + half.swapaxes(1, 2)


def style_loss(made: FeatureMaps, clean: FeatureMaps, power: int = 1) -> Array:
    """Return the sum over layers of mean |G(a) - G(b)|^power, G the Gram matrix. Liu et al. 2018, equations 4 and 5."""
    return _total((jnp.abs(gram(a) - gram(b)) ** power).mean((1, 2)) for a, b in zip(made, clean, strict=True))


def _total(layers: Iterable[Array]) -> Array:
    return reduce(jnp.add, layers)
