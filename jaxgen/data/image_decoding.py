"""Decoding of image files of any mode, depth and orientation."""

import contextlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from jaxgen.core.errors import InputError
from jaxgen.data import deep_images, image_files
from jaxgen.data.transforms import pixels_of


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

    EXIF orientation is applied; 16 bits are rounded to 8; palettes, CMYK, LAB and other modes become RGB. Raises any
    error that Pillow raises on damaged data, and ValueError for floats and 32-bit integers, whose range is unknown.
    """
    with image_files.opened(data) as image:
        deep_images.check_range(image)
        if deep_images.is_deep(image):
            values = eight_bits(deep_images.deep_pixels(image, data))
            image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
        else:
            image = plain(image)
    return image.convert("RGBA") if image.mode == "LA" else image


def pixels(image: Image.Image, data: bytes) -> np.ndarray:
    """Return the pixels u8 or u16[h w c] of an image just opened, upright: grey or colour, the last of 2 or 4 is alpha.

    data: the bytes of its file. Raises what `decode` raises.
    """
    deep_images.check_range(image)
    return deep_images.deep_pixels(image, data) if deep_images.is_deep(image) else pixels_of(plain(image))


def plain(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits, upright and in mode L, LA, RGB or RGBA."""
    image.load()
    image = image_files.upright(image)
    if image.mode == "CMYK":
        return _through_profile(image)
    grey = image.mode in ("1", "L", "LA", "La")
    clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    wanted = ("L" if grey else "RGB") + "A" * clear
    return image if image.mode == wanted else image.convert(wanted)


def _through_profile(image: Image.Image) -> Image.Image:
    """Return a CMYK image as sRGB: by its own colour profile, or without one by the plain formula."""
    if profile := image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # of another colour space, or damaged
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if made is not None:
                return made
    return image.convert("RGB")


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return u16 values rounded to u8."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
