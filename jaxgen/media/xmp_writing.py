"""XMP packets written into image, video and sound files (`containers` says where they are)."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from jaxgen.media.containers import (
    GIF_END,
    GIF_KEY,
    JPEG_KEY,
    PNG_KEY,
    TIFF_TAG,
    XMP_UUID,
    blocks,
    gif_start,
    kind_of,
    tiff_order,
    unpacked,
)

XMP_FLAG, ALPHA_FLAG = 4, 16  # of a WebP's VP8X chunk


def insert_xmp(path: Path, packet: bytes) -> bool:
    """Write an XMP packet into a file that has none. Returns False for a format that can't hold it."""
    with path.open("r+b") as file:
        if (insert := _INSERT.get(kind_of(file))) is None:
            return False
        insert(file, packet)
    return True


def _insert(file: IO[bytes], at: int, data: bytes):
    file.seek(at)
    rest = file.read()
    file.seek(at)
    file.writelines([data, rest])


def _overwrite(file: IO[bytes], at: int, data: bytes):
    file.seek(at)
    file.write(data)


def _png_insert(file: IO[bytes], packet: bytes):
    body = b"iTXt" + PNG_KEY + b"\0\0\0\0\0" + packet
    _insert(file, 33, struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))  # after IHDR


def _jpeg_insert(file: IO[bytes], packet: bytes):
    at, body = 2, JPEG_KEY + packet
    for block in blocks(file):
        file.seek(block.start)
        if block.name != "E0" and not (block.name == "E1" and file.read(4) == b"Exif"):
            break
        at = block.start + block.size
    _insert(file, at, struct.pack(">BBH", 0xFF, 0xE1, len(body) + 2) + body)


def _riff_append(file: IO[bytes], name: bytes, packet: bytes):
    end = file.seek(0, 2)
    file.write(struct.pack("<4sI", name, len(packet)) + packet + b"\0" * (len(packet) % 2))
    _overwrite(file, 4, struct.pack("<I", end + 8 + len(packet) + len(packet) % 2 - 8))


def _webp_insert(file: IO[bytes], packet: bytes):
    """Append the packet. Only the extended format can hold it: a simple file gets its header first."""
    first = next(blocks(file))
    file.seek(first.start)
    if first.name == "VP8X":
        _overwrite(file, first.start, bytes([file.read(1)[0] | XMP_FLAG]))
    else:
        if first.name == "VP8L":  # 14 bits each for width - 1 and height - 1, one for alpha
            _, bits = unpacked("<BI", file)
            width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
        else:
            _, width, height = unpacked("<6sHH", file)
            width, height, alpha = (width & 0x3FFF) - 1, (height & 0x3FFF) - 1, 0
        sides = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
        _insert(file, 12, struct.pack("<4sII", b"VP8X", 10, XMP_FLAG | ALPHA_FLAG * alpha) + sides)
    _riff_append(file, b"XMP ", packet)


def _gif_insert(file: IO[bytes], packet: bytes):
    _overwrite(file, 3, b"89a")  # extensions came with this version
    _insert(file, gif_start(file), b"\x21\xff\x0b" + GIF_KEY + packet + GIF_END)


def _tiff_insert(file: IO[bytes], packet: bytes):
    """Append the packet and a new first directory with it. The old one stays, unused."""
    order, at = tiff_order(file)
    file.seek(at)
    (count,) = unpacked(f"{order}H", file)
    entries = [file.read(12) for _ in range(count)]
    following = file.read(4)
    start = file.seek(0, 2)
    start += start % 2
    entry = struct.pack(f"{order}HHII", TIFF_TAG, 1, len(packet), start)
    entries = sorted([*entries, entry], key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    directory = start + len(packet) + len(packet) % 2
    _overwrite(file, start, packet)
    _overwrite(file, directory, struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following)
    _overwrite(file, 4, struct.pack(f"{order}I", directory))


def _mp4_insert(file: IO[bytes], packet: bytes):
    file.seek(0, 2)
    file.write(struct.pack(">I4s", 24 + len(packet), b"uuid") + bytes.fromhex(XMP_UUID) + packet)


def _zip_insert(file: IO[bytes], packet: bytes):
    """Write the comment of an archive that has none: its last two bytes are the comment's length."""
    file.seek(-2, 2)
    file.write(struct.pack("<H", len(packet)) + packet)


_INSERT: dict[str, Callable[[IO[bytes], bytes], Any]] = {
    "PNG": _png_insert,
    "JPEG": _jpeg_insert,
    "WEBP": _webp_insert,
    "WAV": lambda file, packet: _riff_append(file, b"_PMX", packet),
    "GIF": _gif_insert,
    "TIFF": _tiff_insert,
    "MP4": _mp4_insert,
    "ZIP": _zip_insert,
}
