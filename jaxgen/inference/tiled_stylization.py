"""Stylization of an image of any size, tile by tile."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.inference.stylization import Stylist
from jaxgen.media import tiling

TILE, OVERLAP = 512, 64  # pixels


def tile_of(stylist: Stylist, content: np.ndarray, memory: float) -> int:
    """Return the side of the tiles; 0, the whole image at once, where it fits so many bytes."""
    return 0 if stylist.each * content.shape[0] * content.shape[1] <= memory else TILE


def stylized(
    stylist: Stylist,
    content: np.ndarray,
    masks: np.ndarray | None = None,
    colours: str = "style",
    tile: int = TILE,
    overlap: int = OVERLAP,
    show: Callable[[int, int, Any], Any] = lambda at, total, canvas: None,
) -> np.ndarray:
    """Return a stylized image f32[h w 3].

    masks:   f32[n h w 1] that add up to 1 at most: where each style is used
    colours: of the style, of the content (their mean and covariance), or luma: the content's chroma
    show:    called with the progress: step, steps in all, canvas
    """
    if stylist.request.strength == 0:
        return content
    sides = content.shape[:2] if tile else ()
    parts = math.prod(len(tiling.starts(side, tile, overlap)) for side in sides)
    stylist.begin(content, tile, parts, colours == "content", masks, show)

    def stylize_tile(part: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        return stylist.answer(part, place, None if masks is None else masks[:, *place], show)

    made = np.concatenate(list(tiling.rows(content, stylize_tile, 1, tile, overlap, stylist.multiple)))
    return recoloured(made, content, colours)


def recoloured(made: np.ndarray, content: np.ndarray, colours: str) -> np.ndarray:
    """Return an output f32[h w 3] with the colours of the style, of the content, or with the content's chroma."""
    if colours == "style":
        return made
    import jax.numpy as jnp

    from jaxgen.nn.colour import rgb, ycbcr
    from jaxgen.nn.colour_transport import transfer_colours

    made, content = np.clip(made, -1, 1), np.asarray(content)
    if colours == "content":
        return transfer_colours(made, content)
    luma, chroma = ycbcr(jnp.asarray(made))[..., :1], ycbcr(jnp.asarray(content))[..., 1:]
    return np.asarray(rgb(jnp.concatenate([luma, chroma], -1)))
