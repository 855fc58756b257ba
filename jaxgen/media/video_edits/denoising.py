"""Temporal denoising: the mean of frames that are brought along the optical flow, where they agree."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.media.video_edits.footage import Frame, Stage, to_bytes, to_float
from jaxgen.media.video_edits.motion import difference, flow_of, inside, noise_of
from jaxgen.nn.optical_flow import warped

Array = jax.Array

REACH = 2  # frames before, and after
CLOSE = 0.03  # the difference of patches of guides, from 0 to 1, at which a frame's weight has fallen to exp(-1/2)
BLURRED = (
    70 / 256
)  # of the deviation of noise is left by the binomial filter: its squared taps, summed, along both axes
Clean = Callable[[np.ndarray], np.ndarray]  # f32[h w 3] in [0, 1] -> the same, with less noise


class Seen(NamedTuple):
    """A frame in the window: noisy and guide f32[h w 3], the noise of the guide, and the flows to its neighbours."""

    time: float
    noisy: Array
    guide: Array
    noise: Array
    neighbours: dict[int, Array]  # by -1 and 1


@jax.jit
def _blurred(x: Array) -> Array:
    """Return f32[h w 3] under a binomial filter of five taps, a guide without a net."""
    for axis in (0, 1):
        grown = jnp.pad(x, [(2, 2) if i == axis else (0, 0) for i in range(3)], "edge")
        parts = [jax.lax.slice_in_dim(grown, i, i + x.shape[axis], axis=axis) for i in range(5)]
        x = sum((weight * part for weight, part in zip((1, 4, 6, 4, 1), parts, strict=True)), jnp.zeros_like(x)) / 16
    return x


@jax.jit
def _added(total: Array, weights: Array, frame: Array, guide: Array, other: Array, flow: Array, noise: Array) -> Any:
    """Return sums with another frame, along a flow; `guide` belongs to the middle frame, `other` to this one."""
    excess = jnp.maximum(difference(guide, warped(other, flow, cubic=True)) - 2 * noise**2, 0)
    weight = jnp.exp(-excess / (2 * CLOSE**2)) * inside(flow)  # [h w 1]
    return total + weight * warped(frame, flow, cubic=True), weights + weight


@jax.jit
def _chained(flow: Array, further: Array) -> Array:
    """Return a flow, and from where it leads on another one."""
    return flow + warped(further, flow)


def denoised(clean: Clean | None = None, reach: int = REACH) -> Stage:
    """Return the stage that replaces each frame by the mean of it and its neighbours along the flow.

    clean: removes noise from one image; by its results the flow is found and frames are compared, and the mean goes
           through it again. None: frames are compared blurred, without a net.
    """

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        window: deque[Seen] = deque()
        middle = 0  # of the window: the frame that is next
        for frame in frames:
            seen = _seen(frame, clean)
            if window:
                last = window[-1]
                last.neighbours[1] = flow_of(last.guide, seen.guide)
                seen.neighbours[-1] = flow_of(seen.guide, last.guide)
            window.append(seen)
            if len(window) - middle > reach:
                yield _mean(window, middle, clean, reach)
                middle += 1
            if middle > reach:
                window.popleft()
                middle -= 1
        for at in range(middle, len(window)):
            yield _mean(window, at, clean, reach)

    return stage


def _seen(frame: Frame, clean: Clean | None) -> Seen:
    noisy = jnp.asarray(to_float(frame.pixels))
    guide = jnp.asarray(clean(np.asarray(noisy))) if clean else _blurred(noisy)
    noise = noise_of(guide) if clean else BLURRED * noise_of(noisy)
    return Seen(frame.time, noisy, guide, noise, {})


def _mean(window: "deque[Seen]", at: int, clean: Clean | None, reach: int) -> Frame:
    middle = window[at]
    total, weights = middle.noisy, jnp.ones_like(middle.noisy[..., :1])
    for way in (-1, 1):
        flow = None
        for steps in range(1, reach + 1):
            number = at + way * steps
            if not 0 <= number < len(window):
                break
            hop = window[number - way].neighbours[way]
            flow = hop if flow is None else _chained(flow, hop)
            other = window[number]
            total, weights = _added(total, weights, other.noisy, middle.guide, other.guide, flow, middle.noise)
    made = np.asarray(total / weights)
    return Frame(middle.time, to_bytes(clean(made) if clean else made))
