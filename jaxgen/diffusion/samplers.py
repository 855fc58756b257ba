"""Samplers: plain functions from noise to images along a grid of noise levels; each can be jitted whole.

    denoise: (x f[b ...], tau f[b]) -> E[x0 | x], f[b ...]
    x:       f[b ...], at taus[0]: noise times taus[0] in the "ve" frame, noise in the "flow" frame at 1
    taus:    f64[n + 1], decreasing, the last one 0, on the host (grids.py)
    keys:    Key[b], one per sample, for samplers that add noise
    frame:   the frame of x (schedules.py); in both, eps = (x - alpha D) / tau and the ODE is dx/dtau = (x - D) / tau

Each returns x at 0. `function_evaluations` gives the number of calls of `denoise` (NFE) per image. Conversions,
guidance and conditions map denoisers to denoisers (guidance.py, conditions.py); samplers do not depend on them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.errors import InputError, choose
from jaxgen.diffusion.ode import dormand_prince
from jaxgen.diffusion.schedules import Frame, alpha_of, ratio_of

Array = jax.Array
Key = jax.Array
Denoise = Callable[[Array, Array], Any]
MIN_TAU = 1e-3  # tau below which noise is invisible: half a level of an 8-bit image is 4e-3


def noise_like(keys: Key, i: Any, x: Array) -> Array:
    """Return N(0, 1) noise like x, drawn per sample from its key and the step number i."""
    return rng.normal(jax.vmap(jax.random.fold_in, (0, None))(keys, i), x.shape[1:]).astype(x.dtype)


def full_tau(tau: Any, x: Array) -> Array:
    """Return tau for every sample of x, f[b]."""
    return jnp.full(x.shape[0], tau, x.dtype)


def _pairs(taus: np.ndarray, x: Array, *more: Any) -> Any:
    """Return the inputs of a scan over the steps: step number, tau before, tau after, and `more`."""
    n = len(taus) - 1
    return (jnp.arange(n), *(jnp.asarray(v, x.dtype) for v in (taus[:-1], taus[1:], *more)))


def euler(denoise: Denoise, x: Array, taus: np.ndarray) -> Array:
    """Euler's method on the ODE: x' = D + tau' / tau (x - D).

    It is exact for constant D, so it does not depend on the frame: DDIM (Song et al. 2021, equation 13).
    """

    def step(x, at):
        _, tau, after = at
        d = denoise(x, full_tau(tau, x))
        return d + (after / tau) * (x - d), None

    return jax.lax.scan(step, x, _pairs(taus, x))[0]


def _noise_parts(taus: np.ndarray, frame: Frame, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each step, the factor of eps and the factor of the new noise, f64[n] each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = ratio_of(frame, taus)
        left = ratio[1:] / ratio[:-1]  # of sigma / alpha; 0 from pure noise
    left = np.where(np.isfinite(left), left, 0)
    new = eta * taus[1:] * np.sqrt(1 - left**2)
    return np.sqrt(taus[1:] ** 2 - new**2), new


def ancestral(
    denoise: Denoise,
    x: Array,
    taus: np.ndarray,
    keys: Key,
    frame: Frame = "ve",
    eta: float = 1.0,
    learned: bool = False,
) -> Array:
    """Sample from q(x' | x, x0 = D) at each step: DDPM for eta = 1, DDIM for eta = 0.

    Ho et al. 2020, algorithm 2, with the posterior's variance beta~; Song et al. 2021, equations 12 and 16.
    learned: `denoise` returns (D, nu) with nu f[b ...] in [0, 1]: the variance is beta^nu beta~^(1 - nu) (Nichol and
    Dhariwal 2021, equation 15), nu = 1 is the other choice of Ho et al. Raises InputError for eta outside [0, 1].
    """
    check_eta(eta)
    kept, new = _noise_parts(taus, frame, eta)
    # beta / beta~ = (1 - alpha_bar_t) / (1 - alpha_bar_t'), of the variance-preserving path.
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 / (1 + 1 / ratio_of(frame, taus) ** 2)
        wider = np.where(taus[1:] > 0, 0.5 * np.log(share[:-1] / share[1:]), 0)

    def step(x, at):
        i, tau, after, kept, new, wider = at
        out = denoise(x, full_tau(tau, x))
        d, nu = out if learned else (out, None)
        eps = (x - alpha_of(frame, tau) * d) / tau
        scale = new if nu is None else new * jnp.exp(nu * wider)
        return alpha_of(frame, after) * d + kept * eps + scale * noise_like(keys, i, x), None

    return jax.lax.scan(step, x, _pairs(taus, x, kept, new, wider))[0]


def heun(
    denoise: Denoise,
    x: Array,
    taus: np.ndarray,
    keys: Key | None = None,
    churn: float = 0.0,
    between: tuple[float, float] = (0.0, np.inf),
    noise: float = 1.0,
) -> Array:
    """Heun's method: correct each Euler step by the slope at its end; churn > 0 adds noise before each step.

    Karras et al. 2022, algorithms 1 and 2: S_churn, S_tmin and S_tmax, S_noise. churn requires the "ve" frame.
    """
    before = np.asarray(taus[:-1])
    gamma = np.where((before >= between[0]) & (before <= between[1]), min(churn / len(before), np.sqrt(2) - 1), 0)

    def step(x, at):
        i, tau, after, gamma = at
        if churn:
            assert keys is not None, "churn needs keys"
            raised = tau * (1 + gamma)
            x = x + jnp.sqrt(raised**2 - tau**2) * noise * noise_like(keys, i, x)
            tau = raised
        slope = (x - denoise(x, full_tau(tau, x))) / tau
        ahead = x + (after - tau) * slope

        def corrected(ahead):
            end = (ahead - denoise(ahead, full_tau(after, x))) / after
            return x + (after - tau) * (slope + end) / 2

        return jax.lax.cond(after > 0, corrected, lambda ahead: ahead, ahead), None

    return jax.lax.scan(step, x, _pairs(taus, x, gamma))[0]


def lms(denoise: Denoise, x: Array, taus: np.ndarray, order: int = 4) -> Array:
    """Linear multistep (Adams-Bashforth) method: integrate the polynomial through up to `order` last slopes.

    The coefficients are exact integrals over the uneven grid. Used for diffusion by Zhang and Chen 2023 (DEIS).
    """
    n = len(taus) - 1
    table = np.zeros((n, order))
    for i in range(n):
        step = taus[i + 1] - taus[i]
        known = (taus[max(i - order + 1, 0) : i + 1][::-1] - taus[i]) / step  # newest first, at 0; the step ends at 1
        for j in range(len(known)):
            others = np.delete(known, j)
            lagrange = np.poly1d(np.poly(others) / np.prod(known[j] - others) if len(others) else [1.0])
            table[i, j] = step * np.polyint(lagrange)(1.0)

    def step(carry, at):
        x, slopes = carry
        _, tau, _, weights = at
        slope = (x - denoise(x, full_tau(tau, x))) / tau
        slopes = jnp.concatenate([slope[None], slopes[:-1]])
        return (x + jnp.tensordot(weights, slopes, 1), slopes), None

    start = (x, jnp.zeros((order, *x.shape), x.dtype))
    return jax.lax.scan(step, start, _pairs(taus, x, table))[0][0]


def _log_steps(taus: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return h_i = lambda_{i+1} - lambda_i with lambda = log alpha / sigma, and h_{i-1} / h_i, f64[n].

    h_{i-1} / h_i is infinite for first-order steps: the first step, steps from pure noise, and steps to 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.diff(-np.log(ratio_of(frame, np.asarray(taus, np.float64))))
        r = np.concatenate([[np.inf], h[:-1] / h[1:]])
    return h, np.where(np.isfinite(h), r, np.inf)


def dpmpp_2m(
    denoise: Denoise,
    x: Array,
    taus: np.ndarray,
    keys: Key | None = None,
    frame: Frame = "ve",
    sde: bool = False,
) -> Array:
    """DPM-Solver++(2M): D extrapolated from two steps in lambda = log alpha / sigma; the linear part is exact.

    Lu et al. 2022, "DPM-Solver++", algorithm 2; with `sde`, SDE-DPM-Solver++(2M), equation 14 of section 4, with noise
    from keys. The first step and the last step, to 0, are of first order.
    """
    h, r = _log_steps(taus, frame)
    extra = 1 / (2 * r)  # of D - D_before
    decay = np.exp(-h)  # 0 in the last step
    after, alpha = taus[1:], alpha_of(frame, taus[1:])
    if sde:
        left = after / taus[:-1] * decay
        gain, fresh = alpha * (1 - decay**2), after * np.sqrt(1 - decay**2)
    else:
        left, gain, fresh = after / taus[:-1], alpha * (1 - decay), np.zeros_like(h)

    def step(carry, at):
        x, last = carry
        i, tau, _, left, gain, extra, fresh = at
        d = denoise(x, full_tau(tau, x))
        x = left * x + gain * (d + extra * (d - last))
        if sde:
            assert keys is not None, "an SDE needs keys"
            x = x + fresh * noise_like(keys, i, x)
        return (x, d), None

    return jax.lax.scan(step, (x, jnp.zeros_like(x)), _pairs(taus, x, left, gain, extra, fresh))[0][0]


def unipc(denoise: Denoise, x: Array, taus: np.ndarray, frame: Frame = "ve") -> Array:
    """UniPC-2 with D prediction and B(h) = e^-h - 1 ("bh2"): each predicted point is corrected once D is known there.

    Zhao et al. 2023, algorithm 1: one call of `denoise` per step; the corrected point is of order 3. The last step of
    the predictor is of first order, and x at 0 is not corrected.
    """
    h, r = _log_steps(taus, frame)
    decay, alpha = np.exp(-h), alpha_of(frame, taus[1:])
    left, gain = taus[1:] / taus[:-1], alpha * (1 - decay)
    ahead = 1 / (2 * r)  # weight of D - D_before in the predictor
    # The corrector of step i-1 uses D at both ends and one step before: rho solves sum_m R[k, m] rho_m = b_k.
    old, new = np.zeros(len(h)), np.full(len(h), 0.5)
    for i in range(1, len(h) - 1):
        hh, phi = -h[i], np.expm1(-h[i])
        first = phi / hh - 1
        b = np.array([first, 2 * (first / hh - 0.5)]) / phi
        new[i] = b[0]  # without an earlier D
        if np.isfinite(r[i]):
            weight, new[i] = np.linalg.solve([[1, 1], [-r[i], 1]], b)
            old[i] = -weight / r[i]
    shift = lambda v, first: np.concatenate([[first], v[:-1]])  # noqa: E731  values of the previous step
    corrected = (np.arange(len(h)) > 0).astype(float)

    def step(carry, at):
        x, start, d1, d2 = carry  # x is predicted from `start`, where D was d1, and d2 one step earlier
        _, tau, _, left, gain, ahead, left0, gain0, old, new, corrected = at
        d = denoise(x, full_tau(tau, x))
        refined = left0 * start + gain0 * (d1 + old * (d2 - d1) + new * (d - d1))
        x = jnp.where(corrected > 0, refined, x)
        return (left * x + gain * (d + ahead * (d - d1)), x, d, d1), None

    zero = jnp.zeros_like(x)
    steps = _pairs(taus, x, left, gain, ahead, shift(left, 1), shift(gain, 0), shift(old, 0), shift(new, 0), corrected)
    return jax.lax.scan(step, (x, x, zero, zero), steps)[0][0]


def dopri5(denoise: Denoise, x: Array, taus: np.ndarray, tolerance: float = 1e-4) -> tuple[Array, Array]:
    """Solve the ODE adaptively by Dormand and Prince's method, from taus[0] to MIN_TAU or taus[-2], the smaller one.

    Returns x at 0 and the number of function evaluations per sample, i32[b]. Step sizes are chosen per sample and do
    not depend on the grid; a last Euler step leads to 0. Used by Song et al. 2021, appendix D.4.
    """
    slope = lambda x, s: x - denoise(x, jnp.exp(s))  # noqa: E731  dx / d log tau, for which step sizes vary less
    low = min(taus[-2], MIN_TAU)
    calls = jnp.zeros(x.shape[0], jnp.int32)
    if taus[0] > low:
        x, calls = dormand_prince(slope, x, math.log(taus[0]), math.log(low), tolerance)
    return denoise(x, full_tau(low, x)), calls + 1


def check_eta(eta: float):
    """Raise InputError outside [0, 1]."""
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be from 0 (DDIM) to 1 (DDPM), not {eta}.")


NAMES = ("ddim", "ddpm", "euler-ancestral", "heun", "dpm++2m", "dpm++2m-sde", "unipc", "lms", "dopri5")


def sampler_of(name: str, frame: Frame, churn: float = 0.0, eta: float = 1.0, learned: bool = False) -> Callable:
    """Return the sampler (denoise, x, taus, keys) -> x at 0. Raises InputError for settings it does not have.

    "euler-ancestral" is "ddpm" without learned variances.
    """
    check_eta(eta)
    if eta != 1 and name not in ("ddpm", "euler-ancestral"):
        raise InputError(f"eta is a setting of ddpm, not of {name}.")
    if churn and name != "heun":
        raise InputError(f"churn is a setting of heun, not of {name}.")
    if churn and frame != "ve":
        raise InputError('churn needs the "ve" frame, in which the image keeps its scale.')
    plain = lambda f, **rest: lambda denoise, x, taus, keys: f(denoise, x, taus, **rest)  # noqa: E731
    match name:
        case "ddim":
            return plain(euler)
        case "ddpm" | "euler-ancestral":
            return partial(ancestral, frame=frame, eta=eta, learned=learned)
        case "heun":
            return partial(heun, churn=churn)
        case "dpm++2m":
            return plain(dpmpp_2m, frame=frame)
        case "dpm++2m-sde":
            return partial(dpmpp_2m, frame=frame, sde=True)
        case "unipc":
            return plain(unipc, frame=frame)
        case "lms":
            return plain(lms)
        case "dopri5":
            return lambda denoise, x, taus, keys: dopri5(denoise, x, taus)[0]
    return sampler_of(choose(name, NAMES, "sampler"), frame)


def function_evaluations(name: str, steps: int) -> int | None:
    """Return the number of function evaluations (NFE) for one image; None if it depends on the image."""
    return None if name == "dopri5" else 2 * steps - 1 if name == "heun" else steps
