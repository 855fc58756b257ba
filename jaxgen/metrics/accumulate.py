"""Accumulators of metrics on features: the first two moments of all rows, or the rows themselves.

Both are (empty, update, merge) of a `Metric`. Their states hold f32 and i32 arrays only, so that `device_put`, a gather
over processes or a checkpoint do not round them while x64 is off.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.memory import check_fits

Array = jax.Array


class Accumulator(NamedTuple):
    """A metric without its result: see `jaxgen.metrics.metric.Metric`."""

    empty: Callable
    update: Callable
    merge: Callable


class Moments(NamedTuple):
    """Count, mean and scatter (sum of outer products about the mean); each number is the sum of two f32."""

    count: Array  # i32[]
    mean: Array  # f32[2 d]
    scatter: Array  # f32[2 d d]


class Rows(NamedTuple):
    """All rows so far, in order, and the number of rows beyond the capacity."""

    rows: Array  # f32[capacity d]; the first `count` are used
    count: Array  # i32[]
    lost: Array  # i32[]


class Summary(NamedTuple):
    """Moments on the host: the mean f64[d] and the unbiased covariance f64[d d] of `count` rows."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def to_f32_pair(x: Array) -> Array:
    """Return f64[...] as f32[2 ...] with the same sum, to 48 bits. Requires x64."""
    # Not a cast to f32 and back, which XLA may remove.
    high = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=23)
    return jnp.stack([high, x - high]).astype(jnp.float32)


def combine(count: Array, parts: tuple[Array, Array], more: Array, others: tuple[Array, Array]) -> Moments:
    """Return the moments of the union of two sets, from their counts, means f64[d] and scatters f64[d d].

    Chan, Golub and LeVeque 1979, equation 2.1b: S = S1 + S2 + (n1 n2 / n) (m2 - m1)(m2 - m1)^T.
    """
    share = more / jnp.maximum(count + more, 1).astype(jnp.float64)
    gap = others[0] - parts[0]  # [d]
    between = (count * share) * gap[:, None] * gap[None, :]  # [d d]
    return Moments(count + more, to_f32_pair(parts[0] + share * gap), to_f32_pair(parts[1] + others[1] + between))


def from_f32_pairs(state: Moments) -> tuple[Array, Array]:
    """Return the mean f64[d] and the scatter f64[d d] of a state. Requires x64."""
    mean, scatter = state.mean.astype(jnp.float64), state.scatter.astype(jnp.float64)
    return mean[0] + mean[1], scatter[0] + scatter[1]


def empty_moments(d: int) -> Moments:
    """Return the moments of no rows of d features."""
    return Moments(jnp.zeros((), jnp.int32), jnp.zeros((2, d), jnp.float32), jnp.zeros((2, d, d), jnp.float32))


def update_moments(state: Moments, features: Array, valid: Array) -> Moments:
    """Add the valid rows of features f[b d]; computed in f64 whether x64 is on or off."""
    with jax.enable_x64(True):
        mask = valid[:, None]  # [b 1]
        x = jnp.where(mask, features, 0).astype(jnp.float64)
        count = jnp.sum(valid, dtype=jnp.int32)
        mean = jnp.sum(x, 0) / jnp.maximum(count, 1)  # [d]
        x = jnp.where(mask, x - mean[None, :], 0)
        return combine(state.count, from_f32_pairs(state), count, (mean, x.T @ x))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Return the moments of the union of both sets."""
    with jax.enable_x64(True):
        return combine(a.count, from_f32_pairs(a), b.count, from_f32_pairs(b))


def variances(x: Array, valid: Array) -> dict[str, Array]:
    """Return count, mean f32[d] and scatter f32[d] (sum of squares about the mean) of the valid rows of f[b d]."""
    count, rows = valid.sum(dtype=jnp.float32), valid[:, None]
    mean = jnp.where(rows, x, 0).sum(0) / jnp.maximum(count, 1)
    return {"count": count, "mean": mean, "scatter": jnp.square(jnp.where(rows, x - mean[None], 0)).sum(0)}


def merge_variances(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    """Return the variances of the union of both sets, as `combine`, of each number alone and in f32."""
    count, gap = a["count"] + b["count"], b["mean"] - a["mean"]
    share = b["count"] / jnp.maximum(count, 1)
    scatter = a["scatter"] + b["scatter"] + a["count"] * share * jnp.square(gap)
    return {"count": count, "mean": a["mean"] + share * gap, "scatter": scatter}


def empty_rows(capacity: int, d: int) -> Rows:
    """Return room for `capacity` rows of d features. Raises InputError where they don't fit into memory."""
    check_fits(4 * capacity * d, f"Keeping the features of {capacity:,} images")
    return Rows(jnp.zeros((capacity, d), jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def update_rows(state: Rows, features: Array, valid: Array) -> Rows:
    """Append the valid rows of features f[b d]; rows beyond the capacity are counted as lost."""
    capacity = len(state.rows)
    place = state.count + jnp.cumsum(valid, dtype=jnp.int32) - 1
    place = jnp.where(valid, jnp.minimum(place, capacity), capacity)  # the capacity is out of bounds: dropped
    rows = state.rows.at[place].set(features.astype(jnp.float32), mode="drop")
    total = state.count + jnp.sum(valid, dtype=jnp.int32)
    count = jnp.minimum(total, capacity)
    return Rows(rows, count, state.lost + total - count)


def merge_rows(a: Rows, b: Rows) -> Rows:
    """Return the rows of a followed by those of b; the capacity is the sum of both."""
    rows = jnp.concatenate([a.rows, jnp.zeros_like(b.rows)])
    rows = jax.lax.dynamic_update_slice(rows, b.rows, (a.count, jnp.zeros_like(a.count)))
    return Rows(rows, a.count + b.count, a.lost + b.lost)


MOMENTS = Accumulator(empty_moments, update_moments, merge_moments)
ROWS = Accumulator(empty_rows, update_rows, merge_rows)


def summary(state: Moments, name: str, kind: str = "generated") -> Summary:
    """Return the moments on the host; with fewer than two rows the covariance is 0.

    Raises InputError, with the name of the metric and the kind of features, if a row held NaN or infinity.
    """
    count = int(state.count)
    mean, scatter = (np.asarray(x, np.float64).sum(0) for x in (state.mean, state.scatter))
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise InputError(f"{name} needs finite numbers, but the {kind} features hold NaN or infinity.")
    return Summary(count, mean, scatter / max(count - 1, 1))


def rows_of(state: Rows, name: str, kind: str = "generated") -> np.ndarray:
    """Return the rows on the host, f64[count d].

    Raises InputError, with the name of the metric and the kind of features, for lost, NaN or infinite rows.
    """
    if lost := int(state.lost):
        capacity = len(state.rows)
        raise InputError(
            f"{name} has a capacity of {capacity} {kind} rows, but got {capacity + lost}: raise the capacity."
        )
    rows = np.asarray(state.rows)[: int(state.count)].astype(np.float64)
    if bad := int((~np.isfinite(rows)).any(1).sum()):
        raise InputError(f"{name} needs finite numbers, but {bad} of {len(rows)} {kind} rows hold NaN or infinity.")
    return rows


def both_rows(real: Rows, generated: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two states on the host, f64[n d] and f64[m d].

    Raises InputError as `rows_of`, and if the dimensions d differ.
    """
    check_dimensions(real.rows.shape[1], generated.rows.shape[1], name)
    return rows_of(real, name, "real"), rows_of(generated, name)


def check_dimensions(real: int, generated: int, name: str):
    """Raise InputError if two sets have features of different dimensions."""
    if real != generated:
        raise InputError(f"{name} needs features of one dimension, but got {real} (real) and {generated} (generated).")


def check_count(real: int, generated: int, least: int, name: str):
    """Raise InputError if either set has fewer than `least` samples."""
    if few := [f"{count} {kind}" for count, kind in ((real, "real"), (generated, "generated")) if count < least]:
        raise InputError(f"{name} needs at least {least} samples, got only {' and only '.join(few)} ones.")
