"""Images as files that people keep: 8 or 16 bits, alpha, EXIF and colour profile go in and come out again."""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from jaxgen.core.errors import InputError
from jaxgen.data.image_decoding import ORIENTATION, SUFFIXES, reason
from jaxgen.data.transforms import pixels_of
from jaxgen.media import output_files

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
DEEP = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": ""}  # Pillow's raw modes of a 16-bit .png
SMALLEST, LARGEST = 4, 20_000  # pixels of a side, the larger of what is made


@dataclass(frozen=True)
class Photo:
    """An image upright, as it is seen.

    pixels:  f32[h w c] in [-1, 1], grey or colour
    alpha:   [h w 1] of the file's own depth, or None
    bits:    8 or 16
    extras:  what else is written again: "exif", "icc_profile", "dpi"
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int = 8
    extras: Any = None


def find(path: Path) -> list[Path]:
    """Return the images of a folder by name, at any depth, or the one file. Raises InputError for none."""
    if not path.exists():
        raise InputError(f"There is no image or folder {path}.")
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise InputError(f"{path} holds no image: they end in {', '.join(sorted(SUFFIXES))}.")
    return found


def read(path: Path) -> Photo:
    """Return the image of a file. Raises InputError for one that can't be kept as it is, or can't be read."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name an image.")
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            _check(path, picture)
            low = _low_bytes(data) if picture.format == "PNG" and _raw_mode(picture) in DEEP else None
            picture.load()
            return _photo(picture, low)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}.") from error
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise InputError(f"{path} can't be read: {reason(error)}.") from error


def check_made(what: str, height: float, width: float):
    """Raise InputError for an image that is too large to be made. The sides may be any numbers, infinity too."""
    if not max(height, width) <= LARGEST:
        raise InputError(f"{what} would be {height:.0f}x{width:.0f}: a side has {LARGEST} pixels at most.")


def size_of(path: Path) -> tuple[int, int, int] | None:
    """Return height, width and bits by a file's first bytes; None where they are no image's."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            return height, width, 16 if picture.mode.startswith("I") or _raw_mode(picture) in DEEP else 8
    except Exception:  # Pillow raises many kinds; `read` tells
        return None


def _check(path: Path, picture: Image.Image):
    width, height = picture.size
    if min(width, height) < SMALLEST:
        raise InputError(f"{path} is {height}x{width}: images of {SMALLEST}x{SMALLEST} pixels or more are taken.")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format == "TIFF":
        raise InputError(f"{path} has {frames} pages: save the ones to be mended as images of their own.")
    if frames > 1 and picture.format != "MPO":  # phones write one: the photo, and what belongs to it
        raise InputError(f"{path} is animated, {frames} frames: save the ones to be mended as images of their own.")
    if picture.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"{path} is {picture.mode}: save it as RGB first, so that its colours are what you mean.")
    if picture.mode == "F":
        raise InputError(f"{path} has 32-bit floats of unknown range: save it with 8 or 16 bits.")


def _raw_mode(picture: Image.Image) -> str:
    tile = getattr(picture, "tile", None)
    return str(tile[0][3]) if tile else ""


def _low_bytes(data: bytes) -> np.ndarray:
    """Return the low bytes of a 16-bit .png's numbers, of which Pillow gives the high ones.

    They are the high ones where the file is read as if it were little-endian. Pillow knows no such grey with alpha,
    but its bytes lie as those of 8-bit RGBA, whose second and fourth are the low ones.
    """
    with Image.open(io.BytesIO(data)) as picture:
        other = DEEP[_raw_mode(picture)]
        if not other:
            head = data[12:24] + b"\x08\x06" + data[26:29]  # IHDR: 8 bits, RGBA
            data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
            return np.asarray(_upright(Image.open(io.BytesIO(data))))[..., 1::2]
        picture.tile = [(codec, box, offset, other) for codec, box, offset, _ in picture.tile]  # pyright: ignore
        picture.load()
        return np.asarray(_upright(picture))


def _upright(picture: Image.Image) -> Image.Image:
    turned = picture.getexif().get(ORIENTATION, 1) != 1
    return ImageOps.exif_transpose(picture) if turned else picture


def _photo(picture: Image.Image, low: np.ndarray | None) -> Photo:
    exif, upright = picture.getexif(), _upright(picture)  # before the tag is changed, which turns it
    extras = {name: picture.info[name] for name in ("icc_profile", "dpi") if picture.info.get(name)}
    if exif:
        exif[ORIENTATION] = 1  # what is written stands upright
        extras["exif"] = exif.tobytes()
    picture = upright
    if picture.mode.startswith("I"):  # 16-bit grey
        deep = np.clip(np.asarray(picture).astype(np.int64), 0, 65535).astype(np.uint16)[..., None]
        return Photo(_floats(deep), None, 16, extras)
    if low is not None and low.shape[2] == 2:  # Pillow makes grey with alpha RGBA
        picture = picture.convert("LA")
    if picture.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in picture.info:
        has_alpha = picture.mode != "P" or "transparency" in picture.info
        grey = picture.mode in ("LA", "L", "La")
        picture = picture.convert(("LA" if grey else "RGBA") if has_alpha else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode not in ("L", "RGB", "RGBA", "LA"):
        picture = picture.convert("RGB")
    values, bits = pixels_of(picture), 8
    if low is not None and low.shape == np.asarray(picture).shape:
        values, bits = values.astype(np.uint16) * 256 + low, 16
    channels = values.shape[2] - (values.shape[2] in (2, 4))
    alpha = values[..., channels:] if values.shape[2] > channels else None
    return Photo(_floats(values[..., :channels]), alpha, bits, extras)


def _floats(values: np.ndarray) -> np.ndarray:
    top = np.float32(np.iinfo(values.dtype).max / 2)
    return values.astype(np.float32) / top - np.float32(1)


def quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x in [-1, 1] as a file of 8 or 16 bits holds it."""
    top = 2**bits - 1
    return np.clip(np.rint((x + 1) * (top / 2)), 0, top).astype(np.uint16 if bits == 16 else np.uint8)


def write(path: Path, values: np.ndarray, like: Photo, alpha: np.ndarray | None = None):
    """Write u8 or u16[h w c], and alpha of the same type, with the extras of the photo they come from.

    16 bits are kept in a .png only; a .jpg and a .bmp have no alpha, which is laid on white. The file is whole at every
    moment.
    """
    with output_files.whole(path) as part:
        try:
            _save(part, path.suffix.lower(), values, like, alpha)
        except ValueError as error:  # such as a .webp of more pixels than it may have
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
    if (like.pixels.shape[2] == 1) != (values.shape[2] < 3):  # grey has become colour, or the other way round
        known.pop("icc_profile", None)
    if values.dtype == np.uint16:
        part.write_bytes(_png16(values, known))
    else:
        kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}.get(suffix, suffix[1:].upper())
        extras = {k: v for k, v in known.items() if not (kind == "BMP" and k != "dpi")}
        how = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(part, kind, **how, **extras)


def _png16(values: np.ndarray, extras: dict[str, Any]) -> bytes:
    """Return a .png of u16[h w c], which Pillow can't write in colour: each line minus the one above, deflated."""
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
