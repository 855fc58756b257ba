"""Image files of users: 8 or 16 bits, alpha, EXIF and colour profile are read, and written again."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxgen.core.errors import InputError
from jaxgen.data import deep_images, image_files
from jaxgen.data.image_decoding import eight_bits, pixels
from jaxgen.data.image_files import SUFFIXES, reason
from jaxgen.data.image_folders import images_in
from jaxgen.media import containers, image_writing, metadata, xmp
from jaxgen.media.marks import Mark, marked

WRITTEN = tuple(image_writing.KINDS)
SMALLEST, LARGEST = 4, 20_000  # pixels of a side: the smallest input, the largest output


@dataclass(frozen=True)
class Photo:
    """An image file, upright.

    pixels:  f32[h w c] in [-1, 1], grey or colour; invisible pixels, of alpha 0, have the nearest visible colour
    alpha:   u8 or u16[h w 1], as in the file, or None
    bits:    8 or 16
    extras:  metadata that is written again: "exif", "icc_profile", "dpi", "xmp"
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int = 8
    extras: Any = None


def find(path: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, sorted, or the one file. Raises InputError for none."""
    if not path.exists():
        raise InputError(f"There is no image or folder {path}.")
    if not path.is_dir():
        return [path]
    if not (found := images_in(path)):
        raise InputError(f"{path} has no image files (suffixes {', '.join(sorted(SUFFIXES))}).")
    return found


def read(path: Path) -> Photo:
    """Return the image of a file. Raises InputError if it can't be read, or not without loss."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image.")
    try:
        data = image_files.read(path)
        with image_files.opened(data) as image:
            _check(path, image)
            values = pixels(image, data)
            extras = metadata.extras_of(image)
        if (packet := containers.read_xmp(io.BytesIO(data))) and (packet := xmp.described(packet)):
            extras["xmp"] = packet
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise InputError(f"{path} can't be read: {reason(error)}.") from error
    return photo_of(values, extras)


def photo_of(values: np.ndarray, extras: Any = None) -> Photo:
    """Return the photo of values u8 or u16[h w c]; the last of 2 or 4 channels is alpha."""
    alpha = values[..., -1:] if values.shape[2] in (2, 4) else None
    colours = values if alpha is None else filled(values[..., :-1], alpha > 0)
    return Photo(_floats(colours), alpha, 8 * values.itemsize, extras)


def filled(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return values[h w c] where pixels that are not seen, bool[h w 1], have the values of the nearest one that is.

    A file can have any colours under alpha 0. With these, images that look the same are the same to a net, to an
    interpolation and to a score.
    """
    if seen.all():
        return values
    if not seen.any():
        return np.zeros_like(values)
    nearest: Any = ndimage.distance_transform_edt(~seen[..., 0], return_distances=False, return_indices=True)
    rows, columns = nearest
    return values[rows, columns]


def check_made(what: str, height: float, width: float):
    """Raise InputError if an output would be too large. The sides may be any numbers, also infinity."""
    if not max(height, width) <= LARGEST:
        raise InputError(f"{what} would be {height:.0f}x{width:.0f}: a side can have {LARGEST} pixels at most.")


def check_mask(mask: Path, found: np.ndarray, file: Path, image: np.ndarray):
    """Raise InputError unless a mask [h w 1] has the size of its image [h w c]."""
    if found.shape[:2] != image.shape[:2]:
        sizes = ["x".join(map(str, x.shape[:2])) for x in (found, image)]
        raise InputError(f"The mask {mask} is {sizes[0]}, {file} is {sizes[1]}: they must have the same size.")


def size_of(path: Path) -> tuple[int, int, int] | None:
    """Return height, width (upright) and bits from a file's header; None if it is not an image."""
    try:
        with image_files.opened(path) as image:
            width, height = image_files.upright_size(image)
            return height, width, 16 if deep_images.is_deep(image) else 8
    except Exception:  # Pillow raises many kinds; `read` reports the reason
        return None


def _check(path: Path, image: Image.Image):
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise InputError(f"{path} is {height}x{width}: an image must have {SMALLEST}x{SMALLEST} pixels or more.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "TIFF":
        raise InputError(f"{path} has {frames} pages: save the pages to be used as separate images.")
    if frames > 1 and image.format != "MPO":  # written by phones: the photo, and other images such as a depth map
        raise InputError(f"{path} is animated, {frames} frames: save the frames to be used as separate images.")


def _floats(values: np.ndarray) -> np.ndarray:
    top = np.float32(np.iinfo(values.dtype).max / 2)
    return values.astype(np.float32) / top - np.float32(1)


def quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x in [-1, 1] rounded to 8 or 16 bits."""
    top = 2**bits - 1
    return np.clip(np.rint((x + 1) * (top / 2)), 0, top).astype(np.uint16 if bits == 16 else np.uint8)


def write(path: Path, values: np.ndarray, like: Photo, alpha: np.ndarray | None = None, *, mark: Mark | None):
    """Write u8 or u16[h w c], and alpha of the same type, with the metadata of the photo `like`, and a mark.

    Only a .png or .tif keeps 16 bits. In a .jpg or a .bmp, which have no alpha, transparent pixels become white. A
    half-written file is never visible.
    """
    kind = image_writing.KINDS[path.suffix.lower()]
    grey = like.pixels.shape[2] == 1, values.shape[2] == 1
    extras = metadata.extras_for(kind, like.extras or {}, values.shape[1::-1], grey)
    if alpha is not None:
        values = np.concatenate([values, alpha.astype(values.dtype)], 2)
    if values.dtype == np.uint16 and kind not in image_writing.DEEP:
        values = eight_bits(values)
    if alpha is not None and kind in image_writing.OPAQUE:
        share = values[..., -1:].astype(np.float32) / np.float32(255)
        values = np.rint(values[..., :-1] * share + 255 * (1 - share)).astype(np.uint8)
    with marked(path, mark, (like.extras or {}).get("xmp")) as part:
        try:
            image_writing.save(part, kind, values, extras)
        except ValueError as error:  # such as a .webp beyond its largest size
            raise InputError(f"{path} can't be written: {error}.") from error
