"""Guidance: functions from denoisers to denoisers, usable with any sampler.

A denoiser maps x and tau f[b] in a frame (schedules.py) to D = E[x0 | x]. Adding g to the score adds tau^2 / alpha g to
D, since score = (alpha D - x) / tau^2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError
from jaxgen.diffusion.schedules import Frame, alpha_of, expand_like, ratio_of

Array = jax.Array
Denoise = Callable[[Array, Array], Array]
MAX_RATIO = 1e9  # sigma / alpha at which x is pure noise
ALL_LEVELS = (0.0, MAX_RATIO)


def check_guidance(scale: float, interval: tuple[float, float], rescale: float):
    """Raise InputError for invalid settings of guidance."""
    if scale < 0:
        raise InputError(f"The guidance scale must be at least 0, not {scale}.")
    if not 0 <= interval[0] < interval[1]:
        raise InputError(f"The guidance interval must be 0 <= low < high, not {interval[0]} to {interval[1]}.")
    if not 0 <= rescale <= 1:
        raise InputError(f"The guidance rescale must be from 0 to 1, not {rescale}.")


def check_null(scale: float, classes: int, drop: float):
    """Raise InputError for classifier-free guidance of a model that has learned no unconditional prediction."""
    if scale != 1 and not (classes and drop):
        lack = "was trained without dropping labels (model.drop 0)" if classes else "has no classes"
        raise InputError(
            f"A guidance scale of {scale} needs a class-conditional model that has also learned to predict without a "
            f"label, and this one {lack}: leave it at 1, or name a guide."
        )


def extrapolate(
    pair: Callable[[Array, Array], tuple[Array, Array]],
    scale: float,
    interval: tuple[float, float] = ALL_LEVELS,
    rescale: float = 0.0,
    frame: Frame = "ve",
) -> Denoise:
    """Return the denoiser D = D_bad + scale (D_good - D_bad), an extrapolation of a pair; scale 1 is no guidance.

    pair: (x, tau) -> D_good, D_bad, by one call of a network or by two.
    With the conditional and the unconditional output of one network it is classifier-free guidance (Ho and Salimans
    2022); with the outputs of a good and a worse network it is autoguidance (Karras et al. 2024, "Guiding a Diffusion
    Model with a Bad Version of Itself").
    interval: the range of sigma / alpha in which guidance is applied (Kynkaanniemi et al. 2024).
    rescale: the weight of D rescaled to the standard deviation of D_good (Lin et al. 2024, section 3.4).
    """

    def denoise(x: Array, tau: Array) -> Array:
        good, bad = pair(x, tau)
        weight = jnp.where(in_interval(interval, frame, tau), scale, 1.0)
        d = bad + expand_like(x, weight) * (good - bad)
        if rescale:
            deviation = lambda v: v.reshape(v.shape[0], -1).std(1)  # noqa: E731
            factor = rescale * deviation(good) / jnp.maximum(deviation(d), 1e-8) + 1 - rescale
            d = expand_like(x, factor) * d
        return d

    return denoise


def in_interval(interval: tuple[float, float], frame: Frame, tau: Array) -> Array:
    """Return bool[b], whether sigma / alpha is in an interval; pure noise counts as MAX_RATIO."""
    ratio = jnp.minimum(ratio_of(frame, tau), MAX_RATIO)
    return (ratio >= interval[0]) & (ratio <= interval[1])


def guide_by_gradient(
    denoise: Denoise,
    log_prob: Callable[[Array, Array, Array], Array],
    scale: float = 1.0,
    interval: tuple[float, float] = ALL_LEVELS,
    frame: Frame = "ve",
) -> Denoise:
    """Return the denoiser with scale grad_x log p(y | x) added to the score. Dhariwal and Nichol 2021, algorithm 1.

    log_prob: (x, tau, D(x)) -> log p(y | x) f[b], a function of the noisy image or of its estimate D. The gradient is
    taken through D as well.
    interval: the range of sigma / alpha in which guidance is applied. It is never applied to pure noise.
    """

    def guided(x: Array, tau: Array) -> Array:
        def total(x):
            d = denoise(x, tau)
            return log_prob(x, tau, d).sum(), d

        slope, d = jax.grad(total, has_aux=True)(x)
        alpha = alpha_of(frame, tau)
        factor = jnp.where(
            in_interval(interval, frame, tau) & (alpha > 0), scale * tau**2 / jnp.where(alpha > 0, alpha, 1), 0
        )
        return d + expand_like(x, factor) * slope

    return guided
