"""Dense optical flow without a net (TV-L1), and images warped along it.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", 2007; Wedel et al., "An Improved
Algorithm for TV-L1 Optical Flow", 2009, whose median filter follows each warp. The flow minimises

    sum |grad u| + |grad v| + attachment |J(y + v, x + u) - I(y, x)|

coarse to fine. A flow f32[h w 2] holds (down, right) in pixels: I(p) is found at J(p + flow(p)).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.nn.resample import resize

Array = jax.Array

ATTACHMENT = 40.0  # lambda for values from 0 to 1: 0.15 for 0 to 255
TIGHTNESS = 0.3  # theta: how far the two halves of the energy may differ
STEP = 0.25  # tau: the dual step, stable up to 1/4
WARPS, ITERATIONS = 4, 20  # of a level
SMALLEST = 16  # pixels of a side of the coarsest level
PIXELS = 512 * 288  # of the finest level: larger images have the flow of a smaller copy, enlarged


@partial(jax.jit, static_argnames=("pixels", "warps", "iterations"))
def optical_flow(
    first: Array, second: Array, pixels: int = PIXELS, warps: int = WARPS, iterations: int = ITERATIONS
) -> Array:
    """Return the flow f32[h w 2] from one image f32[h w c] in [0, 1] to another.

    pixels: the largest number of pixels at which it is computed
    """
    height, width = first.shape[:2]
    size, known = fitting((height, width), pixels), None
    pair = [luma(x) for x in (first, second)]  # [h w]
    for small in reversed(levels(size)):
        images = [blurred(resize(x[..., None], small, "bilinear")[..., 0]) for x in pair]
        flow = jnp.zeros((2, *small)) if known is None else enlarged(known, small)
        known = level_flow(images[0], images[1], flow, warps, iterations)
    assert known is not None
    return jnp.moveaxis(enlarged(known, (height, width)), 0, -1)  # [h w 2]


def fitting(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return a size of at most so many pixels, and of the same shape."""
    factor = min(1, math.sqrt(pixels / (size[0] * size[1])))
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def levels(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes of a pyramid from the finest level on, each half as large."""
    found = [size]
    while min(found[-1]) >= 2 * SMALLEST:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def luma(x: Array) -> Array:
    """Return the brightness f32[h w] of an image f32[h w c], c being 1 or 3. ITU-R BT.601."""
    return x[..., 0] if x.shape[-1] == 1 else x @ jnp.asarray((0.299, 0.587, 0.114), x.dtype)


def enlarged(flow: Array, size: tuple[int, int]) -> Array:
    """Return a flow f32[2 h w] at another size, its lengths in pixels of that size."""
    if flow.shape[1:] == size:
        return flow
    factor = jnp.asarray([size[0] / flow.shape[1], size[1] / flow.shape[2]])[:, None, None]
    return resize(flow[..., None], size, "bilinear")[..., 0] * factor


def blurred(x: Array) -> Array:
    """Return an image f32[h w] under a Gaussian of standard deviation 0.8."""
    taps = jnp.asarray([math.exp(-(i**2) / (2 * 0.8**2)) for i in (-2, -1, 0, 1, 2)])
    taps = taps / taps.sum()
    for axis in (0, 1):
        padded = jnp.pad(x, [(2, 2) if axis == i else (0, 0) for i in (0, 1)], "edge")
        x = sum(
            (taps[i] * lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(5)), jnp.zeros_like(x)
        )
    return x


def level_flow(first: Array, second: Array, flow: Array, warps: int, iterations: int) -> Array:
    """Return a flow f32[2 h w] between two images f32[h w], improved from a first guess.

    Planes are kept apart and joined by concatenation: with pads and stacks XLA's CPU code takes eight times as long.
    """
    slopes = jnp.stack([second, *central(second)], -1)  # [h w 3]
    weight, ratio = ATTACHMENT * TIGHTNESS, STEP / TIGHTNESS

    def warp(_, state):
        (u, v), duals = state
        moved = warped(slopes, jnp.stack([u, v], -1))
        du, dv = moved[..., 1], moved[..., 2]
        length = du**2 + dv**2 + 1e-9
        error = moved[..., 0] - du * u - dv * v - first  # the residual at no flow

        def iterate(_, state):
            (u, v), duals = state
            # Equation 15: the nearest flow that lowers the residual, by soft thresholding along the slope
            factor = jnp.clip(-(error + du * u + dv * v) / length, -weight, weight)
            u = u + factor * du + TIGHTNESS * divergence(*duals[0])
            v = v + factor * dv + TIGHTNESS * divergence(*duals[1])
            u, v = lax.optimization_barrier((u, v))  # each is needed three times below
            made = []
            for plane, (down, right) in zip((u, v), duals, strict=True):  # equation 13: the total variation's dual
                fall, rise = jnp.concatenate([plane[1:], plane[-1:]]) - plane, ahead(plane) - plane
                shrink = 1 / (1 + ratio * jnp.sqrt(fall**2 + rise**2))
                made.append(((down + ratio * fall) * shrink, (right + ratio * rise) * shrink))
            return (u, v), tuple(made)

        (u, v), duals = lax.fori_loop(0, iterations, iterate, ((u, v), duals))
        return (median(u), median(v)), duals

    zero = jnp.zeros_like(first)
    (u, v), _ = lax.fori_loop(0, warps, warp, ((flow[0], flow[1]), ((zero, zero), (zero, zero))))
    return jnp.stack([u, v])


def central(x: Array) -> tuple[Array, Array]:
    """Return the central differences of f32[h w] down and right."""
    grown = jnp.pad(x, 1, "edge")
    return (grown[2:, 1:-1] - grown[:-2, 1:-1]) / 2, (grown[1:-1, 2:] - grown[1:-1, :-2]) / 2


def ahead(x: Array) -> Array:
    """Return the values of the next column, at the last one its own."""
    return jnp.concatenate([x[:, 1:], x[:, -1:]], 1)


def divergence(down: Array, right: Array) -> Array:
    """Return the divergence of f32[h w] twice, by backward differences. The last line of both is 0."""
    above = jnp.concatenate([jnp.zeros_like(down[:1]), down[:-1]])
    left = jnp.concatenate([jnp.zeros_like(right[:, :1]), right[:, :-1]], 1)
    return down - above + right - left


def median(x: Array) -> Array:
    """Return the medians of 3x3 neighbours in [... h w], by the exchanges of Devillard's network of 1998."""
    lead = [(0, 0)] * (x.ndim - 2)
    grown = jnp.pad(x, [*lead, (1, 1), (1, 1)], "edge")
    height, width = x.shape[-2:]
    p = [grown[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    pairs = "12 45 78 01 34 67 12 45 78 03 58 47 36 14 25 47 42 64 42"
    for a, b in ((int(pair[0]), int(pair[1])) for pair in pairs.split()):
        p[a], p[b] = jnp.minimum(p[a], p[b]), jnp.maximum(p[a], p[b])
    return p[4]


def warped(x: Array, flow: Array, cubic: bool = False) -> Array:
    """Return f32[h w c], an image f32[H W c] looked up at p + flow(p), bilinear or bicubic; its border goes on.

    flow: f32[h w 2]
    """
    height, width = flow.shape[:2]
    down = jnp.arange(height, dtype=flow.dtype)[:, None] + flow[..., 0]
    right = jnp.arange(width, dtype=flow.dtype)[None, :] + flow[..., 1]
    return sampled(x, down, right, cubic)


def sampled(x: Array, down: Array, right: Array, cubic: bool = False) -> Array:
    """Return the values [h w c] of an image [H W c] at places in pixels [h w]; its border goes on."""
    height, width, channels = x.shape
    top, left = jnp.floor(down), jnp.floor(right)
    taps = (-1, 0, 1, 2) if cubic else (0, 1)
    weights = [[kernel(place - start - tap, cubic) for tap in taps] for place, start in ((down, top), (right, left))]
    flat, total = x.reshape(-1, channels), jnp.zeros((*down.shape, channels), x.dtype)
    for tap, high in zip(taps, weights[0], strict=True):
        line = jnp.clip(top + tap, 0, height - 1).astype(jnp.int32) * width
        row = jnp.zeros_like(total)
        for side, wide in zip(taps, weights[1], strict=True):
            place = line + jnp.clip(left + side, 0, width - 1).astype(jnp.int32)
            row = row + wide[..., None] * flat.at[place].get(mode="promise_in_bounds")
        total = total + high[..., None] * row
    return total


def kernel(t: Array, cubic: bool) -> Array:
    """Return the weight at a distance: of the linear, or of the cubic kernel of Keys 1981 with a = -1/2."""
    t = jnp.abs(t)
    if not cubic:
        return 1 - t
    return jnp.where(t <= 1, (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)
