"""Every format, mode, depth and orientation, read by data and commands, written in every format and read again."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.image_decoding import decode, decode_file, eight_bits
from jaxgen.data.transforms import pixels_of
from jaxgen.media.photo import WRITTEN, quantised, read, size_of, write
from tests.helpers.data_samples import message
from tests.helpers.image_formats import TURNS, exif_of, samples

SAMPLES = samples()
ROTATES = ("PNG", "JPEG", "WEBP", "TIFF")  # formats with an orientation


def turned(name: str, x: np.ndarray, orientation: int) -> np.ndarray:
    return TURNS[orientation](x) if name.split()[0] in ROTATES else x


def whole(photo) -> np.ndarray:
    """Return the colours and alpha of a photo as in its file."""
    x = quantised(photo.pixels, photo.bits)
    return x if photo.alpha is None else np.concatenate([x, photo.alpha], 2)


def near(made: np.ndarray, true: np.ndarray, lossy: bool):
    assert made.shape == true.shape and made.dtype == true.dtype
    if true.shape[2] in (2, 4):  # clear pixels have no colour
        seen = true[..., -1:] > 0
        made, true = made * seen, true * seen
    np.testing.assert_allclose(made.astype(int), true.astype(int), atol=4 if lossy else 0)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_has_its_true_pixels_upright(tmp_path, name):
    of, stored = SAMPLES[name]
    path = tmp_path / "a"
    for orientation in TURNS:
        data, true = of(orientation), turned(name, stored, orientation)
        path.write_bytes(data)
        near(whole(read(path)), true, "JPEG" in name)
        assert size_of(path) == (*true.shape[:2], 8 * true.itemsize)
        # Data has 8 bits, and a colour where there is alpha.
        eight = true if true.itemsize == 1 else eight_bits(true)
        eight = eight if eight.shape[2] != 2 else eight[..., [0, 0, 0, 1]]
        near(pixels_of(decode(data)), eight, "JPEG" in name)


@pytest.mark.parametrize("name", [name for name in SAMPLES if not {"planar", "deflate", ">"} & set(name.split())])
def test_what_is_written_is_read_again(tmp_path, name):
    of, _ = SAMPLES[name]
    for orientation in TURNS:
        (tmp_path / "a").write_bytes(of(orientation))
        photo = read(tmp_path / "a")
        large = whole(photo).repeat(1 + orientation % 2, 0).repeat(1 + orientation % 2, 1)
        alpha = None if photo.alpha is None else large[..., -1:]
        for suffix in sorted(set(WRITTEN) - {".jpeg", ".tiff"}):  # as .jpg and .tif
            path = tmp_path / f"b{suffix}"
            write(path, large if alpha is None else large[..., :-1], photo, alpha, mark=None)
            check(path, large, suffix, name)


def check(path, large: np.ndarray, suffix: str, name: str):
    with Image.open(path) as image:
        image.load()
        exif, camera = image.getexif(), image.getexif().get_ifd(0x8769)
        assert image.size == large.shape[1::-1]
    known = large if suffix in (".png", ".tif") or large.itemsize == 1 else eight_bits(large)
    if suffix in (".jpg", ".bmp") and known.shape[2] in (2, 4):
        share = known[..., -1:] / 255
        known = np.rint(known[..., :-1] * share + 255 * (1 - share)).astype(np.uint8)
    if known.shape[2] < 3 and (suffix == ".webp" or (suffix == ".tif" and known.shape[2] == known.itemsize == 2)):
        known = known[..., [0, 0, 0, *range(1, known.shape[2])]]  # is always colour
    lossy = suffix == ".jpg"
    again = whole(read(path))
    if not (lossy and large.itemsize == 2):  # noise
        near(again, known, lossy)
    if name.split()[0] in ("PNG", "JPEG", "WEBP") and suffix != ".bmp":
        assert (exif[0x010F], exif[0x8298], exif.get(0x0112, 1)) == ("Camera", "Me", 1)
        assert exif.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0) and camera[0x829A] == 0.5 and 0x927C not in camera
        assert (camera[0xA002], camera[0xA003]) == large.shape[1::-1]
    if suffix != ".tif":
        assert not {0x0100, 0x0101, 0x0111, 0x0117} & set(exif), "the layout of another file"


@pytest.mark.parametrize(("dtype", "what"), [(np.int32, "integers with a sign or 32 bits"), (np.float32, "floats")])
def test_pixels_of_unknown_range_are_refused_alike(tmp_path, dtype, what):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((8, 8), 200, dtype)).save(path)
    words = f"can't be read: its pixels are {what}, of which black and white are unknown, so save it with 8 or 16 bits."
    message(lambda: read(path), path, words)
    message(lambda: decode_file(path), path, words)


def printer(lab: tuple[int, int, int]) -> bytes:
    """Return a CMYK profile by ICC.1:2001: paper is white, all inks are black, all else is one colour in 8-bit Lab."""
    table = bytes((255, 128, 128, *(lab * 14), 0, 128, 128))  # two grid points per ink
    identity = struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    text = b"text\0\0\0\0none\0\0\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(83)
    white = b"XYZ \0\0\0\0" + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    at, heads, bodies = 128 + 4 + 12 * 4, b"", b""
    for tag, body in ((b"A2B0", lut), (b"cprt", text), (b"desc", name), (b"wtpt", white)):
        heads += tag + struct.pack(">II", at + len(bodies), len(body))
        bodies += body.ljust(-(-len(body) // 4) * 4, b"\0")
    rest = struct.pack(">I", 4) + heads + bodies
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + rest


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_become_colours_by_their_profile(tmp_path, kind):
    path = tmp_path / "a"
    ink = Image.new("CMYK", (16, 8), (255, 0, 0, 0))  # cyan
    ink.save(path, kind, icc_profile=printer((138, 209, 198)))  # prints as the red of sRGB
    photo = read(path)
    near(whole(photo), np.broadcast_to(np.array([[[255, 0, 0]]], np.uint8), (8, 16, 3)), True)
    near(pixels_of(decode_file(path)), whole(photo), False)
    write(tmp_path / "b.png", whole(photo), photo, mark=None)
    with Image.open(tmp_path / "b.png") as image:
        assert "icc_profile" not in image.info, "the pixels are sRGB"
    ink.save(path, kind, icc_profile=b"damaged")
    near(whole(read(path)), np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")), False)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_damaged_exif_is_left_out(tmp_path, kind):
    x, path = np.full((8, 16, 3), 90, np.uint8), tmp_path / "a"
    whole_exif = exif_of(6).tobytes()
    at = whole_exif.index(struct.pack(">H", 0x0112)) + 2
    for damaged in (b"Exif\0\0MM\0\0" + whole_exif[10:], whole_exif[:at] + b"\0\7" + whole_exif[at + 2 :]):
        Image.fromarray(x).save(path, kind, exif=damaged)
        photo = read(path)
        near(whole(photo), x, True)
        near(pixels_of(decode_file(path)), x, True)
        write(tmp_path / "b.jpg", whole(photo), photo, mark=None)
