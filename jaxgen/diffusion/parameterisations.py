"""Parameterisations of the prediction for x = alpha x0 + sigma eps, and their conversion to x0.

    x0     the image                     eps   the noise
    v      alpha eps - sigma x0            Salimans and Ho 2022
    score  -eps / sigma                    Song et al. 2021
    u      eps - x0, the velocity of the flow (1 - t) x0 + t eps      Lipman et al. 2023

All arrays are [b ...], alpha and sigma [b]. For fixed x each is linear in x0, so conversions also hold for means.
"""

from typing import Literal, get_args

import jax

from jaxgen.core.errors import choose
from jaxgen.diffusion.schedules import expand_like

Array = jax.Array
Prediction = Literal["x0", "eps", "v", "score", "u"]


def to_x0(kind: Prediction, out: Array, x: Array, alpha: Array, sigma: Array) -> Array:
    """Return x0 from a network output `out` of the given kind."""
    a, s = expand_like(x, alpha), expand_like(x, sigma)
    match choose(kind, get_args(Prediction), "prediction"):
        case "x0":
            return out
        case "eps":
            return (x - s * out) / a
        case "v":
            return (a * x - s * out) / (a * a + s * s)
        case "score":
            return (x + s * s * out) / a
        case _:  # x = alpha x0 + sigma (u + x0)
            return (x - s * out) / (a + s)


def from_x0(kind: Prediction, x0: Array, x: Array, alpha: Array, sigma: Array) -> Array:
    """Return the network output of the given kind that corresponds to x0."""
    a, s = expand_like(x, alpha), expand_like(x, sigma)
    eps = (x - a * x0) / s
    return {"x0": x0, "eps": eps, "v": a * eps - s * x0, "score": -eps / s, "u": eps - x0}[
        choose(kind, get_args(Prediction), "prediction")
    ]


def convert(kind: Prediction, other: Prediction, out: Array, x: Array, alpha: Array, sigma: Array) -> Array:
    """Convert a network output from one kind to another."""
    return from_x0(other, to_x0(kind, out, x, alpha, sigma), x, alpha, sigma)
