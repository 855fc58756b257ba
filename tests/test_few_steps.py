"""Models of one and few steps where the flow is known: pictures of independent normal pixels."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core import Context
from jaxgen.diffusion.schedules import across
from jaxgen.errors import InputError
from jaxgen.models.diffusion import nets
from jaxgen.models.diffusion.jumps import Jumps
from jaxgen.models.diffusion.meanflow import MeanFlow
from jaxgen.models.diffusion.nets import Net
from jaxgen.models.diffusion.shortcut import Shortcut

IMAGE = (2, 2, 1)
NET = Net("unet", 8, 1, 2, (1, 2), (2,))
MEAN, SPREAD = 0.2, 0.15


def context(ema: Any = None) -> Context:
    return Context({}, ema or {}, {}, jnp.zeros((), jnp.int32))


def pictures(count: int, seed: int = 0):
    return jnp.asarray(MEAN + SPREAD * np.random.default_rng(seed).normal(size=(count, *IMAGE)), jnp.float32)


def carried(x, start, end):
    """Where the flow takes x from one time to another, f[b] each."""
    spread = lambda t: jnp.sqrt((1 - t) ** 2 * SPREAD**2 + t**2)  # noqa: E731
    moved = (x - across(x, 1 - start) * MEAN) * across(x, spread(end) / spread(start))
    return across(x, 1 - end) * MEAN + moved


def mean_velocity(x, t, r):
    """(x_t - x_r) / (t - r), and where they are near the velocity itself."""
    gap = t - r
    gain = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
    guess = MEAN + across(x, gain) * (x - across(x, 1 - t) * MEAN)
    velocity = (x - guess) / across(x, t)
    far = across(x, 1.0 * (gap > 1e-4)) > 0
    return jnp.where(far, (x - carried(x, t, r)) / across(x, jnp.where(gap > 1e-4, gap, 1)), velocity)


@pytest.fixture
def exact(monkeypatch):
    """Let a model's net be the mean velocity, plus p[0] + p[1] x; `end` is what the second number means."""

    def use(end):
        def answer(module, params, x, t, label=None, second=None, dropout=None):
            t = t / 1000
            return mean_velocity(x, t, end(t, second)) + params[0] + params[1] * x

        monkeypatch.setattr(nets, "call", answer)

    return use


def told_gap(t, second):
    return t - second / 1000


def told_steps(t, second):
    return t - jnp.where(second > 750, 0.0, 0.5 ** (second / 100))  # log2 of 128 steps is 7


def slopes(model, parameters, count, seed, ema=False):
    """The gradients of the loss through p in many batches, f[n 2], and the metrics."""
    batch = {"image": pictures(count, seed)}

    def loss(p, key):
        now = context({"denoiser": {"params": jax.lax.stop_gradient(p)}} if ema else None)
        value, aux = model.loss({"denoiser": p}, now, batch, key)
        return value, aux.metrics

    f = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0)))
    return f(jnp.asarray(parameters), jax.random.split(jax.random.key(seed), 20))


def test_the_mean_velocity_is_what_a_meanflows_loss_is_least_at(exact):
    """Of the squared error itself: with weights by the error's size another mean would be."""
    exact(told_gap)
    model = MeanFlow(IMAGE, net=NET, apart=0.7, power=0.0)
    model.task(1)
    found, _ = slopes(model, [0.0, 0.0], 2000, 0)
    error = 4 * found.std(0) / 20**0.5
    assert (jnp.abs(found.mean(0)) < error).all(), (found.mean(0), error)
    for wrong in ([0.05, 0.0], [0.0, 0.05]):
        other, _ = slopes(model, wrong, 2000, 0)
        assert (jnp.abs(other.mean(0)) > 2 * error).any()


def test_a_meanflow_of_no_gap_is_a_flow(exact):
    exact(told_gap)
    model = MeanFlow(IMAGE, net=NET, apart=0.0, power=0.0)
    x0, key = pictures(500), jax.random.key(0)
    _, aux = model.loss({"denoiser": jnp.zeros(2)}, context(), {"image": x0}, key)
    weighed, _ = replace(model, power=1.0).loss({"denoiser": jnp.zeros(2)}, context(), {"image": x0}, key)
    assert 0 < float(aux.metrics["squared_error"]) < 1.2 * (1 + SPREAD**2)
    assert float(weighed) == pytest.approx(1, abs=0.01), "each picture's error over itself"


def test_the_mean_velocity_is_consistent_with_shorter_steps(exact):
    exact(told_steps)
    model = Shortcut(IMAGE, net=NET, share=0.5)
    model.task(1)
    found, metrics = slopes(model, [0.0, 0.0], 2000, 0, ema=True)
    assert float(metrics["consistency"].max()) < 1e-6
    error = 4 * found.std(0) / 20**0.5
    assert (jnp.abs(found.mean(0)) < error).all()
    _, other = slopes(model, [0.0, 0.2], 2000, 0, ema=True)
    assert float(other["consistency"].min()) > 1e-5 and float(other["flow"].mean()) > float(metrics["flow"].mean())


def test_long_steps_begin_where_sampling_takes_them(monkeypatch):
    seen = []

    def answer(module, params, x, t, label=None, second=None, dropout=None):
        seen.append((np.asarray(t) / 1000, np.asarray(second) / 100))
        return jnp.zeros_like(x)

    monkeypatch.setattr(nets, "call", answer)
    Shortcut(IMAGE, net=NET, share=0.5, shortest=16).loss(
        {"denoiser": jnp.zeros(2)}, context(), {"image": pictures(4000)}, jax.random.key(0)
    )
    (t, finer), (first, half), (second, again) = seen
    long = np.arange(4000) < 2000
    np.testing.assert_allclose(finer[~long], 5, atol=1e-5)  # a flow's: one finer than the finest
    assert set(np.round(finer[long], 4)) == {0, 1, 2, 3}
    steps = 2.0 ** finer[long]
    np.testing.assert_allclose(t[long] * steps, np.round(t[long] * steps), atol=1e-4)
    assert (t[long] > 0).all() and (t[long] <= 1).all() and len(set(np.round(t[long], 4))) == 8
    np.testing.assert_allclose(half[long], finer[long] + 1, atol=1e-4)
    np.testing.assert_allclose(first - second, 0.5**half, atol=1e-5)
    np.testing.assert_allclose(half, again)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("make, told", [(Shortcut, told_steps), (MeanFlow, told_gap)])
def test_one_step_is_enough_where_the_mean_velocity_is_known(make, told, steps, exact):
    exact(told)
    task: Any = make(IMAGE, net=NET, sampling=Jumps(steps)).task(1)
    keys = jax.random.split(jax.random.key(0), 2000)
    got = jax.jit(lambda: task.generate({"denoiser": jnp.zeros(2)}, context(), keys, {})["image"])()
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.01) and float(got.std()) == pytest.approx(SPREAD, rel=0.03)
    one: Any = make(IMAGE, net=NET).task(1)
    again = one.generate({"denoiser": jnp.zeros(2)}, context(), keys, {})["image"]
    np.testing.assert_allclose(again, got, atol=1e-4)  # many steps lead where one does


@pytest.mark.parametrize(
    "model, words",
    [
        (Shortcut(IMAGE, net=NET, sampling=Jumps(3)), "must be a power of two up to 128, not 3"),
        (Shortcut(IMAGE, net=NET, sampling=Jumps(256)), "must be a power of two up to 128, not 256"),
        (Shortcut(IMAGE, net=NET, shortest=100), "model.shortest must be a power of two"),
        (Shortcut(IMAGE, net=NET, share=1.0), "model.share must be above 0 and below 1"),
        (MeanFlow(IMAGE, net=NET, sampling=Jumps(0)), "model.sampling.steps must be at least 1"),
        (MeanFlow(IMAGE, net=NET, apart=1.5), "model.apart must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_model(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)
