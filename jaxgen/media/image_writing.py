"""Writing of images of 8 and 16 bits in the formats of photos."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, TiffTags

KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
OPAQUE = ("JPEG", "BMP")  # formats without alpha
DEEP = ("PNG", "TIFF")  # formats of 16 bits
HOW: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}


def save(part: Path, kind: str, values: np.ndarray, extras: dict[str, Any]):
    """Write u8[h w c], or u16 to a .png or .tif: grey or colour, the last of 2 or 4 channels is alpha."""
    if values.dtype == np.uint16:
        part.write_bytes((png16 if kind == "PNG" else tiff16)(values, extras))
    else:
        image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
        image.save(part, kind, **HOW.get(kind, {}), **extras)


def png16(values: np.ndarray, extras: dict[str, Any]) -> bytes:
    """Return a .png of u16[h w c]: each line minus the line above, deflated. Pillow can't write 16-bit colour."""
    height, width, channels = values.shape
    lines = values.astype(">u2").view(np.uint8).reshape(height, -1)
    above = np.concatenate([np.zeros_like(lines[:1]), lines[:-1]])
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), lines - above], 1)  # 2: "Up", modulo 256
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if "icc_profile" in extras:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(extras["icc_profile"])))
    if "dpi" in extras:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(each / 0.0254) for each in extras["dpi"]), 1)))
    if "exif" in extras:
        chunks.append((b"eXIf", extras["exif"].removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def tiff16(values: np.ndarray, extras: dict[str, Any]) -> bytes:
    """Return a .tif of u16[h w c], uncompressed, with grey and alpha as RGBA. Pillow can't write 16-bit colour."""
    if values.shape[2] == 2:  # few programs read them, and Pillow does not
        values = values[..., [0, 0, 0, 1]]
    height, width, channels = values.shape
    body = values.astype("<u2").tobytes()
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if "exif" in extras:
        exif = Image.Exif()
        exif.load(extras["exif"])
        for tag in exif:
            ifd[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else exif[tag]
    if "icc_profile" in extras:
        ifd[TiffImagePlugin.ICCPROFILE] = extras["icc_profile"]
    if "dpi" in extras:
        ifd[TiffImagePlugin.RESOLUTION_UNIT] = 2
        ifd[TiffImagePlugin.X_RESOLUTION], ifd[TiffImagePlugin.Y_RESOLUTION] = extras["dpi"]
    ifd[TiffImagePlugin.IMAGEWIDTH], ifd[TiffImagePlugin.IMAGELENGTH] = width, height
    ifd[TiffImagePlugin.BITSPERSAMPLE] = (16,) * channels
    ifd[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    ifd[TiffImagePlugin.COMPRESSION] = ifd[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    ifd[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 2 if channels > 1 else 1
    ifd[TiffImagePlugin.ROWSPERSTRIP] = height
    ifd[TiffImagePlugin.STRIPBYTECOUNTS], ifd[TiffImagePlugin.STRIPOFFSETS] = len(body), 0  # `save` adds its own length
    if channels == 4:
        ifd[TiffImagePlugin.EXTRASAMPLES] = 2
    out = io.BytesIO()
    ifd.save(out)
    return out.getvalue() + body
