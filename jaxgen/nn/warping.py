"""Backward warping of images and features by optical flow."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxgen.nn.precision import to_f32

Edges = Literal["zeros", "border"]


def warp(x: Array, flow: Array, edges: Edges = "zeros") -> Array:
    """Return y(p) = x(p + flow(p)) by bilinear interpolation, x [b h w c], flow f32[b h w 2] -> [b h w c].

    flow:  in pixels, to the right and down
    edges: what is outside of x: zeros, or its nearest pixel
    Equal to PyTorch's grid_sample with align_corners=True.
    """
    b, h, w, c = x.shape
    margin = 1 if edges == "zeros" else 0
    pads = ((0, 0), (margin, margin + 1), (margin, margin + 1), (0, 0))
    padded = jnp.pad(x, pads) if margin else jnp.pad(x, pads, "edge")  # one more pixel below and to the right
    rows, columns = padded.shape[1:3]
    flow = to_f32(flow)

    def place(axis: int, size: int, shift: Array) -> tuple[Array, Array]:
        """Return the pixel of `padded` above or to the left of each place, and how far it is away, [b h w] each."""
        u = jax.lax.broadcasted_iota(flow.dtype, (b, h, w), axis) + shift
        u = jnp.clip(u, -margin, size - 1 + margin) + margin
        low = jnp.floor(u)
        return low.astype(jnp.int32), u - low

    (right, fx), (down, fy) = place(2, w, flow[..., 0]), place(1, h, flow[..., 1])
    # One gather of rows of c numbers for each corner. It is batched, so that a sharded batch stays where it is.
    flat, first = padded.reshape(b, rows * columns, c), (down * columns + right).reshape(b, h * w)
    pick = jax.vmap(lambda image, at: image.at[at].get(mode="promise_in_bounds"))

    def corner(offset: int, weight: Array) -> Array:
        weight = weight.reshape(b, h * w, 1).astype(x.dtype)
        return pick(flat, first + offset) * jnp.broadcast_to(weight, (b, h * w, c))

    upper = corner(0, (1 - fy) * (1 - fx)) + corner(1, (1 - fy) * fx)
    lower = corner(columns, fy * (1 - fx)) + corner(columns + 1, fy * fx)
    return (upper + lower).reshape(b, h, w, c)


def identity_flow(b: int, h: int, w: int) -> Array:
    """Return each pixel's own place, to the right and down, f32[b h w 2]."""
    shape = (b, h, w)
    return jnp.stack([jax.lax.broadcasted_iota(jnp.float32, shape, axis) for axis in (2, 1)], -1)
