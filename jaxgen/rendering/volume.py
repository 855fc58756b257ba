"""Volume rendering of density and colour along rays (Max 1995), and the draw of samples where the light comes from."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.rendering.scene import Array


class Seen(NamedTuple):
    """Colour f32[n 3], opacity f32[n], mean distance f32[n] of what rays see, and the weights f32[n s] of samples."""

    colour: Array
    opacity: Array
    distance: Array
    weights: Array


def composite(density: Array, colour: Array, edges: Array) -> Seen:
    """Return what rays see through s intervals, in each of which density and colour are constant.

    density: f32[n s], 1 / length; colour: f32[n s 3]; edges: f32[n s+1], distances where intervals begin and end.
    With tau = density * length the weight of an interval is exp(-sum of tau before it) (1 - exp(-tau)).
    """
    tau = density * jnp.diff(edges)  # [n s]
    before = jnp.cumsum(tau, -1) - tau
    weights = jnp.exp(-before) * -jnp.expm1(-tau)
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    opacity = weights.sum(-1)
    distance = (weights * middle).sum(-1) + (1 - opacity) * edges[:, -1]
    return Seen(jnp.einsum("ns,nsc->nc", weights, colour), opacity, distance, weights)


def stratified(near: Array, far: Array, count: int, key: Array | None) -> Array:
    """Return distances f32[n count] between near and far f32[n]: one drawn in each of equal bins, or their middles."""
    offsets = jnp.full((len(near), count), 0.5) if key is None else jax.random.uniform(key, (len(near), count))
    place = (jnp.arange(count, dtype=jnp.float32)[None] + offsets) / count
    return near[:, None] + (far - near)[:, None] * place


def resampled(edges: Array, weights: Array, count: int, key: Array | None) -> Array:
    """Return sorted distances f32[n count] drawn in proportion to weights f32[n s] of the intervals between edges.

    They are spread evenly over the distribution: one in each of `count` equal parts, or at its middle without a key.
    Section 5.2 of NeRF. They have no gradient.
    """
    edges, weights = jax.lax.stop_gradient((edges, weights + 1e-5))
    cdf = jnp.cumsum(weights / weights.sum(-1, keepdims=True), -1)
    cdf = jnp.concatenate([jnp.zeros((len(cdf), 1)), cdf], -1)  # [n s+1]
    wanted = stratified(jnp.zeros(len(edges)), jnp.ones(len(edges)), count, key)
    below = jax.vmap(partial(jnp.searchsorted, side="right"))(cdf, wanted) - 1
    below = jnp.clip(below, 0, weights.shape[1] - 1)
    take = partial(jnp.take_along_axis, axis=1)
    low, high = take(cdf, below), take(cdf, below + 1)
    part = jnp.clip((wanted - low) / jnp.maximum(high - low, 1e-12), 0, 1)
    start = take(edges, below)
    return start + part * (take(edges, below + 1) - start)


def box_span(origin: Array, direction: Array, bound: float, near: float, far: float) -> tuple[Array, Array]:
    """Return where rays enter and leave the cube from -bound to bound, between near and far, f32[n]; equal: never."""
    slope = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    one, other = (-bound - origin) / slope, (bound - origin) / slope
    start = jnp.maximum(jnp.minimum(one, other).max(-1), near)
    end = jnp.minimum(jnp.maximum(one, other).min(-1), far)
    return start, jnp.maximum(end, start)
