"""Kernel inception distance: an unbiased estimate of the squared MMD with a cubic kernel.

Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), section 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import at_least
from jaxgen.metrics.accumulate import ROWS, Rows, both_rows, check_count
from jaxgen.metrics.metric import Metric

Array = jax.Array

SEED = 2020  # of the subsets, as in torch-fidelity: the same features in the same order give the same score
BLOCK = 2048  # rows and columns of kernel values held at once


@jax.jit
def kernel_sum(x: Array, y: Array) -> Array:
    """Return the sum of k(x, y) = (x.y / d + 1)^3 over all pairs of rows of f[n d] and f[m d]."""
    return jnp.sum((x @ y.T / x.shape[1] + 1) ** 3)


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased estimate of MMD^2 from two sets of m rows, f64[m d]; it can be negative.

    Gretton et al. 2012, lemma 6: the means of k(x, x') and k(y, y') over pairs of different rows, minus twice the mean
    of k(x, y) over all pairs.
    """
    m, d = x.shape

    def total(a: np.ndarray, b: np.ndarray) -> float:
        cuts = range(0, m, BLOCK)
        return sum(float(kernel_sum(a[i : i + BLOCK], b[j : j + BLOCK])) for i in cuts for j in cuts)

    with jax.enable_x64(True):  # the three means differ in their last digits only
        within = total(x, x) + total(y, y)
        across = total(x, y)
    diagonal = sum(float(((np.square(z).sum(1) / d + 1) ** 3).sum()) for z in (x, y))
    return (within - diagonal) / (m * (m - 1)) - 2 * across / m**2


def kid(real: Rows, generated: Rows, subsets: int = 100, size: int = 1000) -> dict[str, float]:
    """Return the mean ("kid") and the standard deviation ("kid_std") of MMD^2 over random subsets of `size` rows.

    Raises InputError for different dimensions, features that are not finite or lost, or fewer than `size` rows.
    """
    at_least(1, subsets=subsets)
    at_least(2, size=size)
    y, x = both_rows(real, generated, "kid")
    check_count(len(y), len(x), size, "kid")
    # The legacy generator, with the generated rows first, gives the subsets of torch-fidelity.
    rng = np.random.RandomState(SEED)
    found = [polynomial_mmd(*(z[rng.choice(len(z), size, replace=False)] for z in (x, y))) for _ in range(subsets)]
    return {"kid": float(np.mean(found)), "kid_std": float(np.std(found))}


KID = Metric(*ROWS, kid)
