"""Source images derived from targets for paired translation: edges, grey, mask, small.

Each is a pure function u8[b h w c] -> u8[b h w c] of single images.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from jaxgen.data.transforms import pixels_of

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as everywhere in jaxgen.data
STRONG = 36.0  # threshold of the gradient, in grey levels over two pixels; half of it next to a strong edge
FACTOR = 4  # downsampling factor of "small"


def luma(images: np.ndarray) -> np.ndarray:
    """Return the luma of three channels, or the mean of any other number of channels, f32[b h w]."""
    if images.shape[3] == 3:
        return images.astype(np.float32) @ np.asarray(LUMA, np.float32)
    return images.mean(3, dtype=np.float32)


def spread(plane: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a plane [b h w] repeated in the channels of `like`, rounded to u8[b h w c]."""
    grey = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], like.shape[3], 3)


def grey(images: np.ndarray) -> np.ndarray:
    """Return the luma in all channels."""
    return spread(luma(images), images)


def edges(images: np.ndarray) -> np.ndarray:
    """Return the edges of the luma as black lines one pixel wide on white: Canny 1986, at one scale.

    Sobel gradients, non-maximum suppression across the edge, and hysteresis: weak edges are kept next to strong ones.
    """
    y = blurred(blurred(luma(images), 1), 2)
    down, across = (blurred(slope(y, axis), 3 - axis) for axis in (1, 2))  # [b h w] each
    steep = np.hypot(down, across)
    # The gradient direction in eighths of a turn selects two of the eight neighbours.
    way = np.rint(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(steep, ((0, 0), (1, 1), (1, 1)))
    shift = lambda dy, dx: padded[:, 1 + dy : 1 + dy + y.shape[1], 1 + dx : 1 + dx + y.shape[2]]  # noqa: E731
    ways = [((0, 1), (0, -1)), ((1, 1), (-1, -1)), ((1, 0), (-1, 0)), ((1, -1), (-1, 1))]
    # Of two equal neighbours, the first is kept.
    crest = np.select([way == i for i in range(4)], [(steep > shift(*a)) & (steep >= shift(*b)) for a, b in ways])
    strong, weak = crest & (steep >= STRONG), crest & (steep >= STRONG / 2)
    grown = np.pad(strong, ((0, 0), (1, 1), (1, 1)))
    near = np.any([grown[:, i : i + y.shape[1], j : j + y.shape[2]] for i in range(3) for j in range(3)], axis=0)
    return spread(np.where(strong | (weak & near), 0.0, 255.0), images)


def mask(images: np.ndarray) -> np.ndarray:
    """Return an object mask: white where the colour is far from that of the border, black elsewhere.

    The distance from the median colour of the border is thresholded by Otsu's method (Otsu 1979).
    """
    out = np.empty(images.shape[:3], np.float32)
    for i, x in enumerate(images.astype(np.float32)):
        border = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])  # [n c]
        apart = np.abs(x - np.median(border, axis=0)).max(2)  # [h w], from 0 to 255
        out[i] = np.where(apart > otsu(apart), 255, 0)
    return spread(out, images)


def otsu(values: np.ndarray) -> float:
    """Return Otsu's threshold, 0 to 254, of numbers from 0 to 255."""
    share = np.bincount(np.rint(values).astype(int).ravel(), minlength=256) / values.size
    below, mean = np.cumsum(share), np.cumsum(share * np.arange(256))
    # Otsu 1979, equation 18: the variance between the classes.
    between = (mean[-1] * below - mean) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return float(np.argmax(between[:-1]))


def small(images: np.ndarray) -> np.ndarray:
    """Return the image downsampled by 4 with antialiasing and enlarged again, both bicubic."""
    return np.stack([_down_and_up(x) for x in images])


def _down_and_up(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[:2]
    size = max(round(width / FACTOR), 1), max(round(height / FACTOR), 1)
    bands = [Image.fromarray(np.ascontiguousarray(x[..., i])) for i in range(x.shape[2])]
    how = Image.Resampling.BICUBIC
    return np.concatenate([pixels_of(band.resize(size, how).resize((width, height), how)) for band in bands], 2)


def blurred(x: np.ndarray, axis: int) -> np.ndarray:
    """Return [b h w] filtered by 1/4, 1/2, 1/4 along an axis, with repeated borders."""
    ends = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    padded, n = np.pad(x, ends, "edge"), x.shape[axis]
    part = lambda i: np.take(padded, np.arange(i, i + n), axis)  # noqa: E731
    return (part(0) + 2 * part(1) + part(2)) / 4


def slope(x: np.ndarray, axis: int) -> np.ndarray:
    """Return the central difference along an axis [b h w], with repeated borders."""
    ends = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    padded, n = np.pad(x, ends, "edge"), x.shape[axis]
    return np.take(padded, np.arange(2, n + 2), axis) - np.take(padded, np.arange(n), axis)


DERIVED_SOURCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "edges": edges,
    "grey": grey,
    "mask": mask,
    "small": small,
}
