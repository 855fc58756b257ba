"""Closed forms: denoisers of Gaussians and of mixtures of Gaussians, and solutions of the ODE."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import schedules
from jaxgen.diffusion.schedules import alpha_of, expand_like

MEAN, SPREAD = 0.3, 0.6
FRAMES = ("ve", "flow")
KINDS: Any = ("x0", "eps", "v", "score", "u")
SCHEDULES = {
    "cosine": schedules.cosine(),
    "straight": schedules.rectified_flow(),
    "exploding": schedules.variance_exploding(0.002, 80),
    "variance-preserving": schedules.variance_preserving(),
    "shifted": schedules.shifted(schedules.cosine(), 2),
    "shifted flow": schedules.shifted(schedules.rectified_flow(), 3),
}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def gaussian(frame, mean=MEAN, spread=SPREAD):
    """Return E[x0 | x] for x0 ~ N(mean, spread^2) in every pixel."""

    def denoise(x, tau):
        alpha, tau = expand_like(x, alpha_of(frame, tau)), expand_like(x, tau)
        gain = alpha * spread**2 / (alpha**2 * spread**2 + tau**2)
        return mean + gain * (x - alpha * mean)

    return denoise


def mixture(frame, means=(-0.6, 0.7), spread=0.2):
    """Return E[x0 | x] for pixels near one of two values: the ODE is nonlinear and has no closed form."""

    def denoise(x, tau):
        alpha, tau = expand_like(x, alpha_of(frame, tau)), expand_like(x, tau)
        variance = alpha**2 * spread**2 + tau**2
        shares = jax.nn.softmax(jnp.stack([-((x - alpha * m) ** 2) / (2 * variance) for m in means]), 0)
        each = (m + alpha * spread**2 / variance * (x - alpha * m) for m in means)
        return sum(share * one for share, one in zip(shares, each, strict=True))

    return denoise


def deviation(frame, tau):
    return np.sqrt(alpha_of(frame, tau) ** 2 * SPREAD**2 + tau**2)


def ode_solution(frame, x, start, end):
    """Return the ODE solution for `gaussian`, from x at level `start` to level `end`."""
    moved = (x - alpha_of(frame, start) * MEAN) / deviation(frame, start) * deviation(frame, end)
    return alpha_of(frame, end) * MEAN + moved


def points(frame, start, count=64):
    noise = np.random.default_rng(0).normal(size=(count, 2, 2, 1))
    return jnp.asarray(alpha_of(frame, start) * MEAN + deviation(frame, start) * noise)


def keys(count=64, seed=0):
    return jax.random.split(jax.random.key(seed), count)
