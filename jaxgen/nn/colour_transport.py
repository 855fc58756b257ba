"""Colour transfer by optimal transport: give an image the colours of another with the least change. Images: [h w c]."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
BLOCK = 1 << 16  # pixels held in f64 at once
NO_SPREAD = 1e-6  # relative to the size of the colours: some ten times the rounding of f32


class ColourStatistics(NamedTuple):
    """Mean f64[c] and covariance f64[c c] of the pixels of an image."""

    mean: np.ndarray
    covariance: np.ndarray


def colour_statistics(x: np.ndarray) -> ColourStatistics:
    """Return the mean and covariance of the pixels of an image, in f64."""
    count = np.prod(x.shape[:-1])
    mean = np.asarray(sum(part.sum(0, dtype=np.float64) for part in _blocks(x))) / count  # [c]
    scatter = sum((part - mean).T @ (part - mean) for part in _blocks(x))
    return ColourStatistics(mean, np.asarray(scatter) / count)


def monge_kantorovich(source: ColourStatistics, target: ColourStatistics) -> np.ndarray:
    """Return the matrix T f64[c c] of the Monge-Kantorovich map between normal distributions, y = T (x - m) + m'.

    T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2): of all maps with T A T = B, it moves colours least. Pitie
    and Kokaram 2007, "The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer", section
    3. Directions without spread in the source, below `NO_SPREAD` of its colours, stay without spread.

    The root of a product of covariances would lose what has less than 1e-4 of the largest spread, even in f64. With
    A = F F^T and B = G G^T it is (P S^2 P^T)^(1/2) = P S P^T, where F^T G = P S Q^T.
    """
    size = np.trace(source.covariance) + np.square(source.mean).sum()
    variances, axes = np.linalg.eigh(source.covariance)  # [c], [c c]
    kept = variances > NO_SPREAD**2 * size
    roots, axes = np.sqrt(variances[kept]), axes[:, kept]  # [k], [c k]
    values, vectors = np.linalg.eigh(target.covariance)
    g = vectors * np.sqrt(np.maximum(values, 0))  # [c c]
    p, s, _ = np.linalg.svd((axes * roots).T @ g, full_matrices=False)  # [k k], [k]
    inverse = axes / roots  # [c k]
    return inverse @ (p * s) @ p.T @ inverse.T


def transfer_colours(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return x [h w c] with the mean and covariance of the colours of `like` [h' w' c], f32. On the host, in f64."""
    source, target = colour_statistics(x), colour_statistics(like)
    matrix = monge_kantorovich(source, target)
    made = [np.float32((part - source.mean) @ matrix + target.mean) for part in _blocks(x)]
    return np.concatenate(made).reshape(x.shape)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pixels of an image, f[n c] each."""
    pixels = np.asarray(x).reshape(-1, x.shape[-1])
    return (pixels[i : i + BLOCK] for i in range(0, len(pixels), BLOCK))


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
