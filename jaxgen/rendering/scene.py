"""The arrays of a scene: a pytree, so that an image can be differentiated with respect to any of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array
LAMBERT, CONDUCTOR, DIELECTRIC = range(3)
KINDS = ("lambert", "conductor", "dielectric")


class Camera(struct.PyTreeNode):
    """A pinhole camera. Rays leave `origin`; the rows of `axes` are the image's right, its up, and the view.

    tangent: half of the smaller side of the image, at distance 1
    """

    origin: Array  # f32[3]
    axes: Array  # f32[3 3]
    tangent: Array  # f32[]
    height: int = struct.field(pytree_node=False, default=256)
    width: int = struct.field(pytree_node=False, default=256)

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Scene(struct.PyTreeNode):
    """A scene. A primitive is a triangle or a sphere; the triangles come first.

    triangles:   f32[t 3 3], corners; the front is where they run anticlockwise
    spheres:     f32[s 4], centre and radius
    material:    i32[t+s], a row of the materials
    shape:       i32[t+s], a row of `emission`
    emission:    f32[shapes 3], radiance that the front of a shape emits, linear RGB
    kind:        i32[m], LAMBERT, CONDUCTOR or DIELECTRIC
    albedo:      f32[m 3], of Lambert's materials; a factor of the Fresnel reflectance of conductors
    eta, k:      f32[m 3], refractive index and extinction; of a dielectric the first of eta
    one_sided:   bool[m], whether the back of a Lambert material is black
    environment: f32[h w 3], radiance from far away, constant in each cell: rows from +y down in equal steps of the
                 polar angle, columns once around from -z over +x
    cell_cdf:    f32[h*w], of the draw of a cell of the environment
    lights:      i32[l], the primitives that emit
    light_cdf:   f32[l], of the draw of one of them
    chance:      f32[t+s], the probability with which a primitive is drawn; 0: it does not emit
    sky_share:   f32[], the probability with which the environment is drawn
    """

    triangles: Array
    spheres: Array
    material: Array
    shape: Array
    emission: Array
    kind: Array
    albedo: Array
    eta: Array
    k: Array
    one_sided: Array
    environment: Array
    cell_cdf: Array
    lights: Array
    light_cdf: Array
    chance: Array
    sky_share: Array
    camera: Camera


def camera(origin, target, up, fov: float, height: int, width: int) -> Camera:
    """Return a camera at `origin` that looks at `target`. fov: degrees that the smaller side of the image spans."""
    origin, target, up = (np.asarray(each, np.float64) for each in (origin, target, up))
    forward = target - origin
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), forward])
    tangent = np.tan(np.radians(fov) / 2)
    single = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    return Camera(single(origin), single(axes), single(tangent), height, width)


def areas(triangles: np.ndarray, spheres: np.ndarray) -> np.ndarray:
    """Return the areas [t+s] of triangles and spheres."""
    edges = triangles[:, 1:] - triangles[:, :1]  # [t 2 3]
    flat = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1) / 2
    return np.concatenate([flat, 4 * np.pi * spheres[:, 3] ** 2])


def light_tables(triangles, spheres, shape, emission, environment) -> dict[str, np.ndarray]:
    """Return the tables of `Scene` by which lights are drawn: in proportion to their power.

    The environment's cells are drawn in proportion to their radiance and solid angle. Beside other lights, the
    environment has half of the draws.
    """
    power = areas(triangles, spheres) * emission[shape].sum(-1)
    lights = np.flatnonzero(power > 0)
    cells = environment.sum(-1) * solid_angles(*environment.shape[:2])[:, None]  # [h w]
    bright = bool(cells.sum() > 0)
    sky_share = (0.5 if len(lights) else 1.0) if bright else 0.0
    draws = power[lights] / power[lights].sum() if len(lights) else np.ones(1)
    chance = np.zeros(len(shape))
    chance[lights] = draws[: len(lights)] * (1 - sky_share)
    return {
        "cell_cdf": np.cumsum(cells.ravel() / cells.sum()) if bright else np.linspace(0, 1, cells.size + 1)[1:],
        "lights": lights if len(lights) else np.zeros(1, int),
        "light_cdf": np.cumsum(draws),
        "chance": chance,
        "sky_share": np.asarray(sky_share),
    }


def solid_angles(height: int, width: int) -> np.ndarray:
    """Return the solid angles [h] of the cells of an environment's rows, in steradians."""
    edges = np.cos(np.linspace(0, np.pi, height + 1))
    return (edges[:-1] - edges[1:]) * 2 * np.pi / width
