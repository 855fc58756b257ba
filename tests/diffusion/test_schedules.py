"""Schedules, conversions between predictions, and grids."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.diffusion import schedules
from jaxgen.diffusion.grids import ddpm_timesteps, grid
from jaxgen.diffusion.parameterisations import convert, from_x0, to_x0
from jaxgen.diffusion.schedules import expand_like, ratio_of
from tests.helpers.known_denoisers import FRAMES, KINDS, SCHEDULES, x64  # noqa: F401

# ---------------------------------------------------------------- schedules and parameterisations


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_end_at_noise_on_device_and_host(name):
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


def test_a_schedule_that_does_not_end_at_noise_is_refused():
    with pytest.raises(InputError, match="does not end at noise: at the end the image is still 50%"):
        schedules.check_ends(1.0)


def test_discrete_schedules():
    linear = schedules.betas("linear", 1000)
    assert linear[0] == 1e-4 and linear[-1] == 0.02
    assert (
        schedules.alpha_bars(linear)[-1] == pytest.approx(math.prod(1 - linear))
        and schedules.alpha_bars(linear)[-1] < 5e-5
    )
    cosine = schedules.alpha_bars(schedules.betas("cosine", 1000))
    assert cosine[499] == pytest.approx(
        math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    assert schedules.betas("cosine", 1000)[-1] == 0.999
    flat = schedules.alpha_bars(schedules.zero_terminal(linear))
    assert flat[-1] == 0 and flat[0] == pytest.approx(1 - 1e-4)
    for steps, match in ((0, "timesteps must be at least 1"), (20, "betas of 1 or more")):
        with pytest.raises(InputError, match=match):
            schedules.betas("linear", steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_conversion_and_back_is_the_identity(kind: Any, other: Any):
    draw = np.random.default_rng(1)
    x0, eps = (jnp.asarray(v) for v in draw.normal(size=(2, 5, 3, 3, 2)))
    alpha, sigma = (jnp.asarray(v) for v in draw.uniform(0.1, 1, size=(2, 5)))
    x = expand_like(x0, alpha) * x0 + expand_like(x0, sigma) * eps
    said = from_x0(kind, x0, x, alpha, sigma)
    np.testing.assert_allclose(to_x0(kind, said, x, alpha, sigma), x0, rtol=1e-9, atol=1e-9)
    there = convert(kind, other, said, x, alpha, sigma)
    np.testing.assert_allclose(there, from_x0(other, x0, x, alpha, sigma), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(convert(other, kind, there, x, alpha, sigma), said, rtol=1e-8, atol=1e-8)


def test_definitions_of_the_predictions():
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
    time = grid("time", 4, "flow", 0, 0, schedules.rectified_flow())
    np.testing.assert_allclose(time, [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(ratio_of("flow", grid("karras", 18, "flow", 0.002, 80)), karras)
    np.testing.assert_array_equal(ddpm_timesteps(4, 1000), [999, 666, 333, 0])
    np.testing.assert_array_equal(ddpm_timesteps(1000, 1000), np.arange(999, -1, -1))


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: grid("karras", 0, "ve", 0.1, 1), "steps must be at least 1, not 0"),
        (lambda: grid("karras", 5, "ve", 0, 1), "must be 0 < low < high"),
        (lambda: grid("time", 5, "ve", 0.1, 1), "needs a schedule"),
        (lambda: grid("karrass", 5, "ve", 0.1, 1), "did you mean 'karras'"),  # pyright: ignore[reportArgumentType]
        (lambda: ddpm_timesteps(11, 10), "The model has 10 timesteps: it cannot be sampled in 11 steps"),
    ],
)
def test_invalid_grids_are_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()
