"""Intersection of rays with triangles and spheres: all of them are tried, one after the other, for all rays at once."""

import jax
import jax.numpy as jnp

from jaxgen.rendering.scene import Array, Scene

FAR = 1e30


def nearest_hit(scene: Scene, origin: Array, direction: Array, limit: Array | float = FAR) -> tuple[Array, Array]:
    """Return the distances f32[n] and the primitives i32[n] that rays hit first; -1 where they hit none.

    origin, direction: f32[n 3], unit directions
    limit: the distances beyond which hits do not count
    It has no gradient: `surface_at` finds the point again, with one.
    """
    scene, origin, direction = jax.lax.stop_gradient((scene, origin, direction))
    o, d = origin.T, direction.T  # [3 n]: the operations below run along the rays
    count = len(scene.triangles)
    best = jnp.full(len(origin), limit, jnp.float32), jnp.full(len(origin), -1, jnp.int32)

    def keep(best, time, hit, index):
        nearer = hit & (time > 0) & (time < best[0])
        return jnp.where(nearer, time, best[0]), jnp.where(nearer, index, best[1])

    def triangle(best, x):
        row, index = x  # the affine map [3 4] that takes the triangle to the unit triangle in the plane z = 0
        at = [r[0] * o[0] + r[1] * o[1] + r[2] * o[2] + r[3] for r in row]
        by = [r[0] * d[0] + r[1] * d[1] + r[2] * d[2] for r in row]
        time = -at[2] / by[2]  # inf or NaN for parallel rays, which no comparison accepts
        u, v = at[0] + time * by[0], at[1] + time * by[1]
        return keep(best, time, (u >= 0) & (v >= 0) & (u + v <= 1), index), None

    def sphere(best, x):
        row, index = x  # centre and radius
        to = [row[i] - o[i] for i in range(3)]
        along = to[0] * d[0] + to[1] * d[1] + to[2] * d[2]
        aside = [to[i] - along * d[i] for i in range(3)]  # from the ray's nearest point to the centre
        square = row[3] ** 2 - (aside[0] ** 2 + aside[1] ** 2 + aside[2] ** 2)
        half = jnp.sqrt(jnp.maximum(square, 0))
        near, far = along - half, along + half
        return keep(best, jnp.where(near > 0, near, far), square > 0, index), None

    if count:
        best, _ = jax.lax.scan(triangle, best, (unit_maps(scene.triangles), jnp.arange(count)), unroll=min(4, count))
    if len(scene.spheres):
        best, _ = jax.lax.scan(sphere, best, (scene.spheres, count + jnp.arange(len(scene.spheres))))
    return best


def unit_maps(triangles: Array) -> Array:
    """Return the maps f32[t 3 4] from points to the coordinates (u, v, distance) in a triangle, after Baldwin & Weber.

    A point is corner 0 + u edge 1 + v edge 2 + distance normal.
    """
    corner, first, second = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    cross = jnp.cross(first, second)
    normal = unit(cross)
    rows = jnp.stack([jnp.cross(second, normal), jnp.cross(normal, first), cross], 1)  # Cramer's rule: [t 3 3]
    inverse = rows / dot(cross, normal)[:, None, None]
    return jnp.concatenate([inverse, -(inverse * corner[:, None]).sum(-1, keepdims=True)], -1)


def surface_at(scene: Scene, origin: Array, direction: Array, index: Array) -> tuple[Array, Array, Array]:
    """Return distance f32[n], outward or front normal f32[n 3] and area f32[n] of the primitives that rays have hit.

    They are differentiable with respect to the scene's geometry and the rays.
    """
    count, spheres = len(scene.triangles), len(scene.spheres)
    time = jnp.ones(len(origin))
    normal, area = jnp.zeros_like(origin).at[:, 2].set(1), jnp.ones(len(origin))
    if count:
        corners = scene.triangles[jnp.clip(index, 0, count - 1)]  # [n 3 3]
        cross = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = jnp.linalg.norm(cross, axis=-1)
        flat = cross / length[:, None]
        slope = dot(direction, flat)
        slope = jnp.where(jnp.abs(slope) < 1e-12, 1e-12, slope)
        time, normal, area = dot(corners[:, 0] - origin, flat) / slope, flat, length / 2
    if spheres:
        ball = scene.spheres[jnp.clip(index - count, 0, spheres - 1)]  # [n 4]
        to = ball[:, :3] - origin
        along = dot(to, direction)
        square = ball[:, 3] ** 2 - jnp.square(to - along[:, None] * direction).sum(-1)
        half = jnp.sqrt(jnp.maximum(square, 1e-12))
        own = jnp.where(along - half > 0, along - half, along + half)
        round_ = index >= count
        time = jnp.where(round_, own, time)
        outward = (origin + own[:, None] * direction - ball[:, :3]) / ball[:, 3:]
        normal = jnp.where(round_[:, None], outward, normal)
        area = jnp.where(round_, 4 * jnp.pi * ball[:, 3] ** 2, area)
    return time, normal, area


def dot(a: Array, b: Array) -> Array:
    """Return the products a . b of vectors [n 3]."""
    return (a * b).sum(-1)


def unit(x: Array) -> Array:
    """Return vectors [n 3] divided by their lengths."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-30))
