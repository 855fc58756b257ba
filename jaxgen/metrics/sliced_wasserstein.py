"""Sliced Wasserstein distance between two sets of features or pixels: 1-D transport along random projections.

Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures", section 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least
from jaxgen.metrics.accumulate import ROWS, Rows, both_rows, check_count
from jaxgen.metrics.metric import Metric

Array = jax.Array

BLOCK = 64  # lines projected onto at once


@jax.jit
def project(x: Array, lines: Array, ranks: Array) -> Array:
    """Return the projections of f64[n d] onto lines f64[p d] at sorted ranks i[q], f64[p q]."""
    return jnp.sort(lines @ x.T, 1)[:, ranks]  # [p n] -> [p q]


def distance(x: np.ndarray, y: np.ndarray, key: Array, lines: int = 512, order: int = 2) -> float:
    """Return (E over unit vectors u of W_p(u.x, u.y)^p)^(1/p) for f64[n d] and f64[m d], p = order, in f64.

    In one dimension W_p^p is the integral of |F^-1 - G^-1|^p, a sum over sorted rows; for sets of different sizes its
    steps have unequal widths.
    """
    n, m = len(x), len(y)
    cuts = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # the ends of the steps, times n m
    widths = np.diff(cuts, prepend=0) / (n * m)
    directions = np.asarray(jax.random.normal(key, (lines, x.shape[1]), jnp.float32), np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    powers = []
    for i in range(0, lines, BLOCK):
        some = directions[i : i + BLOCK]
        with jax.enable_x64(True):
            a, b = project(x, some, (cuts - 1) // m), project(y, some, (cuts - 1) // n)
        powers.append((np.abs(np.asarray(a) - np.asarray(b)) ** order) @ widths)  # [p]
    return float(np.mean(np.concatenate(powers)) ** (1 / order))


def sliced_wasserstein(key: Array, lines: int = 512, order: int = 2) -> Metric:
    """Return the metric {"sliced_wasserstein_<order>": distance} of f[b ...], with lines that depend on the key only.

    Its initial state is empty(capacity, d), d the number of elements of an example. Raises InputError for an order
    other than 1 or 2; its result raises it for different dimensions, examples that are not finite or lost, or none.
    """
    name = f"sliced_wasserstein_{order}"
    if order not in (1, 2):
        raise InputError(f"The order of a sliced Wasserstein distance must be 1 or 2, not {order}.")
    at_least(1, lines=lines)

    def update(state: Rows, examples: Array, valid: Array) -> Rows:
        return ROWS.update(state, examples.reshape(len(examples), -1), valid)  # -> [b d]

    def result(real: Rows, generated: Rows) -> dict[str, float]:
        x, y = both_rows(real, generated, name)
        check_count(len(x), len(y), 1, name)
        return {name: distance(x, y, key, lines, order)}

    return Metric(ROWS.empty, update, ROWS.merge, result)
