"""Animations worked on frame by frame and written as one: jaxgen/media/frames.py."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxgen.commands import stylize, translate
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.inference.inversion import read_image
from jaxgen.media import photo
from jaxgen.media.frames import by_frames, suffix_of
from tests.helpers.data_samples import message
from tests.helpers.photo_samples import save, smooth

TIMES = [100, 250, 70]


def blocks(number: int, alpha: bool = False) -> np.ndarray:
    """Return a frame u8[16 24 c] of six colours, which every format keeps; some blocks are clear."""
    x = np.random.default_rng(number).integers(0, 255, (2, 3, 3 + alpha), dtype=np.uint8)
    if alpha:
        x[..., 3] = np.where(np.arange(3) == number, 0, 255)
    return x.repeat(8, 0).repeat(8, 1)


def animation(path: Path, alpha: bool = False, **how) -> Path:
    frames = [Image.fromarray(blocks(number, alpha)) for number in range(3)]
    how |= {".gif": {"disposal": 2}, ".webp": {"lossless": True}, ".png": {"blend": 0, "disposal": 1}}[path.suffix]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=TIMES, **how)
    return path


def frames_of(path: Path, mode: str) -> tuple[list[np.ndarray], list[int]]:
    found, times = [], []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            found.append(np.asarray(image.convert(mode)))
            times.append(round(image.info["duration"]))
    return found, times


def enlarged(file: Path, target: Path) -> str:
    """Write an image twice as large, as a command would."""
    read = photo.read(file)
    alpha = None if read.alpha is None else read.alpha.repeat(2, 0).repeat(2, 1)
    photo.write(target, photo.quantised(read.pixels.repeat(2, 0).repeat(2, 1), read.bits), read, alpha, mark=None)
    return file.name


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("loop", [None, 0, 3])
def test_an_animation_keeps_its_frames_times_and_loops(tmp_path, suffix, alpha, loop):
    file = animation(tmp_path / f"a{suffix}", alpha, **({} if loop is None else {"loop": loop}))
    with Image.open(file) as image:
        loops = image.info.get("loop")
    assert suffix_of(file) == suffix
    out = tmp_path / f"b{suffix}"
    assert len(by_frames(file, out, lambda target: [target], enlarged)) == 3
    mode = "RGBA" if alpha else "RGB"
    made, times = frames_of(out, mode)
    assert times == TIMES
    for number, x in enumerate(made):
        true = blocks(number, alpha).repeat(2, 0).repeat(2, 1)
        seen = true[..., 3:] > 0 if alpha else True
        assert np.array_equal(x * seen, true * seen) and (not alpha or np.array_equal(x[..., 3], true[..., 3]))
    with Image.open(out) as image:
        assert image.info.get("loop") == loops


def test_a_still_image_is_one_call(tmp_path):
    file = save(tmp_path / "a.gif", smooth(8, 8, 1))
    assert suffix_of(file) == "" and suffix_of(tmp_path / "none.gif") == ""
    assert by_frames(file, tmp_path / "b.png", lambda target: [target], enlarged) == ["a.gif"]


def test_an_animation_that_fails_leaves_no_output(tmp_path, monkeypatch):
    file, out = animation(tmp_path / "a.gif"), tmp_path / "b.gif"

    def work(given: Path, target: Path):
        enlarged(given, target)
        if given.name == "000002":
            raise InputError(f"{given} is too dark.")

    message(lambda: by_frames(file, out, lambda target: [target], work), f"Frame 2 of {file} is too dark.")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16 * 24 * 3 - 1)  # of all frames together
    message(lambda: by_frames(file, out, lambda target: [target], enlarged), file, "has more than 1,151 pixels")
    assert not out.exists()


def test_commands_write_animations(tmp_path, cli, monkeypatch):
    file = animation(tmp_path / "a.gif")
    animation(tmp_path / "b.webp")
    save(tmp_path / "c.png", blocks(0))
    cli(0, "restore", tmp_path, "--with", "nearest", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.gif", "b.webp", "c.png"]
    for name in ("a.gif", "b.webp"):
        for number, x in enumerate(frames_of(tmp_path / "out" / name, "RGB")[0]):
            assert np.array_equal(x, blocks(number).repeat(2, 0).repeat(2, 1))
    said = cli(2, "restore", file, "--with", "nearest", "--out", "x.jpg")
    assert "--out must end in .gif, .webp, .png, .apng, .mp4, .webm or .mkv" in said
    degraded = cli(0, "restore", file, "--with", "nearest", "--degrade", "--out", tmp_path / "d.gif")
    assert "psnr" in degraded and len(frames_of(tmp_path / "d.gif", "RGB")[0]) == 3
    worker = SimpleNamespace(process=enlarged)
    monkeypatch.setattr(translate, "open_translator", lambda *_: worker)
    translate.translate(tmp_path, (file,))
    monkeypatch.setattr(stylize, "open_stylist", lambda *_: SimpleNamespace(iterative=False, name="x"))
    monkeypatch.setattr(stylize, "check_masks", lambda *_: None)
    monkeypatch.setattr(stylize, "ImageStylizer", lambda *_: worker)
    stylize.stylize((file,))
    for done in ("translated", "stylized"):
        assert len(frames_of(tmp_path / f"a-{done}.gif", "RGB")[0]) == 3


def test_a_model_of_one_image_takes_the_first_frame_and_says_so(tmp_path, capsys):
    file = animation(tmp_path / "a.gif")
    read = read_image(file, (16, 24, 3), Data(crop="none"))
    assert capsys.readouterr().err == f"{file} has several frames or pages: the first is used.\n"
    assert np.array_equal(np.rint((read[0] + 1) * 127.5), blocks(0))
