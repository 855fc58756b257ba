"""One way to open an image, within limits: jaxgen/data/image_files.py."""

import os
import re
import struct
import threading
import warnings
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

import jaxgen
from jaxgen.core.errors import InputError
from jaxgen.data.image_decoding import decode_file
from jaxgen.data.image_files import FORMATS, opened
from jaxgen.media import photo
from tests.helpers.data_samples import encoded, message, refuse, sample_image, tree
from tests.helpers.data_samples import own_cache as own_cache  # for every test here

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def all_ways_refuse(path: Path, *words):
    """Check that a file is refused by data, by the commands that restore, and by those that edit."""
    refuse(f"folder:{path.parent}", path, *words)
    message(lambda: photo.read(path), path, *words)
    message(lambda: decode_file(path), path, *words)


def test_nothing_else_opens_images():
    files = Path(jaxgen.__file__).parent.rglob("*.py")
    own = {"emoji.py", "svg_worker.py"}  # they open PNG files that were drawn here
    found = {file.name for file in files if re.search(r"\bImage\.open\(", file.read_text())}
    assert found - own == {"image_files.py"}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_known_by_the_content(tmp_path, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(sample_image(), kind))
    assert photo.read(path).pixels.shape == (30, 40, 3) or kind == "GIF"
    assert decode_file(path).size == (40, 30) and photo.size_of(path) == (30, 40, 8)


def test_a_program_in_postscript_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was called"))
    path = tree(tmp_path / "set", {"a.png": EPS, "b.png": None}) / "a.png"
    all_ways_refuse(path, "its content is not an image in PNG, JPEG, WebP, GIF, TIFF, BMP or PPM format")
    assert photo.size_of(path) is None


@pytest.mark.parametrize("limit", [600, 1199])  # Pillow raises an error itself at twice its limit
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, limit):
    path = tree(tmp_path / "set", {"a.png": None, "b.png": encoded(sample_image(size=(9, 9)))}) / "a.png"
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for strict in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strict else "ignore", Image.DecompressionBombWarning)
            words = f"can't be read: it has more than {limit} pixels, and only a larger --max-pixels allows them"
            message(lambda: photo.read(path), path, words.replace("1199", "1,199"))
    monkeypatch.undo()


def test_an_image_within_a_new_limit_is_checked_again(tmp_path, monkeypatch):
    root = tree(tmp_path / "set", {"a.png": None, "b.png": encoded(sample_image(size=(9, 9)))})
    with monkeypatch.context() as low:
        low.setattr(Image, "MAX_IMAGE_PIXELS", 600)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        refuse(f"folder:{root}", "a.png", "only a larger --max-pixels allows them")
    from tests.helpers.data_samples import opened as source_of

    assert len(source_of(f"folder:{root}")) == 2


def test_an_endless_file_is_not_read(tmp_path):
    root = tree(tmp_path / "set", {"b.png": None})
    for name in ("device.png", "pipe.png"):
        path = root / name
        path.symlink_to("/dev/zero") if name == "device.png" else os.mkfifo(path)
        # In a thread, because a read that blocks would block the tests.
        done = threading.Thread(target=all_ways_refuse, args=(path, "it is not a regular file"), daemon=True)
        done.start()
        done.join(10)
        assert not done.is_alive(), f"{name} is being read"
        path.unlink()


def test_a_file_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    path = tree(tmp_path / "set", {"a.png": b"", "b.png": None}) / "a.png"
    with path.open("r+b") as file:
        file.truncate(2**27)  # without blocks on the disk
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    all_ways_refuse(path, "it has 134,217,728 bytes, more than an image of 2,000 pixels (--max-pixels) can have")


def test_the_scans_of_a_progressive_image_are_counted(monkeypatch):
    data = encoded(sample_image(), "JPEG", progressive=True)
    with opened(data) as image:
        image.load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    with pytest.raises(ValueError, match=r"it has \d+ scans"), opened(data + b"\xff\xda" * 20):
        pass
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with opened(data + b"\xff\xda" * 20) as image:
        image.load()
    with pytest.raises(InputError):
        decode_file(Path("nowhere.png"))


def test_a_warning_of_pillow_is_a_sentence_about_the_file(tmp_path, cli, monkeypatch):
    """Of a TIFF with a tag that has too many numbers, and of a large image, Pillow warns."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # set back at the end
    path = tmp_path / "a.tif"
    image = sample_image(mode="L")
    image.save(path, tiffinfo={0x013B: "Me"})
    data = path.read_bytes()
    at = data.index(struct.pack("<HHI", 0x0103, 3, 1))  # Compression: one number becomes three, stored elsewhere
    path.write_bytes(data[: at + 4] + struct.pack("<II", 3, len(data)) + data[at + 12 :] + struct.pack("<3H", 1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        out = cli(0, "restore", path, "--with", "bicubic", "--out", tmp_path / "o.png")
    words = "a.tif is read although it has a fault (Metadata Warning, tag 259 had too many entries: 3, expected 1)."
    assert words in out and "UserWarning" not in out and ".py:" not in out
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        out = cli(2, "extend", path, "--tile", "--max-pixels", "1100")
    assert "it has more than 1,100 pixels" in out and "Decompression" not in out
