"""Grids of noise levels for samplers: f64[n + 1], decreasing, the last one 0. They are static, on the host."""

from typing import Literal, get_args

import numpy as np

from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.diffusion.schedules import Frame, Schedule, to_frame

Grid = Literal["time", "karras", "log-snr", "cosine"]


def grid(
    kind: Grid, steps: int, frame: Frame, low: float, high: float, schedule: Schedule | None = None, rho: float = 7.0
) -> np.ndarray:
    """Return the taus of `steps` steps in a frame: from sigma / alpha = high to low, and then 0.

    time:    uniform in the time of the schedule, from 1 to 0; low and high are not used
    karras:  uniform in sigma^(1 / rho). Karras et al. 2022, equation 5
    log-snr: uniform in log sigma. Lu et al. 2022
    cosine:  uniform in the angle arctan sigma
    Raises InputError for fewer than one step, or if not 0 < low < high.
    """
    at_least(1, steps=steps)
    if choose(kind, get_args(Grid), "grid") == "time":
        if schedule is None:
            raise InputError("The grid 'time' needs a schedule: choose karras, log-snr or cosine.")
        t = np.linspace(1, 0, steps + 1)[:-1]
        with np.errstate(divide="ignore"):
            return np.append(to_frame(frame, schedule.ratio(t)), 0.0)
    if not 0 < low < high < np.inf:
        raise InputError(f"The noise range of a grid must be 0 < low < high, not {low} to {high}.")
    u = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    maps = {
        "karras": (lambda s: s ** (1 / rho), lambda v: v**rho),
        "log-snr": (np.log, np.exp),
        "cosine": (np.arctan, np.tan),
    }
    forward, inverse = maps[kind]
    ratio = inverse(forward(high) + u * (forward(low) - forward(high)))
    return np.append(to_frame(frame, ratio), 0.0)


def ddpm_timesteps(steps: int, timesteps: int) -> np.ndarray:
    """Return `steps` of DDPM's timesteps 0 ... T - 1, evenly spaced, decreasing, with both ends, i64[steps].

    Raises InputError for more steps than timesteps.
    """
    at_least(1, steps=steps)
    if steps > timesteps:
        raise InputError(f"The model has {timesteps} timesteps: it cannot be sampled in {steps} steps.")
    return np.round(np.linspace(timesteps - 1, 0, steps)).astype(int)
