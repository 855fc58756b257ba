"""Random masks f32[b h w 1], 1 where pixels are hidden, 0 elsewhere; keys Key[b], one per image.

Sizes are fractions of the image, or pixels of an image with a shorter side of 256.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from PIL import ImageFont

from jaxgen.core import rng
from jaxgen.data.degradation_ops import Key, Size, fold_keys, smooth_field, uniform

Array = jax.Array
Span = tuple[float, float]


def masked_share(mask: Array) -> Array:
    """Return the hidden fraction of each image, f32[b]."""
    return mask.mean((1, 2, 3))


def boxes(keys: Key, size: Size, most: int = 4, side: Span = (0.125, 0.5)) -> Array:
    """Return masks of 1 to `most` axis-aligned boxes inside the image, with sides in the range `side`."""
    u = uniform(fold_keys(keys, "boxes"), 0, 1, (2, 2, most))  # position or extent, axis, box
    count = jnp.floor(uniform(fold_keys(keys, "count"), 1, most + 1))
    inside = []
    for axis, n in enumerate(size):
        length = jnp.maximum(jnp.round(n * (side[0] + u[:, 1, axis] * (side[1] - side[0]))), 1)
        start = jnp.floor(u[:, 0, axis] * (n - length + 1))[:, None]  # [b 1 most]
        place = jnp.arange(n).reshape(1, -1, 1)
        inside.append((place >= start) & (place < start + length[:, None]))  # [b n most]
    there = jnp.arange(most).reshape(1, 1, 1, -1) < count.reshape(-1, 1, 1, 1)
    found = inside[0][:, :, None] & inside[1][:, None] & there  # [b h w most]
    return found.any(-1, keepdims=True).astype(jnp.float32)


def strokes(keys: Key, size: Size) -> Array:
    """Return masks of 1 to 3 brush strokes of 4 to 11 segments with alternating turns and round ends.

    Yu et al. 2019, "Free-Form Image Inpainting with Gated Convolution", algorithm 1, with the
    constants of its code for 256 pixels.
    """
    h, w = size
    most, pieces = 3, 11
    u = uniform(fold_keys(keys, "strokes"), 0, 1, (most, 6))
    count = jnp.floor(uniform(fold_keys(keys, "count"), 1, most + 1))  # [b]
    there = jnp.arange(most)[None] < count[:, None]  # [b most]
    number = jnp.floor(4 + 8 * u[..., 0])
    width = (12 + 28 * u[..., 1]) * min(size) / 256
    low = (2 - 2 / 3 * u[..., 2]) * math.pi / 5  # the angles lie between 4/15 pi and 8/15 pi
    high = (2 + 2 / 3 * u[..., 3]) * math.pi / 5
    start = jnp.stack([u[..., 4] * h, u[..., 5] * w], -1)  # [b most 2]
    radius = math.hypot(h, w) / 8
    turns = uniform(fold_keys(keys, "turns"), 0, 1, (pieces, most))
    steps = radius + radius / 2 * rng.normal(fold_keys(keys, "steps"), (pieces, most))
    steps = jnp.clip(steps, 0, 2 * radius)  # [b pieces most]
    flip = uniform(fold_keys(keys, "flip"), 0, 1, (1, 2)) < 0.5
    edge = jnp.asarray([[[h, w]]], jnp.float32)

    def piece(state: tuple[Array, Array], given: tuple[Array, Array, Array]):
        (mask, begin), (k, turn, step) = state, given
        angle = jnp.where(k % 2 == 0, -1, 1) * (low + turn * (high - low))
        move = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1) * step[..., None]
        end = jnp.clip(begin + move, 0, jnp.broadcast_to(edge, move.shape))
        first, last = (jnp.where(flip, edge - p, p) for p in (begin, end))
        near = squared_distance(first, last, size) <= jnp.square(width / 2)[:, None, None]  # [b h w most]
        hit = near & (there & (k < number))[:, None, None]
        return (mask | hit.any(-1), end), None

    given = jnp.arange(pieces), turns.swapaxes(0, 1), steps.swapaxes(0, 1)
    (mask, _), _ = jax.lax.scan(piece, (jnp.zeros((len(keys), h, w), bool), start), given)
    return mask[..., None].astype(jnp.float32)


def squared_distance(begin: Array, end: Array, size: Size) -> Array:
    """Return squared distances of pixels to segments between points [b n 2] (row, column), f32[b h w n]."""
    y, x = (jnp.asarray(np.mgrid[: size[0], : size[1]][a] + 0.5, jnp.float32)[None, ..., None] for a in (0, 1))
    (top, left), (down, right) = (jnp.moveaxis(p[:, None, None], -1, 0) for p in (begin, end - begin))  # [b 1 1 n]
    square = jnp.maximum(down * down + right * right, 1e-6)
    t = jnp.clip(((y - top) * down + (x - left) * right) / square, 0, 1)
    return jnp.square(y - top - t * down) + jnp.square(x - left - t * right)


def scratches(keys: Key, size: Size) -> Array:
    """Return masks of 3 to 12 thin, bent lines."""
    cover = line_coverage(keys, size, (3, 12), length=(0.1, 1.0), width=(1.0, 3.0), bend=0.3, rough=1.0)
    return (cover > 0.5).any(1)[..., None].astype(jnp.float32)


def line_coverage(
    keys: Key, size: Size, count: tuple[int, int], length: Span, width: Span, bend: float, rough: float
) -> Array:
    """Return the coverage of each pixel by each of n lines, f32[b n h w] in [0, 1]; n is the largest count.

    length: as a fraction of the diagonal
    width:  in pixels of 256, at least 1; it varies along a line
    bend:   largest offset of the middle from a straight line, as a fraction of the length
    rough:  roughness of the edge, in pixels of 256
    """
    h, w = size
    unit, n = min(size) / 256, count[1]
    u = uniform(fold_keys(keys, "lines"), 0, 1, (n, 6))
    there = jnp.arange(n)[None] < jnp.floor(uniform(fold_keys(keys, "count"), count[0], count[1] + 1))[:, None]
    half = 0.5 * math.hypot(h, w) * (length[0] + u[..., 0] * (length[1] - length[0]))  # [b n]
    thick = jnp.maximum((width[0] + u[..., 1] * (width[1] - width[0])) * unit, 1)
    angle, sag = math.pi * u[..., 2], 2 * bend * (u[..., 3] - 0.5) * half * 2
    coarse, fine = (
        smooth_field(fold_keys(keys, name), size, max(cell * unit, 1)) for name, cell in (("coarse", 14), ("fine", 3))
    )
    row, column = (jnp.asarray(a + 0.5, jnp.float32)[None, None] for a in np.mgrid[:h, :w])  # [1 1 h w]
    half, thick, angle, sag, top, left, there = (
        a[..., None, None] for a in (half, thick, angle, sag, u[..., 4] * h, u[..., 5] * w, there)
    )
    coarse, fine = (jnp.moveaxis(field, -1, 1) for field in (coarse, fine))  # [b 1 h w]
    along = (column - left) * jnp.cos(angle) + (row - top) * jnp.sin(angle)  # [b n h w]
    across = (row - top) * jnp.cos(angle) - (column - left) * jnp.sin(angle)
    share = along / half
    off = across + sag * (share * share - 1) + rough * unit * (2 * coarse + 0.7 * fine)
    ends = jnp.clip(4 * (1 - jnp.abs(share)), 0, 1)  # thinner towards the ends
    thick = thick * ends * (1 + 0.5 * jnp.clip(coarse + fine, -1.6, 2))
    return jnp.where(there, jnp.clip(thick / 2 + 0.5 - jnp.abs(off), 0, 1) * (thick > 0.3), 0)


@lru_cache(maxsize=1)
def glyphs() -> np.ndarray:
    """Return the glyphs "!" to "~" of Pillow's small font, bool[94 11 6]; rendered once, on the host."""
    font = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()
    atlas = np.zeros((94, 11, 6), bool)
    for at in range(94):
        glyph = font.getmask(chr(33 + at))
        drawing = np.asarray(glyph, np.uint8).reshape(glyph.size[::-1])[:11, :6] > 0
        atlas[at, : drawing.shape[0], : drawing.shape[1]] = drawing
    return atlas


def text(keys: Key, size: Size, height: Span = (11, 40), written: float = 0.5) -> Array:
    """Return masks of slightly rotated lines of random letters; `height` of the letters in pixels of 256, at least 11.

    `written` is the probability of each line; the line through the middle is always there.
    """
    h, w = size
    atlas = jnp.asarray(glyphs())
    line_height, letter_width = atlas.shape[1] + 3, atlas.shape[2]
    reach = math.hypot(h, w)
    rows, columns = 2 * math.ceil(reach / 2 / line_height) + 1, 2 * math.ceil(reach / 2 / letter_width) + 2
    enlarged = jnp.maximum(uniform(fold_keys(keys, "height"), *height) * min(size) / 256 / 11, 1)  # [b]
    angle = uniform(fold_keys(keys, "angle"), -0.3, 0.3)
    letters = jax.vmap(lambda key: jax.random.randint(key, (rows, columns), 0, len(atlas)))(fold_keys(keys, "letters"))
    ink = uniform(fold_keys(keys, "space"), 0, 1, (rows, columns)) < 0.85
    there = uniform(fold_keys(keys, "there"), 0, 1, (rows, 1)) < written
    there |= (jnp.arange(rows) == rows // 2).reshape(1, -1, 1)
    y, x = (jnp.asarray(a + 0.5 - n / 2, jnp.float32)[None] for a, n in zip(np.mgrid[:h, :w], size, strict=True))
    sin, cos, enlarged = (a.reshape(-1, 1, 1) for a in (jnp.sin(angle), jnp.cos(angle), enlarged))
    down = jnp.floor((y * cos - x * sin) / enlarged).astype(int) + rows // 2 * line_height + line_height // 2  # [b h w]
    right = jnp.floor((x * cos + y * sin) / enlarged).astype(int) + columns // 2 * letter_width
    at = jnp.clip(down // line_height, 0, rows - 1), jnp.clip(right // letter_width, 0, columns - 1)
    letter, there = (jax.vmap(lambda table, i, j: table[i, j])(a, *at) for a in (letters, ink & there))
    inside = down % line_height < atlas.shape[1]
    ink = atlas[letter, jnp.minimum(down % line_height, atlas.shape[1] - 1), right % letter_width]
    return (ink & there & inside)[..., None].astype(jnp.float32)


MASKS: dict[str, Callable[[Key, Size], Array]] = {
    "boxes": boxes,
    "strokes": strokes,
    "scratches": scratches,
    "text": text,
}
