"""Image files of users: 8 or 16 bits, alpha, EXIF and colour profile are read, and written again."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data import image_files
from jaxgen.data.image_files import ORIENTATION, SUFFIXES, reason, upright
from jaxgen.data.image_folders import images_in
from jaxgen.data.transforms import pixels_of
from jaxgen.media import output_files

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
DEEP = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": ""}  # Pillow's raw modes of a 16-bit .png
SMALLEST, LARGEST = 4, 20_000  # pixels of a side: the smallest input, the largest output


@dataclass(frozen=True)
class Photo:
    """An image file, upright.

    pixels:  f32[h w c] in [-1, 1], grey or colour
    alpha:   u8 or u16[h w 1], as in the file, or None
    bits:    8 or 16
    extras:  metadata that is written again: "exif", "icc_profile", "dpi"
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
            low = _low_bytes(data) if image.format == "PNG" and _raw_mode(image) in DEEP else None
            image.load()
            return _photo(image, low)
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise InputError(f"{path} can't be read: {reason(error)}.") from error


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
    """Return height, width and bits from a file's header; None if it is not an image."""
    try:
        with image_files.opened(path) as image:
            width, height = image.size
            return height, width, 16 if image.mode.startswith("I") or _raw_mode(image) in DEEP else 8
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
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"{path} is {image.mode}: save it as RGB first, so that its colours are defined.")
    if image.mode == "F":
        raise InputError(f"{path} has 32-bit floats of unknown range: save it with 8 or 16 bits.")


def _raw_mode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    return str(tile[0][3]) if tile else ""


def _low_bytes(data: bytes) -> np.ndarray:
    """Return the low bytes of a 16-bit .png. Pillow returns only the high bytes.

    The file is read as if it were little-endian, which swaps low and high bytes. Pillow can't do so for grey with
    alpha. Such a file is read as 8-bit RGBA, with the low bytes in the second and fourth channels.
    """
    with image_files.opened(data) as image:
        other = DEEP[_raw_mode(image)]
        if not other:
            head = data[12:24] + b"\x08\x06" + data[26:29]  # IHDR: 8 bits, RGBA
            data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
            with image_files.opened(data) as eight:
                return np.asarray(upright(eight))[..., 1::2]
        image.tile = [(codec, box, offset, other) for codec, box, offset, _ in image.tile]  # pyright: ignore
        image.load()
        return np.asarray(upright(image))


def _photo(image: Image.Image, low: np.ndarray | None) -> Photo:
    exif, turned = image.getexif(), upright(image)  # before the orientation tag is reset
    extras = {name: image.info[name] for name in ("icc_profile", "dpi") if image.info.get(name)}
    if exif:
        exif[ORIENTATION] = 1  # the output is upright
        extras["exif"] = exif.tobytes()
    image = turned
    if image.mode.startswith("I"):  # 16-bit grey
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535).astype(np.uint16)[..., None]
        return Photo(_floats(deep), None, 16, extras)
    if low is not None and low.shape[2] == 2:  # Pillow reads grey with alpha as RGBA
        image = image.convert("LA")
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        has_alpha = image.mode != "P" or "transparency" in image.info
        grey = image.mode in ("LA", "L", "La")
        image = image.convert(("LA" if grey else "RGBA") if has_alpha else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA", "LA"):
        image = image.convert("RGB")
    values, bits = pixels_of(image), 8
    if low is not None and low.shape == np.asarray(image).shape:
        values, bits = values.astype(np.uint16) * 256 + low, 16
    channels = values.shape[2] - (values.shape[2] in (2, 4))
    alpha = values[..., channels:] if values.shape[2] > channels else None
    return Photo(_floats(values[..., :channels]), alpha, bits, extras)


def _floats(values: np.ndarray) -> np.ndarray:
    top = np.float32(np.iinfo(values.dtype).max / 2)
    return values.astype(np.float32) / top - np.float32(1)


def quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x in [-1, 1] rounded to 8 or 16 bits."""
    top = 2**bits - 1
    return np.clip(np.rint((x + 1) * (top / 2)), 0, top).astype(np.uint16 if bits == 16 else np.uint8)


def write(path: Path, values: np.ndarray, like: Photo, alpha: np.ndarray | None = None):
    """Write u8 or u16[h w c], and alpha of the same type, with the metadata of the photo `like`.

    Only a .png keeps 16 bits. In a .jpg or a .bmp, which have no alpha, transparent pixels become white. A half-written
    file is never visible.
    """
    with output_files.whole(path) as part:
        try:
            _save(part, path.suffix.lower(), values, like, alpha)
        except ValueError as error:  # such as a .webp beyond its largest size
            raise InputError(f"{path} can't be written: {error}.") from error


def _save(part: Path, suffix: str, values: np.ndarray, like: Photo, alpha: np.ndarray | None):
    if values.dtype == np.uint16 and suffix != ".png":
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        alpha = None if alpha is None else ((alpha.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if alpha is not None and suffix in (".jpg", ".jpeg", ".bmp"):
        share = alpha.astype(np.float32) / np.iinfo(values.dtype).max
        values, alpha = np.rint(values * share + 255 * (1 - share)).astype(np.uint8), None
    if alpha is not None:
        values = np.concatenate([values, alpha.astype(values.dtype)], 2)
    known = dict(like.extras or {})
    if (like.pixels.shape[2] == 1) != (values.shape[2] < 3):  # grey became colour, or colour became grey
        known.pop("icc_profile", None)
    if values.dtype == np.uint16:
        part.write_bytes(_png16(values, known))
    else:
        kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}.get(suffix, suffix[1:].upper())
        extras = {k: v for k, v in known.items() if not (kind == "BMP" and k != "dpi")}
        how = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(part, kind, **how, **extras)


def _png16(values: np.ndarray, extras: dict[str, Any]) -> bytes:
    """Return a .png of u16[h w c]: each line minus the line above, deflated. Pillow can't write 16-bit colour."""
    height, width, channels = values.shape
    lines = values.astype(">u2").view(np.uint8).reshape(height, -1)
    above = np.concatenate([np.zeros_like(lines[:1]), lines[:-1]])
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), lines - above], 1)  # 2: "Up", modulo 256
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if "icc_profile" in extras:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(extras["icc_profile"])))
    if "exif" in extras:
        chunks.append((b"eXIf", extras["exif"].removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
