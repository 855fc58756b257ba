"""Images that lie on an image: where each is, and how much of it is seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.media.photo import Photo, check_made, read


@dataclass(frozen=True)
class Layer:
    """A foreground's part within the background.

    pixels: f32[h w c] in [-1, 1]
    alpha:  f32[h w 1] in [0, 1], how much of it is seen
    known:  bool[h w 1], where its colours are known: a mask may show less
    place:  where it lies
    """

    pixels: np.ndarray
    alpha: np.ndarray
    known: np.ndarray
    place: tuple[slice, slice]

    def like(self, picture: np.ndarray) -> np.ndarray:
        """Return the background in as many channels as both need."""
        return coloured(picture) if self.pixels.shape[2] == 3 else picture

    def whole(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the foreground laid on the background, its alpha not heeded, and its alpha, of all the image."""
        pixels = picture.copy()
        pixels[self.place] = self.pixels if self.pixels.shape[2] == picture.shape[2] else coloured(self.pixels)
        alpha = np.zeros((*picture.shape[:2], 1), np.float32)
        alpha[self.place] = self.alpha
        return pixels, alpha


def opaque(below: Photo, layers: list[Layer]) -> np.ndarray | None:
    """Return the answer's alpha: what is laid on a transparent background can be seen."""
    if below.alpha is None:
        return None
    top = np.iinfo(below.alpha.dtype).max
    alpha = below.alpha.astype(np.float32) / top
    for one in layers:
        alpha[one.place] = 1 - (1 - alpha[one.place]) * (1 - one.alpha)
    return np.rint(alpha * top).astype(below.alpha.dtype)


def coloured(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture


def layer(file: Path, mask: Path | None, scale: float, place: tuple[int, int] | None, background: Photo) -> Layer:
    """Return a foreground's part within the background. Raises InputError where nothing of it is to be seen."""
    photo = read(file)
    height, width = photo.pixels.shape[:2]
    if mask is not None:
        alpha = (read(mask).pixels.mean(2, keepdims=True) + 1) / 2
        if alpha.shape[:2] != (height, width):
            sizes = [f"{h}x{w}" for h, w in (alpha.shape[:2], (height, width))]
            raise InputError(f"The mask {mask} is {sizes[0]}, {file} is {sizes[1]}: they must be of one size.")
    elif photo.alpha is not None:
        alpha = photo.alpha.astype(np.float32) / np.iinfo(photo.alpha.dtype).max
    else:
        alpha = np.ones((height, width, 1), np.float32)
    if not (alpha > 0).any():
        why = "its alpha is 0" if mask is None else f"{mask} is black"
        raise InputError(f"Nothing of {file} is to be seen: {why} all over.")
    pixels = photo.pixels
    if scale != 1:
        check_made(f"{file} with --size {scale:g}", height * scale, width * scale)
        # What is hidden has no colour: pixels are weighed by their alpha, of which a mask knows nothing.
        weight = alpha if mask is None else np.ones_like(alpha)
        pixels, weight = resized(pixels * weight, scale), np.clip(resized(weight, scale), 0, 1)
        pixels = np.clip(pixels / np.maximum(weight, 1e-3), -1, 1)
        alpha = weight if mask is None else np.clip(resized(alpha, scale), 0, 1)
        alpha = np.where(alpha < 1 / 512, 0, alpha)  # less than a file of 8 bits could tell
    tall, wide = background.pixels.shape[:2]
    height, width = pixels.shape[:2]
    y, x = place or ((tall - height) // 2, (wide - width) // 2)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, tall), min(x + width, wide)
    inside = slice(top - y, bottom - y), slice(left - x, right - x)
    if bottom <= top or right <= left or not (alpha[inside] > 0).any():
        raise InputError(f"Nothing of {file} is to be seen: it is {height}x{width} at {y},{x} of {tall}x{wide} pixels.")
    known = alpha > 0 if mask is None else np.ones_like(alpha, bool)
    return Layer(pixels[inside], alpha[inside], known[inside], (slice(top, bottom), slice(left, right)))


def resized(picture: np.ndarray, scale: float) -> np.ndarray:
    """Return an image [h w c] by bicubic interpolation, antialiased where it is made smaller."""
    import jax.numpy as jnp

    from jaxgen.nn.resample import resize

    size = max(round(picture.shape[0] * scale), 1), max(round(picture.shape[1] * scale), 1)
    return np.asarray(resize(jnp.asarray(picture), size, "bicubic"))
