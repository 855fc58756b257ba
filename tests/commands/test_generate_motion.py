"""python -m jaxgen generate, of motions: an action's clip of any length, as a file that other programs open."""

import json
import struct

import numpy as np
import pytest

from jaxgen.data import bvh
from jaxgen.data.known_skeletons import DEEPMIMIC
from jaxgen.data.motion_clips import clip_format
from tests.helpers.takes import take
from tests.helpers.untrained import untrained

CLASSES = ("--data.classes", "jump", "run", "walk")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(
        tmp_path_factory.mktemp("runs") / "vae", "motion", "motion-vae", "--data.source", "mocap:.", *CLASSES
    )


def test_an_action_of_any_length_in_each_form(run, tmp_path, cli):
    cli(0, "generate", run, "--action", "walk", "--frames", "7", "--out", tmp_path / "walk.bvh")
    made = bvh.read(tmp_path / "walk.bvh").motion
    assert len(made) == 7 and round(made.rate) == 25 and len(made.skeleton) == len(DEEPMIMIC)
    cli(0, "generate", run, "--action", "walk", "--frames", "7", "--count", "2", "--out", tmp_path / "walk.npz")
    with np.load(tmp_path / "walk.npz") as file:
        assert file["motion"].shape == (2, 7, 11, 6) and list(file["label"]) == [2, 2]
        clip = file["motion"][0]
    places = clip_format("deepmimic", 25.0).places(clip.astype(np.float64))
    for name in ("root", "chest", "left_knee", "right_elbow"):
        ours, theirs = made.places()[:, made.skeleton.index(name)], places[:, DEEPMIMIC.index(name)]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert (tmp_path / "walk.gif").exists()
    cli(0, "generate", run, "--action", "walk", "--out", tmp_path / "walk.glb")
    data = (tmp_path / "walk.glb").read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    assert len(json.loads(data[20 : 20 + size])["animations"][0]["channels"]) > 3


def test_one_sentence_for_each_mistake(run, tmp_path, cli):
    assert "'wlak'" in cli(2, "generate", run, "--action", "wlak", "--out", tmp_path / "x.bvh")
    assert "holds one motion" in cli(2, "generate", run, "--count", "3", "--out", tmp_path / "x.bvh")
    assert "frames must be at least 1" in cli(2, "generate", run, "--frames", "0", "--out", tmp_path / "x.bvh")
    assert "give one of them" in cli(2, "generate", run, "--action", "walk", "--labels", "run")


@pytest.mark.parametrize("preset", ["mvae", "acrnn"])
def test_a_motion_goes_on_from_the_first_frames_of_a_take(preset, tmp_path, cli):
    file = tmp_path / "take.bvh"
    file.write_text(take(30))
    data = ("--data.source", f"mocap:{file}", "--model.skeleton", str(file), "--data.stride", "1")
    run = untrained(tmp_path / "run", "motion", preset, *data)
    cli(0, "generate", run, "--frames", "200", "--out", tmp_path / "on.bvh")  # longer than the take
    assert len(bvh.read(tmp_path / "on.bvh").values) == 200
    assert "takes no labels" in cli(2, "generate", run, "--action", "walk", "--out", tmp_path / "x.bvh")
