"""Noise schedules: the factors of the image and of the noise as functions of time.

A Gaussian path is x_t = alpha(t) x0 + sigma(t) eps, eps ~ N(0, I), t from 0 (data) to 1 (noise). Samplers and losses
use two *frames*, whatever the schedule, in which the noise level tau replaces time:

    "ve":   x = x0 + tau eps                     tau = sigma / alpha in [0, inf)    Karras et al. 2022
    "flow": x = (1 - tau) x0 + tau eps           tau = sigma / (alpha + sigma) in [0, 1]    Lipman et al. 2023

x_t / alpha and x_t / (alpha + sigma) are such x. In both frames the probability-flow ODE is dx/dtau = (x - D) / tau,
with D = E[x0 | x], so one sampler serves every path. "flow" reaches pure noise at tau = 1, "ve" never does.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least

Array = jax.Array
Frame = Literal["ve", "flow"]
MAX_SIGNAL = 0.05  # largest allowed share of the image at the end of a schedule


class Schedule(NamedTuple):
    """alpha and sigma of times t f32[...] in [0, 1], f32[...]; f64 NumPy arrays give f64 on the host."""

    alpha: Callable[[Any], Any]
    sigma: Callable[[Any], Any]

    def ratio(self, t: Any) -> Any:
        """Return sigma / alpha, the noise of the "ve" frame."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Any) -> Any:
        """Return log alpha^2 / sigma^2."""
        return 2 * (_np(t).log(self.alpha(t)) - _np(t).log(self.sigma(t)))


def _np(x: Any) -> Any:
    return jnp if isinstance(x, jax.Array) else np


def cosine() -> Schedule:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2). Nichol and Dhariwal 2021, without the offset s."""
    return Schedule(lambda t: _np(t).cos(np.pi / 2 * t), lambda t: _np(t).sin(np.pi / 2 * t))


def rectified_flow() -> Schedule:
    """alpha = 1 - t, sigma = t: rectified flow. Liu et al. 2023, Lipman et al. 2023."""
    return Schedule(lambda t: 1 - t, lambda t: t)


def variance_exploding(low: float, high: float) -> Schedule:
    """alpha = 1, sigma = low (high / low)^t. Song et al. 2021, appendix C."""
    return Schedule(lambda t: 0 * t + 1, lambda t: low * (high / low) ** t)


def variance_preserving(low: float = 0.1, high: float = 20.0) -> Schedule:
    """alpha^2 = exp(-(low t + (high - low) t^2 / 2)), sigma^2 = 1 - alpha^2. Song et al. 2021: the limit of DDPM."""

    def integral(t):
        return low * t + (high - low) * t * t / 2

    return Schedule(lambda t: _np(t).exp(-integral(t) / 2), lambda t: _np(t).sqrt(-_np(t).expm1(-integral(t))))


def shifted(schedule: Schedule, factor: float) -> Schedule:
    """Return the schedule with sigma / alpha multiplied by `factor`; alpha^2 + sigma^2 or alpha + sigma is preserved.

    Larger images need more noise: Hoogeboom et al. 2023, "Simple Diffusion", section 3.1 (log SNR - 2 log factor);
    for flows Esser et al. 2024, "Scaling Rectified Flow Transformers", section 5.3.2.
    """
    at_least(1e-6, factor=factor)
    linear = abs(schedule.alpha(0.3) + schedule.sigma(0.3) - 1) < 1e-6

    def parts(t):
        a, s = schedule.alpha(t), factor * schedule.sigma(t)
        norm = (a + s) if linear else _np(t).sqrt(a * a + s * s)
        return a / norm, s / norm

    return Schedule(lambda t: parts(t)[0], lambda t: parts(t)[1])


def check_ends(noise: float, spread: float = 0.5):
    """Raise InputError if an image is still visible at the highest noise sigma / alpha: samples start from noise.

    spread: standard deviation of the data
    """
    left = spread / noise
    if not left <= MAX_SIGNAL:
        raise InputError(
            f"This noise schedule does not end at noise: at the end the image is still {left:.0%} of the noise, "
            f"and at most {MAX_SIGNAL:.0%} is allowed; raise the highest noise level."
        )


# ---------------------------------------------------------------- DDPM's discrete times


def betas(kind: Literal["linear", "cosine"], steps: int) -> np.ndarray:
    """Return beta_1 ... beta_T of T steps, f64[T].

    linear: from 1e-4 to 0.02 at T = 1000, both times 1000 / T for other T (Ho et al. 2020, section 4). cosine: from
    alpha_bar = cos^2((t / T + 0.008) / 1.008 pi / 2), at most 0.999 (Nichol and Dhariwal 2021, equation 17).
    """
    at_least(1, timesteps=steps)
    if kind == "linear":
        scale = 1000 / steps
        if scale * 0.02 >= 1:
            raise InputError(f"A linear schedule of {steps} steps has betas of 1 or more: use at least 21 steps.")
        return np.linspace(scale * 1e-4, scale * 0.02, steps)
    t = np.arange(steps + 1) / steps
    bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - bar[1:] / bar[:-1], 0.999)


def alpha_bars(betas: np.ndarray) -> np.ndarray:
    """Return alpha_bar_1 ... alpha_bar_T, the remaining fractions of the image's variance, f64[T]."""
    return np.cumprod(1 - betas)


def zero_terminal(betas: np.ndarray) -> np.ndarray:
    """Return betas f64[T] with a last alpha_bar of 0.

    Lin et al. 2024, "Common Diffusion Noise Schedules", algorithm 1.
    """
    root = np.sqrt(alpha_bars(betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    bar = root**2
    return 1 - np.concatenate([bar[:1], bar[1:] / bar[:-1]])


# ---------------------------------------------------------------- frames


def alpha_of(frame: Frame, tau: Any) -> Any:
    """Return the factor of x0 at tau in a frame."""
    return 1 - tau if frame == "flow" else 0 * tau + 1


def to_frame(frame: Frame, ratio: Any) -> Any:
    """Return tau for sigma / alpha, which may be infinite in the "flow" frame."""
    if frame == "ve":
        return ratio
    xp, small = _np(ratio), ratio < 1
    low, high = xp.where(small, ratio, 0), xp.where(small, 1, ratio)
    return xp.where(small, low / (1 + low), 1 / (1 + 1 / high))


def ratio_of(frame: Frame, tau: Any) -> Any:
    """Return sigma / alpha for tau; infinite for pure noise."""
    with np.errstate(divide="ignore"):
        return tau / (1 - tau) if frame == "flow" else tau


def expand_like(x: Array, numbers: Array) -> Array:
    """Return numbers f[b] broadcast to the shape and dtype of x [b ...]."""
    return jnp.broadcast_to(numbers.reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype), x.shape)
