"""Hash grid: Müller et al. 2022, "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding".

A point is encoded by the features of the corners around it in grids of growing resolution, interpolated trilinearly. A
grid with more corners than its table has rows shares them by a hash. Two small perceptrons make density and colour of
the features. A coarse grid of densities, kept beside the nets, says where on a ray the samples lie: they are drawn by
the weights that it gives to equal parts of the ray. (The authors' code marches through its occupied cells instead,
with a varying number of samples.)
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Positive
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key, Params
from jaxgen.models.rendering.nerf import row
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.rendering.volume import Seen, box_span, composite, resampled, stratified
from jaxgen.tasks.view_synthesis import Image, check_cameras, view_synthesis_task

PRIMES = (1, 2_654_435_761, 805_459_861)  # equation 4
UNIFORM = nn.initializers.uniform(2e-4)


@dataclass(frozen=True)
class HashGrid:
    """Hyper-parameters of a scene of a hash grid."""

    image: Image = (400, 400, 3)  # height, width, channels
    near: float = 0.05  # distances from the camera between which the scene lies
    far: float = 12.0
    bound: Positive = 1.5  # the scene lies within -bound and bound
    background: Literal["white", "black"] = "white"  # behind the scene
    rays: Count = 256  # of each image in a step
    parts: Count = 128  # equal parts of a ray, weighted by the coarse grid
    samples: Count = 48  # points on a ray
    levels: Count = 16  # of the encoding
    features: Count = 2  # of a corner
    table: int = 19  # the rows of a level's table are at most 2 to this power
    coarsest: Count = 16  # resolution of the first level
    finest: Count = 2048  # of the last
    width: Count = 64  # of the perceptrons
    cells: Count = 64  # resolution of the grid of densities
    learning_rate: float = 1e-2
    ema: Decay = 0.0

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        if not 4 <= self.table <= 24:
            raise InputError(f"model.table must be from 4 to 24, not {self.table}.")
        if self.finest < self.coarsest:
            raise InputError(f"model.finest must be at least model.coarsest, not {self.finest} and {self.coarsest}.")
        net = HashNet(resolutions(self), 2**self.table, self.features, self.width)
        apply: Any = net.apply

        def init(key: Key):
            params = net.init(key, *jnp.zeros((2, 1, 3)))["params"]
            # All of space counts as filled at first: nothing is left out before it has been looked at.
            return {"field": params}, held(jnp.full((self.cells,) * 3, 10.0 / self.bound))

        def cell_of(points: Array) -> tuple[Array, ...]:
            at = (points / self.bound + 1) / 2 * self.cells
            return tuple(jnp.moveaxis(jnp.clip(at.astype(jnp.int32), 0, self.cells - 1), -1, 0))

        def see(params: Params, context: Context, origin: Array, direction: Array, key: Key | None) -> list[Seen]:
            near, far = box_span(origin, direction, self.bound, self.near, self.far)
            place = lambda at: origin[:, None] + at[..., None] * direction[:, None]  # noqa: E731
            edges = near[:, None] + (far - near)[:, None] * jnp.linspace(0, 1, self.parts + 1)[None]
            middle = stratified(near, far, self.parts, None)
            filled = context.extra["field"]["cells"]["density"][cell_of(place(middle))]  # [n parts]
            coarse = composite(filled, jnp.zeros((*middle.shape, 1)), edges)
            weights = jnp.pad(coarse.weights, ((0, 0), (1, 1)), mode="edge")
            weights = jnp.maximum(jnp.maximum(weights[:, :-2], weights[:, 2:]), weights[:, 1:-1])  # and neighbours
            at = resampled(edges, weights + 1e-3 / self.parts, self.samples, key)
            points = place(at)
            density, colour = apply(
                {"params": params["field"]},
                (points / self.bound + 1) / 2,
                jnp.broadcast_to(direction[:, None], points.shape),
            )
            bounds = jnp.concatenate([near[:, None], (at[:, 1:] + at[:, :-1]) / 2, far[:, None]], -1)
            return [composite(density / self.bound, colour, bounds)]

        def refresh(params: Params, context: Context, key: Key) -> dict[str, Array]:
            """Return the densities of cells: that of a random point, or what is left of the older one."""
            which, where = jax.random.split(key)
            count = max(self.cells**3 // 16, 1)
            index = jax.random.randint(which, (count, 3), 0, self.cells)
            at = (index + jax.random.uniform(where, (count, 3))) / self.cells
            found = apply({"params": params["field"]}, at, method="density") / self.bound
            cells, row = context.extra["field"]["cells"]["density"], tuple(index.T)
            new = cells.at[row].set(jnp.maximum(0.8 * cells[row], found))
            return held(jax.lax.stop_gradient(new))

        rate = optax.exponential_decay(self.learning_rate, steps, 0.1)
        return view_synthesis_task(self, init, see, optax.adam(rate, b2=0.99, eps=1e-15), refresh)

    def check_run(self, run: Run):
        """Raise InputError for changes of images that their cameras would not show."""
        check_cameras(run)


def held(cells: Array) -> dict[str, Any]:
    """Return the densities of cells as a collection of the net, which is saved and exported with it."""
    return {"field": {"cells": {"density": cells}}}


def resolutions(model: HashGrid) -> tuple[int, ...]:
    """Return the resolutions of the levels: a geometric series. Equations 2 and 3."""
    growth = (model.finest / model.coarsest) ** (1 / max(model.levels - 1, 1))
    return tuple(int(model.coarsest * growth**level + 1e-6) for level in range(model.levels))


class HashNet(nn.Module):
    """points in [0, 1], unit directions f32[... 3] -> density f32[...], colour f32[... 3]. Section 5.4."""

    resolutions: tuple[int, ...]
    rows: int  # at most, of a level's table
    features: int
    width: int

    def setup(self):
        self.sizes = [min((n + 1) ** 3, self.rows) for n in self.resolutions]
        self.table = self.param("table", lambda *x: UNIFORM(*x) - 1e-4, (sum(self.sizes), self.features))
        dense = lambda features: Dense(features, use_bias=False)  # noqa: E731
        self.density_layers = [dense(self.width), dense(16)]
        self.colour_layers = [dense(self.width), dense(self.width), dense(3)]

    def __call__(self, points: Array, directions: Array) -> tuple[Array, Array]:
        latent = self.latent(points)
        x = jnp.concatenate([latent, harmonics(directions).astype(latent.dtype)], -1)
        for layer in self.colour_layers[:-1]:
            x = nn.relu(layer(x))
        return activated(latent), nn.sigmoid(to_f32(self.colour_layers[-1](x)))

    def density(self, points: Array) -> Array:
        """Return the density f32[...] at points in [0, 1]."""
        return activated(self.latent(points))

    def latent(self, points: Array) -> Array:
        """Return the 16 outputs of the first perceptron f32[... 16]; the first is the logarithm of the density."""
        flat = encode(points.reshape(-1, 3), self.table, self.resolutions, self.sizes)
        x = nn.relu(self.density_layers[0](flat))
        return self.density_layers[1](x).reshape(*points.shape[:-1], 16)


def activated(latent: Array) -> Array:
    """Return the density: the exponential of the first of 16 numbers, within the range of f32."""
    return jnp.exp(jnp.clip(to_f32(latent[..., 0]), -15, 10))


def encode(points: Array, table: Array, resolutions: tuple[int, ...], sizes: list[int]) -> Array:
    """Return the interpolated features f32[n levels*features] of points f32[n 3] in [0, 1]. Section 3.

    table: the rows of all levels, one level after the other; sizes: their numbers of rows
    """
    starts = np.cumsum([0, *sizes[:-1]])
    corners = np.array([[i >> axis & 1 for axis in range(3)] for i in range(8)])  # [8 3]
    rows, weights = [], []
    for resolution, start, size in zip(resolutions, starts, sizes, strict=True):
        at = points * resolution
        low = jnp.clip(jnp.floor(at), 0, resolution - 1)
        part = at - low  # [n 3]
        near = low.astype(jnp.uint32)[:, None] + jnp.asarray(corners, jnp.uint32)[None]  # [n 8 3]
        if (resolution + 1) ** 3 <= size:
            row = (near[..., 2] * (resolution + 1) + near[..., 1]) * (resolution + 1) + near[..., 0]
        else:
            mixed = [near[..., axis] * jnp.uint32(prime) for axis, prime in enumerate(PRIMES)]
            row = (mixed[0] ^ mixed[1] ^ mixed[2]) % jnp.uint32(size)
        sides = jnp.where(jnp.asarray(corners)[None] == 1, part[:, None], 1 - part[:, None])  # [n 8 3]
        rows.append(row.astype(jnp.int32) + int(start))
        weights.append(sides.prod(-1))
    found = table[jnp.stack(rows, 1)]  # [n levels 8 features]
    mixed = (found * jnp.stack(weights, 1)[..., None].astype(found.dtype)).sum(2)
    return mixed.reshape(len(points), -1)


def harmonics(d: Array) -> Array:
    """Return the 16 real spherical harmonics of degrees 0 to 3 of unit vectors f32[... 3], f32[... 16]."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    xx, yy, zz = x * x, y * y, z * z
    one = jnp.full_like(x, 0.28209479177387814)
    found = [one, -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    found += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (3 * zz - 1)]
    found += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    found += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
    found += [-0.4570457994644658 * y * (5 * zz - 1), 0.3731763325901154 * z * (5 * zz - 3)]
    found += [-0.4570457994644658 * x * (5 * zz - 1), 1.445305721320277 * z * (xx - yy)]
    found += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return jnp.stack(found, -1)


FULL = HashGrid()
TINY = replace(
    FULL, image=(8, 8, 3), rays=8, parts=8, samples=4, levels=3, table=6, coarsest=2, finest=8, width=8, cells=4
)
PRESETS = {"hash-grid": row(FULL, TINY, 12_207_258, 20_000, 16)}
