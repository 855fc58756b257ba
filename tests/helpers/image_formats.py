"""Small images of every format, mode and depth, with their true pixels, also those that Pillow can't write."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 8, 16
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation: stored pixels [h w c] -> upright ones
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def exif_of(orientation: int) -> Image.Exif:
    """Return a camera's EXIF whose sizes and layout are stale."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132], exif[0x8298] = orientation, "Camera", "2020:01:02 03:04:05", "Me"
    exif[0x0100], exif[0x0101], exif[0x0111], exif[0x0117] = 999, 777, 8, 12345  # ImageWidth, ..., StripByteCounts
    exif[0x8769] = {0x829A: 0.5, 0xA002: 999, 0xA003: 777, 0x927C: b"note", 0x9003: "2020:01:02 03:04:05"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return exif


def values(channels: int, bits: int) -> np.ndarray:
    """Return u8 or u16[8 16 c]: two flat halves for 8 bits, which a JPEG keeps, and noise for 16."""
    rng = np.random.default_rng(channels)
    if bits == 16:
        return rng.integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    x = np.repeat(rng.integers(20, 230, (1, 2, channels)), HEIGHT, 0).repeat(8, 1).astype(np.uint8)
    if channels in (2, 4):
        x[..., -1] = np.where(np.arange(WIDTH) < 8, 255, 100)
    return x


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(x: np.ndarray, orientation: int, clear: np.ndarray | None = None) -> bytes:
    """Return a PNG of u16[h w c] by the specification, without filters; `clear` is the transparent colour."""
    h, w, c = x.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in x)
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0))
    parts += chunk(b"eXIf", exif_of(orientation).tobytes()[6:])
    parts += b"" if clear is None else chunk(b"tRNS", clear.astype(">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(x: np.ndarray, orientation: int, order: str, planar: bool, deflate: bool, photometric: int, extra=()) -> bytes:
    """Return a TIFF of u16[h w c] by the specification, `order` "<" or ">", in one strip or one strip per plane."""
    h, w, c = x.shape
    kind = f"{order}u2"
    planes = [x[..., i] for i in range(c)] if planar else [x]
    strips = [plane.astype(kind).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if deflate else strip for strip in strips]
    begin = np.cumsum([8, *map(len, strips)]).tolist()
    tags = {256: (w,), 257: (h,), 258: (16,) * c, 259: (8 if deflate else 1,), 262: (photometric,)}
    tags |= {273: tuple(begin[:-1]), 274: (orientation,), 277: (c,), 278: (h,), 279: tuple(map(len, strips))}
    tags |= {284: (2 if planar else 1,), 338: extra}
    tags = {tag: numbers for tag, numbers in tags.items() if numbers}
    at = begin[-1] + len(begin[-1:]) % 2
    free, entries, rest = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in tags.items():
        body = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(body) > 4:
            body, rest = struct.pack(f"{order}I", free + len(rest)), rest + body
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return (head + b"".join(strips)).ljust(at, b"\0") + directory + rest


def by_pillow(image: Image.Image, kind: str, true: np.ndarray, **how):
    """Return (orientation -> bytes, true pixels) of an image that Pillow writes."""

    def write(orientation: int) -> bytes:
        out = io.BytesIO()
        with_exif = {"exif": exif_of(orientation).tobytes()} if kind in ("PNG", "JPEG", "WEBP") else {}
        if kind == "TIFF":
            with_exif = {"tiffinfo": {0x0112: orientation, 0x010F: "Camera"}}
        image.save(out, kind, **with_exif, **how)
        return out.getvalue()

    return write, true


def _palette(x: np.ndarray) -> Image.Image:
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette([*x[0, 0, :3].tolist(), *x[0, -1, :3].tolist()])
    image.paste(1, (8, 0, WIDTH, HEIGHT))
    return image


def _clear(x: np.ndarray, colour: np.ndarray) -> np.ndarray:
    alpha = np.where((x == colour).all(2, keepdims=True), 0, np.iinfo(x.dtype).max)
    return np.concatenate([x, alpha.astype(x.dtype)], 2)


def samples() -> dict[str, tuple[Callable[[int], bytes], np.ndarray]]:
    """Return {name: (orientation -> bytes of a file, its stored pixels u8 or u16[8 16 c])}."""
    x = {c: values(c, 8) for c in (1, 2, 3, 4)}
    deep = {c: values(c, 16) for c in (1, 2, 3, 4)}
    lit = np.where(np.arange(WIDTH) < 8, 0, 255).astype(np.uint8) * np.ones((HEIGHT, 1), np.uint8)
    of = lambda values: Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)  # noqa: E731
    clear = {c: values[0, 0] for c, values in {**x}.items()}
    ink = Image.fromarray(np.concatenate([x[3], np.full_like(x[1], 30)], 2), "CMYK")
    bit, index, half = of(lit[..., None]).convert("1"), _palette(x[3]), _palette(x[4])
    inked = np.asarray(ink.convert("RGB"))
    found = {}
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        found |= {f"{kind} 1": by_pillow(bit, kind, lit[..., None]), f"{kind} L": by_pillow(of(x[1]), kind, x[1])}
        found |= {f"{kind} RGB": by_pillow(of(x[3]), kind, x[3])}
    for kind in ("PNG", "TIFF"):
        found |= {f"{kind} LA": by_pillow(of(x[2]), kind, x[2]), f"{kind} RGBA": by_pillow(of(x[4]), kind, x[4])}
        found |= {f"{kind} I;16": by_pillow(Image.fromarray(deep[1][..., 0]), kind, deep[1])}
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        found |= {f"{kind} P": by_pillow(index, kind, x[3])}
    both = index.convert("PA")
    both.putalpha(Image.fromarray(x[4][..., 3]))
    found |= {"TIFF PA": by_pillow(both, "TIFF", np.concatenate([x[3], x[4][..., 3:]], 2))}
    found |= {"TIFF deflate RGB": by_pillow(of(x[3]), "TIFF", x[3], compression="tiff_adobe_deflate")}
    found |= {"TIFF CMYK": by_pillow(ink, "TIFF", inked), "JPEG CMYK": by_pillow(ink, "JPEG", inked, quality=100)}
    for mode, c in (("L", 1), ("RGB", 3)):
        found |= {f"JPEG {mode}": by_pillow(of(x[c]), "JPEG", x[c], quality=100, subsampling=0)}
        tone = int(clear[1][0]) if c == 1 else tuple(clear[3].tolist())
        found |= {f"PNG {mode} tRNS": by_pillow(of(x[c]), "PNG", _clear(x[c], clear[c]), transparency=tone)}
    found |= {"PNG P tRNS": by_pillow(half, "PNG", x[4], transparency=bytes([255, 100]))}
    found |= {"GIF P tRNS": by_pillow(index, "GIF", _clear(x[3], x[3][0, -1]), transparency=1)}
    found |= {"WEBP RGB": by_pillow(of(x[3]), "WEBP", x[3], lossless=True)}
    found |= {"WEBP RGBA": by_pillow(of(x[4]), "WEBP", x[4], lossless=True, exact=True)}
    for c, name in ((1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")):
        found[f"PNG {name} 16"] = (lambda o, y=deep[c]: png16(y, o)), deep[c]
    for c, name in ((1, "L"), (3, "RGB")):
        tone = deep[c][2, 3]
        found[f"PNG {name} 16 tRNS"] = (lambda o, y=deep[c], t=tone: png16(y, o, t)), _clear(deep[c], tone)
    for order in "<>":
        for planar in (False, True):
            for deflate in (False,) if planar else (False, True):
                save = partial(tiff, order=order, planar=planar, deflate=deflate)
                name = f"TIFF {order}{' planar' * planar}{' deflate' * deflate}"
                found[f"{name} RGB 16"] = partial(save, deep[3], photometric=2), deep[3]
                found[f"{name} RGBA 16"] = partial(save, deep[4], photometric=2, extra=(2,)), deep[4]
        found[f"TIFF {order} L 16"] = (lambda o, order=order: tiff(deep[1], o, order, False, False, 1)), deep[1]
    found["TIFF white is 0"] = (lambda o: tiff(deep[1], o, "<", False, False, 0)), 65535 - deep[1]
    found["PPM L 16"] = (lambda o: b"P5 16 8 65535\n" + deep[1].astype(">u2").tobytes()), deep[1]
    found["PPM RGB 16"] = (lambda o: b"P6 16 8 65535\n" + deep[3].astype(">u2").tobytes()), deep[3]
    return found
