"""Zero-shot conditioning of an unconditional model: inpainting, deblurring, colourisation, variation, interpolation.

Each function turns a denoiser (x, tau) -> D, in a frame (schedules.py), into another denoiser or into a sampler. A
degradation is linear, y = A x0, with a pseudo-inverse A^+: A A^+ A = A.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError, at_least
from jaxgen.diffusion import guidance
from jaxgen.diffusion.samplers import Denoise, full_tau, noise_like
from jaxgen.diffusion.schedules import Frame, alpha_of, ratio_of

Array = jax.Array
Key = jax.Array


class LinearDegradation(NamedTuple):
    """A linear degradation A of images f[b h w c] and its pseudo-inverse; A A^T = gain I, or at most that."""

    forward: Callable[[Array], Array]
    back: Callable[[Array], Array]
    gain: float = 1.0


def masking(mask: Array) -> LinearDegradation:
    """Return the masking of pixels; mask f[b h w c] or f[b h w 1] is 1 where pixels are known."""
    cut = lambda x: x * jnp.broadcast_to(mask, x.shape)  # noqa: E731
    return LinearDegradation(cut, cut)


def box_downsampling(factor: int) -> LinearDegradation:
    """Return the mean over squares of factor x factor pixels; its pseudo-inverse repeats each mean."""
    at_least(1, factor=factor)

    def forward(x: Array) -> Array:
        b, h, w, c = x.shape
        if h % factor or w % factor:
            raise InputError(f"{h}x{w} images cannot be divided into squares of {factor}x{factor} pixels.")
        return x.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))

    return LinearDegradation(forward, lambda y: jnp.repeat(jnp.repeat(y, factor, 1), factor, 2), 1 / factor**2)


def greyscale() -> LinearDegradation:
    """Return the mean of the channels; its pseudo-inverse repeats it in three channels."""
    return LinearDegradation(lambda x: x.mean(3, keepdims=True), lambda y: jnp.repeat(y, 3, 3), 1 / 3)


def gaussian_blur(sigma: float) -> LinearDegradation:
    """Return a periodic Gaussian blur of sigma pixels; frequencies attenuated below 1 % are set to 0."""
    if sigma <= 0:
        raise InputError(f"The sigma of a blur must be above 0 pixels, not {sigma}.")

    def response(x: Array) -> Array:
        """Return the factor of each frequency, f32[1 h w/2+1 1]."""
        h, w = x.shape[1:3]
        down, right = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
        left = np.exp(-2 * (np.pi * sigma) ** 2 * (down**2 + right**2))
        return jnp.asarray(np.where(left > 0.01, left, 0), x.dtype)[None, :, :, None]

    def filtered(x: Array, factor: Array) -> Array:
        spectrum = jnp.fft.rfft2(x, axes=(1, 2))
        return jnp.fft.irfft2(spectrum * factor, x.shape[1:3], axes=(1, 2)).astype(x.dtype)

    def back(y: Array) -> Array:
        left = response(y)
        return filtered(y, jnp.where(left > 0, 1 / jnp.where(left > 0, left, 1), 0))

    return LinearDegradation(lambda x: filtered(x, response(x)), back)


def known_latents(mask: Array, shape: tuple[int, ...]) -> Array:
    """Return the mask f32[b *shape] of latents of this shape that depend on known pixels only; mask f32[b h w c].

    A latent is taken to depend on the pixels at its position.
    """
    (b, h, w, _), (rows, columns, numbers) = mask.shape, shape
    if h % rows or w % columns:
        raise InputError(f"A mask of {h}x{w} cannot be divided into {rows}x{columns} parts, one for each latent.")
    least = mask.reshape(b, rows, h // rows, columns, w // columns, -1).min((2, 4, 5))  # [b rows columns]
    return jnp.broadcast_to(least[..., None], (b, rows, columns, numbers))


def ddnm(denoise: Denoise, y: Array, degradation: LinearDegradation) -> Denoise:
    """Return the denoiser D + A^+ (y - A D), which agrees with y. Wang et al. 2023 (DDNM), equation 13."""

    def fitted(x: Array, tau: Array) -> Array:
        d = denoise(x, tau)
        return d + degradation.back(y - degradation.forward(d))

    return fitted


def dps(
    denoise: Denoise,
    y: Array,
    degradation: LinearDegradation,
    noise: float = 0.0,
    frame: Frame = "ve",
    spread: float = 0.5,
) -> Denoise:
    """Return the denoiser of diffusion posterior sampling for y = A x0 + N(0, noise^2).

    D + tau^2 / alpha grad_x log N(y; A D, noise^2 + gain r^2): Chung et al. 2023 (DPS), equation 16, with the variance
    in place of its step size. r^2 = s^2 spread^2 / (s^2 + spread^2) is the variance of an image given x at noise
    s = sigma / alpha, if images have the standard deviation spread: Song et al. 2023, "Pseudoinverse-Guided Diffusion
    Models", section 3.2. It is exact for independent normal pixels. Unlike `ddnm` it accounts for the noise of y.
    """

    def log_prob(x: Array, tau: Array, d: Array) -> Array:
        s = jnp.minimum(ratio_of(frame, tau), guidance.MAX_RATIO)
        variance = noise**2 + degradation.gain * spread**2 / (1 + (spread / s) ** 2)
        return -jnp.square(y - degradation.forward(d)).reshape(len(y), -1).sum(1) / (2 * variance)

    return guidance.guide_by_gradient(denoise, log_prob, frame=frame)


def repaint(
    denoise: Denoise,
    x: Array,
    taus: np.ndarray,
    keys: Key,
    known: Array,
    mask: Array,
    frame: Frame = "ve",
    times: int = 10,
) -> Array:
    """Inpaint where mask is 0, given known f[b h w c]; each step is repeated `times` times with added noise in between.

    The known part is noised to the level of each step; the repetitions harmonise the two parts. Lugmayr et al. 2022
    (RePaint), algorithm 1, with jumps of one step.
    """
    at_least(1, times=times)
    mask = jnp.broadcast_to(mask, x.shape)
    ratio = ratio_of(frame, np.asarray(taus))
    with np.errstate(invalid="ignore"):
        left = np.where(np.isfinite(ratio[:-1]), ratio[1:] / ratio[:-1], 0)
    new = taus[1:] * np.sqrt(1 - left**2)
    kept = np.sqrt(taus[1:] ** 2 - new**2)

    def step(x, at):
        i, tau, after, kept, new = at
        alpha, alpha_after = alpha_of(frame, tau), alpha_of(frame, after)

        def once(j, x):
            number = 3 * (i * times + j)
            d = denoise(x, full_tau(tau, x))
            eps = (x - alpha * d) / tau
            painted = alpha_after * d + kept * eps + new * noise_like(keys, number, x)
            given = alpha_after * known + after * noise_like(keys, number + 1, x)
            joined = mask * given + (1 - mask) * painted
            # From tau' up to tau again: x = (alpha / alpha') x' + the missing noise.
            scale = alpha / alpha_after
            missing = jnp.sqrt(jnp.maximum(tau**2 - (scale * after) ** 2, 0))
            again = scale * joined + missing * noise_like(keys, number + 2, x)
            return jnp.where(j < times - 1, again, joined)

        return jax.lax.fori_loop(0, times, once, x), None

    n = len(taus) - 1
    steps = (jnp.arange(n), *(jnp.asarray(v, x.dtype) for v in (taus[:-1], taus[1:], kept, new)))
    return jax.lax.scan(step, x, steps)[0]


def add_noise(x0: Array, tau: float, keys: Key, frame: Frame = "ve") -> Array:
    """Return x_tau = alpha x0 + tau eps, the start of SDEdit. Meng et al. 2022."""
    return alpha_of(frame, tau) * x0 + tau * noise_like(keys, 0, x0)


def last_steps(taus: np.ndarray, strength: float) -> np.ndarray:
    """Return the last fraction `strength` of the steps of a grid; 1: all. Raises InputError outside (0, 1]."""
    if not 0 < strength <= 1:
        raise InputError(f"strength must be above 0 and at most 1, not {strength}.")
    return taus[len(taus) - 1 - max(round(strength * (len(taus) - 1)), 1) :]


def invert(denoise: Denoise, x0: Array, taus: np.ndarray, frame: Frame = "ve") -> Array:
    """Return the noise at taus[0] from which the ODE leads to x0: the ODE solved backwards by Heun's method.

    alpha x0 is used as x at the first level above 0. Song et al. 2021 (DDIM), section 4.3.
    """
    levels = taus[:-1][::-1]

    def step(x, at):
        tau, after = at
        slope = (x - denoise(x, full_tau(tau, x))) / tau
        ahead = x + (after - tau) * slope
        end = (ahead - denoise(ahead, full_tau(after, x))) / after
        return x + (after - tau) * (slope + end) / 2, None

    x = alpha_of(frame, levels[0]) * x0
    return jax.lax.scan(step, x, tuple(jnp.asarray(v, x0.dtype) for v in (levels[:-1], levels[1:])))[0]


def slerp(one: Array, two: Array, share: Array) -> Array:
    """Return the spherical interpolation from one f[h w c] to two, f[n h w c] at shares f[n] in [0, 1]. White 2016.

    It can be jitted. For equal inputs it is linear, and so constant.
    """
    angle = jnp.arccos(jnp.clip((one * two).sum() / (jnp.linalg.norm(one) * jnp.linalg.norm(two)), -1, 1))
    whole = jnp.sin(angle)
    bent = lambda share: jnp.where(whole < 1e-6, share, jnp.sin(share * angle) / jnp.maximum(whole, 1e-6))  # noqa: E731
    near, far = bent(1 - share), bent(share)
    return jnp.einsum("n,hwc->nhwc", near, one) + jnp.einsum("n,hwc->nhwc", far, two)
