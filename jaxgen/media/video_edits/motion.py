"""The motion between frames: the flow, how far a frame brought along it agrees, and changes of scene."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.optical_flow import PIXELS, optical_flow, warped

Array = jax.Array

PATCH = 5  # pixels of a side, over which two frames are compared
SCENE = 0.35  # of a frame: where less of it is found in the other one, they are of two scenes
SIMILAR = 0.06  # the difference of colours, from 0 to 1, at which trust has fallen to exp(-1/2)


def box(x: Array, side: int = PATCH) -> Array:
    """Return the means over squares around each pixel of f32[h w c]."""
    low, high = (side - 1) // 2, side // 2
    for axis in (0, 1):
        grown = jnp.pad(x, [(low, high) if i == axis else (0, 0) for i in range(3)], "edge")
        size = x.shape[axis]
        x = sum((jax.lax.slice_in_dim(grown, i, i + size, axis=axis) for i in range(side)), jnp.zeros_like(x)) / side
    return x


def difference(a: Array, b: Array) -> Array:
    """Return the mean squared difference f32[h w 1] of the patches of two images f32[h w c]."""
    return box(jnp.square(a - b).mean(-1, keepdims=True))


@jax.jit
def noise_of(x: Array) -> Array:
    """Return the standard deviation of the noise of f32[h w c], the mean of its channels.

    By a difference of two Laplacians, blind to edges: Immerkaer, "Fast Noise Variance Estimation", 1996.
    """
    height, width = x.shape[:2]
    taps = [((1, -2, 1)[i] * (1, -2, 1)[j], i, j) for i in range(3) for j in range(3)]
    parts = [tap * x[i : height - 2 + i, j : width - 2 + j] for tap, i, j in taps]
    return math.sqrt(math.pi / 2) / 6 * jnp.abs(sum(parts, jnp.zeros(()))).mean()


@jax.jit
def trust_in(frame: Array, other: Array, flow: Array) -> Array:
    """Return the trust, f32[h w 1] from 0 to 1, in another frame that is brought along the flow from `frame` to it.

    frame, other: f32[h w c] in [0, 1]; what their noise explains is no reason for doubt
    """
    excess = jnp.maximum(difference(frame, warped(other, flow)) - 2 * noise_of(frame) ** 2, 0)
    return jnp.exp(-excess / (2 * SIMILAR**2)) * inside(flow)


def inside(flow: Array) -> Array:
    """Return 1 where a flow f32[h w 2] leads to a place in the image, else 0: f32[h w 1]."""
    height, width = flow.shape[:2]
    down = jnp.arange(height, dtype=flow.dtype)[:, None] + flow[..., 0]
    right = jnp.arange(width, dtype=flow.dtype)[None, :] + flow[..., 1]
    found = (down >= 0) & (down <= height - 1) & (right >= 0) & (right <= width - 1)
    return found[..., None].astype(flow.dtype)


def same_scene(trust: Any) -> bool:
    """Return whether enough of a frame is found in the other one."""
    return float(np.mean(np.asarray(trust) > 0.5)) >= SCENE


def flow_of(first: Any, second: Any, pixels: int = PIXELS) -> Array:
    """Return the flow f32[h w 2] from one frame f32[h w 3] to another, found at a number of pixels at most."""
    small = first.shape[0] * first.shape[1] <= min(pixels, PIXELS)  # then all share one program
    return optical_flow(jnp.asarray(first), jnp.asarray(second), PIXELS if small else pixels)
