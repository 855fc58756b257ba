"""Clips of motion for generators: exact round trips, invariance, kinematics, windows of files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.data.bvh import bvh_of, parse, text_of
from jaxgen.data.known_skeletons import CMU
from jaxgen.data.mocap import Mocap, by_action
from jaxgen.data.motion_clips import ClipFormat, clip_format, contacts, format_of, heading, inner
from jaxgen.data.skeleton import Motion
from jaxgen.nn import rotations
from tests.helpers.takes import FIGURE, take

FORMAT = ClipFormat(FIGURE, 10.0)


def motion(frames: int = 12, seed: int = 0) -> Motion:
    return parse(take(frames, seed)).motion


def turned(motion: Motion, angle: float) -> Motion:
    """Return the motion turned about the vertical axis through 0, and moved."""
    turn = np.asarray(rotations.about(np.asarray(angle), "Y"))
    whole = motion.rotations.copy()
    whole[:, 0] = turn @ whole[:, 0]
    return replace(motion, rotations=whole, root=motion.root @ turn.T + [3, 0, -2])


def test_a_motion_comes_back_from_its_clip_and_from_the_file_of_it():
    given = motion()
    clip = FORMAT.encode(given)
    assert clip.shape == (12, len(inner(FIGURE.parents)) + 1, 6)
    start, yaw = given.root[0] + FIGURE.offsets[0], float(heading(given.rotations[:1, 0])[0])
    again = FORMAT.decode(clip, (start[0], start[2]), yaw)
    np.testing.assert_allclose(again.places(), given.places(), atol=1e-12)
    joints = list(inner(FIGURE.parents))
    np.testing.assert_allclose(again.rotations[:, joints], given.rotations[:, joints], atol=1e-12)
    filed = parse(text_of(bvh_of(again))).motion
    np.testing.assert_allclose(FORMAT.encode(filed), clip, atol=1e-9)


def test_a_clip_is_the_same_wherever_it_starts_and_whichever_way_it_looks():
    np.testing.assert_allclose(FORMAT.encode(turned(motion(), 2.0)), FORMAT.encode(motion()), atol=1e-12)


def test_places_of_jax_are_those_of_numpy_with_a_gradient():
    clip = FORMAT.encode(motion()).astype(np.float32)
    value, grad = jax.jit(jax.value_and_grad(lambda c: jnp.square(FORMAT.places(c)).sum()))(clip)
    np.testing.assert_allclose(value, np.square(FORMAT.places(clip.astype(np.float64))).sum(), rtol=1e-5)
    assert np.isfinite(grad).all() and np.abs(grad).max() > 0


def test_a_foot_stands_that_is_low_and_slow():
    feet = np.zeros((30, 2, 3))
    feet[:, 1, 0] = np.arange(30) * 0.1  # the second slides at 2.5 m/s
    feet[20:, 0, 1] = 0.2  # the first one is lifted
    found = contacts(feet, 25.0)
    assert found[:19, 0].all() and not found[21:, 0].any() and not found[:, 1].any()


def test_feet_lengths_and_specs():
    known = clip_format("cmu", 25.0)
    assert [known.skeleton.names[i] for i in known.feet] == ["ltoes", "rtoes"]
    np.testing.assert_allclose(known.skeleton.offsets[1:], CMU.offsets[1:] / 1000)  # millimetres
    again = format_of(known.spec(60))
    assert again.skeleton.names == CMU.names and again.joints == known.joints and again.rate == 25.0
    with pytest.raises(InputError, match=r"name .*cmu, deepmimic, smpl"):
        clip_format("cat", 25.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("takes")
    for i, name in enumerate(("man_walk_1", "man_walk_2", "man_jump")):
        (path / f"{name}.bvh").write_text(take(14 + i, i, 20.0))
    return path


def test_windows_of_files_are_clips_with_the_actions_of_their_names(folder):
    from jaxgen.core.spec import label_spec

    example = {"motion": FORMAT.spec(4), "label": label_spec(2)}
    source = Mocap(folder, Data(f"mocap:{folder}", stride=2), example)
    assert source.classes == ("jump", "walk") and len(source) == (16 - 6) + (14 - 6) + (15 - 6)
    one = source[11]  # the second window of the first walk
    assert source.names[11] == "man_walk_1.bvh@1" and one["label"] == 1
    part = motion(14).part(1, 14, 2)
    np.testing.assert_allclose(one["motion"], FORMAT.encode(replace(part, rate=10.0))[:4], atol=1e-5)
    both = Mocap(folder, Data(f"mocap:{folder}", stride=2, flip=True), example)
    assert len(both) == 2 * len(source)
    mirrored = FORMAT.encode(replace(part.mirrored(), rate=10.0))
    index = both.examples.index((("walk/man_walk_1.bvh", 1), 1))
    np.testing.assert_allclose(both[index]["motion"], mirrored[:4], atol=1e-5)
    slow = Mocap(folder, Data(f"mocap:{folder}", stride=1), example)  # resampled from 20 frames a second to 10
    assert len(slow) == sum((n - 1) // 2 + 1 - 3 for n in (14, 15, 16))


def test_actions_by_name():
    assert by_action(["a/x.bvh"]) == {"a/x.bvh": "a/x.bvh"} and by_action(["."]) == {".": "."}
    assert list(by_action(["h3d_walk.txt", "h3d_long_walk2.txt"])) == [
        "walk/h3d_walk.txt",
        "long_walk/h3d_long_walk2.txt",
    ]
    assert list(by_action(["walk1.bvh", "walk2.bvh"])) == ["walk/walk1.bvh", "walk/walk2.bvh"]


def test_one_sentence_for_other_joints(folder):
    example = {"motion": clip_format("cmu", 25.0).spec(4)}
    with pytest.raises(
        InputError, match=r"has 6 joints, and is not that of the model, which has 38: .*--model.skeleton"
    ):
        Mocap(folder, Data(f"mocap:{folder}"), example)
