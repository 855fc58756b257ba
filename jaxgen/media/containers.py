"""The blocks of image, video and sound files: XMP packets and C2PA manifests are found among them.

Where each format has its XMP packet: XMP Specification Part 3 (Storage in Files); for a .npz, a zip archive, it is the
archive's comment, which NumPy ignores.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any, NamedTuple

LONGEST = 2**20  # bytes of a packet that is read
PNG_KEY, JPEG_KEY, GIF_KEY = b"XML:com.adobe.xmp", b"http://ns.adobe.com/xap/1.0/\0", b"XMP DataXMP"
GIF_END = bytes([1, *range(255, -1, -1), 0])  # readers that take the packet for sub-blocks find its end by it
TIFF_TAG, TIFF_C2PA = 700, 52545
XMP_UUID, C2PA_UUID = "be7acfcb97a942e89c71999491e3afac", "d8fec3d61b0e483c92975828877ec481"


class Block(NamedTuple):
    """A block of a file: its name, and where its contents are."""

    name: str
    start: int
    size: int


def kind_of(file: IO[bytes]) -> str:
    """Return the format of a file: PNG, JPEG, GIF, WEBP, WAV, TIFF, MP4 or ZIP; "" for any other."""
    file.seek(0)
    head = file.read(12)
    for start, kind in ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF")):
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"WAVE": "WAV"}.get(head[8:], "")
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    return "MP4" if head[4:8] == b"ftyp" else "ZIP" if head[:4] == b"PK\3\4" else ""


def blocks(file: IO[bytes]) -> Iterator[Block]:
    """Yield the blocks of a file up to its end or its first fault; those of a JPEG up to its pixels."""
    end = file.seek(0, 2)
    with suppress(struct.error, IndexError):  # the file is cut short
        for block in _BLOCKS.get(kind_of(file), lambda *_: ())(file, end):
            if block.start + block.size > end:
                return
            yield block


def read_xmp(file: IO[bytes]) -> bytes | None:
    """Return the XMP packet of a file, or None."""
    kind = kind_of(file)
    if kind == "ZIP":
        return _zip_comment(file)
    for block in blocks(file):
        if block.name != _XMP.get(kind) or block.size > LONGEST:
            continue
        file.seek(block.start)
        if (packet := _UNPACKED.get(kind, bytes)(file.read(block.size))) is not None:
            return packet
    return None


def has_c2pa(file: IO[bytes]) -> bool:
    """Return whether a file contains a C2PA manifest. It is not verified."""
    kind = kind_of(file)
    for block in blocks(file):
        if block.name == _C2PA.get(kind):
            file.seek(block.start)
            if kind != "JPEG" or b"c2pa" in file.read(min(block.size, 200)):
                return True
    return False


def unpacked(form: str, file: IO[bytes]) -> tuple[Any, ...]:
    """Return the values of a form of `struct` at the place where a file is. Raises struct.error at its end."""
    return struct.unpack(form, file.read(struct.calcsize(form)))


# PNG


def _png_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    at = 8
    while at + 12 <= end:
        file.seek(at)
        size, name = unpacked(">I4s", file)
        yield Block(name.decode("latin-1"), at + 8, size)
        at += size + 12


def _png_packet(data: bytes) -> bytes | None:
    """Return the text of an iTXt chunk under XMP's keyword, which may be compressed."""
    key, _, rest = data.partition(b"\0")
    if key != PNG_KEY or len(rest) < 2:
        return None
    packed, text = rest[0], rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return text
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(text, LONGEST)
    return None


# JPEG


def _jpeg_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    at = 2
    while at + 4 <= end:
        file.seek(at)
        start, marker, size = unpacked(">BBH", file)
        if start != 0xFF or marker in (0xDA, 0xD9) or size < 2:  # the pixels, the end
            return
        yield Block(f"{marker:02X}", at + 4, size - 2)
        at += size + 2


def _jpeg_packet(data: bytes) -> bytes | None:
    return data.removeprefix(JPEG_KEY) if data.startswith(JPEG_KEY) else None


# RIFF: WebP and WAV


def _riff_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    at = 12
    while at + 8 <= end:
        file.seek(at)
        name, size = unpacked("<4sI", file)
        yield Block(name.decode("latin-1"), at + 8, size)
        at += 8 + size + size % 2


# GIF


def gif_start(file: IO[bytes]) -> int:
    """Return the place behind the header and the palette."""
    file.seek(10)
    (flags,) = unpacked("B", file)
    return 13 + _palette(flags)


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    """Yield the extensions of applications, with their sub-blocks as they are stored."""
    at = gif_start(file)
    while at < end:
        file.seek(at)
        (kind,) = unpacked("B", file)
        if kind == 0x2C:  # an image
            *_, flags = unpacked("<HHHHB", file)
            at = _after_sub_blocks(file, at + 11 + _palette(flags))
        elif kind == 0x21:
            label, size = unpacked("BB", file)
            name, start = file.read(size), at + 3 + size
            at = _after_sub_blocks(file, start)
            if label == 0xFF:
                yield Block(name.decode("latin-1"), start, at - start)
        else:
            return


def _after_sub_blocks(file: IO[bytes], at: int) -> int:
    while True:
        file.seek(at)
        (size,) = unpacked("B", file)
        at += 1 + size
        if not size:
            return at


def _gif_packet(data: bytes) -> bytes | None:
    return data[: -len(GIF_END)] if data.endswith(GIF_END) else None


# TIFF


def tiff_order(file: IO[bytes]) -> tuple[str, int]:
    """Return the byte order, and the place of the first directory."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    file.seek(4)
    return order, unpacked(f"{order}I", file)[0]


def _tiff_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    """Yield the entries of the first directory whose values are bytes."""
    order, at = tiff_order(file)
    file.seek(at)
    (count,) = unpacked(f"{order}H", file)
    for i in range(count):
        file.seek(at + 2 + 12 * i)
        tag, kind, size, start = unpacked(f"{order}HHII", file)
        if kind in (1, 2, 7):
            yield Block(str(tag), start if size > 4 else at + 10 + 12 * i, size)


# MP4


def _mp4_blocks(file: IO[bytes], end: int) -> Iterator[Block]:
    at = 0
    while at + 8 <= end:
        file.seek(at)
        size, name = unpacked(">I4s", file)
        head = 8
        if size == 1:
            (size,) = unpacked(">Q", file)
            head = 16
        size = size or end - at  # 0: up to the end of the file
        name = file.read(16).hex() if name == b"uuid" else name.decode("latin-1")
        head += 16 if len(name) == 32 else 0
        if size < head:
            return
        yield Block(name, at + head, size - head)
        at += size


# A zip archive


def _zip_comment(file: IO[bytes]) -> bytes | None:
    end = file.seek(0, 2)
    file.seek(max(end - 22 - 65_535, 0))
    _, found, record = file.read().rpartition(b"PK\5\6")
    return record[18:] or None if found else None


_BLOCKS: dict[str, Callable[[IO[bytes], int], Iterator[Block]]] = {
    "PNG": _png_blocks,
    "JPEG": _jpeg_blocks,
    "WEBP": _riff_blocks,
    "WAV": _riff_blocks,
    "GIF": _gif_blocks,
    "TIFF": _tiff_blocks,
    "MP4": _mp4_blocks,
}
_UNPACKED = {"PNG": _png_packet, "JPEG": _jpeg_packet, "GIF": _gif_packet}
_XMP = {
    "PNG": "iTXt",
    "JPEG": "E1",
    "WEBP": "XMP ",
    "WAV": "_PMX",
    "GIF": GIF_KEY.decode(),
    "TIFF": str(TIFF_TAG),
    "MP4": XMP_UUID,
}
_C2PA = {
    "PNG": "caBX",
    "JPEG": "EB",  # APP11
    "WEBP": "C2PA",
    "WAV": "C2PA",
    "GIF": "C2PA_GIF\1\0\0",
    "TIFF": str(TIFF_C2PA),
    "MP4": C2PA_UUID,
}
