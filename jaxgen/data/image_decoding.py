"""Decoding of image files of any mode, depth and orientation."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxgen.data.arrays import first_line

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
ORIENTATION = 0x0112  # the EXIF tag


def decode(data: bytes) -> Image.Image:
    """Return the fully decoded image in mode L, RGB or RGBA; the first frame of an animation.

    EXIF orientation is applied; 16-bit grey is scaled to 8; palettes, CMYK, LAB and other modes become RGB. Raises
    any error that Pillow raises on damaged data, and ValueError for float pixels, whose range is unknown.
    """
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return _plain(image)


def _plain(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "F":
        raise ValueError("its pixels are 32-bit floats of unknown range")
    if mode.startswith("I"):  # 16-bit grey comes as I;16, I;16B or, from some files, as 32-bit I
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if mode in ("LA", "La", "PA", "RGBa") or (mode != "RGBA" and "transparency" in image.info):
        return image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    return image if mode in ("L", "RGB", "RGBA") else image.convert("RGB")


def reason(error: BaseException) -> str:
    """Return the reason why an image cannot be read, as part of a sentence."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is not an image"  # Pillow's message would name a buffer in memory
    return first_line(error)
