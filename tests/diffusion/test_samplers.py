"""Samplers on known distributions: Gaussians and mixtures of them."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgen.core.errors import InputError
from jaxgen.diffusion import samplers, schedules
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.ode import dormand_prince
from tests.helpers.known_denoisers import (  # noqa: F401
    FRAMES,
    MEAN,
    SCHEDULES,
    SPREAD,
    deviation,
    gaussian,
    keys,
    mixture,
    ode_solution,
    points,
    x64,
)

slow = partial(pytest.param, marks=pytest.mark.slow)
# `make test` runs the first frame, its second tier the others.
each_frame = pytest.mark.parametrize("frame", [n if i == 0 else slow(n) for i, n in enumerate(FRAMES)])

# name -> order in the papers. DPM-Solver++ and UniPC work in lambda, so their steps are uniform in lambda.
ORDERS = {"ddim": 1, "heun": 2, "lms": 4, "dpm++2m": 2, "unipc": 3}


def stretch(frame, kind, n):
    """Return levels from high to low noise without 0, since a step to 0 has another order."""
    levels = np.linspace(3, 0.2, n + 1) if kind == "even" else np.geomspace(3, 0.2, n + 1)
    return schedules.to_frame(frame, levels)


@each_frame
@pytest.mark.parametrize("name", ORDERS)
def test_a_sampler_converges_to_the_ode_at_its_order(name, frame):
    run = samplers.sampler_of(name, frame)
    errors = []
    counts = (320, 640, 1280) if name == "lms" else (80, 160, 320)
    for n in counts:
        taus = stretch(frame, "even" if name in ("heun", "lms") else "log", n)
        if name == "lms":  # its first steps are of lower orders, so they are short and grow by a fifth
            ramp = 1e-7 * np.cumsum(1.2 ** np.arange(80))
            taus = np.concatenate([taus[:1], taus[0] - ramp[ramp < 0.9 * (taus[0] - taus[1])], taus[1:]])
        x = points(frame, taus[0])
        got = run(gaussian(frame), x, taus, keys())
        errors.append(float(jnp.abs(got - ode_solution(frame, x, taus[0], taus[-1])).max()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    # The predictor's last, uncorrected step leaves UniPC an error of order 3 at the end.
    assert slope == pytest.approx(ORDERS[name], abs=0.3), errors
    assert errors[-1] < {1: 0.01, 2: 1e-4, 3: 1e-5, 4: 1e-5}[ORDERS[name]]


@each_frame
def test_orders_hold_on_a_mixture(frame):
    """The reference is Dormand and Prince's method with tolerance 1e-12."""
    ends = schedules.to_frame(frame, np.array([3.0, 0.2]))
    x = ends[0] * jnp.linspace(-2, 2, 41)[:, None]
    slope = lambda x, s: x - mixture(frame)(x, jnp.exp(s))  # noqa: E731
    truth, _ = dormand_prince(slope, x, math.log(ends[0]), math.log(ends[1]), 1e-12, most=20_000)
    for name in ("ddim", "heun", "dpm++2m", "unipc"):
        run, errors = samplers.sampler_of(name, frame), []
        for n in (80, 160):
            got = run(mixture(frame), x, stretch(frame, "even" if name == "heun" else "log", n), None)
            errors.append(float(jnp.abs(got - truth).max()))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.35), name


@pytest.mark.parametrize(("name", "order"), [("ddpm", 1), ("dpm++2m-sde", 2), ("heun-churn", 2)])
def test_the_variance_of_a_stochastic_sampler_converges_at_its_order(name, order, monkeypatch):
    """On a Gaussian the result is linear in all noise: its variance is a sum of squares."""
    run = samplers.sampler_of(name.removesuffix("-churn"), "ve", churn=4.0 if "churn" in name else 0.0)
    errors = []
    for n in (40, 80, 160):
        taus = np.geomspace(3, 0.2, n + 1)

        def answer(z, taus=taus, n=n):
            monkeypatch.setattr(samplers, "noise_like", lambda keys, i, x: z[i][None, None])
            return run(gaussian("ve"), z[n][None, None], taus, keys(1))[0, 0]

        z = jnp.zeros(n + 1).at[n].set(MEAN)
        each = np.array(jax.jit(jax.jacfwd(answer))(z))
        each[n] *= deviation("ve", taus[0])
        assert float(jax.jit(answer)(z)) == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs((each**2).sum() - deviation("ve", taus[-1]) ** 2))
    assert -np.polyfit(np.log((40, 80, 160)), np.log(errors), 1)[0] == pytest.approx(order, abs=0.2), errors


@cache
def mixture_solution(frame, start):
    """Return points at level `start`, and where the ODE of `mixture` takes them."""
    x = start * jnp.linspace(-2, 2, 41)[:, None]
    slope = lambda x, s: x - mixture(frame)(x, jnp.exp(s))  # noqa: E731
    return x, dormand_prince(slope, x, math.log(start), math.log(1e-6), 1e-11, most=20_000)[0]


@each_frame
@pytest.mark.parametrize("steps", [1, 25, slow(5)])
def test_dormand_prince_keeps_its_tolerance(frame, steps):
    """It integrates to 0 and does not depend on the number of grid steps."""
    taus = grid("time", steps, frame, 0, 0, SCHEDULES["straight" if frame == "flow" else "exploding"])
    x, truth = mixture_solution(frame, float(taus[0]))
    errors = []
    for tolerance in (1e-5, 1e-7):
        errors.append(float(jnp.abs(samplers.dopri5(mixture(frame), x, taus, tolerance)[0] - truth).max()))
        assert errors[-1] < 100 * tolerance + 1e-5  # tolerance per step, plus the error of the last Euler step
    assert errors[1] < errors[0] / 10


def test_dormand_prince_has_order_5_and_steps_per_sample():
    rates = jnp.asarray([1.0, 30.0])
    slope = lambda y, s: -rates[:, None] * (y - jnp.sin(s)[:, None])  # noqa: E731
    y, calls = dormand_prince(slope, jnp.ones((2, 1)), 0.0, 2.0, 1e-6)
    a = np.asarray(rates)
    know = lambda s: (a**2 * np.sin(s) - a * np.cos(s)) / (1 + a**2)  # noqa: E731
    truth = know(2.0) + (1 - know(0.0)) * np.exp(-2 * a)
    np.testing.assert_allclose(y[:, 0], truth, atol=1e-5)
    assert calls[1] > 2 * calls[0]
    alone, mine = dormand_prince(lambda y, s: -(y - jnp.sin(s)[:, None]), jnp.ones((1, 1)), 0.0, 2.0, 1e-6)
    assert mine[0] == calls[0] and alone[0, 0] == pytest.approx(float(y[0, 0]), abs=1e-12)
    used = [float(dormand_prince(slope, jnp.ones((2, 1)), 0.0, 2.0, tol)[1][0]) for tol in (1e-6, 1e-11)]
    # The error of a step is of order 5: five orders of magnitude take 10 times as many steps; 18 times at order 4.
    assert 7 < used[1] / used[0] < 14
    lost, _ = dormand_prince(slope, jnp.ones((2, 1)), 0.0, 2.0, 1e-9, most=3)
    assert bool(jnp.isnan(lost).all()), "what did not arrive is no number"


@each_frame
@pytest.mark.parametrize("name", ["ddpm", "heun-churn", slow("dpm++2m-sde")])
def test_a_stochastic_sampler_preserves_mean_and_variance(name, frame):
    if name == "heun-churn" and frame == "flow":
        pytest.skip("churn is of the ve frame")
    churn = 10.0 if name == "heun-churn" else 0.0
    run = samplers.sampler_of(name.removesuffix("-churn"), frame, churn=churn)
    few, many = (grid("karras", steps, frame, 0.01, 20) for steps in (50, 200))
    x = points(frame, few[0], 4000)
    roughly = jax.jit(lambda x, keys: run(gaussian(frame), x, few, keys))
    got = np.asarray(roughly(x, keys(4000)))
    fine = np.asarray(jax.jit(lambda x, keys: run(gaussian(frame), x, many, keys))(x, keys(4000)))
    assert few[0] == many[0]
    for found in (got, fine):
        assert found.mean() == pytest.approx(MEAN, abs=0.03)
    off = [abs(found.std() / SPREAD - 1) for found in (got, fine)]
    assert off[1] < max(0.35 * off[0], 0.015) and off[1] < 0.04, off  # half a percent is sampling error
    other = roughly(x, keys(4000, 1))
    ode = np.asarray(samplers.heun(gaussian(frame), x, few))
    assert np.abs(got - other).max() > 0.5, "other keys, other samples"
    assert abs(np.corrcoef((got - ode).ravel(), ode.ravel())[0, 1]) > 0.1


@each_frame
def test_eta_interpolates_between_ode_and_posterior(frame):
    taus = grid("log-snr", 10, frame, 0.1, 5)
    x = points(frame, taus[0])
    flat = samplers.ancestral(gaussian(frame), x, taus, keys(), frame, eta=0)
    np.testing.assert_allclose(flat, samplers.euler(gaussian(frame), x, taus), rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="eta must be from 0"):
        samplers.ancestral(gaussian(frame), x, taus, keys(), frame, eta=1.5)


def test_a_step_of_ddpm_has_the_posterior_of_the_paper():
    """Ho et al. 2020, equations 6 and 7, on the variance-preserving path, for nu from 0 to 1."""
    bar = schedules.alpha_bars(schedules.betas("linear", 1000))
    t, x0 = 600, jnp.full((20_000, 1), 0.4)
    taus = np.sqrt((1 - bar[[t, t - 1]]) / bar[[t, t - 1]])
    xt = jnp.full((20_000, 1), -0.7)
    for nu in (0.0, 0.3, 1.0):
        denoise = lambda x, tau, nu=nu: (x0, jnp.full_like(x, nu))  # noqa: E731
        got = samplers.ancestral(denoise, xt / np.sqrt(bar[t]), taus, keys(20_000), learned=True) * np.sqrt(bar[t - 1])
        alpha, beta = bar[t] / bar[t - 1], 1 - bar[t] / bar[t - 1]
        mean = np.sqrt(bar[t - 1]) * beta / (1 - bar[t]) * 0.4
        mean += np.sqrt(alpha) * (1 - bar[t - 1]) / (1 - bar[t]) * -0.7
        small = (1 - bar[t - 1]) / (1 - bar[t]) * beta
        variance = beta**nu * small ** (1 - nu)
        assert float(got.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / 20_000))
        assert float(got.var()) == pytest.approx(variance, rel=0.04)


@each_frame
@pytest.mark.parametrize("name", [*samplers.NAMES, "heun-churn"])
def test_a_sample_depends_on_its_own_key_only(name, frame):
    """Batches of two equal one of eight, sharded over four devices."""
    if name == "heun-churn" and frame == "flow":
        pytest.skip("churn is of the ve frame")
    run = samplers.sampler_of(name.removesuffix("-churn"), frame, churn=4.0 if "churn" in name else 0.0)
    taus = grid("karras", 6, frame, 0.05, 10)
    x, own = np.asarray(points(frame, taus[0], 8)), keys(8)
    whole = jax.jit(lambda x, k: run(mixture(frame), x, taus, k))
    pairs = np.concatenate([whole(x[i : i + 2], own[i : i + 2]) for i in range(0, 8, 2)])
    over = NamedSharding(jax.make_mesh((4,), ("data",), (AxisType.Auto,)), PartitionSpec("data"))
    np.testing.assert_allclose(whole(*jax.device_put((x, own), over)), pairs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", samplers.NAMES)
def test_pure_noise_in_the_flow_frame_gives_finite_images(name):
    taus = grid("time", 50, "flow", 0, 0, schedules.rectified_flow())
    assert taus[0] == 1
    x = jax.random.normal(jax.random.key(0), (400, 2, 2, 1))
    got = samplers.sampler_of(name, "flow")(gaussian("flow"), x, taus, keys(400))
    assert bool(jnp.isfinite(got).all())
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.06) and float(got.std()) == pytest.approx(SPREAD, rel=0.1)


@pytest.mark.parametrize("name", samplers.NAMES)
def test_number_of_function_evaluations(name):
    """Calls are counted by a callback at run time, since a scan is traced only once."""
    calls = []

    def denoise(x, tau):
        jax.debug.callback(lambda: calls.append(1))
        return gaussian("ve")(x, tau)

    taus = grid("karras", 5, "ve", 0.05, 10)
    x = points("ve", taus[0], 2)
    if (want := samplers.function_evaluations(name, 5)) is None:
        want = int(jax.block_until_ready(samplers.dopri5(denoise, x, taus))[1].max())
        assert want > 5
    else:
        jax.block_until_ready(samplers.sampler_of(name, "ve")(denoise, x, taus, keys(2)))
    jax.effects_barrier()
    assert len(calls) == want


def test_invalid_settings_are_refused():
    with pytest.raises(InputError, match="churn is a setting of heun"):
        samplers.sampler_of("ddim", "ve", churn=1)
    with pytest.raises(InputError, match="eta is a setting of ddpm, not of heun"):
        samplers.sampler_of("heun", "ve", eta=0.5)
    with pytest.raises(InputError, match="eta must be from 0"):
        samplers.sampler_of("ddpm", "ve", eta=2)
    with pytest.raises(InputError, match='needs the "ve" frame'):
        samplers.sampler_of("heun", "flow", churn=1)
    with pytest.raises(InputError, match="did you mean 'dpm\\+\\+2m'"):
        samplers.sampler_of("dpm++2", "ve")
