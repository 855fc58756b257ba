"""Pixels to channels and back: PyTorch's pixel_unshuffle and pixel_shuffle. Shi et al. 2016, section 3.2 (ESPCN)."""

from einops import rearrange
from jax import Array


def shuffle(x: Array, factor: int) -> Array:
    """Return x [b h w c*factor^2] as [b h*factor w*factor c]; of a channel's pixels the column runs fastest."""
    return rearrange(x, "b h w (c p q) -> b (h p) (w q) c", p=factor, q=factor)


def unshuffle(x: Array, factor: int) -> Array:
    """Return x [b h*factor w*factor c] as [b h w c*factor^2], the inverse of `shuffle`."""
    return rearrange(x, "b (h p) (w q) c -> b h w (c p q)", p=factor, q=factor)
