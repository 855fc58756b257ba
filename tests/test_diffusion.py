"""Schedules, grids, samplers, guidance and likelihood where everything is known: Gaussians and mixtures of them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgen.diffusion import conditions, guidance, samplers, schedules
from jaxgen.diffusion.grids import grid, spaced
from jaxgen.diffusion.likelihood import log_prob
from jaxgen.diffusion.ode import dormand_prince
from jaxgen.diffusion.parameterisations import convert, from_x0, to_x0
from jaxgen.diffusion.schedules import across, alpha_of, ratio_of
from jaxgen.errors import InputError

MEAN, SPREAD = 0.3, 0.6
FRAMES = ("ve", "flow")
KINDS: Any = ("x0", "eps", "v", "score", "u")


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def gaussian(frame, mean=MEAN, spread=SPREAD):
    """E[x0 | x] where x0 ~ N(mean, spread^2) in every pixel."""

    def denoise(x, tau):
        alpha, tau = across(x, alpha_of(frame, tau)), across(x, tau)
        gain = alpha * spread**2 / (alpha**2 * spread**2 + tau**2)
        return mean + gain * (x - alpha * mean)

    return denoise


def mixture(frame, means=(-0.6, 0.7), spread=0.2):
    """E[x0 | x] where each pixel is near one of two values: the ODE has no closed form, and is not linear."""

    def denoise(x, tau):
        alpha, tau = across(x, alpha_of(frame, tau)), across(x, tau)
        variance = alpha**2 * spread**2 + tau**2
        shares = jax.nn.softmax(jnp.stack([-((x - alpha * m) ** 2) / (2 * variance) for m in means]), 0)
        each = (m + alpha * spread**2 / variance * (x - alpha * m) for m in means)
        return sum(share * one for share, one in zip(shares, each, strict=True))

    return denoise


def deviation(frame, tau):
    return np.sqrt(alpha_of(frame, tau) ** 2 * SPREAD**2 + tau**2)


def carried(frame, x, start, end):
    """Where the ODE takes x, for `gaussian`."""
    moved = (x - alpha_of(frame, start) * MEAN) / deviation(frame, start) * deviation(frame, end)
    return alpha_of(frame, end) * MEAN + moved


def points(frame, start, count=64):
    noise = np.random.default_rng(0).normal(size=(count, 2, 2, 1))
    return jnp.asarray(alpha_of(frame, start) * MEAN + deviation(frame, start) * noise)


def keys(count=64, seed=0):
    return jax.random.split(jax.random.key(seed), count)


# ---------------------------------------------------------------- schedules and parameterisations

SCHEDULES = {
    "cosine": schedules.cosine(),
    "straight": schedules.straight(),
    "exploding": schedules.exploding(0.002, 80),
    "variance-preserving": schedules.variance_preserving(),
    "shifted": schedules.shifted(schedules.cosine(), 2),
    "shifted flow": schedules.shifted(schedules.straight(), 3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_falls_to_noise_on_device_as_on_the_host(name):
    schedule = SCHEDULES[name]
    t = np.linspace(0.01, 0.99, 50)
    for part in schedule:
        np.testing.assert_allclose(part(jnp.asarray(t)), part(t), rtol=1e-12)
    assert np.all(np.diff(schedule.log_snr(t)) < 0)
    np.testing.assert_allclose(schedule.log_snr(t), -2 * np.log(schedule.ratio(t)), rtol=1e-9)
    with np.errstate(divide="ignore"):
        schedules.check_ends(float(schedule.ratio(np.float64(1))))
    if name in ("cosine", "variance-preserving", "shifted"):
        np.testing.assert_allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1, rtol=1e-12)
    for frame in FRAMES:
        np.testing.assert_allclose(ratio_of(frame, schedules.to_frame(frame, schedule.ratio(t))), schedule.ratio(t))


def test_a_shift_multiplies_the_noise():
    t = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(SCHEDULES["shifted"].ratio(t), 2 * schedules.cosine().ratio(t))
    flow = SCHEDULES["shifted flow"]
    np.testing.assert_allclose(flow.sigma(t), 3 * t / (1 + 2 * t))  # Esser et al. 2024, equation 23
    np.testing.assert_allclose(flow.alpha(t) + flow.sigma(t), 1)


def test_a_schedule_that_ends_before_noise_is_refused():
    with pytest.raises(InputError, match="does not end at noise: in the end a picture is still 50%"):
        schedules.check_ends(1.0)


def test_discrete_schedules():
    linear = schedules.betas("linear", 1000)
    assert linear[0] == 1e-4 and linear[-1] == 0.02
    assert schedules.bars(linear)[-1] == pytest.approx(math.prod(1 - linear)) and schedules.bars(linear)[-1] < 5e-5
    cosine = schedules.bars(schedules.betas("cosine", 1000))
    assert cosine[499] == pytest.approx(
        math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    assert schedules.betas("cosine", 1000)[-1] == 0.999
    flat = schedules.bars(schedules.zero_terminal(linear))
    assert flat[-1] == 0 and flat[0] == pytest.approx(1 - 1e-4)
    for steps, match in ((0, "timesteps must be at least 1"), (20, "betas of 1 and more")):
        with pytest.raises(InputError, match=match):
            schedules.betas("linear", steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_conversion_there_and_back_is_the_identity(kind: Any, other: Any):
    draw = np.random.default_rng(1)
    x0, eps = (jnp.asarray(v) for v in draw.normal(size=(2, 5, 3, 3, 2)))
    alpha, sigma = (jnp.asarray(v) for v in draw.uniform(0.1, 1, size=(2, 5)))
    x = across(x0, alpha) * x0 + across(x0, sigma) * eps
    said = from_x0(kind, x0, x, alpha, sigma)
    np.testing.assert_allclose(to_x0(kind, said, x, alpha, sigma), x0, rtol=1e-9, atol=1e-9)
    there = convert(kind, other, said, x, alpha, sigma)
    np.testing.assert_allclose(there, from_x0(other, x0, x, alpha, sigma), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(convert(other, kind, there, x, alpha, sigma), said, rtol=1e-8, atol=1e-8)


def test_what_the_predictions_are():
    x0, eps, one = jnp.full((1, 1), 2.0), jnp.full((1, 1), 3.0), jnp.ones(1)
    alpha, sigma = 0.8 * one, 0.6 * one
    x = 0.8 * x0 + 0.6 * eps
    want: Any = {"x0": 2, "eps": 3, "v": 0.8 * 3 - 0.6 * 2, "score": -3 / 0.6, "u": 1}
    for kind, value in want.items():
        assert float(from_x0(kind, x0, x, alpha, sigma)[0, 0]) == pytest.approx(value)
    with pytest.raises(InputError, match="Unknown prediction"):
        to_x0("epsilon", x0, x, alpha, sigma)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- grids


def test_grids():
    karras = grid("karras", 18, "ve", 0.002, 80)
    assert len(karras) == 19 and karras[0] == pytest.approx(80) and karras[-2] == pytest.approx(0.002)
    want = (80 ** (1 / 7) + 5 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7  # Karras et al. 2022, equation 5
    assert karras[5] == pytest.approx(want) and karras[-1] == 0
    logs = np.log(grid("log-snr", 9, "ve", 0.01, 10)[:-1])
    np.testing.assert_allclose(np.diff(logs), logs[1] - logs[0])
    angles = np.arctan(grid("cosine", 9, "ve", 0.01, 10)[:-1])
    np.testing.assert_allclose(np.diff(angles), angles[1] - angles[0])
    time = grid("time", 4, "flow", 0, 0, schedules.straight())
    np.testing.assert_allclose(time, [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(ratio_of("flow", grid("karras", 18, "flow", 0.002, 80)), karras)
    np.testing.assert_array_equal(spaced(4, 1000), [999, 666, 333, 0])
    np.testing.assert_array_equal(spaced(1000, 1000), np.arange(999, -1, -1))


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: grid("karras", 0, "ve", 0.1, 1), "steps must be at least 1, not 0"),
        (lambda: grid("karras", 5, "ve", 0, 1), "must rise from above 0"),
        (lambda: grid("time", 5, "ve", 0.1, 1), "needs a schedule"),
        (lambda: grid("karrass", 5, "ve", 0.1, 1), "did you mean 'karras'"),  # pyright: ignore[reportArgumentType]
        (lambda: spaced(11, 10), "The model has 10 times: it can't be sampled in 11 steps"),
    ],
)
def test_bad_grids(call, match):
    with pytest.raises(InputError, match=match):
        call()


# ---------------------------------------------------------------- samplers

# name -> its order, as the papers have it. DPM-Solver++ and UniPC are of lambda, in which the steps are then even.
ORDERS = {"ddim": 1, "heun": 2, "lms": 4, "dpm++2m": 2, "unipc": 3}


def stretch(frame, kind, n):
    """Levels from high noise down to low noise, the last one not 0: a last step to 0 has an order of its own."""
    levels = np.linspace(3, 0.2, n + 1) if kind == "even" else np.geomspace(3, 0.2, n + 1)
    return schedules.to_frame(frame, levels)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", ORDERS)
def test_a_sampler_converges_to_the_ode_at_its_order(name, frame):
    run = samplers.sampler_of(name, frame)
    errors = []
    counts = (320, 640, 1280) if name == "lms" else (80, 160, 320)
    for n in counts:
        taus = stretch(frame, "even" if name in ("heun", "lms") else "log", n)
        if name == "lms":  # its first steps are of lower orders: they are short, and each a fifth longer
            ramp = 1e-7 * np.cumsum(1.2 ** np.arange(80))
            taus = np.concatenate([taus[:1], taus[0] - ramp[ramp < 0.9 * (taus[0] - taus[1])], taus[1:]])
        x = points(frame, taus[0])
        got = run(gaussian(frame), x, taus, keys())
        errors.append(float(jnp.abs(got - carried(frame, x, taus[0], taus[-1])).max()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    # The predictor's last, uncorrected step leaves UniPC an error of order 3 at the end.
    assert slope == pytest.approx(ORDERS[name], abs=0.3), errors
    assert errors[-1] < {1: 0.01, 2: 1e-4, 3: 1e-5, 4: 1e-5}[ORDERS[name]]


@pytest.mark.parametrize("frame", FRAMES)
def test_on_a_mixture_the_orders_are_the_same(frame):
    """The truth is Dormand and Prince's, to 1e-12."""
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
def test_the_spread_of_a_noisy_samplers_answers_converges_at_its_order(name, order, monkeypatch):
    """On a Gaussian the answer is linear in every noise that is drawn: its variance is a sum of squares."""
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


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("steps", [1, 5, 25])
def test_dormand_prince_keeps_its_tolerance(frame, steps):
    """Down to 0, however few the grid's steps are, which are not its own."""
    taus = grid("time", steps, frame, 0, 0, SCHEDULES["straight" if frame == "flow" else "exploding"])
    x = taus[0] * jnp.linspace(-2, 2, 41)[:, None]
    slope = lambda x, s: x - mixture(frame)(x, jnp.exp(s))  # noqa: E731
    truth, _ = dormand_prince(slope, x, math.log(taus[0]), math.log(1e-6), 1e-11, most=20_000)
    errors = []
    for tolerance in (1e-5, 1e-7):
        errors.append(float(jnp.abs(samplers.dopri5(mixture(frame), x, taus, tolerance) - truth).max()))
        assert errors[-1] < 100 * tolerance + 1e-5  # of each step; and what the last thousandth of noise bends
    assert errors[1] < errors[0] / 10


def test_dormand_prince_is_of_order_five_and_each_sample_takes_its_own_steps():
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
    # A step's error is of order 5 in its length: five orders of magnitude cost 10 times as many, 18 were it of order 4.
    assert 7 < used[1] / used[0] < 14
    lost, _ = dormand_prince(slope, jnp.ones((2, 1)), 0.0, 2.0, 1e-9, most=3)
    assert bool(jnp.isnan(lost).all()), "what did not arrive is no number"


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", ["ddpm", "dpm++2m-sde", "heun-churn"])
def test_a_noisy_sampler_keeps_mean_and_spread(name, frame):
    if name == "heun-churn" and frame == "flow":
        pytest.skip("churn is of the ve frame")
    churn = 10.0 if name == "heun-churn" else 0.0
    run = samplers.sampler_of(name.removesuffix("-churn"), frame, churn=churn)
    off = []
    for steps in (50, 200):
        taus = grid("karras", steps, frame, 0.01, 20)
        x = points(frame, taus[0], 4000)
        got = run(gaussian(frame), x, taus, keys(4000))
        assert float(got.mean()) == pytest.approx(MEAN, abs=0.03)
        off.append(abs(float(got.std()) / SPREAD - 1))
    assert off[1] < max(0.35 * off[0], 0.015) and off[1] < 0.04, off  # half a percent of it is chance
    other = run(gaussian(frame), x, taus, keys(4000, 1))
    ode = samplers.heun(gaussian(frame), x, taus)
    assert float(jnp.abs(got - other).max()) > 0.5, "other keys, other samples"
    assert abs(float(jnp.corrcoef((got - ode).ravel(), ode.ravel())[0, 1])) > 0.1


@pytest.mark.parametrize("frame", FRAMES)
def test_eta_goes_from_the_ode_to_the_posterior(frame):
    taus = grid("log-snr", 10, frame, 0.1, 5)
    x = points(frame, taus[0])
    flat = samplers.ancestral(gaussian(frame), x, taus, keys(), frame, eta=0)
    np.testing.assert_allclose(flat, samplers.euler(gaussian(frame), x, taus), rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="eta must be from 0"):
        samplers.ancestral(gaussian(frame), x, taus, keys(), frame, eta=1.5)


def test_a_step_of_ddpm_has_the_posterior_of_the_paper():
    """Ho et al. 2020, equations 6 and 7, in the variance-preserving path, for nu = 0, 1 and between."""
    bar = schedules.bars(schedules.betas("linear", 1000))
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


@pytest.mark.parametrize("name", [*samplers.NAMES, "heun-churn"])
def test_a_sample_depends_on_its_own_key_only(name):
    """At any batch size, and cut over four devices."""
    for frame in FRAMES if name != "heun-churn" else ("ve",):
        run = samplers.sampler_of(name.removesuffix("-churn"), frame, churn=4.0 if "churn" in name else 0.0)
        taus = grid("karras", 6, frame, 0.05, 10)
        x = points(frame, taus[0], 8)
        whole = jax.jit(lambda x, k, run=run, taus=taus, frame=frame: run(mixture(frame), x, taus, k))
        all_ = whole(x, keys(8))
        np.testing.assert_allclose(all_[2:4], whole(x[2:4], keys(8)[2:4]), rtol=1e-9, atol=1e-12)
        over = NamedSharding(jax.make_mesh((4,), ("data",), (AxisType.Auto,)), PartitionSpec("data"))
        np.testing.assert_allclose(all_, whole(*jax.device_put((x, keys(8)), over)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", samplers.NAMES)
def test_pure_noise_in_the_flow_frame_gives_finite_pictures(name):
    taus = grid("time", 50, "flow", 0, 0, schedules.straight())
    assert taus[0] == 1
    x = jax.random.normal(jax.random.key(0), (400, 2, 2, 1))
    got = samplers.sampler_of(name, "flow")(gaussian("flow"), x, taus, keys(400))
    assert bool(jnp.isfinite(got).all())
    assert float(got.mean()) == pytest.approx(MEAN, abs=0.06) and float(got.std()) == pytest.approx(SPREAD, rel=0.1)


@pytest.mark.parametrize("name", samplers.NAMES)
def test_how_often_the_denoiser_is_called(name):
    """Counted as it runs, by a callback: a scan is traced once."""
    calls = []

    def denoise(x, tau):
        jax.debug.callback(lambda: calls.append(1))
        return gaussian("ve")(x, tau)

    taus = grid("karras", 5, "ve", 0.05, 10)
    jax.block_until_ready(samplers.sampler_of(name, "ve")(denoise, points("ve", taus[0], 2), taus, keys(2)))
    jax.effects_barrier()
    if (want := samplers.evaluations(name, 5)) is not None:
        assert len(calls) == want
    else:
        assert len(calls) > 5


def test_settings_that_a_sampler_does_not_have():
    with pytest.raises(InputError, match="churn is a setting of heun"):
        samplers.sampler_of("ddim", "ve", churn=1)
    with pytest.raises(InputError, match="eta is a setting of ddpm, not of heun"):
        samplers.sampler_of("heun", "ve", eta=0.5)
    with pytest.raises(InputError, match="eta must be from 0"):
        samplers.sampler_of("ddpm", "ve", eta=2)
    with pytest.raises(InputError, match='of the "ve" frame'):
        samplers.sampler_of("heun", "flow", churn=1)
    with pytest.raises(InputError, match="did you mean 'dpm\\+\\+2m'"):
        samplers.sampler_of("dpm++2", "ve")


# ---------------------------------------------------------------- guidance


def test_beyond():
    pair = lambda x, tau: (2 * x, x)  # noqa: E731
    x, tau = jnp.ones((3, 2)), jnp.asarray([0.1, 1.0, 9.0])
    np.testing.assert_allclose(guidance.beyond(pair, 3.0)(x, tau), 4)
    np.testing.assert_allclose(guidance.beyond(pair, 1.0)(x, tau), 2)
    got = guidance.beyond(pair, 3.0, interval=(0.5, 5.0))(x, tau)
    np.testing.assert_allclose(got[:, 0], [2, 4, 2])
    np.testing.assert_allclose(guidance.beyond(pair, 3.0, frame="flow")(x, jnp.ones(3)), 4)  # pure noise
    x = jax.random.normal(jax.random.key(0), (3, 50))
    got = guidance.beyond(pair, 3.0, rescale=1.0)(x, tau)
    np.testing.assert_allclose(got.std(1), (2 * x).std(1), rtol=1e-9)
    half = guidance.beyond(pair, 3.0, rescale=0.5)(x, tau)
    np.testing.assert_allclose(half.std(1), 3 * x.std(1), rtol=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
def test_guidance_by_a_classifier_gives_the_class(frame):
    """Two classes at -1 and 1: the mixture's denoiser guided by p(y | x) is the class's own."""
    classes = [gaussian(frame, m, 0.3) for m in (-1.0, 1.0)]

    def log_joint(x, tau):
        alpha = alpha_of(frame, tau)
        scale = jnp.sqrt(alpha**2 * 0.09 + tau**2)
        one = lambda m: jax.scipy.stats.norm.logpdf(x, across(x, alpha * m), across(x, scale)).sum(1)  # noqa: E731
        return jnp.stack([one(-1.0), one(1.0)])

    def mixture(x, tau) -> Any:
        share = jax.nn.softmax(log_joint(x, tau), 0)
        return sum(across(x, s) * d(x, tau) for s, d in zip(share, classes, strict=True))

    log_class = lambda x, tau, d: jax.nn.log_softmax(log_joint(x, tau), 0)[1]  # noqa: E731
    x = jax.random.normal(jax.random.key(0), (50, 3))
    tau = jnp.linspace(0.1, 0.9, 50)
    guided = guidance.towards(mixture, log_class, frame=frame)
    np.testing.assert_allclose(guided(x, tau), classes[1](x, tau), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "values, match",
    [
        ((2.0, (0.0, 1.0), 0.0, 0), "needs a class-conditional model"),
        ((-1.0, (0.0, 1.0), 0.0, 3), "must be at least 0"),
        ((2.0, (1.0, 1.0), 0.0, 3), "interval must rise"),
        ((2.0, (0.0, 1.0), 2.0, 3), "rescaling of guidance must be from 0 to 1"),
    ],
)
def test_bad_guidance(values, match):
    with pytest.raises(InputError, match=match):
        guidance.check_guidance(*values)


# ---------------------------------------------------------------- conditions

COVARIANCE = 0.25 * np.array([[1, 0.8, 0.2, 0.1], [0.8, 1, 0.3, 0.2], [0.2, 0.3, 1, 0.6], [0.1, 0.2, 0.6, 1]])


def correlated(frame):
    """E[x0 | x] of four pixels that know of each other, x0 ~ N(0, COVARIANCE)."""

    def denoise(x, tau):
        flat = x.reshape(len(x), 4)
        a = alpha_of(frame, tau)
        seen = a[:, None, None] ** 2 * jnp.asarray(COVARIANCE)[None] + tau[:, None, None] ** 2 * jnp.eye(4)[None]
        gain = jnp.einsum("b,ij,bjk->bik", a, jnp.asarray(COVARIANCE), jnp.linalg.inv(seen))
        return jnp.einsum("bij,bj->bi", gain, flat).reshape(x.shape)

    return denoise


MASK = jnp.asarray([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
KNOWN = jnp.asarray([0.6, 0.0, 0.0, -0.4]).reshape(1, 2, 2, 1)


@pytest.mark.parametrize("frame", FRAMES)
def test_repaint_draws_what_is_missing_given_what_is_known(frame):
    count = 3000
    taus = grid("log-snr", 40, frame, 0.02, 10)
    x = jnp.sqrt(alpha_of(frame, taus[0]) ** 2 * 0.25 + taus[0] ** 2) * jax.random.normal(
        jax.random.key(1), (count, 2, 2, 1)
    )
    known = jnp.broadcast_to(KNOWN, x.shape)
    got = conditions.repaint(correlated(frame), x, taus, keys(count), known, MASK, frame, times=10).reshape(count, 4)
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
def test_posterior_sampling_weighs_what_is_measured_against_what_is_likely(frame):
    """Means of four pixels, measured with noise: of normal pixels the posterior is known, and DPS's answer exact."""
    noise, way = 0.2, conditions.shrunk(2)
    y = jnp.broadcast_to(jnp.asarray([1.0, -0.4]).reshape(1, 1, 2, 1), (4000, 1, 2, 1))
    taus = grid("karras", 60, frame, 0.01, 50)
    x = taus[0] * jax.random.normal(jax.random.key(5), (4000, 2, 4, 1))
    got = samplers.heun(conditions.posterior(gaussian(frame), y, way, noise, frame, SPREAD), x, taus)
    means = way.forward(got)
    before = SPREAD**2 / 4
    want = MEAN + before / (before + noise**2) * (y[0] - MEAN)
    np.testing.assert_allclose(means.mean(0), want, atol=0.015)
    np.testing.assert_allclose(means.std(0), (1 / (1 / before + 1 / noise**2)) ** 0.5, rtol=0.05)
    rest = got - way.back(means)
    assert float(rest.std()) == pytest.approx(SPREAD * 0.75**0.5, rel=0.03), "the rest of a square is free"


def test_a_degradations_gain():
    """Of A A^T, by its columns."""
    for way, size in ((conditions.shrunk(2), (2, 2, 1)), (conditions.grey(), (1, 1, 3))):
        basis = jnp.eye(math.prod(size)).reshape(-1, *size)
        assert float(jnp.square(way.forward(basis)).sum()) == pytest.approx(way.gain)


def test_degradations_are_undone_where_they_can_be():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (2, 4, 6, 1)).astype(x.dtype)
    for one in (conditions.masked(mask), conditions.shrunk(2), conditions.grey(), conditions.blurred(0.8)):
        y = one.forward(x)
        np.testing.assert_allclose(one.forward(one.back(y)), y, atol=1e-12)
        fitted = conditions.consistent(lambda x, tau: 0 * x, y, one)(x, jnp.ones(2))
        np.testing.assert_allclose(one.forward(fitted), y, atol=1e-12)
    with pytest.raises(InputError, match="can't be cut into squares of 4x4"):
        conditions.shrunk(4).forward(x)


@pytest.mark.parametrize("frame", FRAMES)
def test_inversion_leads_back(frame):
    taus = grid("log-snr", 60, frame, 0.02, 10)
    x0 = points(frame, 0.0, 16)
    noise = conditions.inverted(gaussian(frame), x0, taus, frame)
    again = samplers.heun(gaussian(frame), noise, taus)
    np.testing.assert_allclose(again, x0, atol=0.01)
    assert float(noise.std()) == pytest.approx(float(deviation(frame, taus[0])), rel=0.3)


def test_the_way_between_two_noises():
    from jaxgen.latents import slerp

    one, two = jax.random.normal(jax.random.key(0), (2, 3, 4, 1))
    two = two * jnp.linalg.norm(one) / jnp.linalg.norm(two)  # of other lengths slerp changes the length evenly
    way = conditions.great_circle(one, two, jnp.linspace(0, 1, 5))
    for share, found in zip(np.linspace(0, 1, 5), way, strict=True):
        np.testing.assert_allclose(found[None], slerp(np.asarray(one[None]), np.asarray(two[None]), share), atol=1e-5)
    same = conditions.great_circle(one, one, jnp.linspace(0, 1, 3))
    np.testing.assert_allclose(same, np.broadcast_to(one, same.shape), atol=1e-6)


def test_part_of_a_grid_and_where_it_starts():
    taus = grid("karras", 10, "ve", 0.01, 80)
    np.testing.assert_array_equal(conditions.part(taus, 1.0), taus)
    np.testing.assert_array_equal(conditions.part(taus, 0.3), taus[7:])
    assert len(conditions.part(taus, 0.01)) == 2
    for bad in (0, 1.2):
        with pytest.raises(InputError, match="strength must be above 0"):
            conditions.part(taus, bad)
    x0 = jnp.full((2000, 1, 1, 1), 0.5)
    start = conditions.noised(x0, 0.3, keys(2000), "flow")
    assert float(start.mean()) == pytest.approx(0.35, abs=0.03) and float(start.std()) == pytest.approx(0.3, rel=0.1)


# ---------------------------------------------------------------- likelihood


def test_the_odes_likelihood_is_the_true_one():
    low, high = 0.05, 1e4
    x = points("ve", low, 20).reshape(20, 4)
    truth = jax.scipy.stats.norm.logpdf(x, MEAN, math.sqrt(SPREAD**2 + low**2)).sum(1)
    denoise = gaussian("ve")
    exact = log_prob(denoise, x, keys(20), low, high, "exact", 1e-7, spread=math.hypot(MEAN, SPREAD))
    np.testing.assert_allclose(exact, truth, atol=1e-3)
    # Its Jacobian is a multiple of the identity, so that one probe is exact as well.
    probed = log_prob(denoise, x, keys(20), low, high, "hutchinson", 1e-7, spread=math.hypot(MEAN, SPREAD))
    np.testing.assert_allclose(probed, exact, atol=1e-6)


def test_hutchinsons_probes_are_right_in_the_mean():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 1)) * 0.5
    exact = log_prob(correlated("ve"), x, keys(1), 0.05, 50.0, "exact", 1e-6, spread=0.5)
    truth = jax.scipy.stats.multivariate_normal.logpdf(
        x.reshape(4), jnp.zeros(4), jnp.asarray(COVARIANCE + 0.05**2 * np.eye(4))
    )
    np.testing.assert_allclose(exact, truth, atol=1e-3)
    many = log_prob(correlated("ve"), jnp.repeat(x, 400, 0), keys(400), 0.05, 50.0, "hutchinson", 1e-4, spread=0.5)
    assert float(many.std()) > 0.1
    assert float(many.mean()) == pytest.approx(float(exact[0]), abs=4 * float(many.std()) / 20)
