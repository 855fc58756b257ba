"""Channels turned into pixels and back: PyTorch's pixel_shuffle and pixel_unshuffle."""

from einops import rearrange
from jax import Array


def depth_to_space(x: Array, factor: int) -> Array:
    """Return images enlarged by laying channels side by side, x [b h w c*factor^2] -> [b h*factor w*factor c].

    Shi et al. 2016, section 2.2 (ESPCN), in PyTorch's order: of channel (c, i, j), j the fastest, comes channel c of
    the pixel i down and j across.
    """
    return rearrange(x, "b h w (c i j) -> b (h i) (w j) c", i=factor, j=factor)


def space_to_depth(x: Array, factor: int) -> Array:
    """Return what `depth_to_space` was given, x [b h*factor w*factor c] -> [b h w c*factor^2]."""
    return rearrange(x, "b (h i) (w j) c -> b h w (c i j)", i=factor, j=factor)
