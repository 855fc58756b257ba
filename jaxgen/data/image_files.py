"""The one way to open an image file: by its content, in known formats only, within limits."""

import io
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import PIL
from PIL import Image, UnidentifiedImageError

from jaxgen.core import paths
from jaxgen.data.arrays import first_line

# Pillow reads more formats, but some of them start programs of the machine: Ghostscript for an EPS named a.png.
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm"}
)
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PIXEL, METADATA = 16, 2**26  # bytes: the most that a pixel and everything else of a file can take
_here = threading.local()  # .name: the file that this thread reads
SCANS = 20  # passes over a progressive JPEG of the largest size; encoders write about 10


def read(path: Path | str) -> bytes:
    """Return the bytes of an image file. Raises OSError, and ValueError if it is too large or no regular file."""
    note(path)
    with regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        check_bytes(size)
        file.seek(0)
        return file.read(size)


@contextmanager
def opened(source: Path | bytes | IO[bytes]) -> Iterator[Image.Image]:
    """Yield an image of which only the header has been read: a file, its bytes, or a binary stream.

    Its pixels are at most `Image.MAX_IMAGE_PIXELS`. Raises OSError, ValueError, and any error that Pillow raises on
    damaged data; `reason` makes them a part of a sentence.
    """
    if isinstance(source, bytes) and not source:
        raise ValueError("the file is empty")
    if paths.is_path(source):
        note(source)
        stream = regular(source)
    else:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with stream, Image.open(stream, formats=FORMATS) as image:
        pixels, limit = image.size[0] * image.size[1], Image.MAX_IMAGE_PIXELS
        if limit and pixels > limit:
            raise Image.DecompressionBombError  # Pillow itself raises at twice the limit
        if limit and isinstance(source, bytes) and image.format in ("JPEG", "MPO"):
            # Each scan of a progressive JPEG is a pass over all pixels, and can be written in few bytes.
            scans = source.count(b"\xff\xda")
            if scans * pixels > SCANS * limit:
                raise ValueError(f"it has {scans} scans, which would take too long")
        yield image


def is_animated(source: Path | bytes) -> bool:
    """Return whether an image has several frames or pages; the other images of a phone's photo are none."""
    with opened(source) as image:
        return getattr(image, "is_animated", False) and image.format != "MPO"


def note(name: Path | str):
    """Remember which file this thread reads, for the sentences of `show_warning`."""
    _here.name = name


def show_warning(usual: Callable, message, category: type[Warning], filename: str, *rest, **more):
    """Print a warning of Pillow as a sentence about the file; pass others to the `usual` function.

    With `usual` bound it replaces `warnings.showwarning`.
    """
    if Path(filename).parent != Path(PIL.__file__).parent:
        usual(message, category, filename, *rest, **more)
    elif category is not Image.DecompressionBombWarning:  # such an image is refused in a sentence of its own
        said = " ".join(str(message).split()).rstrip(".")
        print(f"{getattr(_here, 'name', 'An image')} is read although it has a fault ({said}).", file=sys.stderr)


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says."""
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds on damaged EXIF, without which the image is whole
        return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an image of which only the header has been read, turned as its EXIF says.

    The EXIF of a PNG that follows its pixels is not seen.
    """
    width, height = image.size
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # Pillow turns a TIFF itself
        return width, height
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def check_bytes(size: int):
    """Raise ValueError if a file is larger than any image within the limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and size > PIXEL * limit + METADATA:
        raise ValueError(f"it has {size:,} bytes, more than an image of {limit:,} pixels (--max-pixels) can have")


def reason(error: BaseException) -> str:
    """Return the reason why an image cannot be read, as part of a sentence."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's message would name a buffer in memory
        return "its content is not an image in PNG, JPEG, WebP, GIF, TIFF, BMP or PPM format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels, and only a larger --max-pixels allows them"
    return first_line(error)


def regular(path: Path | str) -> IO[bytes]:
    """Open a regular file. A device can be endless, and a FIFO without a writer would block."""
    if paths.remote(str(path)):
        return paths.path(str(path)).open("rb")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return os.fdopen(descriptor, "rb")
