"""Rays of posed photographs: cameras as arrays f32[5 4], with the distortion of their lenses.

Rows 0 to 2: camera to world [3 4]; the camera looks along -z, +y is up. Row 3: focal lengths and the centre, fx fy cx
cy, as parts of the image's width, height, width and height. Row 4: the distortion k1 k2 p1 p2 of OpenCV.
"""

import jax.numpy as jnp
import numpy as np

from jaxgen.rendering.intersection import unit
from jaxgen.rendering.scene import Array

SHAPE = (5, 4)
ROUNDS = 12  # of the fixed point by which a distortion is inverted


def posed_rays(camera: Array, at: Array) -> tuple[Array, Array]:
    """Return origins and unit directions f32[n 3] of the rays through places in an image.

    camera: f32[5 4]
    at:     f32[n 2], right and down from the image's upper left corner, in [0, 1]
    """
    fx, fy, cx, cy = camera[3]
    seen = jnp.stack([(at[:, 0] - cx) / fx, (at[:, 1] - cy) / fy], -1)
    x, y = undistorted(seen, camera[4]).T
    direction = jnp.stack([x, -y, -jnp.ones_like(x)], -1) @ camera[:3, :3].T
    return jnp.broadcast_to(camera[:3, 3], direction.shape), unit(direction)


def distorted(x: Array, lens: Array) -> Array:
    """Return the places f32[n 2] in the plane z = 1 where a lens k1 k2 p1 p2 shows the points of this plane."""
    radial, tangential = _parts(x, lens)
    return x * radial[:, None] + tangential


def undistorted(seen: Array, lens: Array) -> Array:
    """Return the points f32[n 2] that a lens shows at the places `seen`: the fixed point of the distortion."""
    x = seen
    for _ in range(ROUNDS):
        radial, tangential = _parts(x, lens)
        # The limits hold for every lens; without them a matrix that is no camera's gives infinite numbers.
        x = (seen - jnp.clip(tangential, -1, 1)) / jnp.clip(radial, 0.2, 5)[:, None]
    return x


def _parts(x: Array, lens: Array) -> tuple[Array, Array]:
    k1, k2, p1, p2 = lens
    square = jnp.square(x).sum(-1)  # r^2
    both = 2 * x[:, 0] * x[:, 1]
    along = square[:, None] + 2 * jnp.square(x)  # r^2 + 2 x^2, r^2 + 2 y^2
    tangential = jnp.stack([p1 * both + p2 * along[:, 0], p2 * both + p1 * along[:, 1]], -1)
    return 1 + k1 * square + k2 * square**2, tangential


def pixel_centres(height: int, width: int) -> Array:
    """Return the centres f32[h*w 2] of an image's pixels, row by row, in [0, 1]."""
    y, x = jnp.meshgrid((jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij")
    return jnp.stack([x, y], -1).reshape(-1, 2)


def orbit(cameras: np.ndarray, count: int) -> np.ndarray:
    """Return `count` cameras f32[count 5 4] on a circle, like given ones f32[n 5 4] in height, distance and lens.

    The circle's centre is above the point that is nearest to all lines of sight, its axis is their mean up. Of cameras
    that all look in one direction, that point is at their mean distance from each other before them.
    """
    places, sights = cameras[:, :3, 3].astype(np.float64), -cameras[:, :3, 2].astype(np.float64)
    off = np.eye(3) - sights[:, :, None] * sights[:, None]  # [n 3 3], projections along the lines
    both = off.sum(0)
    if np.linalg.cond(both) > 1e6:
        spread = np.linalg.norm(places - places.mean(0), axis=1).mean()
        target = places.mean(0) + sights.mean(0) * max(spread, 1.0)
    else:
        target = np.linalg.solve(both, (off @ places[:, :, None]).sum(0)[:, 0])
    up = cameras[:, :3, 1].mean(0).astype(np.float64)
    up /= np.linalg.norm(up)
    arms = places - target
    height = (arms @ up).mean()
    radius = np.linalg.norm(arms - (arms @ up)[:, None] * up, axis=1).mean()
    start = arms[0] - (arms[0] @ up) * up
    start /= np.linalg.norm(start)
    side, made = np.cross(up, start), np.repeat(cameras[:1], count, 0)
    for number, angle in enumerate(np.arange(count) * 2 * np.pi / count):
        place = target + height * up + radius * (np.cos(angle) * start + np.sin(angle) * side)
        back = (place - target) / np.linalg.norm(place - target)
        right = np.cross(up, back)
        right /= np.linalg.norm(right)
        made[number, :3] = np.stack([right, np.cross(back, right), back, place], 1)
    return made
