"""Precision and recall, density and coverage: fidelity and diversity from nearest neighbours.

Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), equations 1 and 2; Naeem et al. 2020
(https://arxiv.org/abs/2002.09797), equations 3 and 4.

Each row is the centre of a ball with the distance to its k-th nearest neighbour in its own set as radius. Distances
are computed from scalar products in f64, one strip of the matrix at a time. Comparisons within the rounding error are
repeated with exact differences, so that ties are exact.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import at_least
from jaxgen.metrics.accumulate import ROWS, Rows, both_rows, check_count
from jaxgen.metrics.metric import Metric

Array = jax.Array

STRIP = 2**23  # distances held at once
PAIRS = 2**22  # elements of the pairs of rows whose comparison is repeated at once


def squared_distances(x: Array, y: Array) -> tuple[Array, Array]:
    """Return squared distances f64[n m] between rows of f64[n d] and f64[m d], and bounds of their rounding errors."""
    size = jnp.sum(x**2, 1)[:, None] + jnp.sum(y**2, 1)[None, :]  # [n m]
    return size - 2 * (x @ y.T), (x.shape[1] + 16) * jnp.finfo(x.dtype).eps * size


@partial(jax.jit, static_argnames="k")
def nearest(x: Array, y: Array, k: int) -> Array:
    """Return the indices of the k rows of f64[m d] nearest to each row of f64[n d], i[n k]."""

    def next_nearest(squares: Array, _) -> tuple[Array, Array]:
        found = jnp.argmin(squares, 1)  # [n]
        return squares.at[jnp.arange(len(x)), found].set(jnp.inf), found

    # k is small: this takes a tenth of the time of top_k, which sorts.
    return jax.lax.scan(next_nearest, squared_distances(x, y)[0], length=k)[1].T  # [k n] -> [n k]


@jax.jit
def count_inside(x: Array, y: Array, radii: Array) -> tuple[Array, Array, Array]:
    """Count the pairs of f64[n d] and f64[m d] within the squared radii f64[m], without those within rounding error.

    Returns the counts per x i[n] and per y i[m], and the undecided pairs bool[n m].
    """
    squares, error = squared_distances(x, y)
    gap = squares - radii[None, :]
    sure = gap < -error
    return sure.sum(1), sure.sum(0), jnp.abs(gap) <= error


def exact_squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared distances between rows of f64[n d] and f64[n d], f64[n]; symmetric to the last bit."""
    return np.square(x - y).sum(1)


def strips(n: int, m: int) -> list[slice]:
    """Return slices of n rows, for a matrix of m columns."""
    height = max(1, STRIP // m)
    return [slice(i, i + height) for i in range(0, n, height)]


def ball_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return the squared distance of each row of f64[n d] to its k-th nearest other row, f64[n]."""
    radii = np.zeros(len(x))
    for strip in strips(len(x), len(x)):
        with jax.enable_x64(True):
            near = np.asarray(nearest(x[strip], x, k + 1))  # the nearest row to each row is itself
        radii[strip] = np.max([exact_squared_distances(x[strip], x[column]) for column in near.T], 0)
    return radii


def memberships(x: np.ndarray, y: np.ndarray, radii: np.ndarray, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of balls that contain each row of f64[n d], i[n], and of rows in each ball, i[m].

    The balls have centres f64[m d] and squared radii f64[m]. Closed balls contain their surface.
    """
    of_x, of_y = np.zeros(len(x), np.int64), np.zeros(len(y), np.int64)
    for strip in strips(len(x), len(y)):
        with jax.enable_x64(True):
            by_x, by_y, close = count_inside(x[strip], y, radii)
        of_x[strip] += np.asarray(by_x)
        of_y += np.asarray(by_y)
        rows, columns = np.nonzero(np.asarray(close))
        step = max(1, PAIRS // x.shape[1])
        for i in range(0, len(rows), step):
            a, b = rows[i : i + step] + strip.start, columns[i : i + step]
            squares = exact_squared_distances(x[a], y[b])
            held = squares <= radii[b] if closed else squares < radii[b]
            np.add.at(of_x, a[held], 1)
            np.add.at(of_y, b[held], 1)
    return of_x, of_y


def centred_rows(real: Rows, generated: Rows, k: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both sets minus a common centre, f64[n d] and f64[m d]. Raises InputError."""
    x, y = both_rows(real, generated, name)
    at_least(1, k=k)
    check_count(len(x), len(y), k + 1, f"{name} with k={k}")
    # Scalar products lose fewer digits for centred rows. The centre is rounded to f32, so that the f64 difference of an
    # f32 row and the centre is exact.
    centre = x.mean(0).astype(np.float32).astype(np.float64)[None, :]
    return x - centre, y - centre


def precision_recall(real: Rows, generated: Rows, k: int = 3) -> dict[str, float]:
    """Return the fraction of generated rows in real balls ("precision") and of real rows in generated balls ("recall").

    Balls are closed. Raises InputError for different dimensions, rows that are not finite or lost, or fewer than k + 1.
    """
    x, y = centred_rows(real, generated, k, "precision and recall")
    precision, _ = memberships(y, x, ball_radii(x, k), closed=True)
    recall, _ = memberships(x, y, ball_radii(y, k), closed=True)
    return {"precision": float((precision > 0).mean()), "recall": float((recall > 0).mean())}


def density_coverage(real: Rows, generated: Rows, k: int = 5) -> dict[str, float]:
    """Return "density" and "coverage" of generated rows by real balls.

    Density is the mean number of real balls that contain a generated row, divided by k. Coverage is the fraction of
    real balls that contain any. Balls are open, as in the authors' code: both are 0 if all rows are equal. Raises
    InputError for different dimensions, rows that are not finite or lost, or fewer than k + 1.
    """
    x, y = centred_rows(real, generated, k, "density and coverage")
    balls, held = memberships(y, x, ball_radii(x, k), closed=False)
    return {"density": float(balls.mean() / k), "coverage": float((held > 0).mean())}


PRECISION_RECALL = Metric(*ROWS, precision_recall)
DENSITY_COVERAGE = Metric(*ROWS, density_coverage)
