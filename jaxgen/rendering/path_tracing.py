"""A path tracer: the radiance that reaches each pixel, by paths from the camera.

At each point one light is drawn (next-event estimation) and one direction of the material; their contributions are
weighted by the power heuristic (Veach 1997, section 9.2). There is no roulette: a path of depth d has d segments, as in
Mitsuba. The image is differentiable with respect to colours, emissions, the environment and indices of refraction. The
gradient with respect to positions leaves out what a moving silhouette covers.
"""

import jax
import jax.numpy as jnp

from jaxgen.rendering.intersection import FAR, dot, nearest_hit, surface_at, unit
from jaxgen.rendering.lights import area_density, draw_light, sky
from jaxgen.rendering.materials import Surface, lambert, scatter
from jaxgen.rendering.scene import Array, Camera, Scene

GAP = 1e-4  # by which a ray starts off its surface, times the size of its coordinates


def camera_rays(camera: Camera, pixels: Array, offsets: Array) -> tuple[Array, Array]:
    """Return the origins and unit directions f32[n 3] of rays through pixels i32[n], counted row by row.

    offsets: f32[n 2], the place in the pixel, right and down from its corner, in [0, 1)
    """
    x = (pixels % camera.width + offsets[:, 0]) * 2 - camera.width
    y = camera.height - (pixels // camera.width + offsets[:, 1]) * 2
    plane = jnp.stack([x, y], -1) * camera.tangent / min(camera.width, camera.height)
    direction = plane @ camera.axes[:2] + camera.axes[2:]
    return jnp.broadcast_to(camera.origin, direction.shape), unit(direction)


def radiance(scene: Scene, origin: Array, direction: Array, key: Array, depth: int) -> Array:
    """Return an unbiased estimate f32[n 3] of the radiance along rays, of paths of at most `depth` segments."""
    count = len(origin)
    through = jnp.ones((count, 3))
    index, surface, light = _meet(scene, origin, direction, jnp.zeros(count), jnp.ones(count, bool))
    total = light

    @jax.checkpoint
    def bounce(carry, key):
        direction, through, total, index, surface = carry
        draws = jax.random.uniform(key, (count, 7))
        alive = index >= 0
        start = GAP * (1 + jnp.abs(surface.point).max(-1, keepdims=True)) * surface.normal
        outside = surface.point + start
        # One light.
        to, distance, emitted, density = draw_light(scene, outside, draws[:, :4])
        value, own = lambert(scene, surface, to)
        wanted = alive & (density > 0) & (own > 0)
        blocked = nearest_hit(scene, outside, to, jnp.where(wanted, distance * (1 - 1e-3), 0))[1] >= 0
        weight = jnp.where(wanted & ~blocked, density / jnp.maximum(density**2 + own**2, 1e-30), 0)  # heuristic/density
        total = total + through * value * emitted * jax.lax.stop_gradient(weight)[:, None]
        # One direction of the material.
        new = scatter(scene, surface, direction, draws[:, 4:])
        through = through * jnp.where(alive[:, None], new.weight, 0)
        leaving = jnp.where(new.through[:, None], surface.point - start, outside)
        index, surface, light = _meet(scene, leaving, new.direction, new.density, alive)
        return (new.direction, through, total + through * light, index, surface), None

    carry = direction, through, total, index, surface
    if depth > 1:
        carry, _ = jax.lax.scan(bounce, carry, jax.random.split(key, depth - 1))
    return carry[2]


def _meet(scene: Scene, origin: Array, direction: Array, density: Array, alive: Array) -> tuple[Array, Surface, Array]:
    """Return the primitives that rays hit, -1 for none, their surfaces, and the light emitted there, weighted.

    density: with which the directions were drawn; 0: the light could not have been drawn otherwise
    """
    _, index = nearest_hit(scene, origin, direction, jnp.where(alive, FAR, 0))
    hit = index >= 0
    time, normal, area = surface_at(scene, origin, direction, index)
    facing = -dot(direction, normal)
    front = facing > 0
    own = scene.emission[scene.shape[index]] * (hit & front)[:, None]
    other = area_density(scene.chance[index], area, time, facing)
    beyond, sky_density = sky(scene, direction)
    own = jnp.where(hit[:, None], own, beyond * alive[:, None])
    other = jnp.where(hit, other, sky_density)
    weight = jnp.where(density > 0, density**2 / jnp.maximum(density**2 + other**2, 1e-30), 1)
    point = origin + jnp.where(hit, time, 1)[:, None] * direction
    surface = Surface(point, jnp.where(front[:, None], normal, -normal), front, scene.material[index])
    return index, surface, own * jax.lax.stop_gradient(weight)[:, None]


def render(scene: Scene, pixels: Array, key: Array, depth: int, samples: int = 1) -> Array:
    """Return the means f32[n 3] of `samples` estimates of the radiance of pixels i32[n], in linear RGB.

    Rays are spread evenly over a pixel's area (a box filter). The same key gives the same image.
    """
    place, way = jax.random.split(key)
    each = jnp.repeat(pixels, samples)
    offsets = jax.random.uniform(place, (len(each), 2))
    found = radiance(scene, *camera_rays(scene.camera, each, offsets), way, depth)
    return found.reshape(len(pixels), samples, 3).mean(1)
