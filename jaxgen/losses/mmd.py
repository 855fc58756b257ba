"""Maximum mean discrepancy: a differentiable distance between the distributions of two samples.

Gretton et al. 2012, "A Kernel Two-Sample Test". (For scoring images use jaxgen.metrics.kid, in float64.)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError

Array = jax.Array
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def inverse_multiquadratics(x: Array, y: Array) -> Array:
    """Return sum_s C_s / (C_s + |x_i - y_j|^2) of rows f32[n d] and f32[m d], f32[n m].

    C_s = 2 d s, s in SCALES: 2 d is the mean squared distance between two draws of N(0, I). The authors' code of
    Tolstikhin et al. 2018, "Wasserstein Auto-Encoders".
    """
    # By the scalar products, as the n m d differences would be too many; in full precision and about the mean of x, as
    # the result is a small difference of large numbers. The distances don't depend on what both are moved by.
    centre = jax.lax.stop_gradient(x.mean(0))[None]
    x, y = x - centre, y - centre
    across = jnp.matmul(x, y.T, precision="highest")
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * across  # [n m]
    c = 2 * x.shape[1] * jnp.array(SCALES, x.dtype)[:, None, None]
    return (c / (c + jnp.maximum(squared, 0)[None])).sum(0)


def mmd(x: Array, y: Array, kernel: Callable[[Array, Array], Array] = inverse_multiquadratics) -> Array:
    """Return the unbiased estimate of MMD^2 between the distributions of rows f32[n d] and f32[m d], f32[].

    The means of k(x, x') and k(y, y') over pairs of different rows, minus twice the mean of k(x, y) over all pairs. Its
    expectation is 0 for equal distributions, so it can be negative.
    Raises InputError for fewer than 2 rows.
    """
    if min(len(x), len(y)) < 2:
        raise InputError(
            f"The unbiased MMD needs at least 2 examples in a batch, and in each of its compute.accumulate parts, "
            f"not {min(len(x), len(y))}."
        )

    def within(z: Array) -> Array:
        n = len(z)
        return (kernel(z, z) * (1 - jnp.eye(n, dtype=z.dtype))).sum() / (n * (n - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()
