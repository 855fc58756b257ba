"""Flow posteriors and mixture priors: Jacobians by autodiff, densities by scipy, marginals by quadrature."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.losses.elbo import free_bits, kl_standard, normal_log_prob
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.iaf import IAF
from jaxgen.models.vae.vae import VAE
from jaxgen.models.vae.vamp import VampPriorVAE

IMAGE = (2, 2, 1)
NETS = NetConfig(width=8)
CONTEXT = Context({}, {}, {}, jnp.int32(0))
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, *IMAGE)) * 2.0 - 1, jnp.float32)


def made(model, scale: float = 1.0):
    """Return a model's parameters, scaled so that no layer is nearly linear."""
    params, _ = model.init(jax.random.key(0))
    return jax.tree.map(lambda x: x * scale, params)


# ---- the flow


def test_the_flows_log_determinant_equals_autodiffs():
    model = IAF(IMAGE, 5, NETS, flows=3, flow_width=12)
    params = made(model)
    z, h = jax.random.normal(jax.random.key(1), (2, 4, 5))
    flow: Any = partial(model.flow.apply, {"params": params["flow"]})
    log_det = flow(z, h)[1].sum(1)
    jacobian = jax.vmap(jax.jacfwd(lambda z, h: flow(z[None], h[None])[0][0]))(z, h)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-5)
    assert np.abs(log_det).min() > 0.1


def test_one_flow_is_triangular_and_depends_on_all_of_h():
    model = IAF(IMAGE, 5, NETS, flows=1, flow_width=12)
    params = made(model, 2.0)
    one = lambda z, h: model.flow.apply({"params": params["flow"]}, z[None], h[None])[0][0, ::-1]  # noqa: E731
    z, h = jax.random.normal(jax.random.key(1), (2, 5))
    by_z, by_h = jax.jacfwd(one, (0, 1))(z, h)
    np.testing.assert_array_equal(np.triu(by_z, 1), 0)
    assert (np.abs(by_z[np.tril_indices(5)]) > 1e-6).all(), "each number depends on all numbers before it"
    assert (np.abs(by_h).sum(1) > 1e-3).all()


def test_log_q_is_the_density_of_the_samples():
    """Compare the histogram of many samples of two latents with exp(log q), from the change of variables."""
    model = IAF(IMAGE, 2, NETS, flows=2, flow_width=6)
    params = made(model, 1.5)
    q = jax.tree.map(lambda v: jnp.repeat(v[:1], 200_000, 0), model.posterior(params, {"image": X}))
    z, log_q = model.sample_posterior(params, q, jax.random.normal(jax.random.key(2), (200_000, 2)))
    log_q = log_q.sum(1)
    z, density = np.asarray(z), np.exp(np.asarray(log_q))
    middle = z.mean(0)
    near = (np.abs(z - middle) < 0.1).all(1)
    share, expected = near.mean(), density[near].mean() * 0.04
    assert near.sum() > 500
    assert share == pytest.approx(expected, rel=5 / near.sum() ** 0.5 + 0.02)


def correlated():
    """Return a fixed decoder with a strongly correlated Gaussian posterior, images, and log p(x)."""
    draw = np.random.default_rng(3)
    w, sigma = np.asarray([[1.0, 0.9], [0.9, 1.0], [0.3, 0.2], [0.0, 0.1]]), 0.3
    x = draw.normal(size=(64, 2)) @ w.T + sigma * draw.normal(size=(64, 4))
    exact = stats.multivariate_normal.logpdf(x, np.zeros(4), w @ w.T + sigma**2 * np.eye(4))  # pyright: ignore

    class Known:
        """A model with a given log p(x | z) instead of the decoder's."""

        def log_likelihood(self, params, z, batch):
            flat = batch["image"].reshape(-1, 4)
            mean = jnp.matmul(z, jnp.float32(w.T))
            return normal_log_prob(flat, mean, jnp.full_like(mean, np.log(sigma)))

    return Known, jnp.float32(x).reshape(-1, *IMAGE), exact.mean()


@pytest.mark.parametrize("flows", [1, 2])
def test_the_kl_is_that_of_each_latent(flows):
    """With m = 0 and a constant s, a flow only shrinks and reverses: the KL of each latent is that of a normal."""
    model = IAF(IMAGE, 3, NETS, flows=flows, flow_width=4, free_bits=0.5)
    params = made(model, 0.0)
    mean, log_var = jnp.asarray([[0.0, 1.0, -3.0]]), jnp.asarray([[0.0, -2.0, 1.0]])
    noise = jnp.asarray([[[-1.0], [1.0]]]).reshape(2, 1) * jnp.ones((2, 3))  # of mean square 1, as its density
    q = tuple(jnp.broadcast_to(v, (2, 3)) for v in (mean, log_var, jnp.zeros((1, 3))))
    kl = model.kl_divergence(params, q, *model.sample_posterior(params, q, noise)).mean(0)
    shrunk = jax.nn.sigmoid(2.0) ** flows
    want = kl_standard(mean[0] * shrunk, log_var[0] + 2 * jnp.log(shrunk))
    np.testing.assert_allclose(kl, want[:: -1 if flows % 2 else 1], rtol=1e-5)
    np.testing.assert_allclose(free_bits(kl[None], 2.0), np.maximum(kl, 2.0))


@pytest.mark.slow
def test_the_flow_closes_the_gap_of_a_diagonal_posterior():
    known, x, exact = correlated()
    gaps = []
    for kind, more in ((VAE, {}), (IAF, {"flows": 2, "flow_width": 32})):
        fixed: Any = type("Fixed", (known, kind), {})
        model = fixed(IMAGE, 2, NetConfig(width=32), "gaussian", **more)
        params, _ = model.init(jax.random.key(0))
        adam = optax.adam(optax.cosine_decay_schedule(5e-3, 3000))
        loss = lambda params, key, model=model: model.loss(params, CONTEXT, {"image": x}, key)[0]  # noqa: E731

        @jax.jit
        def train(params, loss=loss, adam=adam):
            def step(carry, key):
                params, moments = carry
                value, slope = jax.value_and_grad(loss)(params, key)
                updates, moments = adam.update(slope, moments, params)
                return (optax.apply_updates(params, updates), moments), value

            keys = jax.random.split(jax.random.key(1), 3000)
            (params, _), losses = jax.lax.scan(step, (params, adam.init(params)), keys)
            return losses

        gaps.append(exact + float(train(params)[-500:].mean()))
    diagonal, flow = gaps
    assert diagonal > 0.2 and -0.02 < flow < 0.3 * diagonal


# ---- the prior


def test_the_prior_is_the_mixture_of_the_pseudo_inputs_posteriors():
    model = VampPriorVAE(IMAGE, 3, NETS, components=4)
    params = made(model, 2.0)
    mean, log_var = p = model.prior(params)
    z = jax.random.normal(jax.random.key(1), (7, 3)) * 2
    each = [stats.norm.pdf(z, m, np.exp(v / 2)).prod(1) for m, v in zip(mean, log_var, strict=True)]
    np.testing.assert_allclose(model.log_prior(p, z), np.log(np.mean(each, 0)), rtol=1e-5)
    assert np.abs(mean[0] - mean[1]).max() > 0.1


def test_samples_come_from_the_prior():
    model = VampPriorVAE(IMAGE, 1, NETS, components=3)
    params = made(model, 3.0)
    latent = model.latent_space()
    z = latent.draw(jax.random.split(jax.random.key(3), 20_000), None)
    w = np.asarray(latent.map(params, CONTEXT, z, {}))[:, 0]
    mean, log_var = (np.asarray(v)[:, 0] for v in model.prior(params))
    cdf = lambda x: np.mean([stats.norm.cdf(x, m, np.exp(v / 2)) for m, v in zip(mean, log_var, strict=True)], 0)  # noqa: E731
    assert stats.kstest(w, cdf).pvalue > 1e-3  # pyright: ignore[reportAttributeAccessIssue]


# ---- both, and the plain VAE


@pytest.mark.parametrize(
    "model", [VAE(IMAGE, 1, NETS), IAF(IMAGE, 1, NETS, flow_width=4), VampPriorVAE(IMAGE, 1, NETS, components=3)]
)
def test_many_samples_approach_the_marginal_by_quadrature(model):
    params = made(model)
    grid = np.linspace(-12, 12, 4001)
    points = jnp.float32(grid)[:, None]
    log_prior = model.log_prior(model.prior(params), points)
    keys = jax.random.split(jax.random.key(0), len(X))
    found = model.log_prob(params, CONTEXT, {"image": X}, keys, 4000)
    for i in range(len(X)):
        batch = {"image": jnp.repeat(X[i : i + 1], len(grid), 0)}
        joint = np.exp(np.float64(model.log_likelihood(params, points, batch) + log_prior))
        assert float(found[i]) == pytest.approx(np.log(np.trapezoid(joint, grid)), abs=0.02)
    assert np.trapezoid(np.exp(np.float64(log_prior)), grid) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("model", [IAF(IMAGE, 3, NETS, flow_width=6), VampPriorVAE(IMAGE, 3, NETS, components=4)])
def test_the_loss_is_minus_the_bound(model):
    params = made(model, 1.5)
    keys = jax.random.split(jax.random.key(1), 400)
    losses = jax.jit(jax.vmap(lambda key: model.loss(params, CONTEXT, {"image": X}, key)[0]))(keys)
    one = jax.vmap(lambda key: model.log_prob(params, CONTEXT, {"image": X}, jax.random.split(key, len(X)), 1).mean())
    bounds = jax.jit(one)(jax.random.split(jax.random.key(2), 400))
    error = 4 * float(losses.std() + bounds.std()) / 20
    assert -float(losses.mean()) == pytest.approx(float(bounds.mean()), abs=error)


@pytest.mark.parametrize(
    "model, words",
    [
        (IAF(flows=0), "model.flows must be at least 1"),
        (IAF(flow_width=0), "model.flow_width must be at least 1"),
        (VampPriorVAE(components=0), "model.components must be at least 1"),
        (VampPriorVAE(classes=10), "can't be conditioned on labels"),
        (VampPriorVAE(free_bits=0.1), "this KL has no such parts"),
    ],
)
def test_wrong_settings_raise(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)
