"""Foreground images placed on a background: their positions and their alpha."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.media import marks
from jaxgen.media.batch_files import check_memory
from jaxgen.media.photo import Photo, check_made, check_mask, read

FOREGROUND = 60  # bytes that a pixel of a foreground takes, by measurement


@dataclass(frozen=True)
class Layer:
    """The part of a foreground that lies within the background.

    pixels: f32[h w c] in [-1, 1]
    alpha:  f32[h w 1] in [0, 1], the opacity
    known:  bool[h w 1], where the colours are known; a mask may show less than that
    place:  rows and columns of the background that it covers
    drawn:  whether its file says that a net drew or changed it
    """

    pixels: np.ndarray
    alpha: np.ndarray
    known: np.ndarray
    place: tuple[slice, slice]
    drawn: bool = False

    def like(self, image: np.ndarray) -> np.ndarray:
        """Return the background, converted to colour if the foreground is in colour."""
        return coloured(image) if self.pixels.shape[2] == 3 else image

    def whole(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the foreground pasted opaquely on the background, and its alpha, both of the background's size."""
        pixels = image.copy()
        pixels[self.place] = self.pixels if self.pixels.shape[2] == image.shape[2] else coloured(self.pixels)
        alpha = np.zeros((*image.shape[:2], 1), np.float32)
        alpha[self.place] = self.alpha
        return pixels, alpha


def opaque(below: Photo, layers: list[Layer]) -> np.ndarray | None:
    """Return the composed image's alpha: foregrounds are visible on a transparent background too."""
    if below.alpha is None:
        return None
    top = np.iinfo(below.alpha.dtype).max
    alpha = below.alpha.astype(np.float32) / top
    for one in layers:
        alpha[one.place] = 1 - (1 - alpha[one.place]) * (1 - one.alpha)
    return np.rint(alpha * top).astype(below.alpha.dtype)


def coloured(image: np.ndarray) -> np.ndarray:
    """Return an image [h w c] with three channels."""
    return np.repeat(image, 3, 2) if image.shape[2] == 1 else image


def layer(
    file: Path, mask: Path | None, scale: float, place: tuple[int, int] | None, background: Photo, memory: float
) -> Layer:
    """Return the part of a foreground that lies within the background.

    Raises InputError if it is invisible, or if it takes more than `memory` GiB at its new size.
    """
    photo = read(file)
    height, width = photo.pixels.shape[:2]
    if mask is not None:
        alpha = (read(mask).pixels.mean(2, keepdims=True) + 1) / 2
        check_mask(mask, alpha, file, photo.pixels)
    elif photo.alpha is not None:
        alpha = photo.alpha.astype(np.float32) / np.iinfo(photo.alpha.dtype).max
    else:
        alpha = np.ones((height, width, 1), np.float32)
    if not (alpha > 0).any():
        why = "its alpha is 0 everywhere" if mask is None else f"{mask} is all black"
        raise InputError(f"Nothing of {file} would be visible: {why}.")
    pixels = photo.pixels
    if scale != 1:
        check_made(f"{file} with --size {scale:g}", height * scale, width * scale)
        check_memory(file, (height, width), FOREGROUND * height * width * (1 + scale**2), memory)
        # Transparent pixels have no colour, so pixels are weighted by the file's alpha. A mask does not hide colours.
        weight = alpha if mask is None else np.ones_like(alpha)
        pixels, weight = resized(pixels * weight, scale), np.clip(resized(weight, scale), 0, 1)
        pixels = np.clip(pixels / np.maximum(weight, 1e-3), -1, 1)
        alpha = weight if mask is None else np.clip(resized(alpha, scale), 0, 1)
        alpha = np.where(alpha < 1 / 512, 0, alpha)  # below half a level of 8 bits
    tall, wide = background.pixels.shape[:2]
    height, width = pixels.shape[:2]
    y, x = place or ((tall - height) // 2, (wide - width) // 2)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, tall), min(x + width, wide)
    inside = slice(top - y, bottom - y), slice(left - x, right - x)
    if bottom <= top or right <= left or not (alpha[inside] > 0).any():
        raise InputError(
            f"Nothing of {file} would be visible: it is {height}x{width} at {y},{x} of {tall}x{wide} pixels."
        )
    known = alpha > 0 if mask is None else np.ones_like(alpha, bool)
    drawn = marks.source_of((photo.extras or {}).get("xmp")) in marks.ARTIFICIAL
    return Layer(pixels[inside], alpha[inside], known[inside], (slice(top, bottom), slice(left, right)), drawn)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image [h w c] resized by bicubic interpolation, with antialiasing if it shrinks."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize

    size = max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1)
    return np.asarray(resize(jnp.asarray(image), size, "bicubic"))
