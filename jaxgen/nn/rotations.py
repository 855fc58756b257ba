"""Rotations in three dimensions: Euler angles of any order, matrices, quaternions, six numbers, exponential maps.

All angles are radians. Matrices f[... 3 3] turn column vectors. Quaternions f[... 4] are w x y z. Euler angles are
those of moving axes: "ZXY" stands for R_z(a) R_x(b) R_y(c), as a BVH file lists its channels. Each function takes NumPy
arrays, of which it keeps the precision, or JAX arrays, through which it can be differentiated.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

Array = Any  # of NumPy or of JAX
AXES = {"X": 0, "Y": 1, "Z": 2}
SMALL = 1e-8  # squared angle below which series stand for sin(x) / x and others


def _numpy(x: Any) -> Any:
    """Return the library of an array."""
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def product(a: Array, b: Array) -> Array:
    """Return the products a b of matrices [... 3 3].

    In JAX they are sums of elements: XLA's products of matrices are slow for many small ones, and those with three axes
    of batches fail in its verifier on CPUs (JAX 0.10.2).
    """
    if isinstance(a, np.ndarray):
        return a @ b
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def euler_to_matrix(angles: Array, order: str) -> Array:
    """Return the matrices [... 3 3] of Euler angles [... 3] of an order of axes such as "ZXY"."""
    made = about(angles[..., 0], order[0])
    for i in (1, 2):
        made = made @ about(angles[..., i], order[i])
    return made


def about(angle: Array, axis: str) -> Array:
    """Return the matrices [... 3 3] of rotations by angles [...] about an axis, "X", "Y" or "Z"."""
    xp = _numpy(angle)
    c, s, zero, one = xp.cos(angle), xp.sin(angle), xp.zeros_like(angle), xp.ones_like(angle)
    rows = {
        "X": (one, zero, zero, zero, c, -s, zero, s, c),
        "Y": (c, zero, s, zero, one, zero, -s, zero, c),
        "Z": (c, -s, zero, s, c, zero, zero, zero, one),
    }[axis]
    return xp.stack(rows, -1).reshape(*angle.shape, 3, 3)


def matrix_to_euler(matrix: Array, order: str) -> Array:
    """Return Euler angles [... 3] of matrices, of three different axes ("ZXY") or the first again ("ZXZ").

    The middle angle is in [-pi/2, pi/2], of "ZXZ" in [0, pi]. Where it is at the end of its range (gimbal lock), the
    last angle is 0.
    """
    xp = _numpy(matrix)
    i, j, last = (AXES[axis] for axis in order)
    k = 3 - i - j
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    at = lambda row, column: matrix[..., row, column]  # noqa: E731
    if last == i:
        middle = xp.arccos(xp.clip(at(i, i), -1, 1))
        lock = xp.hypot(at(i, j), at(i, k)) < 1e-7
        first = xp.arctan2(at(j, i), -sign * at(k, i))
        third = xp.arctan2(at(i, j), sign * at(i, k))
    else:
        away = xp.hypot(at(i, i), at(i, j))  # the cosine of the middle angle
        middle = xp.arctan2(sign * at(i, k), away)
        lock = away < 1e-7
        first = xp.arctan2(-sign * at(j, k), at(k, k))
        third = xp.arctan2(-sign * at(i, j), at(i, i))
    first = xp.where(lock, xp.arctan2(sign * at(k, j), at(j, j)), first)
    return xp.stack([first, middle, xp.where(lock, xp.zeros_like(third), third)], -1)


def expmap_to_matrix(v: Array) -> Array:
    """Return the matrices [... 3 3] of axes times angles [... 3]. Rodrigues' formula."""
    xp = _numpy(v)
    squared = (v * v).sum(-1)[..., None, None]  # [... 1 1]
    safe = xp.where(squared < SMALL, xp.ones_like(squared), squared)
    angle = xp.sqrt(safe)
    sine = xp.where(squared < SMALL, 1 - squared / 6, xp.sin(angle) / angle)
    cosine = xp.where(squared < SMALL, 0.5 - squared / 24, (1 - xp.cos(angle)) / safe)
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    zero = xp.zeros_like(x)
    cross = xp.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    return xp.broadcast_to(xp.eye(3, dtype=v.dtype), cross.shape) + sine * cross + cosine * (cross @ cross)


def matrix_to_expmap(matrix: Array) -> Array:
    """Return the axis times the angle, which is in [0, pi], [... 3] of matrices."""
    q = matrix_to_quaternion(matrix)
    xp = _numpy(q)
    squared = (q[..., 1:] * q[..., 1:]).sum(-1, keepdims=True)
    small = squared < SMALL
    length = xp.sqrt(xp.where(small, xp.ones_like(squared), squared))
    angle = 2 * xp.arctan2(length, q[..., :1])
    return xp.where(small, 2 * xp.ones_like(length), angle / length) * q[..., 1:]


def quaternion_to_matrix(q: Array) -> Array:
    """Return the matrices [... 3 3] of quaternions [... 4] of any length but 0."""
    xp = _numpy(q)
    q = q / xp.sqrt((q * q).sum(-1, keepdims=True))
    w, x, y, z = (q[..., i] for i in range(4))
    rows = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )
    return xp.stack(rows, -1).reshape(*w.shape, 3, 3)


def matrix_to_quaternion(matrix: Array) -> Array:
    """Return the quaternions [... 4] of matrices, w >= 0, from the largest of their four numbers (Shepperd 1978)."""
    xp = _numpy(matrix)
    m = lambda row, column: matrix[..., row, column]  # noqa: E731
    trace = m(0, 0) + m(1, 1) + m(2, 2)
    ways = xp.stack(  # row i: the quaternion times 4 q_i
        [
            xp.stack([1 + trace, m(2, 1) - m(1, 2), m(0, 2) - m(2, 0), m(1, 0) - m(0, 1)], -1),
            xp.stack([m(2, 1) - m(1, 2), 1 + 2 * m(0, 0) - trace, m(0, 1) + m(1, 0), m(0, 2) + m(2, 0)], -1),
            xp.stack([m(0, 2) - m(2, 0), m(0, 1) + m(1, 0), 1 + 2 * m(1, 1) - trace, m(1, 2) + m(2, 1)], -1),
            xp.stack([m(1, 0) - m(0, 1), m(0, 2) + m(2, 0), m(1, 2) + m(2, 1), 1 + 2 * m(2, 2) - trace], -1),
        ],
        -2,
    )  # [... 4 4]
    largest = xp.stack([ways[..., i, i] for i in range(4)], -1).argmax(-1)
    q = xp.take_along_axis(ways, largest[..., None, None], -2)[..., 0, :]
    q = q / xp.sqrt((q * q).sum(-1, keepdims=True))
    return xp.where(q[..., :1] < 0, -q, q)


def matrix_to_six(matrix: Array) -> Array:
    """Return the first two columns [... 6] of matrices: Zhou et al. 2019, continuous in the rotation."""
    xp = _numpy(matrix)
    return xp.concatenate([matrix[..., 0], matrix[..., 1]], -1)


def six_to_matrix(six: Array) -> Array:
    """Return the matrices [... 3 3] of any six numbers [... 6] by Gram and Schmidt. Zhou et al. 2019, equation 14."""
    xp = _numpy(six)
    unit = lambda x: x / xp.sqrt(xp.maximum((x * x).sum(-1, keepdims=True), 1e-24))  # noqa: E731
    first, second = unit(six[..., :3]), six[..., 3:]
    second = unit(second - (first * second).sum(-1, keepdims=True) * first)
    return xp.stack([first, second, xp.cross(first, second)], -1)


def between(a: Array, b: Array, part: Array) -> Array:
    """Return the quaternions [... 4] on the way from a to b, `part` [...] from 0 to 1. Shoemake 1985."""
    xp = _numpy(a)
    dot = (a * b).sum(-1, keepdims=True)
    b, dot = xp.where(dot < 0, -b, b), xp.clip(xp.abs(dot), 0, 1)
    angle, part = xp.arccos(dot), part[..., None]
    near = dot > 1 - 1e-9  # a straight line is the same there
    sine = xp.where(near, xp.ones_like(dot), xp.sin(angle))
    left = xp.where(near, 1 - part, xp.sin((1 - part) * angle) / sine)
    right = xp.where(near, part, xp.sin(part * angle) / sine)
    made = left * a + right * b
    return made / xp.sqrt((made * made).sum(-1, keepdims=True))


def angle_between(a: Array, b: Array) -> Array:
    """Return the angle [...] in [0, pi] of the rotation from matrices a to b."""
    xp = _numpy(a)
    turn = product(xp.swapaxes(a, -1, -2), b)
    off = xp.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ],
        -1,
    )
    squared = (off * off).sum(-1)
    sine = xp.where(squared < 1e-24, 0, xp.sqrt(xp.where(squared < 1e-24, 1.0, squared)))
    return xp.arctan2(sine, turn[..., 0, 0] + turn[..., 1, 1] + turn[..., 2, 2] - 1)


def shortest_turn(old: Array, new: Array) -> Array:
    """Return the matrices [... 3 3] that turn unit vectors [... 3] to others on the shortest way.

    Opposite vectors have no shortest way: half a turn about any axis at a right angle is taken.
    """
    xp = _numpy(old)
    axis, cosine = xp.cross(old, new), (old * new).sum(-1)
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    zero = xp.zeros_like(x)
    cross = xp.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    back = cosine < -1 + 1e-9
    same = xp.broadcast_to(xp.eye(3, dtype=cross.dtype), cross.shape)
    turn = same + cross + cross @ cross / xp.where(back, 1, 1 + cosine)[..., None, None]
    side = xp.cross(old, xp.eye(3)[xp.abs(old).argmin(-1)])
    side = side / xp.sqrt((side * side).sum(-1, keepdims=True))
    half = 2 * side[..., :, None] * side[..., None, :] - same
    return xp.where(back[..., None, None], half, turn)
