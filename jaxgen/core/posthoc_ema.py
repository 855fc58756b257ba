"""Averages of any width, made after training: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and
Improving the Training Dynamics of Diffusion Models", CVPR 2024, section 3 and appendix C.

A power-function average weighs the nets of the steps 1 to t by p(i) proportional to i^gamma. Its width is the standard
deviation of that distribution over t, sigma_rel. Snapshots of one or two such averages are kept while a run trains; a
sum of them whose p is nearest to another one's, in the least squares, stands for that one, of any width.

averages/<step>/    the state's moving averages, as checkpoints are
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError

Array = jax.Array
FOLDER = "averages"
LARGEST = 12**-0.5  # sigma_rel of the mean of all steps
FARTHEST = 0.25  # the largest distance of a sum's profile from the wanted one


def gamma_of(width: float) -> float:
    """Return gamma of a width sigma_rel below LARGEST: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    inverse = width**-2  # gamma is the largest root of (g + 2)^2 (g + 3) - (g + 1) / sigma_rel^2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay_of(width: float) -> Callable[[Any], Array]:
    """Return step -> (1 - 1/t)^(gamma + 1), t being the number of updates. Section 3.1."""
    gamma = gamma_of(width)
    return lambda step: (1 - 1 / jnp.float32(step + 1)) ** (gamma + 1)


def product(t: Any, gamma: Any, t_other: Any, gamma_other: Any) -> np.ndarray:
    """Return the integral of two profiles' product, of times and powers f64. Appendix C.

    Up to t the profile is (gamma + 1) i^gamma / t^(gamma + 1), and 0 after.
    """
    power = np.where(t < t_other, gamma_other, -gamma)
    scale = (gamma + 1) * (gamma_other + 1) / ((gamma + gamma_other + 1) * np.maximum(t, t_other))
    return scale * (t / t_other) ** power


def shares_of(steps: Any, widths: Sequence[float], step: int, width: float) -> tuple[np.ndarray, float]:
    """Return how much of each snapshot the wanted average is made of, f64[n], of their steps and widths.

    The shares sum to 1: otherwise the nets would be scaled. Also returns the distance of the two profiles, in units of
    the wanted one's norm.
    """
    t, gamma = np.asarray(steps, np.float64), np.array([gamma_of(w) for w in widths])
    last, aim = np.float64(step), np.float64(gamma_of(width))
    gram = product(t[:, None], gamma[:, None], t[None], gamma[None])
    right, norm = product(t, gamma, last, aim), float(product(last, aim, last, aim))
    equal = np.full(len(t), 1 / len(t))
    change = np.linalg.qr(np.ones((len(t), 1)), mode="complete")[0][:, 1:]  # [n n-1]: what leaves the sum as it is
    best = np.linalg.lstsq(change.T @ gram @ change, change.T @ (right - gram @ equal), rcond=1e-12)[0]
    shares = equal + change @ best
    return shares, float(np.sqrt(max(shares @ gram @ shares - 2 * shares @ right + norm, 0) / norm))


def check_width(width: float, name: str):
    """Raise InputError for what is no average's width."""
    if not 0 < width < LARGEST:
        raise InputError(f"{name} must be above 0 and below {LARGEST:.4f}, the mean of all steps, not {width}.")


def key_of(net: str, width: float, first: bool) -> str:
    """Return the name of a net's average in the state: the first is the one that samples are drawn by."""
    return net if first else f"{net}@{width:g}"
