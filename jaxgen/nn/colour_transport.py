"""Colour transfer by optimal transport: give an image the colours of another with the least change. Images: [h w c]."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.nn.style import matrix_power

Array = jax.Array


class ColourStatistics(NamedTuple):
    """Mean f32[c] and covariance f32[c c] of the pixels of an image."""

    mean: Array
    covariance: Array


def colour_statistics(x: Array) -> ColourStatistics:
    """Return the mean and covariance of the pixels of an image."""
    pixels = x.reshape(-1, x.shape[-1])
    mean = pixels.mean(0)  # [c]
    f = pixels - jnp.broadcast_to(mean, pixels.shape)
    return ColourStatistics(mean, jnp.matmul(f.T / len(f), f, precision="highest"))


def monge_kantorovich(source: ColourStatistics, target: ColourStatistics) -> Array:
    """Return the matrix T f32[c c] of the Monge-Kantorovich map between normal distributions, y = T (x - m) + m'.

    T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2): of all maps with T A T = B, it moves colours least. Pitie
    and Kokaram 2007, "The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer", section
    3. Directions without variance in the source stay without variance.
    """
    root, inverse = matrix_power(source.covariance, 0.5), matrix_power(source.covariance, -0.5)
    product = lambda *m: jnp.linalg.multi_dot(m, precision="highest")  # noqa: E731
    return product(inverse, matrix_power(product(root, target.covariance, root), 0.5), inverse)


def transfer_colours(x: Array, like: Array) -> Array:
    """Return x [h w c] with the mean and covariance of the colours of `like` [h' w' c]."""
    source, target = colour_statistics(x), colour_statistics(like)
    centred = x - jnp.broadcast_to(source.mean, x.shape)
    y = jnp.einsum("ij,hwj->hwi", monge_kantorovich(source, target), centred, precision="highest")
    return y + jnp.broadcast_to(target.mean, y.shape)


def match_distribution(x: Array, like: Array, weights: Array | None = None) -> Array:
    """Return numbers f32[n] in the order of x f32[n] with the distribution of like f32[m]: 1-D optimal transport.

    Each number becomes the quantile of `like` at its rank. weights f32[n]: the weight of each number of x.
    """
    weights = jnp.ones(len(x)) if weights is None else weights
    order = jnp.argsort(x)
    below = jnp.cumsum(weights[order])
    place = (below - weights[order] / 2) * (len(like) / below[-1]) - 0.5  # rank of its middle, in the order of `like`
    found = jnp.interp(place, jnp.arange(len(like), dtype=jnp.float32), jnp.sort(like))
    return jnp.zeros_like(found).at[order].set(found)


def sliced_transport(x: Array, like: Array, key: Array, weights: Array | None = None, rounds: int = 20) -> Array:
    """Return colours x f32[n c] with the full distribution of like f32[m c], not only its first two moments.

    Each round projects the colours onto the axes of a random rotation and moves each projection by
    `match_distribution`. The last round uses the colour axes themselves, so that each channel has exactly the
    distribution of `like`. weights f32[n]: the weight of each colour of x.
    Pitie, Kokaram and Dahyot 2005, "N-Dimensional Probability Density Function Transfer and its
    Application to Colour Transfer".
    """
    c = x.shape[1]
    axes = jax.vmap(lambda k: jnp.linalg.qr(jax.random.normal(k, (c, c)))[0])(jax.random.split(key, rounds))
    axes = jnp.concatenate([axes, jnp.eye(c)[None]])  # [rounds+1 c c]

    def turn(x: Array, axis: Array) -> tuple[Array, None]:
        a, b = (jnp.matmul(p, axis, precision="highest") for p in (x, like))
        moved = jax.vmap(lambda a, b: match_distribution(a, b, weights), 1, 1)(a, b)
        return jnp.matmul(moved, axis.T, precision="highest"), None

    return jax.lax.scan(turn, x, axes)[0]
