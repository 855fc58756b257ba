"""Few-step models against a known flow: images of independent normal pixels."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._few_step_sampling import FewStepSampling
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.consistency import Consistency, teacher_step
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.meanflow import MeanFlow
from jaxgen.models.diffusion.shortcut import Shortcut
from tests.benchmarks import few_steps
from tests.helpers.capabilities import generate

IMAGE = (2, 2, 1)
NET = BackboneConfig("unet", 8, 1, 2, (1, 2), (2,))
MEAN, SPREAD = 0.2, 0.15


def context(ema: Any = None) -> Context:
    return Context({}, ema or {}, {}, jnp.zeros((), jnp.int32))


def data(count: int, seed: int = 0):
    return jnp.asarray(MEAN + SPREAD * np.random.default_rng(seed).normal(size=(count, *IMAGE)), jnp.float32)


def carried(x, start, end):
    """Return the flow's solution from x at time `start` to time `end`, f[b] each."""
    spread = lambda t: jnp.sqrt((1 - t) ** 2 * SPREAD**2 + t**2)  # noqa: E731
    moved = (x - expand_like(x, 1 - start) * MEAN) * expand_like(x, spread(end) / spread(start))
    return expand_like(x, 1 - end) * MEAN + moved


def mean_velocity(x, t, r):
    """Return (x_t - x_r) / (t - r), or the velocity where t - r is nearly 0."""
    gap = t - r
    gain = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
    x0_hat = MEAN + expand_like(x, gain) * (x - expand_like(x, 1 - t) * MEAN)
    velocity = (x - x0_hat) / expand_like(x, t)
    far = expand_like(x, 1.0 * (gap > 1e-4)) > 0
    return jnp.where(far, (x - carried(x, t, r)) / expand_like(x, jnp.where(gap > 1e-4, gap, 1)), velocity)


@pytest.fixture
def exact(monkeypatch):
    """Replace the net by the mean velocity plus p[0] + p[1] x; `end` computes r from t and the second time input."""

    def use(end, scale):
        def answer(module, params, x, t, label=None, second=None, dropout=None):
            t = t / scale
            return mean_velocity(x, t, end(t, second)) + params[0] + params[1] * x

        monkeypatch.setattr(_nets, "call", answer)

    return use


def end_by_gap(t, second):
    return t - second


def end_by_steps(t, second):
    return t - jnp.where(second > 650, 0.0, 0.5 ** (second / 100))  # log2 of 128 steps is 7: flow matching


def gradients(model, parameters, count, seed, ema=False):
    """Return the gradients of the loss with respect to p for many batches, f[n 2], and the metrics."""
    batch = {"image": data(count, seed)}

    def loss(p, key):
        now = context({"denoiser": {"params": jax.lax.stop_gradient(p)}} if ema else None)
        value, aux = model.loss({"denoiser": p}, now, batch, key)
        return value, aux.metrics

    f = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0)))
    return f(jnp.asarray(parameters), jax.random.split(jax.random.key(seed), 20))


def test_the_mean_velocity_minimises_the_meanflow_loss(exact):
    """With the plain squared error (power=0): adaptive weights have another minimum."""
    exact(end_by_gap, 1)
    model = MeanFlow(IMAGE, net=NET, apart=0.7, power=0.0)
    model.task(1)
    found, _ = gradients(model, [0.0, 0.0], 2000, 0)
    error = 4 * found.std(0) / 20**0.5
    assert (jnp.abs(found.mean(0)) < error).all(), (found.mean(0), error)
    for wrong in ([0.05, 0.0], [0.0, 0.05]):
        other, _ = gradients(model, wrong, 2000, 0)
        assert (jnp.abs(other.mean(0)) > 2 * error).any()


def test_a_meanflow_with_r_equal_to_t_is_flow_matching(exact):
    exact(end_by_gap, 1)
    model = MeanFlow(IMAGE, net=NET, apart=0.0, power=0.0)
    x0, key = data(500), jax.random.key(0)
    _, aux = model.loss({"denoiser": jnp.zeros(2)}, context(), {"image": x0}, key)
    weighed, _ = replace(model, power=1.0).loss({"denoiser": jnp.zeros(2)}, context(), {"image": x0}, key)
    assert 0 < float(aux.metrics["squared_error"]) < 1.2 * (1 + SPREAD**2)
    assert float(weighed) == pytest.approx(1, abs=0.01), "each image's error divided by itself"


@pytest.mark.slow
def test_a_meanflow_learns_eight_gaussians_in_one_step(monkeypatch):
    """With 1000 t as the time input the derivative by t is not learned: the distance after one step is 0.43."""
    monkeypatch.setattr(few_steps, "BATCH", 256)
    monkeypatch.setattr(few_steps, "CHUNK", 200)
    settings = few_steps.COMMON | {"net": BackboneConfig("dit", 32, 2, 2, patch=1), "learning_rate": 3e-3, "ema": 0.99}
    model = MeanFlow(**settings)
    true = few_steps.points(np.random.default_rng(100), few_steps.SAMPLES).reshape(-1, 2)
    state = few_steps.train(model, 400, 0)
    assert few_steps.distance(few_steps.sample(model, state, 1), true) < 0.3


def test_the_mean_velocity_is_consistent_with_shorter_steps(exact):
    exact(end_by_steps, 1000)
    model = Shortcut(IMAGE, net=NET, share=0.5)
    model.task(1)
    found, metrics = gradients(model, [0.0, 0.0], 2000, 0, ema=True)
    assert float(metrics["consistency"].max()) < 1e-4, "two of the shortest steps, of flow matching, agree"
    error = 4 * found.std(0) / 20**0.5
    assert (jnp.abs(found.mean(0)) < error).all()
    _, other = gradients(model, [0.0, 0.2], 2000, 0, ema=True)
    assert float(other["consistency"].min()) > 1e-3 and float(other["flow"].mean()) > float(metrics["flow"].mean())


def test_long_steps_are_trained_at_the_times_of_sampling(monkeypatch):
    seen = []

    def answer(module, params, x, t, label=None, second=None, dropout=None):
        seen.append((np.asarray(t) / 1000, np.asarray(second) / 100))
        return jnp.zeros_like(x)

    monkeypatch.setattr(_nets, "call", answer)
    Shortcut(IMAGE, net=NET, share=0.5, shortest=16).loss(
        {"denoiser": jnp.zeros(2)}, context(), {"image": data(4000)}, jax.random.key(0)
    )
    (t, finer), (first, half), (second, again) = seen
    long = np.arange(4000) < 2000
    np.testing.assert_allclose(finer[~long], 4, atol=1e-5)  # flow matching has the finest step: the authors' `dt_flow`
    assert set(np.round(finer[long], 4)) == {0, 1, 2, 3}
    steps = 2.0 ** finer[long]
    np.testing.assert_allclose(t[long] * steps, np.round(t[long] * steps), atol=1e-4)
    assert (t[long] > 0).all() and (t[long] <= 1).all() and len(set(np.round(t[long], 4))) == 8
    np.testing.assert_allclose(half[long], finer[long] + 1, atol=1e-4)
    assert set(np.round(half[long], 4)) <= set(np.round(finer, 4)), "every half step is trained"
    np.testing.assert_allclose(first - second, 0.5**half, atol=1e-5)
    np.testing.assert_allclose(half, again)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("make, end, scale", [(Shortcut, end_by_steps, 1000), (MeanFlow, end_by_gap, 1)])
def test_one_step_is_exact_with_the_exact_mean_velocity(make, end, scale, steps, exact):
    exact(end, scale)
    task: Any = make(IMAGE, net=NET, sampling=FewStepSampling(steps)).task(1)
    keys = jax.random.split(jax.random.key(0), 2000)
    got = jax.jit(lambda: generate(task)({"denoiser": jnp.zeros(2)}, context(), keys, {})["image"])()
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.01) and float(got.std()) == pytest.approx(SPREAD, rel=0.03)
    one: Any = make(IMAGE, net=NET).task(1)
    again = generate(one)({"denoiser": jnp.zeros(2)}, context(), keys, {})["image"]
    np.testing.assert_allclose(again, got, atol=1e-4)  # many steps give the result of one


# ---------------------------------------------------------------- consistency models


def true_consistency_function(self, params, x, sigma, label, dropout=None):
    """Return f for pixels N(0, sigma_data^2): the ODE keeps x divided by its standard deviation. params: an error."""
    spread = lambda v: jnp.sqrt(v**2 + self.sigma_data**2)  # noqa: E731
    return expand_like(x, spread(self.sigma_min) / spread(sigma)) * x + params["denoiser"] * expand_like(x, sigma) * x


@pytest.mark.slow
def test_a_consistency_models_levels_and_pairs():
    model = Consistency(IMAGE, net=NET)
    np.testing.assert_array_equal(model.level_counts(10_000), [11, 21, 41, 81, 161, 321, 641, 1281])
    np.testing.assert_array_equal(replace(model, most=100).level_counts(10_000), [11, 21, 41, 81])
    levels = model.levels_of(jnp.asarray(18), jnp.arange(18))
    assert float(levels[0]) == pytest.approx(0.002) and float(levels[-1]) == pytest.approx(80)
    low, high = model.draw_levels(jax.random.key(0), jnp.asarray(1281), 20_000)
    every = np.asarray(model.levels_of(jnp.asarray(1281), jnp.arange(1281)))
    place = np.abs(np.asarray(low)[:, None] - every[None]).argmin(1)
    np.testing.assert_allclose(high, every[place + 1], rtol=1e-4)
    assert np.log(low).mean() == pytest.approx(-1.1, abs=0.1) and np.log(low).std() == pytest.approx(2.0, abs=0.15)
    few, next_ = model.draw_levels(jax.random.key(0), jnp.asarray(11), 20_000)
    assert len(np.unique(few)) <= 10 and float(next_.max()) <= 80.001


def test_the_consistency_function_at_sigma_min_is_the_identity(monkeypatch):
    monkeypatch.setattr(_nets, "call", lambda module, params, x, *rest, **more: 1e3 * jnp.ones_like(x))
    model, x = Consistency(IMAGE, net=NET), data(3)
    same = model.consistency_function({"denoiser": {}}, x, jnp.full(3, model.sigma_min), None)
    np.testing.assert_allclose(same, x, rtol=1e-5)
    assert float(jnp.abs(model.consistency_function({"denoiser": {}}, x, jnp.full(3, 1.0), None) - x).min()) > 1


def test_the_exact_function_is_consistent_along_the_teachers_ode(monkeypatch):
    """An untrained EDM's ODE is that of N(0, sigma_data^2), with a known f: the distance is 0 for this f only."""
    monkeypatch.setattr(Consistency, "consistency_function", true_consistency_function)
    monkeypatch.setattr(Consistency, "teacher_model", property(lambda self: EDM(IMAGE, net=NET)))
    monkeypatch.setattr(_nets, "call", lambda module, params, x, *rest, **more: jnp.zeros_like(x))
    model = Consistency(IMAGE, net=NET, levels=640, teacher="a run")
    now = context().replace(frozen={"teacher": {}})
    batch = {"image": 0.5 / SPREAD * (data(500) - MEAN)}

    def loss(wrong):
        _, aux = model.loss(1, {"denoiser": wrong}, now, batch, jax.random.key(0))
        return float(aux.metrics["distance"])

    assert loss(0.0) < 1e-4 < 10 * loss(0.0) + 1e-4 < loss(0.01)
    x, high, low = batch["image"], jnp.full(500, 2.0), jnp.full(500, 1.9)
    moved = teacher_step(EDM(IMAGE, net=NET), now, x, high, low, None)
    np.testing.assert_allclose(moved, np.sqrt((1.9**2 + 0.25) / (2.0**2 + 0.25)) * np.asarray(x), atol=1e-4)


def test_the_number_of_levels_doubles_during_training(monkeypatch):
    monkeypatch.setattr(Consistency, "consistency_function", true_consistency_function)
    model = Consistency(IMAGE, net=NET, most=80)
    seen = []
    for step in (0, 249, 250, 500, 999, 1500):
        now = context().replace(step=jnp.asarray(step))
        _, aux = model.loss(1000, {"denoiser": 0.0}, now, {"image": data(4)}, jax.random.key(0))
        seen.append(float(aux.metrics["levels"]))
    assert seen == [11, 11, 21, 41, 81, 81]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_consistency_models_samples(steps, monkeypatch):
    monkeypatch.setattr(Consistency, "consistency_function", true_consistency_function)
    task: Any = Consistency(IMAGE, net=NET, sigma_data=0.2, sampling=FewStepSampling(steps)).task(10)
    keys = jax.random.split(jax.random.key(0), 2000)
    got = generate(task)({"denoiser": 0.0}, context(), keys, {})["image"]
    assert float(got.std()) == pytest.approx(0.2, rel=0.03)


@pytest.mark.parametrize(
    "model, words",
    [
        (Consistency(IMAGE, net=NET, teacher="no/such/run"), "There is no run folder no/such/run"),
        (Consistency(IMAGE, net=NET, sigma_max=2.0), "does not end at noise"),
        (Consistency(IMAGE, net=NET, levels=0), "model.levels must be at least 1"),
        (Consistency(IMAGE, net=NET, most=5), "model.most must be at least 10"),
        (Shortcut(IMAGE, net=NET, sampling=FewStepSampling(3)), "must be a power of two up to 128, not 3"),
        (Shortcut(IMAGE, net=NET, sampling=FewStepSampling(256)), "must be a power of two up to 128, not 256"),
        (Shortcut(IMAGE, net=NET, shortest=100), "model.shortest must be a power of two"),
        (Shortcut(IMAGE, net=NET, share=1.0), "model.share must be above 0 and below 1"),
        (MeanFlow(IMAGE, net=NET, sampling=FewStepSampling(0)), "model.sampling.steps must be at least 1"),
        (MeanFlow(IMAGE, net=NET, apart=1.5), "model.apart must be from 0 to 1"),
    ],
)
def test_invalid_settings_are_refused(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


@pytest.mark.parametrize(
    "found, words",
    [
        (EDM(IMAGE, 10, NET), r"10 classes; write --model\.classes 10\.$"),
        (EDM((4, 4, 1), 10, NET), r"a run of EDM with 4x4x1 images and 10 classes\.$"),
        (MeanFlow(IMAGE, 10, NET), r"a run of MeanFlow with 2x2x1 images and 10 classes\.$"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(found, words, monkeypatch):
    """The message says how to continue for a teacher trained with --tiny, where `edm` has classes."""
    monkeypatch.setattr("jaxgen.runs.config_io.load_config", lambda _: SimpleNamespace(model=found))
    with pytest.raises(InputError, match=words):
        Consistency(IMAGE, net=NET, teacher="a run").task(1)


def test_a_teacher_that_knows_no_null_label_gets_none(monkeypatch):
    teacher = EDM(IMAGE, 3, NET, drop=0.0)
    monkeypatch.setattr("jaxgen.runs.config_io.load_config", lambda _: SimpleNamespace(model=teacher))
    Consistency(IMAGE, 3, NET, teacher="a run").task(1)
    with pytest.raises(InputError, match="was trained without dropping labels"):
        Consistency(IMAGE, 3, NET, teacher="a run", drop=0.1).task(1)
