"""An image of any size through a net, in tiles whose seams are blended, a few of its lines in memory at a time."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from jaxgen.core.errors import InputError, at_least

Mend = Callable[[np.ndarray, tuple[slice, slice]], np.ndarray]  # f32[h w c], where it lies -> f32[h scale w scale c]


def check(tile: int, overlap: int):
    """Raise InputError for tiles that overlap by more than half, or are smaller than that makes sense for."""
    at_least(0, tile=tile, overlap=overlap)
    if tile and tile < max(32, 2 * overlap):
        raise InputError(f"--tile {tile} must be at least 32 and twice --overlap {overlap}, or 0 for the whole image.")


def fit(scale: float) -> bool:
    """Return whether tiles can be joined at this scale: each begins at a whole pixel of the answer, a few apart."""
    return abs(float(Fraction(scale).limit_denominator(100)) - scale) <= 1e-9


def starts(size: int, tile: int, overlap: int, grain: int = 1) -> list[int]:
    """Return where tiles begin so that they cover `size` pixels, each next to the last by at least `overlap`.

    Each begins at a multiple of `grain`; the last ends where the image does.
    """
    if size <= tile:
        return [0]
    last, step = -(-(size - tile) // grain), (tile - overlap) // grain  # in grains
    count = -(-last // step)
    return [round(i * last / count) * grain for i in range(count + 1)]


def ramp(size: int, first: bool, last: bool, overlap: int) -> np.ndarray:
    """Return a tile's weights f32[size]: 1, falling to 0 towards a seam over the middle half of the overlap.

    The outermost quarter is not used: a net sees there that the image ends.
    """
    place = np.arange(size, dtype=np.float32) + 0.5
    quarter, width = overlap / 4, max(overlap / 2, 1)
    rise = np.clip((place - quarter) / width, 0, 1) + 1e-6
    weights = np.ones(size, np.float32)
    return (weights if first else rise) * (weights if last else rise[::-1])


def rows(
    picture: np.ndarray, mend: Mend, scale: float, tile: int, overlap: int, multiple: int = 1
) -> Iterator[np.ndarray]:
    """Yield the mended image from above, some lines f32[n W c] at a time; tile 0 is all of it at once.

    Tiles begin at multiples of `multiple`: windows and pooling lie as in the whole image. A net that looks at all of
    an image, as attention by means of channels does, looks at all of a tile: its tiles are not the whole's parts.
    """
    height, width = picture.shape[:2]
    grain = Fraction(scale).limit_denominator(100)
    if not tile or (height <= tile and width <= tile) or not fit(scale):
        yield mend(picture, (slice(0, height), slice(0, width)))
        return
    # A tile begins at a whole pixel of the answer, at an even one where there are halves: they are rounded to the even.
    q = math.lcm(grain.denominator * (2 - grain.denominator % 2), multiple)
    tile = max(tile // q, -(-overlap // q) + 1) * q  # larger where it must be to overlap the next
    downs, acrosses = (starts(size, tile, overlap, q) for size in (height, width))
    band = total = np.zeros((0, 0, 0), np.float32)
    top = 0  # of the band, in lines of the answer
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
            part = mend(picture[y : y + tall, x : x + wide], (slice(y, y + tall), slice(x, x + wide)))
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
