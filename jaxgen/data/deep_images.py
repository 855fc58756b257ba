"""Images of 16 bits. Pillow reads grey ones whole, but only the high bytes of colours."""

import struct
import sys
import zlib
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.data import image_files

BITS, PHOTOMETRIC, PLANES = 258, 262, 284  # tags of a TIFF
TOP = 65535


def is_deep(image: Image.Image) -> bool:
    """Return whether an image, of which the header has been read, has more than 8 bits."""
    if image.format == "TIFF":
        return max(_tag(image, BITS, (1,))) > 8 and image.mode in ("I;16", "I;16B", "RGB", "RGBA")
    if image.format == "PPM":  # its largest value is an argument of Pillow's decoder, or 65535
        return image.mode == "I" or (image.mode == "RGB" and _largest(image) > 255)
    return image.mode.startswith("I") or ";16" in _raw_mode(image)


def check_range(image: Image.Image):
    """Raise ValueError for floats, 32-bit integers and signed integers: their black and white are unknown."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        what = "floats" if image.mode == "F" else "integers with a sign or 32 bits"
        raise ValueError(f"its pixels are {what}, of which black and white are unknown, so save it with 8 or 16 bits")


def deep_pixels(image: Image.Image, data: bytes) -> np.ndarray:
    """Return u16[h w c] of an image for which `is_deep`, upright; its alpha, or that of a PNG's clear colour, is last.

    data: the bytes of its file
    """
    raw = _raw_mode(image)
    if raw == "LA;16B":
        return _grey_with_alpha(data)
    if image.format == "PPM" and image.mode == "RGB":
        values = _ppm(image, data)
    elif image.mode.startswith("I"):
        values = _grey(image)
    else:
        values = _colour(image, data)
    clear = image.info.get("transparency")
    if clear is None:
        return values
    alpha = np.where((values == np.asarray(clear)).all(2, keepdims=True), 0, TOP)
    return np.concatenate([values, alpha.astype(np.uint16)], 2)


def _grey(image: Image.Image) -> np.ndarray:
    image.load()
    values = np.clip(np.asarray(image_files.upright(image)).astype(np.int64), 0, TOP)[..., None]
    if image.format == "TIFF":
        top = 2 ** _tag(image, BITS, (16,))[0] - 1  # 12 bits come as 0 to 4095
        values = (values * TOP + top // 2) // top
        if _tag(image, PHOTOMETRIC, 1) == 0:  # 0 is white
            values = TOP - values
    return values.astype(np.uint16)


def _colour(image: Image.Image, data: bytes) -> np.ndarray:
    """Return colours by reading the file twice: Pillow keeps the byte that it takes for the high one."""
    if _tile(image)[0] == "libtiff" and _tag(image, PLANES, 1) == 2:
        raise ValueError("its 16 bits are in compressed planes, which can't be read, so save it without planes")
    raw, _, order = _raw_mode(image).partition(";16")
    if image.format == "TIFF" and not order:  # planes one after another
        order = "L" if data[:1] == b"I" else "B"
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
    high, low = (_ordered(data, each) for each in (order, other))
    values = high.astype(np.uint16) << 8 | low
    if raw == "RGBa":  # premultiplied
        values[..., :3] = np.minimum((values[..., :3].astype(np.float64) * TOP) / np.maximum(values[..., 3:], 1), TOP)
    return values


def _ordered(data: bytes, order: str) -> np.ndarray:
    """Return the bytes u8[h w c] that are the high ones in this order: B(ig), L(ittle) or N(ative)."""
    with image_files.opened(data) as image:
        image.tile = [tile._replace(args=_named(tile.args, order)) for tile in image.tile]  # pyright: ignore
        image.load()
        return np.asarray(image_files.upright(image))


def _named(arguments, order: str):
    """Return the arguments of a decoder with the raw mode of another byte order; RGBa is not divided by alpha."""
    raw, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    new = f"{raw.partition(';')[0].replace('a', 'A')};16{order}"
    return (new, *rest) if isinstance(arguments, tuple) else new


def _grey_with_alpha(data: bytes) -> np.ndarray:
    """Return a PNG of 16-bit grey and alpha: its header is changed to 8-bit RGBA, of the same four bytes per pixel."""
    head = data[12:24] + b"\x08\x06" + data[26:29]  # IHDR
    with image_files.opened(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]) as image:
        image.load()
        pairs = np.asarray(image_files.upright(image)).astype(np.uint16)
    return pairs[..., ::2] << 8 | pairs[..., 1::2]


def _ppm(image: Image.Image, data: bytes) -> np.ndarray:
    width, height = image.size
    (_, _, start, _), largest = _tile(image), _largest(image)
    values = np.frombuffer(data, ">u2", width * height * 3, start).reshape(height, width, 3)
    return ((np.minimum(values, largest).astype(np.uint32) * TOP + largest // 2) // largest).astype(np.uint16)


def _largest(image: Image.Image) -> int:
    codec, _, _, arguments = _tile(image)
    return arguments[1] if codec == "ppm" else 255  # as text or of 8 bits


def _raw_mode(image: Image.Image) -> str:
    arguments = _tile(image)[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _tile(image: Image.Image) -> tuple[str, Any, int, Any]:
    """Return (decoder, box, position in the file, arguments) of the first part of an image."""
    return (getattr(image, "tile", None) or [("", None, 0, "")])[0]


def _tag(image: Image.Image, number: int, default):
    return getattr(image, "tag_v2", {}).get(number, default)
