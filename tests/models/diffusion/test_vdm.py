"""VDM: its learned schedule, and its bound against the entropy of pixels with a known distribution."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.models.diffusion.vdm import VDM, Gamma
from tests.helpers.small_denoisers import CONTEXT, IMAGE, NET, keys, stub_net


def bent(seed=1):
    model = VDM(IMAGE, net=NET, hidden=32)
    params: Any = Gamma((-13.3, 5.0), 32).init(jax.random.key(seed), jnp.zeros(2))["params"]
    return model, {"schedule": params, "denoiser": {}}


def test_gamma_increases_from_gamma_min_to_gamma_max():
    model, params = bent()
    gamma = np.asarray(model.gamma(params, jnp.linspace(0, 1, 200)))
    assert gamma[0] == pytest.approx(-13.3, abs=1e-4) and gamma[-1] == pytest.approx(5.0, abs=1e-4)
    assert (np.diff(gamma) > 0).all()
    straight = np.asarray(
        Gamma((-13.3, 5.0), 0).apply({"params": {"ends": jnp.asarray([-13.3, 5.0])}}, jnp.arange(5) / 4)
    )
    np.testing.assert_allclose(np.diff(straight), 18.3 / 4, rtol=1e-5)


def test_an_untrained_vdm_predicts_eps_equal_to_z():
    """Its last convolution is 0, and z is added to the output, as in the authors' code."""
    model, z = VDM(IMAGE, net=NET, hidden=4), jax.random.normal(jax.random.key(1), (2, *IMAGE))
    predict = jax.jit(lambda: model.predict_eps(model.init(jax.random.key(0))[0], z, jnp.asarray([-5.0, 2.0]), None))
    np.testing.assert_allclose(predict(), z, atol=1e-6)


def levels_of(monkeypatch, fourier=2):
    """Return 256 levels and their probabilities; replace the net by the exact one, E[eps | z] - z."""
    levels = np.arange(256) / 127.5 - 1
    probability = stats.norm.pdf(levels, -0.2, 0.3) + 0.3 * stats.norm.pdf(levels, 0.8, 0.02)
    probability /= probability.sum()

    def answer(x, t, label):
        z, gamma = x[..., 0], t / 1000 * 18.3 - 13.3
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(v))[:, None, None, None] for v in (-gamma, gamma))
        gap = (z[..., None] - alpha * jnp.asarray(levels, jnp.float32)) / sigma
        share = jax.nn.softmax(jnp.log(jnp.asarray(probability, jnp.float32)) - 0.5 * gap**2, -1)
        return (share * gap).sum(-1)[..., None] - x[..., :1]

    stub_net(monkeypatch, answer)
    return levels, probability


def test_the_bound_of_an_exact_net_is_the_entropy(monkeypatch):
    with jax.numpy_rank_promotion("allow"):  # in the stub
        levels, probability = levels_of(monkeypatch)
        entropy = -(probability * np.log2(probability)).sum()
        x = jnp.asarray(np.random.default_rng(0).choice(levels, (400, *IMAGE), p=probability), jnp.float32)
        # The cross-entropy of these images, so that the comparison does not depend on the draw.
        place = np.round((np.asarray(x) + 1) * 127.5).astype(int)
        want = -np.log(probability[place]).sum((1, 2, 3))
        assert want.mean() / (16 * math.log(2)) == pytest.approx(entropy, abs=0.05)
        found = []
        for seed, hidden in ((0, 0), (1, 32)):
            model, params = bent(seed + 1) if hidden else (VDM(IMAGE, net=NET, hidden=0), {})
            params = params or {"schedule": {"ends": jnp.asarray([-13.3, 5.0])}, "denoiser": {}}
            run = jax.jit(
                lambda key, model=model, params=params: model.log_prob(params, CONTEXT, {"image": x}, key, 64)
            )
            found.append(-np.asarray(run(keys(400, seed))))
        for one in found:  # for both schedules
            error = 4 * (one - want).std() / 20
            assert error < 0.02 * want.mean()
            assert one.mean() == pytest.approx(want.mean(), abs=error + 0.005 * want.mean())
            assert one.mean() > want.mean() - error


def test_the_bound_trains_gammas_ends_and_the_variance_its_shape(monkeypatch):
    with jax.numpy_rank_promotion("allow"):
        levels, probability = levels_of(monkeypatch)
        x = jnp.asarray(np.random.default_rng(0).choice(levels, (256, *IMAGE), p=probability), jnp.float32)
        model, params = bent()
        own = params["schedule"]

        def loss(own, key):
            return model.schedule_loss({**params, "schedule": own}, CONTEXT, {"image": x}, key)[0]

        slopes = jax.jit(jax.grad(loss))(own, jax.random.key(0))
        assert all(float(jnp.abs(v).max()) > 0 for k, v in slopes.items() if k == "ends")
        assert float(jnp.abs(slopes["l2"]["kernel"]).max()) > 0

        def second_moment(own):  # of the diffusion term over time
            t = (jnp.arange(256) + 0.5) / 256
            eps = jax.random.normal(jax.random.key(1), x.shape)
            return jnp.square(model.diffusion({**params, "schedule": own}, x, t, eps, None)).mean()

        before = float(jax.jit(second_moment)(own))
        shape = {**slopes, "ends": jnp.zeros(2)}
        step = 1e-2 * before / sum(float((v**2).sum()) for v in jax.tree.leaves(shape)) ** 0.5 / before
        moved = jax.tree.map(lambda a, b: a - step * b, own, shape)
        assert float(jax.jit(second_moment)(moved)) < before


def test_fourier_features_encode_the_distance_to_the_nearest_level(monkeypatch):
    """The finest sine and cosine are equal at all 256 levels; the next coarser ones change sign between levels."""
    seen = {}
    call = lambda module, net, x, *rest, **_: seen.update(x=x) or 0 * x[..., :1]  # noqa: E731
    monkeypatch.setattr("jaxgen.models.diffusion._nets.call", call)
    levels = (jnp.arange(256) / 127.5 - 1).reshape(1, 16, 16, 1)
    VDM(IMAGE, net=NET).predict_eps({"denoiser": {}}, levels, jnp.zeros(1), None)
    coarse, _, sine, cosine = np.asarray(seen["x"][0, ..., 1:]).reshape(256, 4).T
    np.testing.assert_allclose(sine, 0, atol=1e-3)
    np.testing.assert_allclose(cosine, -1, atol=1e-3)
    np.testing.assert_allclose(coarse[1:], -coarse[:-1], atol=1e-3)
