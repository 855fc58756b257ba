"""python -m jaxgen predict, of motions."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import bvh
from jaxgen.data.known_skeletons import DEEPMIMIC
from jaxgen.data.motion_files import open_motion
from jaxgen.data.skeleton import Motion
from jaxgen.inference.motion_prediction import continued_motion
from jaxgen.nn import rotations
from tests.helpers.untrained import untrained

PARENTS = DEEPMIMIC.parents_among(DEEPMIMIC.moving)


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """A take of random swings at 20 frames a second, as a BVH file."""
    draw = np.random.default_rng(0)
    swing = np.sin(np.linspace(0, 4, 20))[:, None, None] * draw.normal(0, 0.4, (1, len(DEEPMIMIC), 3))
    motion = Motion(DEEPMIMIC, np.asarray(rotations.expmap_to_matrix(swing)), draw.normal(size=(20, 3)), 20.0)
    path = tmp_path_factory.mktemp("takes") / "take.bvh"
    path.write_text(bvh.text_of(bvh.bvh_of(motion)))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, take):
    folder = tmp_path_factory.mktemp("runs") / "simlpe"
    settings = ["--data.source", f"mocap:{take}", "--model.parents", *map(str, bvh_parents(take))]
    untrained(folder, "motion", "simlpe-cmu", *settings)
    return folder


def bvh_parents(take) -> tuple[int, ...]:
    skeleton = open_motion(take).skeleton
    return skeleton.parents_among(skeleton.moving)


def test_the_next_poses_are_written_in_each_form(run, take, tmp_path, cli):
    motion = open_motion(take)
    joints, places = list(motion.skeleton.moving), motion.places_of_body()
    printed = cli(0, "predict", run, take, "--at", "0.5", "--stride", "1", "--frames", "5", "--out", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        past, future, true = (file[name] for name in ("past", "future", "true"))
    np.testing.assert_allclose(past, places[9:11, joints], atol=1e-5)
    np.testing.assert_allclose(true, places[11:16, joints], atol=1e-5)
    error = np.linalg.norm(future - true, axis=-1).mean()
    assert f"mean distance of joints {error:.4g}" in printed
    cli(0, "predict", run, take, "--out", tmp_path / "x.bvh")  # at the end, with the channels of the take
    made = bvh.read(tmp_path / "x.bvh")
    assert made.channels == bvh.read(take).channels and len(made.values) == 2 + 3
    np.testing.assert_allclose(made.motion.places()[:2], motion.places()[[17, 19]], atol=1e-9)
    cli(0, "predict", run, take, "--at", "0.5", "--out", tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as file:
        assert file.n_frames == 5  # pyright: ignore[reportAttributeAccessIssue]
    cli(0, "predict", run, take, "--out", tmp_path / "x.glb")
    assert (tmp_path / "x.glb").read_bytes()[:4] == b"glTF"


def test_one_sentence_for_each_mistake(run, take, tmp_path, cli):
    assert "--at must be before it, not 7" in cli(2, "predict", run, take, "--at", "7")
    assert "needs 2 frames at a stride of 30" in cli(2, "predict", run, take, "--stride", "30")
    assert "--out must end in .bvh" in cli(2, "predict", run, take, "--out", tmp_path / "x.png")
    (tmp_path / "other.bvh").write_text(take.read_text().replace("Frames: 20", "Frames: 0"))
    assert "it has 0 frames" in cli(2, "predict", run, tmp_path / "other.bvh")


def test_rotations_of_predicted_places_have_these_places(take):
    motion = open_motion(take)
    joints, places = list(motion.skeleton.moving), motion.places_of_body()
    made = continued_motion(motion.part(0, 10), places[10:, joints])
    np.testing.assert_allclose(made.places_of_body()[:, joints], places[10:, joints], atol=1e-9)
    np.testing.assert_allclose(made.root, np.tile(motion.root[9], (10, 1)))
