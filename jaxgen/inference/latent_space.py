"""The latent space of a trained generator: interpolation, style mixing, semantic directions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.errors import InputError
from jaxgen.core.spec import image_of, spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import Context, Params, PyTree, averaged
from jaxgen.runs import sharding
from jaxgen.runs.load import Trained

Nets = tuple[Params, Context]
Given = Mapping[str, np.ndarray]  # {"label": i32[n], "truncation": f32[n]}, or less


def latent_of(task: Task) -> Latent:
    """Return the latent. Raises InputError where the model has none, and where it makes no images."""
    found = task.get(Latent)
    image_of(task)
    return found


def shapes(task: Task) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of one z and one w; nothing is computed."""
    latent = latent_of(task)

    def both(frozen):
        params, context = averaged(init_state(task, jax.random.key(0), spec_of(task, 1)), frozen)
        z = latent.draw(jax.random.split(jax.random.key(0), 1), None)
        given = {"label": jnp.zeros(1, jnp.int32)} if "label" in task.example else {}
        return z, latent.map(params, context, z, given)

    z, w = jax.eval_shape(both, {net: jax.eval_shape(load) for net, load in task.frozen.items()})
    return z.shape[1:], w.shape[1:]


def rows_of(task: Task) -> int:
    """Return how many rows w has. Raises InputError where it is one vector."""
    _, w = shapes(task)
    if len(w) != 2:
        raise InputError("This model's w is one vector: it has no rows that can come from different samples.")
    return w[0]


def check_directions(task: Task, count: int):
    """Raise InputError where the model's latent has fewer directions, or none that are known."""
    if latent_of(task).factors is None:
        raise InputError("This model has no known first layer of its latent, so it has no directions.")
    _, w = shapes(task)
    if count > w[-1]:
        raise InputError(f"The latent has {w[-1]} directions, not {count}.")


def conditions(count: int, labels: Sequence[int], psi: float = 1.0) -> dict[str, np.ndarray]:
    """Return the conditioning of `count` samples: the labels in turn, and psi if it is below 1."""
    given = {"label": np.resize(np.asarray(labels, np.int32), count)} if labels else {}
    # Without psi, not with psi = 1: mean + 1 (w - mean) is not w to the last bit.
    return {**given, "truncation": np.full(count, psi, np.float32)} if psi < 1 else given


class Entry:
    """A trained generator with its averaged nets, as functions of its latent.

    Rows go through `batch` at a time, always as many: each of the three maps is compiled once.
    """

    def __init__(self, opened: Trained, batch: int):
        latent, mesh = latent_of(opened.task), opened.mesh
        self.latent = latent
        self.batch = batch + -batch % mesh.size
        self.rows, self.whole = sharding.batched(mesh), sharding.replicated(mesh)
        self.nets: Nets = averaged(opened.state, opened.frozen)

        def draw(nets: Nets, seed, indices, given):
            keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
            return latent.draw(keys, given.get("truncation"))

        def map_(nets: Nets, z, given):
            return latent.map(*nets, z, given)

        def paint(nets: Nets, w, given):
            return latent.synthesise(*nets, w, given)

        def factors(nets: Nets):
            return latent.factors(*nets) if latent.factors else ()

        self._draw, self._map, self._paint, self._factors = (
            jax.jit(f, out_shardings=self.whole) for f in (draw, map_, paint, factors)
        )

    def draw(self, seed: int, indices: Sequence[int] | np.ndarray, given: Given) -> np.ndarray:
        """Return z f32[n ...] of the samples that `generate` numbers so."""
        f = lambda nets, *rest: self._draw(nets, np.uint32(seed), *rest)  # noqa: E731
        return self._batched(f, np.asarray(indices, np.int32), given)

    def map(self, z: np.ndarray, given: Given) -> np.ndarray:
        """Return w f32[n ...] of z f32[n ...]."""
        return self._batched(self._map, z, given)

    def paint(self, w: np.ndarray, given: Given) -> np.ndarray:
        """Return the images f32[n h w c] of w f32[n ...]."""
        return self._batched(self._paint, w, given)

    def sample(self, seed: int, indices: Sequence[int] | np.ndarray, given: Given) -> np.ndarray:
        """Return w f32[n ...] of the samples that `generate` numbers so."""
        return self.map(self.draw(seed, indices, given), given)

    def factors(self) -> tuple[np.ndarray, ...]:
        """Return the matrices f32[d m] that the rows of w, or z, meet first."""
        return tuple(np.asarray(x) for x in self._factors(self.nets))

    def _batched(self, f, x: np.ndarray, given: Given) -> np.ndarray:
        parts, tree = [], (x, dict(given))
        for first in range(0, len(x), self.batch):
            # Rows past the last are computed again and thrown away.
            index = np.minimum(np.arange(first, first + self.batch), len(x) - 1)
            some: PyTree = jax.tree.map(lambda v, index=index: sharding.put_whole(self.rows, v[index]), tree)
            parts.append(np.asarray(f(self.nets, *some)))
        return np.concatenate(parts)[: len(x)]


def lerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Return (1 - t) a + t b."""
    return (a + t * (np.asarray(b, np.float64) - a)).astype(np.float32)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Return the point t of the way from a to b f32[n ...] along the great circle; the norm goes in a straight line.

    sin((1 - t) W) / sin W a + sin(t W) / sin W b of the unit vectors, W the angle between them. Vectors of one line go
    straight. Shoemake 1985, "Animating Rotation with Quaternion Curves", section 3.3.
    """
    x, y = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (a, b))  # [n d]
    size_x, size_y = (np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))  # [n 1]
    u, v = x / np.maximum(size_x, 1e-12), y / np.maximum(size_y, 1e-12)
    angle = np.arccos(np.clip((u * v).sum(1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    flat = sine < 1e-6
    along = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.where(flat, 1, sine)
    path = np.where(flat, x + t * (y - x), (size_x + t * (size_y - size_x)) * along)
    return path.reshape(np.shape(a)).astype(np.float32)


def interpolate(
    entry: Entry, seed: int, points: int, frames: int, labels: np.ndarray | None, count: int, psi: float, straight: bool
) -> Iterator[np.ndarray]:
    """Yield images f32[count h w c], one for each of `count` closed walks: points * frames of them.

    Walk j passes the samples j, j + count, ... with `frames` steps from each to the next; the last's next is the first.
    labels:   i32[points count]; None: an unconditional model
    straight: lines in w; otherwise great circles in z
    """
    stops, given = [], []
    for i in range(points):
        given.append(conditions(count, () if labels is None else list(labels[i]), psi))
        z = entry.draw(seed, np.arange(i * count, (i + 1) * count), given[i])
        stops.append(entry.map(z, given[i]) if straight else z)
    for i in range(points):
        for j in range(frames):
            here = (lerp if straight else slerp)(stops[i], stops[(i + 1) % points], j / frames)
            yield entry.paint(here if straight else entry.map(here, given[i]), given[i])


def mix(
    entry: Entry, seed: int, rows: int, columns: int, layers: Sequence[int], labels: Sequence[int], psi: float
) -> np.ndarray:
    """Return images f32[(rows+1)*(columns+1) h w c], row by row: sources in the first row and column, else mixtures.

    A mixture has the rows `layers` of w from the sample to its left, and all others from the sample above it. Samples
    0 ... rows - 1 of the seed are to the left, the next ones above. Karras et al. 2019, "A Style-Based Generator
    Architecture for Generative Adversarial Networks", section 3.1 and figure 3.
    """
    given = conditions(rows + columns, labels, psi)
    w = entry.sample(seed, np.arange(rows + columns), given)  # [rows+columns n d]
    left, above = np.repeat(np.arange(rows), columns), np.tile(rows + np.arange(columns), rows)
    mixed = w[above]  # [rows*columns n d]
    mixed[:, list(layers)] = w[left][:, list(layers)]
    given = {name: np.concatenate([x, x[left]]) for name, x in given.items()}
    images = entry.paint(np.concatenate([w, mixed]), given)
    corner, sources, mixtures = np.ones_like(images[:1]), images[: rows + columns], images[rows + columns :]
    lines: list[Any] = [corner, sources[rows:]]
    for i in range(rows):
        lines += [sources[i : i + 1], mixtures[i * columns : (i + 1) * columns]]
    return np.concatenate(lines)


def semantic(factors: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the `count` unit vectors n f64[count d] for which |A n| is largest, A^T = [factors], in falling order.

    They are eigenvectors of A^T A (Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs",
    equations 4 to 6); the largest number of each is positive.
    """
    a = np.concatenate([np.asarray(x, np.float64) for x in factors], 1)  # [d m]
    _, vectors = np.linalg.eigh(a @ a.T)
    found = vectors[:, ::-1][:, :count].T  # [count d]
    return found * np.sign(found[np.arange(count), np.abs(found).argmax(1)])[:, None]


STEPS = 7  # images along a direction


def traverse(entry: Entry, seed: int, latents: int, strength: float, labels: Sequence[int], psi: float) -> np.ndarray:
    """Return images f32[latents*7 h w c], row by row: sample 0 of the seed, its i-th number -strength ... strength."""
    z = np.repeat(entry.draw(seed, [0], conditions(1, labels, psi)), latents * STEPS, 0)  # [latents*7 d]
    z[np.arange(len(z)), np.repeat(np.arange(latents), STEPS)] = np.tile(
        np.linspace(-strength, strength, STEPS), latents
    )
    given = conditions(len(z), labels, psi)
    return entry.paint(entry.map(z, given), given)


def directions(
    entry: Entry,
    seed: int,
    count: int,
    strength: float,
    layers: Sequence[int] | None,
    labels: Sequence[int],
    psi: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return images f32[count*7 h w c], row by row, and the directions f64[count d] along which they go.

    Sample 0 of the seed, moved by -strength ... strength along each direction. Where w has rows, those in `layers` are
    moved, along the directions of the weights that they meet.
    """
    factors = entry.factors()
    found = semantic(factors if layers is None else [factors[i] for i in layers], count)
    w = entry.sample(seed, [0], conditions(1, labels, psi))
    moved = np.repeat(w, count * STEPS, 0)  # [count*7 n d] or [count*7 d]
    shift = (np.linspace(-strength, strength, STEPS)[None, :, None] * found[:, None]).reshape(count * STEPS, -1)
    if w.ndim == 3:
        moved[:, slice(None) if layers is None else list(layers)] += shift[:, None].astype(np.float32)
    else:
        moved += shift.reshape(moved.shape).astype(np.float32)
    return entry.paint(moved, conditions(len(moved), labels, psi)), found
