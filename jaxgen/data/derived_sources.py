"""What an image is turned into so that a model learns the way back: edges, grey, a mask, a small image.

Each is a pure function u8[b h w c] -> u8[b h w c], every image's from that image alone.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from jaxgen.data.transforms import pixels_of

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as everywhere in jaxgen.data
STRONG = 36.0  # grey levels across a pixel's two neighbours, by which an edge is drawn; half of it beside a strong one
FACTOR = 4  # by which "small" shrinks


def luma(pictures: np.ndarray) -> np.ndarray:
    """Return f32[b h w], the luma of three channels and the mean of any other number."""
    if pictures.shape[3] == 3:
        return pictures.astype(np.float32) @ np.asarray(LUMA, np.float32)
    return pictures.mean(3, dtype=np.float32)


def spread(plane: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a plane [b h w] in as many channels as `like` has, rounded to u8[b h w c]."""
    grey = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], like.shape[3], 3)


def grey(pictures: np.ndarray) -> np.ndarray:
    """Return the luma in every channel."""
    return spread(luma(pictures), pictures)


def edges(pictures: np.ndarray) -> np.ndarray:
    """Return black lines of a pixel's width on white, where the luma rises most: Canny 1986, of one scale.

    The gradient is Sobel's, a pixel is on a line where it is the steepest across it, and weak lines are kept beside
    strong ones.
    """
    y = blurred(blurred(luma(pictures), 1), 2)
    down, across = (blurred(slope(y, axis), 3 - axis) for axis in (1, 2))  # [b h w] each
    steep = np.hypot(down, across)
    # The direction in eighths of a turn, so that across it lie two of the eight neighbours.
    way = np.rint(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(steep, ((0, 0), (1, 1), (1, 1)))
    shift = lambda dy, dx: padded[:, 1 + dy : 1 + dy + y.shape[1], 1 + dx : 1 + dx + y.shape[2]]  # noqa: E731
    ways = [((0, 1), (0, -1)), ((1, 1), (-1, -1)), ((1, 0), (-1, 0)), ((1, -1), (-1, 1))]
    # Of two equally steep ones the first is drawn.
    crest = np.select([way == i for i in range(4)], [(steep > shift(*a)) & (steep >= shift(*b)) for a, b in ways])
    strong, weak = crest & (steep >= STRONG), crest & (steep >= STRONG / 2)
    grown = np.pad(strong, ((0, 0), (1, 1), (1, 1)))
    near = np.any([grown[:, i : i + y.shape[1], j : j + y.shape[2]] for i in range(3) for j in range(3)], axis=0)
    return spread(np.where(strong | (weak & near), 0.0, 255.0), pictures)


def mask(pictures: np.ndarray) -> np.ndarray:
    """Return white where a thing is and black where its background: far from the border's colour, and near it.

    The distance from the median colour of the image's border is cut where the two sides differ most (Otsu 1979).
    """
    out = np.empty(pictures.shape[:3], np.float32)
    for i, x in enumerate(pictures.astype(np.float32)):
        border = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])  # [n c]
        apart = np.abs(x - np.median(border, axis=0)).max(2)  # [h w], from 0 to 255
        out[i] = np.where(apart > otsu(apart), 255, 0)
    return spread(out, pictures)


def otsu(values: np.ndarray) -> float:
    """Return the level from 0 to 254 above which numbers from 0 to 255 form one of two classes most apart."""
    share = np.bincount(np.rint(values).astype(int).ravel(), minlength=256) / values.size
    below, mean = np.cumsum(share), np.cumsum(share * np.arange(256))
    # Otsu 1979, equation 18: the variance between the classes.
    between = (mean[-1] * below - mean) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return float(np.argmax(between[:-1]))


def small(pictures: np.ndarray) -> np.ndarray:
    """Return the image a quarter as high and wide, antialiased, enlarged again by bicubic interpolation."""
    return np.stack([_through(x) for x in pictures])


def _through(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[:2]
    size = max(round(width / FACTOR), 1), max(round(height / FACTOR), 1)
    bands = [Image.fromarray(np.ascontiguousarray(x[..., i])) for i in range(x.shape[2])]
    how = Image.Resampling.BICUBIC
    return np.concatenate([pixels_of(band.resize(size, how).resize((width, height), how)) for band in bands], 2)


def blurred(x: np.ndarray, axis: int) -> np.ndarray:
    """Return [b h w] under the weights 1/4, 1/2, 1/4 along an axis, the border repeated."""
    ends = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    padded, n = np.pad(x, ends, "edge"), x.shape[axis]
    part = lambda i: np.take(padded, np.arange(i, i + n), axis)  # noqa: E731
    return (part(0) + 2 * part(1) + part(2)) / 4


def slope(x: np.ndarray, axis: int) -> np.ndarray:
    """Return the difference of both neighbours along an axis [b h w], the border repeated."""
    ends = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    padded, n = np.pad(x, ends, "edge"), x.shape[axis]
    return np.take(padded, np.arange(2, n + 2), axis) - np.take(padded, np.arange(n), axis)


DERIVED_SOURCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "edges": edges,
    "grey": grey,
    "mask": mask,
    "small": small,
}
