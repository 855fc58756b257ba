"""VDM: its learned schedule, and its bound against the entropy of pixels whose chances are known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.models.diffusion.vdm import VDM, Gamma
from tests.helpers.small_denoisers import CONTEXT, IMAGE, NET, keys, say


def bent(seed=1):
    model = VDM(IMAGE, net=NET, hidden=32)
    params: Any = Gamma((-13.3, 5.0), 32).init(jax.random.key(seed), jnp.zeros(2))["params"]
    return model, {"schedule": params, "denoiser": {}}


def test_gamma_rises_from_end_to_end():
    model, params = bent()
    gamma = np.asarray(model.gamma(params, jnp.linspace(0, 1, 200)))
    assert gamma[0] == pytest.approx(-13.3, abs=1e-4) and gamma[-1] == pytest.approx(5.0, abs=1e-4)
    assert (np.diff(gamma) > 0).all()
    straight = np.asarray(
        Gamma((-13.3, 5.0), 0).apply({"params": {"ends": jnp.asarray([-13.3, 5.0])}}, jnp.arange(5) / 4)
    )
    np.testing.assert_allclose(np.diff(straight), 18.3 / 4, rtol=1e-5)


def test_a_fresh_vdm_says_that_all_is_noise():
    """Whose last convolution is 0: their code adds z to what it says."""
    model, z = VDM(IMAGE, net=NET, hidden=4), jax.random.normal(jax.random.key(1), (2, *IMAGE))
    params, _ = model.init(jax.random.key(0))
    np.testing.assert_allclose(model.predict_eps(params, z, jnp.asarray([-5.0, 2.0]), None), z, atol=1e-6)


def levels_of(monkeypatch, fourier=2):
    """Pixels of 256 levels with known chances, and the net that knows them: it says E[eps | z] - z."""
    levels = np.arange(256) / 127.5 - 1
    chance = stats.norm.pdf(levels, -0.2, 0.3) + 0.3 * stats.norm.pdf(levels, 0.8, 0.02)
    chance /= chance.sum()

    def answer(x, t, label):
        z, gamma = x[..., 0], t / 1000 * 18.3 - 13.3
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(v))[:, None, None, None] for v in (-gamma, gamma))
        gap = (z[..., None] - alpha * jnp.asarray(levels, jnp.float32)) / sigma
        share = jax.nn.softmax(jnp.log(jnp.asarray(chance, jnp.float32)) - 0.5 * gap**2, -1)
        return (share * gap).sum(-1)[..., None] - x[..., :1]

    say(monkeypatch, answer)
    return levels, chance


def test_the_bound_of_a_net_that_knows_the_data_is_their_entropy(monkeypatch):
    with jax.numpy_rank_promotion("allow"):  # of the net that stands in
        levels, chance = levels_of(monkeypatch)
        entropy = -(chance * np.log2(chance)).sum()
        x = jnp.asarray(np.random.default_rng(0).choice(levels, (400, *IMAGE), p=chance), jnp.float32)
        # This draw's own cross-entropy, so that it is no matter which images were drawn.
        place = np.round((np.asarray(x) + 1) * 127.5).astype(int)
        want = -np.log(chance[place]).sum((1, 2, 3))
        assert want.mean() / (16 * math.log(2)) == pytest.approx(entropy, abs=0.05)
        found = []
        for seed, hidden in ((0, 0), (1, 32)):
            model, params = bent(seed + 1) if hidden else (VDM(IMAGE, net=NET, hidden=0), {})
            params = params or {"schedule": {"ends": jnp.asarray([-13.3, 5.0])}, "denoiser": {}}
            run = jax.jit(
                lambda key, model=model, params=params: model.log_prob(params, CONTEXT, {"image": x}, key, 64)
            )
            found.append(-np.asarray(run(keys(400, seed))))
        for one in found:  # whatever the schedule
            error = 4 * (one - want).std() / 20
            assert error < 0.02 * want.mean()
            assert one.mean() == pytest.approx(want.mean(), abs=error + 0.005 * want.mean())
            assert one.mean() > want.mean() - error


def test_the_schedules_ends_are_moved_by_the_bound_and_its_shape_by_the_spread(monkeypatch):
    with jax.numpy_rank_promotion("allow"):
        levels, chance = levels_of(monkeypatch)
        x = jnp.asarray(np.random.default_rng(0).choice(levels, (256, *IMAGE), p=chance), jnp.float32)
        model, params = bent()
        own = params["schedule"]

        def loss(own, key):
            return model.schedule_loss({**params, "schedule": own}, CONTEXT, {"image": x}, key)[0]

        slopes = jax.jit(jax.grad(loss))(own, jax.random.key(0))
        assert all(float(jnp.abs(v).max()) > 0 for k, v in slopes.items() if k == "ends")
        assert float(jnp.abs(slopes["l2"]["kernel"]).max()) > 0

        def spread(own):  # of the term's own draws over time
            t = (jnp.arange(256) + 0.5) / 256
            eps = jax.random.normal(jax.random.key(1), x.shape)
            return jnp.square(model.diffusion({**params, "schedule": own}, x, t, eps, None)).mean()

        before = float(jax.jit(spread)(own))
        shape = {**slopes, "ends": jnp.zeros(2)}
        step = 1e-2 * before / sum(float((v**2).sum()) for v in jax.tree.leaves(shape)) ** 0.5 / before
        moved = jax.tree.map(lambda a, b: a - step * b, own, shape)
        assert float(jax.jit(spread)(moved)) < before


def test_vdm_is_shown_how_far_a_pixel_is_from_the_nearest_level(monkeypatch):
    """The finest sine and cosine are the same at each of 256 levels, those above turn by half from one to the next."""
    seen = {}
    call = lambda module, net, x, *rest, **_: seen.update(x=x) or 0 * x[..., :1]  # noqa: E731
    monkeypatch.setattr("jaxgen.models.diffusion._nets.call", call)
    levels = (jnp.arange(256) / 127.5 - 1).reshape(1, 16, 16, 1)
    VDM(IMAGE, net=NET).predict_eps({"denoiser": {}}, levels, jnp.zeros(1), None)
    coarse, _, sine, cosine = np.asarray(seen["x"][0, ..., 1:]).reshape(256, 4).T
    np.testing.assert_allclose(sine, 0, atol=1e-3)
    np.testing.assert_allclose(cosine, -1, atol=1e-3)
    np.testing.assert_allclose(coarse[1:], -coarse[:-1], atol=1e-3)
