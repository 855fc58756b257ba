"""python -m jaxgen predict."""

import re

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.commands.predict import compared
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import averaged
from jaxgen.media import marks
from jaxgen.media.inspection import facts
from jaxgen.runs.load import open_run
from tests.helpers.untrained import untrained

SIDE, FRAMES = 16, 12


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "simvp"
    untrained(folder, "video", "simvp-convmixer", "--data.source", "moving-digits")
    return folder


@pytest.fixture
def clip(tmp_path):
    """A square that moves a pixel a frame, ten frames a second."""
    frames = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for t in range(FRAMES):
        frames[t, 4:9, t : t + 4] = 255
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:], duration=100)
    return tmp_path / "clip.gif", frames


def test_the_next_frames_are_the_models(run, clip, tmp_path, cli):
    path, frames = clip
    printed = cli(0, "predict", run, path, "--frames", "7", "--at", "0.3", "--out", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        past, future, true = (file[name] for name in ("past", "future", "true"))
    assert past.shape == (2, SIDE, SIDE, 1) and future.shape == true.shape == (7, SIDE, SIDE, 1)
    np.testing.assert_array_equal(past[..., 0], frames[2:4])  # up to the frame at 0.3 s
    np.testing.assert_array_equal(true[..., 0], frames[4:11])
    opened = open_run(run)
    nets, apply = averaged(opened.state, opened.frozen), jax.jit(opened.task.get(Transform).apply)
    given, wanted = past[None] / np.float32(127.5) - 1, []
    for _ in range(3):  # three frames at once, from the last two of what is there
        made = np.asarray(apply(*nets, {"past": given}, None)["future"])
        wanted, given = [*wanted, *made[0]], np.concatenate([given, made], 1)[:, -2:]
    levels = np.clip((np.stack(wanted[:7]) + 1) * 127.5, 0, 255)
    assert np.abs(future - levels).max() <= 1
    error = np.square(future.astype(float) - true).mean()
    copied = np.square(past[-1:].astype(float) - true).mean()
    db, repeated = (10 * np.log10(255**2 / x) for x in (error, copied))
    assert f"PSNR {db:.4g} dB; {repeated:.4g} dB where the last frame is repeated." in printed
    assert ("The prediction is worse" in printed) == (db < repeated)
    assert compared("x", 255 - true, true, true[-1:]).endswith("like them."), "it warns of a worse one"

    printed = cli(0, "predict", run, path)  # after its end, and its last three frames after the two before
    made = np.asarray(apply(*nets, {"past": frames[None, 7:9, ..., None] / np.float32(127.5) - 1}, None)["future"])[0]
    error = np.square(np.clip((made[..., 0] + 1) * 127.5, 0, 255) - frames[9:12]).mean()
    [db] = re.findall(r"own last 3 frames, predicted in the same way from those before: PSNR ([\d.]+) dB", printed)
    assert abs(float(db) - 10 * np.log10(255**2 / error)) < 0.02
    mark = facts(tmp_path / "clip-predicted.gif")["mark"]
    assert (mark["source"], mark["preset"]) == (marks.EDITED, "simvp-convmixer")
    with Image.open(tmp_path / "clip-predicted.gif") as shown:
        assert getattr(shown, "n_frames", 1) <= 2 + 3 and shown.width == shown.height
    cli(0, "predict", run, path, "--at", "0.3", "--out", tmp_path / "beside.gif")
    with Image.open(tmp_path / "beside.gif") as shown:
        assert shown.width > 1.5 * shown.height, "the true frames are beside the predicted ones"


def test_mistakes_are_one_sentence(run, clip, tmp_path, cli):
    path, _ = clip
    assert "needs 2 frames to predict from, and the first 0.05 s of" in cli(2, "predict", run, path, "--at", "0.05")
    assert "is at 1.1 s: --at must be before it, not 2" in cli(2, "predict", run, path, "--at", "2")
    assert "There is no file or folder" in cli(2, "predict", run, tmp_path / "none.mp4")
    assert "predicts no video and no motion: name a run of train.video" in cli(2, "predict", "gan-mnist", path)
    cli(0, "predict", run, path)
    assert re.search("exists already", cli(2, "predict", run, path))
