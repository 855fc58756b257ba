"""Materials: reflection and refraction of light, and the draw of a new direction.

Directions point away from the surface, but for `direction`, which points to it. Equations: Pharr, Jakob & Humphreys,
Physically Based Rendering, 4th edition, chapter 9.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.rendering.intersection import dot, unit
from jaxgen.rendering.scene import CONDUCTOR, DIELECTRIC, LAMBERT, Array, Scene


class Surface(NamedTuple):
    """The points that rays have hit.

    point, normal: f32[n 3]; the normal is on the ray's side
    front:         bool[n], whether the ray came from outside, or from the front
    row:           i32[n], the material
    """

    point: Array
    normal: Array
    front: Array
    row: Array


class Scattered(NamedTuple):
    """New directions f32[n 3], their weights f32[n 3] (value times cosine over density), densities f32[n] per steradian
    (0: it is a perfect reflection or refraction), and whether they go through the surface.
    """

    direction: Array
    weight: Array
    density: Array
    through: Array


def lambert(scene: Scene, surface: Surface, direction: Array) -> tuple[Array, Array]:
    """Return value times cosine f32[n 3], and the density f32[n] of `scatter`, of a direction that is not drawn by it.

    Both are 0 for materials of perfect reflection.
    """
    cosine = jnp.maximum(dot(surface.normal, direction), 0)
    black = scene.one_sided[surface.row] & ~surface.front
    here = ((scene.kind[surface.row] == LAMBERT) & ~black) * cosine / jnp.pi
    return scene.albedo[surface.row] * here[:, None], here


def scatter(scene: Scene, surface: Surface, direction: Array, draws: Array) -> Scattered:
    """Return directions drawn in proportion to the reflected and refracted light.

    direction: f32[n 3], of the rays
    draws:     f32[n 3], uniform in [0, 1)
    """
    kind, normal = scene.kind[surface.row], surface.normal
    cosine = jnp.clip(-dot(direction, normal), 1e-6, 1)
    # Lambert: proportional to the cosine.
    angle, radius = 2 * jnp.pi * draws[:, 0], jnp.sqrt(draws[:, 1])
    tangent, other = frame(normal)
    height = jnp.sqrt(jnp.maximum(1 - draws[:, 1], 0))
    diffuse = tangent * (radius * jnp.cos(angle))[:, None] + other * (radius * jnp.sin(angle))[:, None]
    diffuse = diffuse + normal * height[:, None]
    black = scene.one_sided[surface.row] & ~surface.front
    # Conductor and dielectric.
    mirrored = direction + 2 * cosine[:, None] * normal
    eta = scene.eta[surface.row]
    metal = conductor_fresnel(cosine, eta, scene.k[surface.row])
    ratio = jnp.where(surface.front, eta[:, 0], 1 / eta[:, 0])  # of the far side's index to the near side's
    share, far_cosine = dielectric_fresnel(cosine, ratio)
    refracted = direction / ratio[:, None] + (cosine / ratio - far_cosine)[:, None] * normal
    # The choice has no gradient; the ratio to its own value carries that of the share.
    fixed = jax.lax.stop_gradient(share)
    reflects = draws[:, 2] < fixed
    weight = jnp.where(reflects, share / jnp.maximum(fixed, 1e-9), (1 - share) / jnp.maximum(1 - fixed, 1e-9))
    weight = weight * jnp.where(reflects, 1, 1 / ratio**2)  # radiance is compressed in a denser medium
    through = (kind == DIELECTRIC) & ~reflects
    out = jnp.where((kind == LAMBERT)[:, None], diffuse, jnp.where(through[:, None], refracted, mirrored))
    albedo = scene.albedo[surface.row]
    by_kind = jnp.where((kind == CONDUCTOR)[:, None], albedo * metal, weight[:, None])
    weights = jnp.where((kind == LAMBERT)[:, None], albedo * ~black[:, None], by_kind)
    density = jnp.where((kind == LAMBERT) & ~black, height / jnp.pi, 0)
    return Scattered(unit(out), weights, density, through)


def conductor_fresnel(cosine: Array, eta: Array, k: Array) -> Array:
    """Return the share f32[n c] of unpolarised light that a metal of complex index eta + ik reflects."""
    c2 = cosine[:, None] ** 2
    s2 = 1 - c2
    t0 = eta**2 - k**2 - s2
    both = jnp.sqrt(jnp.maximum(t0**2 + 4 * eta**2 * k**2, 1e-12))  # a^2 + b^2
    a = jnp.sqrt(jnp.maximum((both + t0) / 2, 1e-12))
    t1, t2 = both + c2, 2 * a * cosine[:, None]
    across = (t1 - t2) / (t1 + t2)
    t3, t4 = c2 * both + s2**2, t2 * s2
    return across * (1 + (t3 - t4) / (t3 + t4)) / 2


def dielectric_fresnel(cosine: Array, ratio: Array) -> tuple[Array, Array]:
    """Return the reflected share f32[n] of unpolarised light, and the cosine of the refracted ray.

    ratio: index of the far side over that of the near side; 1 is reflected beyond the critical angle
    """
    square = 1 - (1 - cosine**2) / ratio**2  # Snell
    total = square <= 1e-9
    far = jnp.sqrt(jnp.where(total, 1, square))
    parallel = (ratio * cosine - far) / (ratio * cosine + far)
    across = (cosine - ratio * far) / (cosine + ratio * far)
    return jnp.where(total, 1, (parallel**2 + across**2) / 2), jnp.where(total, 0, far)


def frame(normal: Array) -> tuple[Array, Array]:
    """Return two unit vectors f32[n 3] at right angles to a normal and to each other (Duff et al. 2017)."""
    x, y, z = normal.T
    sign = jnp.where(z >= 0, 1.0, -1.0)
    a = -1 / (sign + z)
    b = x * y * a
    return jnp.stack([1 + sign * x * x * a, sign * b, -sign * x], -1), jnp.stack([b, sign + y * y * a, -y], -1)
