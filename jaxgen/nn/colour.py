"""Luma, chroma and levels of images in [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr: Y is 16 to 235, Cb and Cr are 16 to 240, on a scale of 255.
LUMA = (65.481, 128.553, 24.966)
MATRIX = np.array([LUMA, [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
OFFSET = np.array([16.0, 128.0, 128.0]) / 255


def eight_bit(x: Array) -> Array:
    """Return x in [-1, 1] clipped and rounded to the 256 levels of an 8-bit file."""
    return jnp.clip(jnp.round((x + 1) * 127.5), 0, 255) / 127.5 - 1


def ycbcr(x: Array) -> Array:
    """Convert R, G, B [... h w 3] to Y, Cb, Cr [... h w 3]; all are in [-1, 1], where -1 is level 0 and 1 is 255."""
    return _affine((x + 1) / 2, MATRIX, OFFSET) * 2 - 1


def rgb(x: Array) -> Array:
    """Convert Y, Cb, Cr [... h w 3] to R, G, B [... h w 3], the inverse of `ycbcr`; not clipped."""
    inverse = np.linalg.inv(MATRIX)
    return _affine((x + 1) / 2, inverse, -inverse @ OFFSET) * 2 - 1


def _affine(x: Array, matrix: np.ndarray, offset: np.ndarray) -> Array:
    y = jnp.einsum("...c,dc->...d", x, jnp.asarray(matrix, x.dtype), precision="highest")
    return y + jnp.broadcast_to(jnp.asarray(offset, x.dtype), y.shape)
