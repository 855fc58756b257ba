"""Adaptive ODE solver with separate step sizes for each sample. Dormand and Prince 1980."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.schedules import expand_like

Array = jax.Array

# Butcher tableau: nodes, rows (the last row is the solution of order 5), and its difference from the one of order 4.
STAGES = np.array([1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
ROWS = [
    np.array([1 / 5]),
    np.array([3 / 40, 9 / 40]),
    np.array([44 / 45, -56 / 15, 32 / 9]),
    np.array([19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729]),
    np.array([9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656]),
    np.array([35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]),
]
ERROR = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])


def expand_mask(which: Array, like: Array) -> Array:
    """Return bool[b] broadcast to the shape of `like` [b ...]."""
    return jnp.broadcast_to(which.reshape(-1, *(1,) * (like.ndim - 1)), like.shape)


def dormand_prince(
    slope: Callable[[Any, Array], Any], y: Any, start: float, end: float, tolerance: float = 1e-5, most: int = 1000
) -> tuple[Any, Array]:
    """Integrate dy/ds = slope(y, s f[b]) from start to end, with step sizes from the error of each sample.

    y: a pytree of arrays [b ...]. Returns y at the end and the number of function evaluations, i32[b]; samples that
    need more than `most` attempted steps are NaN. tolerance is both absolute and relative to y. Dormand and Prince
    1980; the step size control is that of Hairer, Norsett and Wanner 1993, section II.4.
    """
    leaves = jax.tree.leaves(y)
    batch, dtype = leaves[0].shape[0], leaves[0].dtype
    sign = float(np.sign(end - start))
    add = lambda y, h, ks, row: jax.tree.map(  # noqa: E731
        lambda leaf, *k: leaf + expand_like(leaf, h) * sum(float(w) * one for w, one in zip(row, k, strict=True)),
        y,
        *ks,
    )

    def size(error, old, new):
        """Return the root mean square of error / tolerance, f[b]."""
        parts = [
            jnp.square(e / (tolerance * (1 + jnp.maximum(abs(a), abs(b))))).reshape(batch, -1)
            for e, a, b in zip(*map(jax.tree.leaves, (error, old, new)), strict=True)
        ]
        return jnp.sqrt(jnp.concatenate(parts, 1).mean(1))

    def going(carry):
        s, tries = carry[1], carry[-1]
        return (jnp.any((end - s) * sign > 0)) & (tries < most)

    def attempt(carry):
        y, s, h, k0, calls, tries = carry
        going = (end - s) * sign > 0
        h = jnp.where(going, sign * jnp.minimum(abs(h), abs(end - s)), 0)
        ks = [k0]
        for c, row in zip(STAGES, ROWS, strict=True):
            ks.append(slope(new := add(y, h, ks, row), s + float(c) * h))
        zero = jax.tree.map(jnp.zeros_like, y)
        error = size(add(zero, h, ks, ERROR), y, new)
        good = (error <= 1) & going
        last = abs(end - s) <= abs(h) * (1 + 1e-6)
        choose = lambda a, b: jax.tree.map(lambda a, b: jnp.where(expand_mask(good, a), a, b), a, b)  # noqa: E731
        s = jnp.where(good, jnp.where(last, end, s + h), s)
        factor = jnp.clip(0.9 * jnp.maximum(error, 1e-10) ** -0.2, 0.2, 5.0)
        h = jnp.where(going, h * jnp.where(jnp.isfinite(factor), factor, 0.2), h)
        return choose(new, y), s, h, choose(ks[-1], k0), calls + 6 * going, tries + 1

    s = jnp.full(batch, start, dtype)
    first = jnp.full(batch, (end - start) / 100, dtype)
    carry = (y, s, first, slope(y, s), jnp.ones(batch, jnp.int32), jnp.zeros((), jnp.int32))
    y, s, _, _, calls, _ = jax.lax.while_loop(going, attempt, carry)
    lost = (end - s) * sign > 0
    return jax.tree.map(lambda leaf: jnp.where(expand_mask(lost, leaf), jnp.nan, leaf), y), calls
