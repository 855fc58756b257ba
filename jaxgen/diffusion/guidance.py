"""Guidance: denoisers made of denoisers, for any sampler.

All are of x and tau f[b] in a frame (schedules.py), and give D = E[x0 | x]. A score that is moved by g moves D by
tau^2 / alpha g, since score = (alpha D - x) / tau^2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError
from jaxgen.diffusion.schedules import Frame, alpha_of, expand_like, ratio_of

Array = jax.Array
Denoise = Callable[[Array, Array], Array]
MAX_RATIO = 1e9  # sigma / alpha that no image is seen in
ALL_LEVELS = (0.0, MAX_RATIO)


def check_guidance(scale: float, interval: tuple[float, float], rescale: float, able: bool):
    """Raise InputError for settings of guidance that have no meaning, alone or with nothing to go away from."""
    if scale != 1 and not able:
        raise InputError(
            f"A guidance scale of {scale} needs a class-conditional model, and this one has no classes: leave it at 1, "
            "or name a guide."
        )
    if scale < 0:
        raise InputError(f"The guidance scale must be at least 0, not {scale}.")
    if not 0 <= interval[0] < interval[1]:
        raise InputError(f"The guidance interval must rise from 0 or more, not {interval[0]} to {interval[1]}.")
    if not 0 <= rescale <= 1:
        raise InputError(f"The rescaling of guidance must be from 0 to 1, not {rescale}.")


def extrapolate(
    pair: Callable[[Array, Array], tuple[Array, Array]],
    scale: float,
    interval: tuple[float, float] = ALL_LEVELS,
    rescale: float = 0.0,
    frame: Frame = "ve",
) -> Denoise:
    """Go beyond the good one of a pair of denoisers, away from the bad one: D = D_bad + scale (D_good - D_bad).

    pair: (x, tau) -> D_good, D_bad, by one call of a net or by two.
    With the same net told a label and told none it is classifier-free guidance (Ho and Salimans 2022, in their later
    form, where 1 is none); with a worse net for the bad one it is autoguidance (Karras et al. 2024, "Guiding a
    Diffusion Model with a Bad Version of Itself").
    interval: the sigma / alpha between which it is done (Kynkaanniemi et al. 2024).
    rescale: the share of D whose standard deviation is brought back to D_good's (Lin et al. 2024, section 3.4).
    """

    def denoise(x: Array, tau: Array) -> Array:
        kept, left = pair(x, tau)
        weight = jnp.where(in_interval(interval, frame, tau), scale, 1.0)
        d = left + expand_like(x, weight) * (kept - left)
        if rescale:
            spread = lambda v: v.reshape(v.shape[0], -1).std(1)  # noqa: E731
            factor = rescale * spread(kept) / jnp.maximum(spread(d), 1e-8) + 1 - rescale
            d = expand_like(x, factor) * d
        return d

    return denoise


def in_interval(interval: tuple[float, float], frame: Frame, tau: Array) -> Array:
    """Return where the noise is in an interval of sigma / alpha; pure noise is where that has no upper end."""
    ratio = jnp.minimum(ratio_of(frame, tau), MAX_RATIO)
    return (ratio >= interval[0]) & (ratio <= interval[1])


def guide_by_gradient(
    denoise: Denoise,
    log_prob: Callable[[Array, Array, Array], Array],
    scale: float = 1.0,
    interval: tuple[float, float] = ALL_LEVELS,
    frame: Frame = "ve",
) -> Denoise:
    """Add scale grad_x log p(y | x) to the score. Dhariwal and Nichol 2021, algorithm 1: classifier guidance.

    log_prob: (x, tau, D(x)) -> log p(y | x) f[b], of the noisy image or of what is behind it. Its gradient is taken
    through D as well.
    interval: the sigma / alpha between which it is done. In pure noise, where nothing is seen, it never is.
    """

    def guided(x: Array, tau: Array) -> Array:
        def total(x):
            d = denoise(x, tau)
            return log_prob(x, tau, d).sum(), d

        slope, d = jax.grad(total, has_aux=True)(x)
        alpha = alpha_of(frame, tau)
        far = jnp.where(
            in_interval(interval, frame, tau) & (alpha > 0), scale * tau**2 / jnp.where(alpha > 0, alpha, 1), 0
        )
        return d + expand_like(x, far) * slope

    return guided
