"""Batch norms: the variance of numbers far from 0, its derivatives, and the running statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.conditional import ConditionalBatchNorm
from jaxgen.nn.norm import BatchNorm, mean_variance

MEANS = (0.0, 100.0, 5000.0, 1e4)


@pytest.fixture(scope="module")
def moments() -> Any:
    return jax.jit(mean_variance)


@pytest.mark.parametrize("shape", [(8, 6, 7, 4), (256, 4), (1, 16, 16, 4)])
def test_the_variance_of_numbers_far_from_0(moments, shape):
    noise = np.random.default_rng(0).normal(size=shape)
    for mean in MEANS:
        x = np.float32(mean + noise * [1, 0.3, 3, 0])  # a constant channel too
        axes = tuple(range(x.ndim - 1))
        found_mean, found = (np.asarray(v) for v in moments(x))
        np.testing.assert_allclose(found_mean, np.float64(x).mean(axes), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found, np.float64(x).var(axes), rtol=1e-2 if mean else 1e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [0, 3])
def test_batch_norm_standardises_numbers_far_from_0(classes):
    x = np.float32(5000 + np.random.default_rng(0).normal(size=(8, 6, 7, 4)))
    norm: Any = ConditionalBatchNorm(classes) if classes else BatchNorm()
    given = (x, np.arange(8) % classes) if classes else (x,)
    variables = norm.init(jax.random.key(0), *given, False)
    y, kept = jax.jit(lambda variables: norm.apply(variables, *given, True, mutable=["batch_stats"]))(variables)
    np.testing.assert_allclose(np.std(y, (0, 1, 2)), 1, rtol=2e-3)
    np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=5e-3)
    np.testing.assert_allclose(kept["batch_stats"]["var"], 0.9 + 0.1 * np.float64(x).var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(kept["batch_stats"]["mean"], 500, rtol=1e-3)


def test_derivatives_of_the_variance_are_exact():
    """The first is 2 (x - E[x]) / n, the second 2 (delta_ij - 1/n) / n: what is subtracted first is no constant."""
    x = jnp.float32(np.random.default_rng(0).normal(size=(5, 1)) + 3)
    variance = lambda x: mean_variance(x)[1][0]  # noqa: E731
    first, second = jax.jit(lambda x: (jax.grad(variance)(x), jax.hessian(variance)(x)))(x)
    np.testing.assert_allclose(first, 2 * (x - x.mean()) / 5, atol=1e-6)
    np.testing.assert_allclose(second[:, 0, :, 0], 2 * (np.eye(5) - 1 / 5) / 5, atol=1e-6)
