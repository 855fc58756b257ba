"""Frames between frames, along the optical flow, or by a net."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.media.video_edits.footage import Footage, Frame, to_bytes, to_float
from jaxgen.media.video_edits.motion import difference, flow_of, same_scene, trust_in
from jaxgen.nn.optical_flow import warped

Array = jax.Array

ROUNDS = 3  # of the search for the pixel that passes through a place
SHARP = 0.02  # the difference of colours that halves a candidate's weight, about
MOST = 16  # frames for one
NEAR = 0.02  # so near to the time that is asked for, in parts of the interval, a net's frame may be
# (first, second f32[h w 3], times between 0 and 1) -> frames f32[h w 3] at these times
Between = Callable[[Any, Any, list[float]], list[Any]]


@jax.jit
def halfway(first: Array, second: Array, forth: Array, back: Array, share: Array) -> Array:
    """Return the frame f32[h w 3] at a time from 0 to 1 between two frames.

    forth, back: the flows f32[h w 2] from the first to the second, and from the second to the first

    A pixel q of it is passed by the pixel p of the first frame where p + share forth(p) = q, and by one of the second.
    Their motions, and none, are three candidates. Each is weighted by how well the two frames agree along it.
    """
    here, there = jnp.zeros_like(forth), jnp.zeros_like(back)
    for _ in range(ROUNDS):  # p - q by iteration
        here = -share * warped(forth, here)
        there = -(1 - share) * warped(back, there)
    total, weights = jnp.zeros_like(first), jnp.zeros_like(first[..., :1])
    for before, after, prior in (
        (here, -here * (1 - share) / share, 1.0),
        (-there * share / (1 - share), there, 1.0),
        (jnp.zeros_like(here), jnp.zeros_like(here), 0.3),
    ):
        one, other = warped(first, before, cubic=True), warped(second, after, cubic=True)
        weight = prior * jnp.exp(-jnp.sqrt(difference(one, other)) / SHARP) + 1e-6
        total = total + weight * ((1 - share) * one + share * other)
        weights = weights + weight
    return total / weights


def by_flow(first: Any, second: Any, shares: list[float]) -> list[Any]:
    """Return frames f32[h w 3] at times from 0 to 1 between two; the nearer one where the scene changes."""
    forth = flow_of(first, second)
    if not same_scene(trust_in(first, second, forth)):
        return [first if share < 0.5 else second for share in shares]
    back = flow_of(second, first)
    return [halfway(first, second, forth, back, jnp.float32(share)) for share in shares]


def by_net(make: Callable[[Any, Any], list[Any]]) -> Between:
    """Return the frames between two that a net makes; the nearer of the two where the scene changes.

    make: (first, second f32[h w 3]) -> frames at equal distances between them

    Times that are not among these come from the frames between frames, up to NEAR.
    """

    def between(first: Any, second: Any, shares: list[float]) -> list[Any]:
        if not same_scene(trust_in(first, second, flow_of(first, second))):
            return [first if share < 0.5 else second for share in shares]
        known = {0.0: first, 1.0: second}

        def at(share: float) -> Any:
            while True:
                nearest = min(known, key=lambda time: abs(time - share))
                if abs(nearest - share) <= NEAR:
                    return known[nearest]
                start = max(time for time in known if time < share)
                end = min(time for time in known if time > share)
                made = make(known[start], known[end])
                step = (end - start) / (len(made) + 1)
                known.update({start + step * (i + 1): frame for i, frame in enumerate(made)})

        return [at(share) for share in shares]

    return between


def multiplied(footage: Footage, factor: int, between: Between = by_flow) -> Footage:
    """Return footage with `factor` frames for one. Raises InputError for a factor that is not from 2 to 16."""
    if not 2 <= factor <= MOST:
        raise InputError(f"--interpolate must be from 2 to {MOST}, not {factor}.")

    def times(frame: Frame, after: Frame) -> list[float]:
        return [frame.time + (after.time - frame.time) * i / factor for i in range(factor)]

    last = 1 / footage.rate  # there is nothing after the last frame to interpolate
    frames = _timed(
        footage.frames, times, lambda frame: [frame.time + last * i / factor for i in range(factor)], between
    )
    return replace(footage, frames=frames, count=footage.count * factor)


def at_rate(footage: Footage, rate: float, between: Between = by_flow) -> Footage:
    """Return footage with so many frames per second, as long as before.

    Raises InputError for a rate that is not from 1 to 240.
    """
    if not 1 <= rate <= 240:
        raise InputError(f"--fps must be from 1 to 240, not {rate:g}.")

    def steps(start: float, end: float) -> list[float]:
        first, stop = math.ceil(start * rate - 1e-6), math.ceil(end * rate - 1e-6)
        return [number / rate for number in range(first, stop)]

    frames = _timed(
        footage.frames,
        lambda frame, after: steps(frame.time, after.time),
        lambda frame: steps(frame.time, footage.seconds),
        between,
    )
    return replace(footage, frames=frames, count=max(round(footage.seconds * rate), 1))


def _timed(
    frames: Iterator[Frame],
    times: Callable[[Frame, Frame], list[float]],
    ending: Callable[[Frame], list[float]],
    between: Between,
) -> Iterator[Frame]:
    """Yield frames at the times that `times` gives from each frame up to the next, and `ending` after the last."""
    frame = next(frames)
    for after in frames:
        length, wanted = after.time - frame.time, times(frame, after)
        shares = [(time - frame.time) / length for time in wanted]
        inner = [share for share in shares if 1e-3 < share < 1 - 1e-3]
        made: Iterator[Any] = iter(())
        if inner and np.array_equal(frame.pixels, after.pixels):
            made = iter([to_float(frame.pixels)] * len(inner))
        elif inner:
            made = iter(between(to_float(frame.pixels), to_float(after.pixels), inner))
        for time, share in zip(wanted, shares, strict=True):
            if share <= 1e-3:
                yield Frame(time, frame.pixels)
            elif share >= 1 - 1e-3:
                yield Frame(time, after.pixels)
            else:
                yield Frame(time, to_bytes(next(made)))
        frame = after
    for time in ending(frame):
        yield Frame(time, frame.pixels)
