"""python -m jaxgen capture: windows, files, and beside the net's own answer."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.commands.capture import taken
from jaxgen.core.types import averaged
from jaxgen.data import bvh
from jaxgen.data.known_skeletons import BODY
from jaxgen.data.motion_files import open_motion
from jaxgen.inference.motion_capture import captured_motion, capturer_of, windows
from jaxgen.inference.opening import open_trained
from jaxgen.nn import rotations
from tests.helpers.untrained import untrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("runs") / "lstm", "motion", "capture-lstm")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.gif"
    frames = np.random.default_rng(0).integers(0, 255, (8, 4, 4, 3), np.uint8).repeat(5, 1).repeat(4, 2)
    frames = [Image.fromarray(frame) for frame in frames]  # 20 x 16
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    return path


def test_windows_reach_every_frame():
    assert windows(16, 16) == [0] and windows(5, 16) == [0] and windows(17, 16) == [0, 1]
    assert windows(40, 16) == [0, 8, 16, 24] and windows(3, 1) == [0, 1, 2]
    assert taken(np.arange(10) * 0.1, 25.0).tolist() == [i * 4 // 10 for i in range(23)]
    assert taken(np.arange(12) / 50, 25.0).tolist() == [0, 2, 4, 6, 8, 10]


def test_a_clip_becomes_a_motion_in_each_form(run, clip, tmp_path, cli):
    said = cli(0, "capture", clip, "--with", run, "--out", tmp_path / "take.bvh")
    assert "8 frames" in said and "25 a second" in said
    motion = bvh.read(tmp_path / "take.bvh").motion
    assert len(motion) == 8 and motion.rate == pytest.approx(25) and "left_wrist" in motion.skeleton.names
    assert motion.places()[..., 1].min() == pytest.approx(0, abs=1e-6)
    cli(0, "capture", clip, "--with", run, "--out", tmp_path / "take.npz")
    np.testing.assert_allclose(open_motion(tmp_path / "take.npz").root, motion.root, atol=1e-6)
    cli(0, "capture", clip, "--with", run, "--out", tmp_path / "take.gif", "--frames", 5)
    with Image.open(tmp_path / "take.gif") as file:
        assert file.n_frames == 5 and file.size == (192, 96)  # pyright: ignore[reportAttributeAccessIssue]
    cli(0, "capture", clip, "--with", run, "--out", tmp_path / "take.glb")
    assert (tmp_path / "take.glb").read_bytes()[:4] == b"glTF"


def test_one_window_is_the_nets_answer_and_a_still_clip_has_one_pose(run):
    opened = open_trained(str(run))
    transform, nets = capturer_of(opened.task, "x"), averaged(opened.state, opened.frozen)
    size, *shape = map(int, transform.source.shape)
    frames = np.random.default_rng(0).integers(0, 255, (size, *shape), np.uint8)
    motion = captured_motion(transform, nets, frames, 25.0, lambda _: None)
    apply = jax.jit(lambda nets, x: transform.apply(*nets, {"clip": x}, None))
    answer = apply(nets, frames[None] / np.float32(127.5) - 1)
    turned = np.asarray(rotations.six_to_matrix(np.asarray(answer["turns"][0], np.float64)))
    np.testing.assert_allclose(motion.rotations[:, :22], turned, atol=1e-5)
    places = motion.places()
    np.testing.assert_allclose(places - places[:, :1], answer["pose"][0], atol=1e-5)
    steps = np.diff(motion.root + BODY.offsets[0], axis=0)
    np.testing.assert_allclose(steps, np.diff(answer["root"][0, :, 0], axis=0), atol=1e-5)


def test_one_sentence_for_each_mistake(run, clip, tmp_path, cli):
    other = untrained(tmp_path / "simlpe", "motion", "simlpe-cmu")
    assert "captures no motion" in cli(2, "capture", clip, "--with", other)
    assert "There is no file" in cli(2, "capture", tmp_path / "no.gif", "--with", run)
    assert "--out must end in" in cli(2, "capture", clip, "--with", run, "--out", tmp_path / "x.txt")
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    assert "shows no motion" in cli(2, "capture", tmp_path / "still.png", "--with", run)
    (tmp_path / "damaged.gif").write_bytes(clip.read_bytes()[:40])
    assert "can't be read" in cli(2, "capture", tmp_path / "damaged.gif", "--with", run)
