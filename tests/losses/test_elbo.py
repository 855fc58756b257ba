"""Likelihoods and KLs against closed forms, scipy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.losses.elbo import (
    HALF_LEVEL,
    LIKELIHOODS,
    bernoulli_log_prob,
    discretised_logistic_log_prob,
    free_bits,
    kl_standard,
    normal_log_prob,
)

LEVELS = np.arange(256, dtype=np.float32) / 127.5 - 1


def test_bernoulli_is_minus_the_cross_entropy():
    draw = np.random.default_rng(0)
    x, logits = draw.uniform(-1, 1, (3, 4, 4, 2)), draw.normal(size=(3, 4, 4, 2)) * 3
    p = 1 / (1 + np.exp(-logits))
    y = (x + 1) / 2
    want = (y * np.log(p) + (1 - y) * np.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(bernoulli_log_prob(jnp.float32(x), jnp.float32(logits)), want, rtol=1e-5)


def test_normal_density_equals_scipy():
    draw = np.random.default_rng(1)
    x, mean, log_scale = draw.normal(size=(3, 5, 7))
    want = stats.norm.logpdf(x, mean, np.exp(log_scale)).sum(1)
    found = normal_log_prob(*(jnp.float32(v) for v in (x, mean, log_scale)))
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2, 0.501, 1.0, 4.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 2.0])
def test_the_256_levels_of_a_discretised_logistic_sum_to_one(mean, log_scale):
    one = lambda x: discretised_logistic_log_prob(x[None, None], jnp.full((1, 1), mean), jnp.full((1, 1), log_scale))  # noqa: E731
    log_p = jax.vmap(one)(jnp.asarray(LEVELS))[:, 0]
    assert np.exp(np.float64(log_p)).sum() == pytest.approx(1, abs=2e-4 if log_scale < -5 else 1e-5)
    x = LEVELS.astype(np.float64)
    cdf = stats.logistic(mean, np.exp(log_scale)).cdf
    low, high = np.where(x > -1, x - HALF_LEVEL, -np.inf), np.where(x < 1, x + HALF_LEVEL, np.inf)
    exact = cdf(high) - cdf(low)
    seen = exact > 1e-6  # resolution of the difference in float64
    np.testing.assert_allclose(np.exp(np.float64(log_p))[seen], exact[seen], rtol=5e-3)
    slopes = jax.vmap(jax.grad(lambda x, m: one(x).sum() + 0 * m))(jnp.asarray(LEVELS), jnp.asarray(LEVELS))
    assert np.isfinite(slopes).all() and np.isfinite(log_p).all()


@pytest.mark.parametrize("name", ["gaussian", "logistic"])
def test_no_image_has_an_unbounded_likelihood(name):
    p = LIKELIHOODS[name]
    x = jnp.full((1, 2, 2, 1), -1.0)
    out = jnp.concatenate([x, jnp.full_like(x, -100.0)], -1)
    slope = jax.grad(lambda out: p.log_prob(x, out).sum())(out)
    best = {"gaussian": -4 * (np.log(HALF_LEVEL) + 0.5 * np.log(2 * np.pi)), "logistic": 0.0}[name]
    assert float(p.log_prob(x, out)[0]) <= best + 1e-3 and np.isfinite(slope).all()
    np.testing.assert_allclose(p.mean(out), x)


def test_kl_equals_monte_carlo_and_is_zero_at_the_prior():
    mean, log_var = jnp.asarray([[0.7, -1.5, 0.0]]), jnp.asarray([[-1.0, 0.5, 0.0]])
    kl = kl_standard(mean, log_var)
    assert float(kl[0, 2]) == 0
    z = mean + jnp.exp(log_var / 2) * jax.random.normal(jax.random.key(0), (200_000, 3))
    one = lambda z, m, v: normal_log_prob(z[:, None], m, v / 2)  # noqa: E731
    for i in range(3):
        m, v = jnp.full((len(z), 1), mean[0, i]), jnp.full((len(z), 1), log_var[0, i])
        terms = one(z[:, i], m, v) - one(z[:, i], 0 * m, 0 * v)
        error = 5 * float(terms.std()) / len(z) ** 0.5 + 1e-6
        assert float(terms.mean()) == pytest.approx(float(kl[0, i]), abs=error)


def test_free_bits_have_no_gradient_below_the_threshold():
    slope = jax.grad(lambda kl: free_bits(kl, 0.5).sum())(jnp.asarray([[0.1, 2.0], [0.2, 4.0]]))
    np.testing.assert_array_equal(slope, [[0, 0.5], [0, 0.5]])
    np.testing.assert_allclose(free_bits(jnp.asarray([[0.1, 2.0], [0.2, 4.0]]), 0.5), [0.5, 3.0])
