"""Optical flow as an image: the direction is the hue, the length the saturation."""

import jax.numpy as jnp
from jax import Array


def flow_image(flow: Array) -> Array:
    """Return flow [b h w 2], to the right and down, as images f32[b h w 3] in [-1, 1]; no motion is white.

    Motion to the right is red. The longest vector of each image has the full saturation; vectors of less than a pixel
    stay pale.
    """
    length = jnp.sqrt(jnp.square(flow).sum(-1))  # [b h w]
    longest = jnp.maximum(length.max((1, 2), keepdims=True), 1.0)
    saturation = length / jnp.broadcast_to(longest, length.shape)
    hue = jnp.arctan2(flow[..., 1], flow[..., 0]) / (2 * jnp.pi) * 6  # of 6

    def channel(offset: int) -> Array:  # HSV to RGB at full value
        k = (offset + hue) % 6
        return 1 - saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return 2 * jnp.stack([channel(5), channel(3), channel(1)], -1) - 1
