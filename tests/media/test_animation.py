"""Animations, videos, grids of clips and strips: jaxgen/media/animation.py and array_files.py."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.spec import ArraySpec
from jaxgen.media import containers
from jaxgen.media.animation import ANIMATIONS, check_animation, save_animation, strip
from jaxgen.media.array_files import SUFFIXES, save_arrays, strips
from jaxgen.media.marks import DRAWN, Mark
from tests.helpers.data_samples import message

av = pytest.importorskip("av")


def clip(count: int = 5, height: int = 17, width: int = 22) -> list[np.ndarray]:
    """Return smooth frames, which lossy formats keep nearly."""
    y, x = np.mgrid[0:height, 0:width]
    return [np.stack([50 * (x // 6), 80 * (y // 6), np.full_like(x, 60 * t)], 2).astype(np.uint8) for t in range(count)]


def read(path) -> list[np.ndarray]:
    if path.suffix in (".gif", ".apng"):
        with Image.open(path) as image:
            found = []
            for number in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
                image.seek(number)
                found.append(np.asarray(image.convert("RGB")))
            return found
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_files_hold_their_frames(tmp_path, suffix, capsys):
    path, frames = tmp_path / f"a{suffix}", clip()
    check_animation(path, 10)
    save_animation(path, iter(frames), 10, Mark(DRAWN, "preset"))
    found = read(path)
    assert len(found) == 5
    for ours, theirs in zip(frames, found, strict=True):
        if suffix in (".apng", ".mkv"):
            assert np.array_equal(ours, theirs)
        else:
            apart = np.abs(theirs[:17, :22].astype(int) - ours)
            assert theirs.shape == ((18, 22, 3) if suffix in (".mp4", ".webm") else ours.shape) and apart.mean() < 16
    with path.open("rb") as file:
        packet = containers.read_xmp(file)
    if suffix in (".webm", ".mkv"):
        assert "has no mark" in capsys.readouterr().err
    else:
        assert packet and b"trainedAlgorithmicMedia" in packet
    if suffix not in (".gif", ".apng"):
        with av.open(str(path)) as file:
            assert file.streams.video[0].average_rate == 10


def test_frame_rates_that_a_gif_has_not(tmp_path):
    message(lambda: check_animation(tmp_path / "a.gif", 60), "at most 50 frames per second")


def test_videos_are_written_as_grids_and_strips(tmp_path):
    spec = ArraySpec("video", (3, 8, 10, 1), rate=5.0)
    videos = np.linspace(-1, 1, 2 * 3)[:, None].repeat(80, 1).reshape(2, 3, 8, 10, 1).astype(np.float32)
    assert ".png" in SUFFIXES["video"] and ".mp4" in SUFFIXES["video"] and SUFFIXES["image"] == (".png",)
    save_arrays(tmp_path / "a.png", spec, videos, None)
    with Image.open(tmp_path / "a.png") as image:
        saved = np.asarray(image)
    assert saved.shape == (2 * 8 + 2, 3 * 10 + 2 * 2) and np.array_equal(saved, strips(spec, videos))
    values = np.rint((videos[..., 0, 0, 0] + 1) * 127.5)
    assert [saved[4, x] for x in (5, 17, 29)] == values[0].tolist() and saved[12, 29] == values[1, 2]
    assert (saved[8:10] == 255).all() and (saved[:, 10:12] == 255).all()
    save_arrays(tmp_path / "a.mkv", spec, videos, None)
    frames = read(tmp_path / "a.mkv")
    assert len(frames) == 3 and np.unique(frames[2]).tolist() == [
        102,
        255,
    ]  # the first video's last, gaps and the other
    assert strip([np.zeros((4, 3, 3), np.uint8)]).shape == (4, 3, 3)
