"""Errors of poses f32[b t j 3]: distances of joints, before and after the best similarity, and of accelerations."""

import jax.numpy as jnp

from jaxgen.core.types import Array


def joint_distance(true: Array, made: Array) -> Array:
    """Return the mean over frames and joints of |x - y| of poses [b t j d], f32[b]: MPJPE where the root is at 0."""
    return jnp.sqrt(jnp.square(true - made).sum(-1)).reshape(len(true), -1).mean(1)


def aligned_distance(true: Array, made: Array) -> Array:
    """Return `joint_distance` after the best translation, rotation and scale of each frame, f32[b]: PA-MPJPE."""
    return joint_distance(true, aligned(true, made))


def aligned(true: Array, made: Array) -> Array:
    """Return points [... j 3] moved by the similarity without reflection that brings them nearest to others.

    Umeyama 1991, equations 40 to 42, in the sense of least squares.
    """
    mean_true, mean_made = (x.mean(-2, keepdims=True) for x in (true, made))
    y, x = true - mean_true, made - mean_made
    u, d, v = jnp.linalg.svd(jnp.swapaxes(y, -1, -2) @ x, full_matrices=False)
    flip = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(v))
    signs = jnp.stack([jnp.ones_like(flip), jnp.ones_like(flip), flip], -1)  # [... 3]
    rotation = (u * signs[..., None, :]) @ v
    scale = (d * signs).sum(-1) / jnp.maximum(jnp.square(x).sum((-2, -1)), 1e-12)
    return scale[..., None, None] * (x @ jnp.swapaxes(rotation, -1, -2)) + mean_true


def acceleration_error(true: Array, made: Array) -> Array:
    """Return the mean over frames and joints of |a - b| of accelerations x_{t+1} - 2 x_t + x_{t-1}, f32[b].

    In the data's unit by squared frames. Kanazawa et al. 2019. 0 for clips of less than three frames.
    """
    if true.shape[1] < 3:
        return jnp.zeros(len(true))
    second = lambda x: x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]  # noqa: E731
    return joint_distance(second(true), second(made))
