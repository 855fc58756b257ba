"""Metrics of time: flicker, and the warping error along optical flow. Clips are f32[... t h w c] in [-1, 1]."""

import jax
import jax.numpy as jnp

from jaxgen.nn.warping import warp

Array = jax.Array


def flicker(clip: Array) -> Array:
    """Return the mean change from frame to frame, mean |x_{t+1} - x_t| of pixels in [0, 255], f32[...].

    VBench's temporal flickering is 1 - flicker / 255 (Huang et al. 2024, section 3.2). Motion counts as well: compare
    clips of one scene.
    """
    return 127.5 * jnp.abs(_changes(clip)).mean((-4, -3, -2, -1))


def flicker_error(true: Array, made: Array) -> Array:
    """Return the mean error of the changes from frame to frame, of pixels in [0, 255], f32[...].

    It is 0 where all frames have the same error.
    """
    return 127.5 * jnp.abs(_changes(made) - _changes(true)).mean((-4, -3, -2, -1))


def _changes(clip: Array) -> Array:
    return clip[..., 1:, :, :, :] - clip[..., :-1, :, :, :]


def not_occluded(flow: Array, back: Array) -> Array:
    """Return where both flows agree and no motion ends, f32[b h w] of 0 and 1.

    flow: from the first frame to the second f32[b h w 2]
    back: from the second frame to the first
    Ruder, Dosovitskiy and Brox 2016, equations 4 and 5: a pixel is occluded where, with v = back(p + w),
    |w + v|^2 > 0.01 (|w|^2 + |v|^2) + 0.5, and on a motion boundary where |grad w|^2 > 0.01 |w|^2 + 0.002.
    """
    returned = warp(back, flow)
    square = lambda x: jnp.square(x).sum(-1)  # noqa: E731
    agree = square(flow + returned) <= 0.01 * (square(flow) + square(returned)) + 0.5
    down = jnp.pad(flow[:, 1:] - flow[:, :-1], ((0, 0), (0, 1), (0, 0), (0, 0)))
    right = jnp.pad(flow[:, :, 1:] - flow[:, :, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)))
    smooth = square(down) + square(right) <= 0.01 * square(flow) + 0.002
    return (agree & smooth).astype(flow.dtype)


def warping_error(first: Array, second: Array, flow: Array, mask: Array) -> Array:
    """Return the mean over unmasked pixels of |x_t - warped x_{t+1}|^2, of values in [0, 1], f32[b]; 0 where none are.

    first, second: consecutive frames f32[b h w c]; flow f32[b h w 2] from the first to the second
    mask:          f32[b h w], 1 where pixels count
    Lai et al. 2018, "Learning Blind Video Temporal Consistency", equation 10: the squares are summed over the channels.
    """
    error = jnp.square((first - warp(second, flow, "border")) / 2).sum(-1)  # [b h w]
    return (mask * error).sum((1, 2)) / jnp.maximum(mask.sum((1, 2)), 1)
