"""Depth to space and space to depth: PyTorch's pixel_shuffle and pixel_unshuffle."""

from einops import rearrange
from jax import Array


def depth_to_space(x: Array, factor: int) -> Array:
    """Rearrange channels into pixels, x [b h w c*factor^2] -> [b h*factor w*factor c].

    Shi et al. 2016, section 2.2 (ESPCN), in PyTorch's order: channel (c, i, j), j fastest, becomes channel c of the
    pixel i rows down and j columns to the right.
    """
    return rearrange(x, "b h w (c i j) -> b (h i) (w j) c", i=factor, j=factor)


def space_to_depth(x: Array, factor: int) -> Array:
    """Rearrange pixels into channels, undoing `depth_to_space`, x [b h*factor w*factor c] -> [b h w c*factor^2]."""
    return rearrange(x, "b (h i) (w j) c -> b h w (c i j)", i=factor, j=factor)
