"""python -m jaxgen restore with clips: a model of videos, and a model of images on a video."""

import jax
import numpy as np
import pytest
from PIL import Image

import jaxgen
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import averaged
from jaxgen.data.video_folder import open_clip
from jaxgen.media import marks
from jaxgen.media.inspection import facts
from jaxgen.runs.load import open_run
from tests.helpers.untrained import untrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "basicvsr"
    untrained(folder, "video", "basicvsr", "--data.source", "moving-shapes")
    return folder


@pytest.fixture
def clip(tmp_path):
    """Five frames of colour, ten in a second; a .apng, which keeps each value."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 9, 10, 3), np.uint8)
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "clip.png", save_all=True, append_images=images[1:], duration=100)
    return tmp_path / "clip.png", frames


def test_a_model_of_videos_sees_all_frames(run, clip, tmp_path, cli):
    path, frames = clip
    cli(0, "restore", path, "--with", run, "--out", tmp_path / "big.apng")
    made = np.stack(list(open_clip(tmp_path / "big.apng").frames(range(5))))
    assert made.shape == (5, 36, 40, 3)
    opened = open_run(run)
    apply = jax.jit(opened.task.get(Transform).apply)
    x = frames[None] / np.float32(127.5) - 1
    wanted = np.asarray(apply(*averaged(opened.state, opened.frozen), {"degraded": x}, None)["video"][0])
    levels = np.clip((wanted + 1) * 127.5, 0, 255)
    assert np.abs(made - levels).max() <= 1
    mark = facts(tmp_path / "big.apng")["mark"]
    assert (mark["source"], mark["preset"]) == (marks.EDITED, "basicvsr")
    cli(0, "edit-video", path, "--upscale", "4", "--with", run, "--out", tmp_path / "edited.mkv")
    np.testing.assert_array_equal(list(open_clip(tmp_path / "edited.mkv").frames(range(5))), made)
    again = jaxgen.load(run).restore(frames)
    assert again.dtype == np.uint8 and np.abs(again - levels).max() <= 1


def test_a_model_of_images_takes_videos(clip, tmp_path, cli):
    pytest.importorskip("av")
    path, frames = clip
    cli(0, "restore", path, "--with", "nearest", "--scale", "2", "--out", tmp_path / "a.mkv")
    found = open_clip(tmp_path / "a.mkv")
    np.testing.assert_allclose(found.index.times, np.arange(5) / 10, atol=1e-3)
    np.testing.assert_array_equal(list(found.frames(range(5))), frames.repeat(2, 1).repeat(2, 2))
    cli(0, "restore", tmp_path / "a.mkv", "--with", "nearest", "--scale", "2")
    assert open_clip(tmp_path / "a-restored.mp4").index.size == (36, 40)


def test_mistakes_give_one_sentence(run, clip, tmp_path, cli):
    path, frames = clip
    Image.fromarray(frames[0]).save(tmp_path / "still.jpg")
    for arguments, sentence in (
        ((path, "--ensemble"), "has no --ensemble: leave it out"),
        ((path, "--answers", "2"), "has one answer"),
        ((path, "--sigma", "25"), "takes no --sigma"),
        ((path, "--scale", "2"), "enlarges by 4, not by 2"),
        ((tmp_path / "still.jpg",), "is a still image"),
        ((path, "--out", tmp_path / "a.jpg"), "must end in"),
    ):
        assert sentence in cli(2, "restore", *arguments, "--with", run)
    assert "predicts no video" in cli(2, "predict", run, path)
