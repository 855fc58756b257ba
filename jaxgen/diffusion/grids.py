"""The noise levels at which a sampler stops: f64[n + 1], falling, the last one 0. On the host: they are static."""

from typing import Literal, get_args

import numpy as np

from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.diffusion.schedules import Frame, Schedule, to_frame

Grid = Literal["time", "karras", "log-snr", "cosine"]


def grid(
    kind: Grid, steps: int, frame: Frame, low: float, high: float, schedule: Schedule | None = None, rho: float = 7.0
) -> np.ndarray:
    """Return the taus of so many steps in a frame, between two noise levels sigma / alpha and then 0.

    time:    even in the schedule's time, from 1 to 0 (all of it: low and high are not asked)
    karras:  even in sigma^(1 / rho). Karras et al. 2022, equation 5
    log-snr: even in log sigma. Lu et al. 2022
    cosine:  even in the angle arctan sigma
    Raises InputError for fewer than one step, and levels that are not in order.
    """
    at_least(1, steps=steps)
    if choose(kind, get_args(Grid), "grid") == "time":
        if schedule is None:
            raise InputError("A grid that is even in time needs a schedule: choose karras, log-snr or cosine.")
        t = np.linspace(1, 0, steps + 1)[:-1]
        with np.errstate(divide="ignore"):
            return np.append(to_frame(frame, schedule.ratio(t)), 0.0)
    if not 0 < low < high < np.inf:
        raise InputError(f"The noise of a grid must rise from above 0, not from {low} to {high}.")
    u = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    maps = {
        "karras": (lambda s: s ** (1 / rho), lambda v: v**rho),
        "log-snr": (np.log, np.exp),
        "cosine": (np.arctan, np.tan),
    }
    there, back = maps[kind]
    ratio = back(there(high) + u * (there(low) - there(high)))
    return np.append(to_frame(frame, ratio), 0.0)


def ddpm_timesteps(steps: int, timesteps: int) -> np.ndarray:
    """Return so many of DDPM's times 0 ... T - 1, evenly, falling, the first and the last among them, i64[steps].

    Raises InputError for more steps than times.
    """
    at_least(1, steps=steps)
    if steps > timesteps:
        raise InputError(f"The model has {timesteps} times: it can't be sampled in {steps} steps.")
    return np.round(np.linspace(timesteps - 1, 0, steps)).astype(int)
