"""Restoration of an image of any size, tile by tile, and of its alpha."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.inference.restoration import Model
from jaxgen.media import tiling
from jaxgen.media.photo import quantised

TILE, OVERLAP = 384, 32  # pixels


def restored_lines(
    model: Model,
    image: np.ndarray,
    conditioning: Mapping[str, Any],
    tile: int = TILE,
    overlap: int = OVERLAP,
    ensemble: bool = False,
    seed: int = 0,
    number: int = 0,
    check: Callable[[float], Any] | None = None,
    show: Callable[[int], Any] = lambda done: None,
) -> Iterator[np.ndarray]:
    """Yield the lines f32[n W c] of an answer to an image f32[h w c] in [-1, 1].

    conditioning: images [h w c] and numbers that the model takes beside it
    tile:         the side of the tiles; 0: the whole image at once
    ensemble:     the mean over eight rotations and reflections
    seed, number: the answer `number` of a stochastic model
    check:        called with the bytes that a tile needs, before it is begun
    show:         called with the number of pixels that are done
    Raises InputError for an image in colour where the model takes grey ones only.
    """
    transform, channels = model.transform, image.shape[2]
    takes = transform.source.sizes(-1)
    many = channels not in takes
    if many and channels == 1:
        image = np.repeat(image, takes[0], 2)
    elif many:
        raise InputError(f"{model.name} restores images of {takes[0]} channel, not colour.")
    ways = range(8) if ensemble else range(1)

    def restore_tile(part: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        given = {"degraded": part} | {k: v[place] if np.ndim(v) == 3 else v for k, v in conditioning.items()}
        turns = ({k: turned(v, way) for k, v in given.items()} for way in ways)
        total = sum(back(model.padded(turn, seed, number, check), way) for turn, way in zip(turns, ways, strict=True))
        down, across = place
        show(down.start * image.shape[1] + (down.stop - down.start) * across.stop)
        return np.asarray(total) / len(ways)

    stays_grey = many and isinstance(transform.outputs["image"].shape[-1], str)
    for lines in tiling.rows(image, restore_tile, model.scale, model.tile(tile), overlap, transform.source.multiple):
        yield lines.mean(2, keepdims=True) if stays_grey else lines


def turned(x: Any, way: int) -> Any:
    """Return an image [h w c], mirrored if way >= 4, then rotated by (way mod 4) right angles. Numbers don't change."""
    if np.ndim(x) != 3:
        return x
    return np.rot90(x[:, ::-1] if way >= 4 else x, way % 4)


def back(x: np.ndarray, way: int) -> np.ndarray:
    """Return the inverse of `turned`."""
    x = np.rot90(x, -(way % 4))
    return x[:, ::-1] if way >= 4 else x


def enlarged(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image [h w c] enlarged by bicubic interpolation."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize

    size = round(image.shape[0] * scale), round(image.shape[1] * scale)
    return image if scale == 1 else np.asarray(resize(jnp.asarray(image), size, "bicubic", edges="reflect"))


def enlarged_alpha(alpha: np.ndarray, scale: float) -> np.ndarray:
    """Return alpha u8 or u16[h w 1] of the size of the output."""
    if scale == 1:
        return alpha
    top = np.float32(np.iinfo(alpha.dtype).max / 2)
    return quantised(enlarged(alpha.astype(np.float32) / top - 1, scale), 8 * alpha.itemsize)
