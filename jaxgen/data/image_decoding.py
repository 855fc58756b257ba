"""Decoding of image files of any mode, depth and orientation."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data import image_files


def decode_file(path: Path) -> Image.Image:
    """Return the image of a file, as `decode` does. Raises InputError if it can't be read."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name one image.")
    if not path.exists():
        raise InputError(f"There is no image {path}.")
    try:
        return decode(image_files.read(path))
    except Exception as error:  # Pillow raises many kinds
        raise InputError(f"{path} can't be read: {image_files.reason(error)}.") from error


def decode(data: bytes) -> Image.Image:
    """Return the fully decoded image in mode L, RGB or RGBA; the first frame of an animation.

    EXIF orientation is applied; 16-bit grey is scaled to 8; palettes, CMYK, LAB and other modes become RGB. Raises
    any error that Pillow raises on damaged data, and ValueError for float pixels, whose range is unknown.
    """
    with image_files.opened(data) as image:
        image.load()
        return _plain(image_files.upright(image))


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
