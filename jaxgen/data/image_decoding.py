"""Decoding one image file to pixels, whatever its mode, depth and orientation."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxgen.data.arrays import first_line

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
ORIENTATION = 0x0112  # the EXIF tag


def decode(data: bytes) -> Image.Image:
    """Return the image in mode L, RGB or RGBA, read to its end; of an animation, the first frame.

    EXIF orientation is applied; 16-bit grey is scaled to 8; palettes, CMYK, LAB and the like become colour. Raises
    whatever Pillow raises on damaged data, and ValueError for float pixels, whose range no file tells.
    """
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        if picture.getexif().get(ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
        return _plain(picture)


def _plain(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode == "F":
        raise ValueError("its pixels are 32-bit floats of unknown range")
    if mode.startswith("I"):  # 16-bit grey comes as I;16, I;16B or, from some files, as 32-bit I
        values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if mode in ("LA", "La", "PA", "RGBa") or (mode != "RGBA" and "transparency" in picture.info):
        return picture.convert("RGBA")
    if mode == "1":
        return picture.convert("L")
    return picture if mode in ("L", "RGB", "RGBA") else picture.convert("RGB")


def reason(error: BaseException) -> str:
    """Return why an image cannot be read, as a part of a sentence."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is no image"  # Pillow's own words name a buffer in memory
    return first_line(error)
