"""A function applied to an image of any size in tiles, with blended seams and few lines in memory at a time."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from jaxgen.core.errors import InputError, at_least

# (tile f32[h w c], its rows and columns in the image) -> f32[h scale w scale c]
Apply = Callable[[np.ndarray, tuple[slice, slice]], np.ndarray]


def check(tile: int, overlap: int):
    """Raise InputError for tiles below 32 pixels, or that overlap by more than half."""
    at_least(0, tile=tile, overlap=overlap)
    if tile and tile < max(32, 2 * overlap):
        raise InputError(f"--tile {tile} must be at least 32 and twice --overlap {overlap}, or 0 for the whole image.")


def can_join(scale: float) -> bool:
    """Return whether tiles can be joined at this scale: they can begin at whole pixels of the output."""
    return abs(float(Fraction(scale).limit_denominator(100)) - scale) <= 1e-9


def starts(size: int, tile: int, overlap: int, grain: int = 1) -> list[int]:
    """Return the starts of tiles that cover `size` pixels; neighbours overlap by at least `overlap`.

    Each start is a multiple of `grain`. The last tile ends at the image's border.
    """
    if size <= tile:
        return [0]
    last, step = -(-(size - tile) // grain), (tile - overlap) // grain  # in grains
    count = -(-last // step)
    return [round(i * last / count) * grain for i in range(count + 1)]


def ramp(size: int, first: bool, last: bool, overlap: int) -> np.ndarray:
    """Return a tile's weights f32[size]: 1, falling to 0 over the middle half of the overlap.

    The outermost quarter has almost no weight: there a net's padding at the tile's border affects the output.
    """
    place = np.arange(size, dtype=np.float32) + 0.5
    quarter, width = overlap / 4, max(overlap / 2, 1)
    rise = np.clip((place - quarter) / width, 0, 1) + 1e-6
    weights = np.ones(size, np.float32)
    return (weights if first else rise) * (weights if last else rise[::-1])


def rows(
    image: np.ndarray, apply: Apply, scale: float, tile: int, overlap: int, multiple: int = 1
) -> Iterator[np.ndarray]:
    """Yield the output from the top, some lines f32[n W c] at a time. With tile 0 the image is processed at once.

    Tiles begin at multiples of `multiple`, so that windows and pooling are aligned as in the whole image. A net with
    global operations, such as channel attention, sees only a tile: its output differs from that of the whole image.
    """
    height, width = image.shape[:2]
    grain = Fraction(scale).limit_denominator(100)
    if not tile or (height <= tile and width <= tile) or not can_join(scale):
        yield apply(image, (slice(0, height), slice(0, width)))
        return
    # A tile begins at a whole pixel of the output; at an even one if there are halves, which are rounded to even.
    q = math.lcm(grain.denominator * (2 - grain.denominator % 2), multiple)
    tile = max(tile // q, -(-overlap // q) + 1) * q  # enlarged if needed to overlap the next tile
    downs, acrosses = (starts(size, tile, overlap, q) for size in (height, width))
    band = total = np.zeros((0, 0, 0), np.float32)
    top = 0  # of the band, in lines of the output
    for i, y in enumerate(downs):
        tall = height - y if y == downs[-1] else tile
        at = round(y * scale)
        long = round((y + tall) * scale) - at
        if at > top:  # no later tile reaches the lines above
            yield band[: at - top] / total[: at - top]
            band, total, top = band[at - top :], total[at - top :], at
        for j, x in enumerate(acrosses):
            wide = width - x if x == acrosses[-1] else tile
            left = round(x * scale)
            broad = round((x + wide) * scale) - left
            part = apply(image[y : y + tall, x : x + wide], (slice(y, y + tall), slice(x, x + wide)))
            if part.shape[:2] != (long, broad):  # 1.1 * 55 is rounded up, 1.1 * 35 down
                part = np.pad(part, ((0, 1), (0, 1), (0, 0)), "edge")[:long, :broad]
            if band.shape[0] < long:
                more = (long - band.shape[0], round(width * scale), part.shape[2])
                band = np.concatenate([band.reshape(-1, *more[1:]), np.zeros(more, np.float32)])
                total = np.concatenate([total.reshape(-1, more[1], 1), np.zeros((*more[:2], 1), np.float32)])
            down = ramp(long, i == 0, i == len(downs) - 1, round(overlap * scale))
            across = ramp(broad, j == 0, j == len(acrosses) - 1, round(overlap * scale))
            weight = (down[:, None] * across)[..., None]  # [h w 1]
            band[:long, left : left + broad] += weight * part
            total[:long, left : left + broad] += weight
    yield band / total
