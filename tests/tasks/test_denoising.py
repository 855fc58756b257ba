"""Guidance, conditional sampling and likelihood against closed forms: Gaussians and mixtures of them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.diffusion import conditions, guidance, samplers
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.likelihood import log_prob
from jaxgen.diffusion.schedules import alpha_of, expand_like
from tests.helpers.known_denoisers import FRAMES, MEAN, SPREAD, deviation, gaussian, keys, points, x64  # noqa: F401

# ---------------------------------------------------------------- guidance


def test_beyond():
    pair = lambda x, tau: (2 * x, x)  # noqa: E731
    x, tau = jnp.ones((3, 2)), jnp.asarray([0.1, 1.0, 9.0])
    np.testing.assert_allclose(guidance.extrapolate(pair, 3.0)(x, tau), 4)
    np.testing.assert_allclose(guidance.extrapolate(pair, 1.0)(x, tau), 2)
    got = guidance.extrapolate(pair, 3.0, interval=(0.5, 5.0))(x, tau)
    np.testing.assert_allclose(got[:, 0], [2, 4, 2])
    np.testing.assert_allclose(guidance.extrapolate(pair, 3.0, frame="flow")(x, jnp.ones(3)), 4)  # pure noise
    x = jax.random.normal(jax.random.key(0), (3, 50))
    got = guidance.extrapolate(pair, 3.0, rescale=1.0)(x, tau)
    np.testing.assert_allclose(got.std(1), (2 * x).std(1), rtol=1e-9)
    half = guidance.extrapolate(pair, 3.0, rescale=0.5)(x, tau)
    np.testing.assert_allclose(half.std(1), 3 * x.std(1), rtol=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
def test_classifier_guidance_gives_the_class(frame):
    """Two classes at -1 and 1: the mixture's denoiser with guidance by p(y | x) equals the denoiser of the class."""
    classes = [gaussian(frame, m, 0.3) for m in (-1.0, 1.0)]

    def log_joint(x, tau):
        alpha = alpha_of(frame, tau)
        scale = jnp.sqrt(alpha**2 * 0.09 + tau**2)
        one = lambda m: jax.scipy.stats.norm.logpdf(x, expand_like(x, alpha * m), expand_like(x, scale)).sum(1)  # noqa: E731
        return jnp.stack([one(-1.0), one(1.0)])

    def mixture(x, tau) -> Any:
        share = jax.nn.softmax(log_joint(x, tau), 0)
        return sum(expand_like(x, s) * d(x, tau) for s, d in zip(share, classes, strict=True))

    log_class = lambda x, tau, d: jax.nn.log_softmax(log_joint(x, tau), 0)[1]  # noqa: E731
    x = jax.random.normal(jax.random.key(0), (50, 3))
    tau = jnp.linspace(0.1, 0.9, 50)
    guided = guidance.guide_by_gradient(mixture, log_class, frame=frame)
    found, want = jax.jit(lambda x, tau: (guided(x, tau), classes[1](x, tau)))(x, tau)
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "values, match",
    [
        ((-1.0, (0.0, 1.0), 0.0), "must be at least 0"),
        ((2.0, (1.0, 1.0), 0.0), "interval must be 0"),
        ((2.0, (0.0, 1.0), 2.0), "guidance rescale must be from 0 to 1"),
    ],
)
def test_bad_guidance(values, match):
    with pytest.raises(InputError, match=match):
        guidance.check_guidance(*values)


# ---------------------------------------------------------------- conditions

COVARIANCE = 0.25 * np.array([[1, 0.8, 0.2, 0.1], [0.8, 1, 0.3, 0.2], [0.2, 0.3, 1, 0.6], [0.1, 0.2, 0.6, 1]])


def correlated(frame):
    """Return E[x0 | x] of four correlated pixels, x0 ~ N(0, COVARIANCE)."""

    def denoise(x, tau):
        a = alpha_of(frame, tau)
        gain = a[:, None] * variances[None] / (a[:, None] ** 2 * variances[None] + tau[:, None] ** 2)
        return (x.reshape(len(x), 4) @ axes * gain @ axes.T).reshape(x.shape)

    variances, axes = np.linalg.eigh(COVARIANCE)
    return denoise


MASK = jnp.asarray([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
KNOWN = jnp.asarray([0.6, 0.0, 0.0, -0.4]).reshape(1, 2, 2, 1)


@pytest.mark.parametrize("frame", FRAMES)
def test_repaint_samples_the_conditional_distribution(frame):
    count = 1000
    taus = grid("log-snr", 40, frame, 0.02, 10)
    x = jnp.sqrt(alpha_of(frame, taus[0]) ** 2 * 0.25 + taus[0] ** 2) * jax.random.normal(
        jax.random.key(1), (count, 2, 2, 1)
    )
    known = jnp.broadcast_to(KNOWN, x.shape)
    paint = jax.jit(lambda x, own: conditions.repaint(correlated(frame), x, taus, own, known, MASK, frame, times=10))
    got = np.asarray(paint(x, keys(count))).reshape(count, 4)
    np.testing.assert_allclose(got[:, [0, 3]], np.broadcast_to([0.6, -0.4], (count, 2)), atol=1e-9)
    known_, missing = [0, 3], [1, 2]
    gain = COVARIANCE[np.ix_(missing, known_)] @ np.linalg.inv(COVARIANCE[np.ix_(known_, known_)])
    mean = gain @ np.array([0.6, -0.4])
    left = COVARIANCE[np.ix_(missing, missing)] - gain @ COVARIANCE[np.ix_(known_, missing)]
    np.testing.assert_allclose(got[:, missing].mean(0), mean, atol=0.04)
    np.testing.assert_allclose(
        np.sqrt(np.diag(np.cov(np.asarray(got[:, missing]).T))), np.sqrt(np.diag(left)), rtol=0.1
    )


@pytest.mark.parametrize("frame", FRAMES)
def test_posterior_sampling_matches_the_exact_posterior(frame):
    """Noisy means of four pixels: for normal pixels the posterior is known, and DPS is exact."""
    noise, way = 0.2, conditions.box_downsampling(2)
    y = jnp.broadcast_to(jnp.asarray([1.0, -0.4]).reshape(1, 1, 2, 1), (4000, 1, 2, 1))
    taus = grid("karras", 60, frame, 0.01, 50)
    x = taus[0] * jax.random.normal(jax.random.key(5), (4000, 2, 4, 1))
    got = samplers.heun(conditions.dps(gaussian(frame), y, way, noise, frame, SPREAD), x, taus)
    means = way.forward(got)
    before = SPREAD**2 / 4
    want = MEAN + before / (before + noise**2) * (y[0] - MEAN)
    np.testing.assert_allclose(means.mean(0), want, atol=0.015)
    np.testing.assert_allclose(means.std(0), (1 / (1 / before + 1 / noise**2)) ** 0.5, rtol=0.05)
    rest = got - way.back(means)
    assert float(rest.std()) == pytest.approx(SPREAD * 0.75**0.5, rel=0.03), "only the means are conditioned"


def test_the_gain_of_a_degradation():
    """The gain is the trace of A A^T, computed from the columns of A."""
    for way, size in ((conditions.box_downsampling(2), (2, 2, 1)), (conditions.greyscale(), (1, 1, 3))):
        basis = jnp.eye(math.prod(size)).reshape(-1, *size)
        assert float(jnp.square(way.forward(basis)).sum()) == pytest.approx(way.gain)


def test_back_inverts_a_degradation_up_to_its_null_space():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (2, 4, 6, 1)).astype(x.dtype)
    for one in (
        conditions.masking(mask),
        conditions.box_downsampling(2),
        conditions.greyscale(),
        conditions.gaussian_blur(0.8),
    ):
        y = one.forward(x)
        np.testing.assert_allclose(one.forward(one.back(y)), y, atol=1e-12)
        fitted = conditions.ddnm(lambda x, tau: 0 * x, y, one)(x, jnp.ones(2))
        np.testing.assert_allclose(one.forward(fitted), y, atol=1e-12)
    with pytest.raises(InputError, match="cannot be divided into squares of 4x4"):
        conditions.box_downsampling(4).forward(x)


@pytest.mark.parametrize("frame", FRAMES)
def test_ddim_inversion_and_sampling_return_the_image(frame):
    taus = grid("log-snr", 60, frame, 0.02, 10)
    x0 = points(frame, 0.0, 16)
    noise = conditions.invert(gaussian(frame), x0, taus, frame)
    again = samplers.heun(gaussian(frame), noise, taus)
    np.testing.assert_allclose(again, x0, atol=0.01)
    assert float(noise.std()) == pytest.approx(float(deviation(frame, taus[0])), rel=0.3)


def test_interpolation_between_two_noises():
    from jaxgen.inference.latent_space import slerp

    one, two = np.random.default_rng(0).normal(size=(2, 3, 4, 1))
    two = two * np.linalg.norm(one) / np.linalg.norm(two)  # with different norms, slerp interpolates the norm
    between = jax.jit(conditions.slerp)
    for share, found in zip(np.linspace(0, 1, 5), np.asarray(between(one, two, np.linspace(0, 1, 5))), strict=True):
        np.testing.assert_allclose(found[None], slerp(one[None], two[None], share), atol=1e-5)
    same = between(one, one, np.linspace(0, 1, 5))
    np.testing.assert_allclose(same, np.broadcast_to(one, same.shape), atol=1e-6)


def test_the_end_of_a_grid_and_its_start():
    taus = grid("karras", 10, "ve", 0.01, 80)
    np.testing.assert_array_equal(conditions.last_steps(taus, 1.0), taus)
    np.testing.assert_array_equal(conditions.last_steps(taus, 0.3), taus[7:])
    assert len(conditions.last_steps(taus, 0.01)) == 2
    for bad in (0, 1.2):
        with pytest.raises(InputError, match="strength must be above 0"):
            conditions.last_steps(taus, bad)
    x0 = jnp.full((2000, 1, 1, 1), 0.5)
    start = conditions.add_noise(x0, 0.3, keys(2000), "flow")
    assert float(start.mean()) == pytest.approx(0.35, abs=0.03) and float(start.std()) == pytest.approx(0.3, rel=0.1)


# ---------------------------------------------------------------- likelihood


def likelihood(denoise, x, count: int, *settings, spread: float) -> np.ndarray:
    """Return the log-likelihood of `count` images, each with its own key."""
    return np.asarray(jax.jit(lambda x, own: log_prob(denoise, x, own, *settings, spread=spread))(x, keys(count)))


def test_the_likelihood_by_the_ode_is_exact():
    low, high = 0.05, 1e4
    x = points("ve", low, 20).reshape(20, 4)
    truth = jax.scipy.stats.norm.logpdf(x, MEAN, math.sqrt(SPREAD**2 + low**2)).sum(1)
    denoise = gaussian("ve")
    exact = likelihood(denoise, x, 20, low, high, "exact", 1e-7, spread=math.hypot(MEAN, SPREAD))
    np.testing.assert_allclose(exact, truth, atol=1e-3)
    # The Jacobian is a multiple of the identity: one probe is exact too.
    probed = likelihood(denoise, x, 20, low, high, "hutchinson", 1e-7, spread=math.hypot(MEAN, SPREAD))
    np.testing.assert_allclose(probed, exact, atol=1e-6)


def test_hutchinsons_estimator_is_unbiased():
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 2, 2, 1)) * 0.5)
    exact = likelihood(correlated("ve"), x, 1, 0.05, 50.0, "exact", 1e-6, spread=0.5)
    truth = jax.scipy.stats.multivariate_normal.logpdf(
        x.reshape(4), jnp.zeros(4), jnp.asarray(COVARIANCE + 0.05**2 * np.eye(4))
    )
    np.testing.assert_allclose(exact, truth, atol=1e-3)
    many = likelihood(correlated("ve"), np.repeat(x, 400, 0), 400, 0.05, 50.0, "hutchinson", 1e-4, spread=0.5)
    assert many.std() > 0.1
    assert many.mean() == pytest.approx(exact[0], abs=4 * many.std() / 20)
