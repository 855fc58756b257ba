"""Light from emitting shapes and the environment: draws of directions to it, and their densities."""

import jax
import jax.numpy as jnp

from jaxgen.rendering.intersection import FAR, dot, unit
from jaxgen.rendering.scene import Array, Scene


def sky(scene: Scene, direction: Array) -> tuple[Array, Array]:
    """Return the environment's radiance f32[n 3] from directions, and the density f32[n] with which they are drawn."""
    height, width = scene.environment.shape[:2]
    polar = jnp.arccos(jnp.clip(direction[:, 1], -1, 1)) / jnp.pi * height
    around = (jnp.arctan2(direction[:, 0], -direction[:, 2]) / (2 * jnp.pi) % 1) * width
    row = jnp.clip(polar.astype(jnp.int32), 0, height - 1)
    column = jnp.clip(around.astype(jnp.int32), 0, width - 1)
    cell = row * width + column
    before = jnp.where(cell > 0, scene.cell_cdf[cell - 1], 0)
    density = (scene.cell_cdf[cell] - before) / _solid_angle(row, height, width)
    return scene.environment[row, column], density * scene.sky_share


def _solid_angle(row: Array, height: int, width: int) -> Array:
    step = jnp.pi / height
    return (jnp.cos(row * step) - jnp.cos((row + 1) * step)) * 2 * jnp.pi / width


def draw_light(scene: Scene, point: Array, draws: Array) -> tuple[Array, Array, Array, Array]:
    """Return unit directions f32[n 3] from points to drawn lights, distances, radiances f32[n 3] and densities f32[n].

    draws: f32[n 4], uniform in [0, 1). The density, per steradian, is 0 where the light shows its back.
    """
    height, width = scene.environment.shape[:2]
    count = len(scene.triangles)
    from_sky = draws[:, 0] < scene.sky_share
    # A cell of the environment, and a direction in it, uniform by solid angle.
    cell = jnp.clip(jnp.searchsorted(scene.cell_cdf, draws[:, 1], side="right"), 0, height * width - 1)
    row, column = cell // width, cell % width
    before = jnp.where(cell > 0, scene.cell_cdf[cell - 1], 0)
    inside = (draws[:, 1] - before) / jnp.maximum(scene.cell_cdf[cell] - before, 1e-20)  # uniform again
    top, bottom = jnp.cos(row * jnp.pi / height), jnp.cos((row + 1) * jnp.pi / height)
    y = top + (bottom - top) * draws[:, 2]
    angle = (column + jnp.clip(inside, 0, 1)) / width * 2 * jnp.pi
    radius = jnp.sqrt(jnp.maximum(1 - y**2, 0))
    away = jnp.stack([radius * jnp.sin(angle), y, -radius * jnp.cos(angle)], -1)
    # A point of an emitting primitive, uniform by area.
    number = jnp.searchsorted(scene.light_cdf, draws[:, 1], side="right")
    index = scene.lights[jnp.clip(number, 0, len(scene.lights) - 1)]
    position, normal, area = jnp.zeros_like(point), jnp.zeros_like(point), jnp.ones(len(point))
    if count:
        corners = scene.triangles[jnp.clip(index, 0, count - 1)]  # [n 3 3]
        edges = corners[:, 1:] - corners[:, :1]
        root = jnp.sqrt(draws[:, 2])
        u, v = 1 - root, draws[:, 3] * root
        cross = jnp.cross(edges[:, 0], edges[:, 1])
        length = jnp.linalg.norm(cross, axis=-1)
        position = corners[:, 0] + u[:, None] * edges[:, 0] + v[:, None] * edges[:, 1]
        normal, area = cross / length[:, None], length / 2
    if len(scene.spheres):
        ball = scene.spheres[jnp.clip(index - count, 0, len(scene.spheres) - 1)]
        z, turn = 1 - 2 * draws[:, 2], 2 * jnp.pi * draws[:, 3]
        flat = jnp.sqrt(jnp.maximum(1 - z**2, 0))
        outward = jnp.stack([flat * jnp.cos(turn), flat * jnp.sin(turn), z], -1)
        round_ = (index >= count)[:, None]
        position = jnp.where(round_, ball[:, :3] + ball[:, 3:] * outward, position)
        normal = jnp.where(round_, outward, normal)
        area = jnp.where(round_[:, 0], 4 * jnp.pi * ball[:, 3] ** 2, area)
    to = position - point
    distance = jnp.sqrt(jnp.maximum(jnp.square(to).sum(-1), 1e-20))
    direction = unit(to)
    density = area_density(scene.chance[index], area, distance, -dot(direction, normal))
    radiance = scene.emission[scene.shape[index]]
    sky_radiance, sky_density = sky(scene, away)
    which = from_sky[:, None]
    return (
        jnp.where(which, away, direction),
        jnp.where(from_sky, FAR, distance),
        jnp.where(which, sky_radiance, radiance),
        jax.lax.stop_gradient(jnp.where(from_sky, sky_density, density)),
    )


def area_density(chance: Array, area: Array, distance: Array, cosine: Array) -> Array:
    """Return the density f32[n] per steradian of a point that is drawn on a light's area; 0 at its back."""
    return jnp.where(cosine > 1e-6, chance * distance**2 / (area * jnp.maximum(cosine, 1e-6)), 0)
