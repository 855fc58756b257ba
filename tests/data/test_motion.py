"""Motions: BVH and other files, skeletons, forward kinematics beside SciPy's rotations, windows, and what is wrong."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.data import bvh
from jaxgen.data.known_skeletons import CMU, CMU_SEEN_PARENTS, DEEPMIMIC, H36M_SEEN_PARENTS, SMPL
from jaxgen.data.motion_files import arrays_of, motion_of_text, open_motion
from jaxgen.data.open import open_source
from jaxgen.data.skeleton import Motion, Skeleton, foot_contacts
from jaxgen.nn import kinematics, rotations

SHARED = Path(os.environ.get("JAXGEN_TEST_DATA", "/nowhere"), "mocap")
needs_files = pytest.mark.skipif(not SHARED.is_dir(), reason="JAXGEN_TEST_DATA names no folder with mocap/")
FEW = {"fair1_dab.bvh", "rokoko_jesse_dance.bvh", "cmu1_jumping_jacks.bvh"}  # three skeletons, four orders of axes

# Two orders of axes, an offset of the root that is not added, a joint that moves, a joint with one rotation.
FILE = """HIERARCHY
ROOT hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT left arm
  {
    OFFSET 0 10 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    JOINT hand
    {
      OFFSET 5 0 0
      CHANNELS 2 Xposition Zrotation
      End Site
      {
        OFFSET 1 0 0
      }
    }
  }
}
MOTION
Frames: 2
Frame Time: .04
0 1 0 10 20 30 40 50 60 5 90
0.1 1e-3 -0.30000000000000004 -10 20 30 40 50 -60 7 45
"""


def files(name: str):
    """Yield the names and texts of the BVH files of a shared archive."""
    with tarfile.open(SHARED / name) as archive:
        for info in archive.getmembers():
            if info.name.endswith(".bvh"):
                yield Path(info.name).name, archive.extractfile(info).read().decode()  # pyright: ignore


def by_scipy(file: bvh.Bvh) -> np.ndarray:
    """Return the places of joints by SciPy's rotations, one joint after the other, from the channels themselves."""
    column, places, turns = 0, [], []
    for joint, (parent, names) in enumerate(zip(file.skeleton.parents, file.channels, strict=True)):
        values = dict(zip(names, file.values[:, column : column + len(names)].T, strict=True))
        column += len(names)
        offset = np.tile(file.skeleton.offsets[joint], (len(file.values), 1))
        for i, axis in enumerate("XYZ"):
            offset[:, i] = values.get(f"{axis}position", offset[:, i])
        order = "".join(name[0] for name in names if name.endswith("rotation"))
        angles = np.stack([values[f"{axis}rotation"] for axis in order], 1) if order else np.zeros((len(offset), 1))
        own = Rotation.from_euler(order or "X", angles, degrees=True)
        places.append(offset if parent < 0 else places[parent] + turns[parent].apply(offset))
        turns.append(own if parent < 0 else turns[parent] * own)
    return np.stack(places, 1)


def check(file: bvh.Bvh):
    """Check kinematics beside SciPy's, in f64 and by JAX in f32, and that what is written is read again to the bit."""
    motion = file.motion
    places, reference = motion.places(), by_scipy(file)
    np.testing.assert_allclose(places, reference, rtol=0, atol=1e-9)
    again = bvh.parse(bvh.text_of(file))
    np.testing.assert_array_equal(again.values, file.values)
    np.testing.assert_array_equal(again.skeleton.offsets, file.skeleton.offsets)
    assert (again.channels, again.ends, again.frame_time) == (file.channels, file.ends, file.frame_time)
    assert (again.skeleton.names, again.skeleton.parents) == (file.skeleton.names, file.skeleton.parents)
    return places


def test_a_file_with_every_oddity_is_read_and_written_to_the_bit():
    file = bvh.parse(FILE)
    assert file.skeleton.names == ("hips", "left arm", "hand", "hand_end") and file.frame_time == 0.04
    places = check(file)
    np.testing.assert_allclose(places[0, 0], [0, 1, 0])  # the root's offset is not added
    np.testing.assert_allclose(np.linalg.norm(places[1, 2] - places[1, 1]), 7)  # the hand has moved
    some = Motion(file.skeleton, file.motion.rotations, file.motion.root, 25.0)
    made = bvh.bvh_of(some, "YZX")  # other channels, the same motion
    np.testing.assert_allclose(bvh.parse(bvh.text_of(made)).motion.places(), some.places(), atol=1e-9)


@needs_files
def test_shared_files_of_three_skeletons():
    for name, text in files("animated_drawings_bvh_5.tar.xz"):
        if name in FEW:
            file = bvh.parse(text)
            places = check(file)
            motion = file.motion
            turned, root, offsets = (
                jnp.asarray(x, jnp.float32) for x in (motion.rotations[:20], motion.root[:20], motion.skeleton.offsets)
            )
            own = kinematics.forward(turned, root, offsets, motion.skeleton.parents)[0]
            scale = np.abs(places[:20]).max()
            assert np.abs(own - places[:20]).max() < 1e-5 * scale
            np.testing.assert_allclose(file.with_motion(motion).motion.places(), places, atol=1e-9)


@pytest.mark.slow
@needs_files
def test_all_shared_files():
    found = [*files("animated_drawings_bvh_5.tar.xz"), *files("cmu_bvh_12.tar.xz")]
    assert len(found) == 17
    for _, text in found:
        check(bvh.parse(text))


def test_rotations_beside_scipy_and_their_gradients():
    some = Rotation.random(64, rng=np.random.default_rng(0))
    matrix = some.as_matrix()
    for order in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "XYX", "XZX", "YXY", "YZY", "ZXZ", "ZYZ"):
        angles = some.as_euler(order)
        np.testing.assert_allclose(rotations.matrix_to_euler(matrix, order), angles, atol=1e-8)
        np.testing.assert_allclose(rotations.euler_to_matrix(angles, order), matrix, atol=1e-12)
        third = 0 if order[0] != order[2] else np.pi / 2
        lock = rotations.euler_to_matrix(np.asarray([0.3, np.pi / 2 - third, 0.4]), order)  # gimbal lock
        np.testing.assert_allclose(
            rotations.euler_to_matrix(rotations.matrix_to_euler(lock, order), order), lock, atol=1e-7
        )
    q = some.as_quat(canonical=True)[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(rotations.matrix_to_quaternion(matrix), q, atol=1e-12)
    np.testing.assert_allclose(rotations.quaternion_to_matrix(-3 * q), matrix, atol=1e-12)
    np.testing.assert_allclose(rotations.matrix_to_expmap(matrix), some.as_rotvec(), atol=1e-9)
    maps = np.concatenate([some.as_rotvec(), 1e-6 * q[:, 1:], np.zeros((1, 3))])
    np.testing.assert_allclose(rotations.expmap_to_matrix(maps), Rotation.from_rotvec(maps).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotations.six_to_matrix(2 * rotations.matrix_to_six(matrix)), matrix, atol=1e-12)
    angle = (some[:32].inv() * some[32:]).magnitude()
    np.testing.assert_allclose(rotations.angle_between(matrix[:32], matrix[32:]), angle, atol=1e-9)
    half = rotations.between(q[:32], q[32:], np.full(32, 0.5))
    np.testing.assert_allclose(
        rotations.angle_between(matrix[:32], rotations.quaternion_to_matrix(half)), angle / 2, atol=1e-6
    )
    total = jax.jit(jax.grad(lambda v: rotations.expmap_to_matrix(v)[..., 0, 1].sum()))
    np.testing.assert_allclose(total(np.asarray([[0, 0, 0], [1, 0, 0]], np.float32))[0], [0, 0, -1], atol=1e-6)


def test_known_skeletons_are_those_of_the_literature():
    assert len(CMU) == 38 and len(CMU.moving) == 25 and len(DEEPMIMIC) == 15 and len(SMPL) == 22
    away = (0, 1, 2, 7, 8, 13, 16, 20, 24, 27, 29, 33, 36)  # Mao et al. 2019 leave these out
    assert CMU.moving == tuple(sorted(set(range(38)) - set(away)))
    assert len(H36M_SEEN_PARENTS) == 22 and len(CMU_SEEN_PARENTS) == 25
    names = [(SMPL.names[i], SMPL.names[j]) for i, j in enumerate(SMPL.symmetry) if i < j]
    assert len(names) == 8 and all(b == a.replace("left", "right") for a, b in names)
    assert CMU.names[CMU.symmetry[CMU.index("lfoot")]] == "rfoot" and CMU.symmetry[CMU.index("lowerback")] == 13


@needs_files
def test_deepmimic_is_resampled_mirrored_and_stands_on_the_ground():
    with tarfile.open(SHARED / "deepmimic_motions.tar.xz") as archive:
        data = archive.extractfile("humanoid3d_walk.txt")
        motion = motion_of_text(data.read(), "humanoid3d_walk.txt")  # pyright: ignore
    places, feet = motion.places(), [DEEPMIMIC.index("right_ankle"), DEEPMIMIC.index("left_ankle")]
    lengths = np.linalg.norm(places[:, 4] - places[:, 3], axis=1)
    np.testing.assert_allclose(lengths, 0.421546, atol=1e-9)
    stands = foot_contacts(places, motion.rate, feet, 0.3, 0.05)
    assert 0.2 < stands.mean() < 0.8 and stands.any(1).mean() > 0.8  # a walk: mostly one foot or both
    again = motion.at_rate(3 * motion.rate)
    assert len(again) == 3 * (len(motion) - 1) + 1
    np.testing.assert_allclose(again.places()[::3], places, atol=1e-6)
    mirror = motion.mirrored(2).places()
    np.testing.assert_allclose(mirror, places[:, list(DEEPMIMIC.symmetry)] * [1, 1, -1], atol=1e-9)
    np.testing.assert_allclose(motion.mirrored(2).mirrored(2).places(), places, atol=1e-9)


def cmu_text(frames: int, seed: int = 0) -> str:
    values = np.random.default_rng(seed).normal(0, 0.3, (frames, 117))
    return "\n".join(",".join(f"{x:.9g}" for x in row) for row in values)


def specs(past: int, future: int) -> dict[str, ArraySpec]:
    return {n: ArraySpec("pose", (t, 25, 3), parents=CMU_SEEN_PARENTS) for n, t in (("past", past), ("future", future))}


def test_windows_of_a_zip_with_splits_and_actions(tmp_path):
    path = tmp_path / "split.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, frames in (("train/walk/walk_1", 12), ("train/run/run_1", 9), ("test/walk/walk_1", 8)):
            archive.writestr(f"cmu/{name}.txt", cmu_text(frames, frames))
    source = open_source(Data(f"mocap:{path}", stride=2), specs(1, 3))
    assert source.classes == ("run", "walk") and len(source) == (12 - 6) + (9 - 6)
    assert len(open_source(Data(f"mocap:{path}", stride=2, split="test"), specs(1, 3))) == 2
    motion = motion_of_text(cmu_text(9, 9).encode(), "run_1.txt")
    window = motion.places_of_body()[1:8:2, list(CMU.moving)]
    found = source[1]
    assert found["label"] == 0 and found["past"].shape == (1, 25, 3)
    np.testing.assert_allclose(np.concatenate([found["past"], found["future"]]), window, rtol=1e-5, atol=1e-3)
    # The literature turns row vectors by the maps themselves, and drops the root's: here for one chain of the leg.
    maps = np.loadtxt(io.StringIO(cmu_text(9, 9)), delimiter=",")[1, 3:].reshape(38, 3)
    turn = np.eye(3)
    place = np.zeros(3)
    for joint in (1, 2, 3):
        place = CMU.offsets[joint] @ turn + place
        turn = Rotation.from_rotvec(maps[joint]).as_matrix() @ turn
    np.testing.assert_allclose(window[0, 0], place, atol=1e-6)


def test_amass_and_own_arrays(tmp_path):
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.3, (4, 156))
    np.savez(tmp_path / "amass.npz", poses=poses, trans=rng.normal(size=(4, 3)), mocap_framerate=60.0, gender="neutral")
    motion = open_motion(tmp_path / "amass.npz")
    assert motion.rate == 60 and len(motion.skeleton) == 22
    np.savez(tmp_path / "own.npz", **arrays_of(motion))  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(open_motion(tmp_path / "own.npz").places(), motion.places(), atol=1e-9)
    still = open_motion(tmp_path / "amass.npz").places_of_body()
    np.testing.assert_allclose(still[:, 0], 0, atol=1e-12)


def skeleton(names=("a", "b", "c"), parents=(-1, 0, 1), offsets=None) -> Skeleton:
    return Skeleton(names, parents, np.zeros((3, 3)) if offsets is None else offsets)


WRONG = [
    (lambda: skeleton(parents=(-1, 2, 1)), "The parents of joint 'b' are a cycle"),
    (lambda: skeleton(parents=(-1, 2, 0)), "'b' is listed before its parent"),
    (lambda: skeleton(parents=(-1, 7, 0)), "The parent of joint 'b' is 7"),
    (lambda: skeleton(names=("a", "b", "b")), "Two joints of the skeleton are called 'b'"),
    (lambda: skeleton().index("hnad"), "Unknown joint 'hnad'"),
    (lambda: skeleton(offsets=np.full((3, 3), np.nan)), "offset of joint 'a' is not finite"),
    (lambda: Motion(skeleton(), np.zeros((0, 3, 3, 3)), np.zeros((0, 3)), 30.0), "at least one frame"),
    (lambda: bvh.parse(FILE.replace(" 60 5 90", " 60 5")), "Frame 0 has 10 values, and its joints have 11 channels"),
    (lambda: bvh.parse(FILE.replace("60 5 90", "nan 5 90")), "Frame 0 has a value of joint 'left arm' that is not"),
    (lambda: bvh.parse(FILE.replace("60 5 90", "x 5 90")), "value that is no number"),
    (lambda: bvh.parse(FILE.replace("Frames: 2", "Frames: 0")), "It has 0 frames: at least one is needed"),
    (lambda: bvh.parse(FILE.replace("Frames: 2", "Frames: 3")), "It declares 3 frames and has 2"),
    (lambda: bvh.parse(FILE.replace("Frame Time: .04", "Frame Time: 0")), "Its Frame Time is 0"),
    (lambda: bvh.parse(FILE.replace("OFFSET 5 0 0", "")), "Joint 'hand' has no OFFSET"),
    (lambda: bvh.parse(FILE.replace("CHANNELS 2 Xposition Zrotation", "")), "Joint 'hand' has no CHANNELS"),
    (
        lambda: bvh.parse(FILE.replace("Zrotation\n      End", "Wrotation\n      End")),
        "The channel 'Wrotation' is unknown",
    ),
    (lambda: bvh.parse(FILE.replace("}\nMOTION", "MOTION")), "Joint 'hips' is not closed"),
    (lambda: bvh.parse("HIERARCHY"), "It is no BVH file"),
    (lambda: motion_of_text(b"1,2\n", "a.txt"), "a.txt can't be used: line 1 has 2 values"),
    (lambda: motion_of_text(json.dumps({"Frames": [[1.0] * 43]}).encode(), "a.json"), "have shape (1, 43)"),
    (lambda: open_motion(Path("missing.bvh")), "There is no file missing.bvh"),
]


@pytest.mark.parametrize("work, said", WRONG)
def test_one_sentence_for_each_mistake(work, said):
    with pytest.raises(InputError) as caught:
        work()
    assert said in str(caught.value) and str(caught.value).count("\n") == 0


def test_data_that_do_not_fit_the_model(tmp_path):
    (tmp_path / "take.bvh").write_text(FILE)
    with pytest.raises(InputError, match=r"take.bvh has 2 moving joints.*--model.parents -1 0"):
        open_source(Data(f"mocap:{tmp_path / 'take.bvh'}"), specs(1, 1))
    (tmp_path / "a.txt").write_text(cmu_text(3))
    with pytest.raises(InputError, match="has 3 frames, and the model takes 4 frames"):
        open_source(Data(f"mocap:{tmp_path / 'a.txt'}"), specs(1, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no motions"):
        open_source(Data(f"mocap:{tmp_path / 'empty'}"), specs(1, 3))
