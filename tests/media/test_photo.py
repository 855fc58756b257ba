"""Image files read and written without loss: jaxgen/media/photo.py."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.media.photo import quantised, read, write
from tests.helpers.photo_samples import pixels_of, save, smooth


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_file_survives_reading_and_writing(tmp_path, channels):
    values = smooth(20, 24, channels)
    photo = read(save(tmp_path / "a.png", values))
    assert photo.pixels.shape == (20, 24, channels - (channels in (2, 4))) and photo.bits == 8
    write(tmp_path / "b.png", quantised(photo.pixels, 8), photo, photo.alpha, mark=None)
    assert np.array_equal(pixels_of(tmp_path / "b.png").reshape(values.shape), values)


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def deep_png(path: Path, values: np.ndarray) -> Path:
    """Write u16[h w c] by the PNG specification, without a filter."""
    h, w, c = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = w.to_bytes(4, "big") + h.to_bytes(4, "big") + bytes([16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0])
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_survive_reading_and_writing(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    photo = read(deep_png(tmp_path / "a.png", values))
    assert photo.bits == 16
    assert photo.pixels.shape == (9, 7, channels - (channels in (2, 4)))
    colour = values[..., : photo.pixels.shape[2]]
    assert np.array_equal(quantised(photo.pixels, 16), colour)
    write(tmp_path / "b.png", colour, photo, photo.alpha, mark=None)
    again = read(tmp_path / "b.png")
    assert np.array_equal(quantised(again.pixels, 16), colour)
    if channels in (2, 4):
        assert photo.alpha is not None and again.alpha is not None
        assert np.array_equal(photo.alpha, values[..., -1:]) and np.array_equal(again.alpha, values[..., -1:])
    if channels == 1:  # Pillow reads 16-bit grey as well
        assert np.array_equal(pixels_of(tmp_path / "b.png"), values[..., 0])


def test_a_rotated_photo_is_written_upright_with_its_exif_and_profile(tmp_path):
    values = smooth(20, 32)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"  # orientation: rotated by 90 degrees
    save(tmp_path / "a.jpg", values, quality=100, subsampling=0, exif=exif, icc_profile=b"some profile")
    photo = read(tmp_path / "a.jpg")
    assert photo.pixels.shape == (32, 20, 3)
    write(tmp_path / "b.jpg", quantised(photo.pixels, 8), photo, mark=None)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size == (20, 32) and image.getexif()[0x0112] == 1 and image.getexif()[0x010F] == "Camera"
        assert image.info["icc_profile"] == b"some profile"
        upright = np.asarray(image).astype(int)
    assert np.abs(upright - np.rot90(values, -1)).mean() < 3


def test_the_first_image_of_a_phones_photo_with_two_is_used(tmp_path):
    first, second = (Image.fromarray(smooth(16, 24, seed=seed)) for seed in (0, 1))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    photo = read(tmp_path / "a.jpg")
    assert np.array_equal(quantised(photo.pixels, 8), pixels_of(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_colours_under_alpha_0_do_not_matter(tmp_path, mode):
    values = smooth(20, 24, 2 if mode == "LA" else 4)
    values[..., -1] = 0
    values[5:15, 8:20, -1] = 128 if mode != "P" else 255
    seen, photos = values[..., -1:] > 0, []
    for hidden in (0, 255):
        image = Image.fromarray(np.where(seen, values, [*[hidden] * (values.shape[2] - 1), 0]).astype(np.uint8))
        if mode == "P":
            image = image.quantize(256)
        image.save(tmp_path / "a.png")
        photos.append(read(tmp_path / "a.png"))
    assert photos[0].alpha is not None and np.array_equal(photos[0].alpha > 0, seen)
    if mode != "P":  # a palette of other colours has other visible colours as well
        assert np.array_equal(photos[0].pixels, photos[1].pixels)
        assert np.array_equal(quantised(photos[0].pixels, 8)[seen[..., 0]], values[seen[..., 0]][:, :-1])
    for photo in photos:  # no pixel is darker or brighter than all visible ones, as the hidden ones were
        visible = photo.pixels[seen[..., 0]]
        assert (photo.pixels >= visible.min(0)).all() and (photo.pixels <= visible.max(0)).all()
    nothing = save(tmp_path / "b.png", np.where([False, False, False, True], 0, smooth(9, 9, 4)).astype(np.uint8))
    assert (read(nothing).pixels == -1).all()


def test_transparent_pixels_become_white_in_a_file_without_alpha(tmp_path):
    values = smooth(8, 8, 4)
    photo = read(save(tmp_path / "a.png", values))
    write(tmp_path / "b.bmp", quantised(photo.pixels, 8), photo, photo.alpha, mark=None)
    share = values[..., 3:] / 255
    expected = values[..., :3] * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels_of(tmp_path / "b.bmp"), expected, atol=0.51)
