"""Retargeting: parts of bodies, onto itself and onto a scaled skeleton, directions of limbs, feet that stand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxgen.core.errors import InputError
from jaxgen.data import bvh
from jaxgen.data.body_parts import body_of, words_of
from jaxgen.data.known_skeletons import CMU, DEEPMIMIC, SMPL
from jaxgen.data.leg_kinematics import HEIGHT, SPEED
from jaxgen.data.retargeting import leg_length, retargeted
from jaxgen.data.skeleton import Motion, Skeleton, foot_contacts
from tests.data.test_motion import files, needs_files
from tests.helpers.takes import walk

KINDS = {  # of the shared skeletons, one file each
    "cmu1_jumping_jacks.bvh": "animated_drawings_bvh_5.tar.xz",
    "fair1_dab.bvh": "animated_drawings_bvh_5.tar.xz",  # z is up
    "rokoko_jesse_dance.bvh": "animated_drawings_bvh_5.tar.xz",  # at rest all bones point along x
    "cmu_salsa_10.bvh": "cmu_bvh_12.tar.xz",
}


def shared(name: str, frames: int = 400) -> Motion:
    return bvh.parse(dict(files(KINDS[name]))[name]).motion.part(0, frames)


def test_parts_of_bodies():
    assert words_of("mixamorig:LeftForeArm") == ["left", "fore", "arm"] and words_of("lfoot") == ["l", "foot"]
    assert words_of("rShldr") == ["r", "shldr"] and words_of("upperarm_l") == ["upperarm", "l"]
    plain = [f"left_{x}" for x in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
    actor = ["lhumerus", "lradius", "lwrist", "lfemur", "ltibia", "lfoot"]
    ends = [*plain[:2], "left_elbow_end", *plain[3:5], "left_knee_end"]
    sites = bvh.parse(bvh.text_of(bvh.bvh_of(walk(DEEPMIMIC, 2)))).skeleton  # ankles and wrists have no names there
    for skeleton, right in ((CMU, actor), (DEEPMIMIC, plain), (SMPL, plain), (sites, ends)):
        body = body_of(skeleton)
        assert [skeleton.names[i] for i in (*body.arms["left"], *body.legs["left"])] == right
    assert [SMPL.names[i] for i in body_of(SMPL).spine] == ["spine1", "spine2", "spine3"]
    with pytest.raises(InputError, match="has no left foot"):
        body_of(Skeleton(("a", "b"), (-1, 0), np.ones((2, 3))))


@pytest.mark.parametrize("name", KINDS)
@needs_files
def test_onto_itself_nothing_changes_and_onto_a_larger_one_all_is_larger(name):
    motion = shared(name)
    made = retargeted(motion, motion.skeleton, motion)
    size = np.abs(motion.places()).max()
    np.testing.assert_allclose(made.rotations, motion.rotations, atol=1e-9)
    np.testing.assert_allclose(made.places(), motion.places(), atol=1e-9 * size)
    larger = replace(motion.skeleton, offsets=1.7 * motion.skeleton.offsets)
    made = retargeted(motion, larger, replace(motion, skeleton=larger))
    np.testing.assert_allclose(made.places(), 1.7 * motion.places(), atol=1e-9 * size)


def directions(motion: Motion) -> np.ndarray:
    """Return the directions f64[t 4 3] of upper and lower limbs of the arms, in the world."""
    places, body = motion.places(), body_of(motion.skeleton)
    bones = [places[:, limb[i + 1]] - places[:, limb[i]] for limb in body.arms.values() for i in (0, 1)]
    return np.stack([bone / np.linalg.norm(bone, axis=-1, keepdims=True) for bone in bones], 1)


def test_arms_point_where_those_of_the_source_do():
    for source, target in ((SMPL, DEEPMIMIC), (DEEPMIMIC, CMU), (CMU, SMPL)):
        motion = walk(source)
        made = retargeted(motion, target)
        np.testing.assert_allclose(directions(made), directions(motion), atol=1e-9)
        back = retargeted(made, source, contacts=False)  # arms turn about their bones alone
        np.testing.assert_allclose(directions(back), directions(motion), atol=1e-9)


@needs_files
def test_a_file_with_another_vertical_is_turned():
    dab = shared("fair1_dab.bvh")
    made = retargeted(dab, SMPL, contacts=False)
    turned = Rotation.from_euler("x", -90, degrees=True).as_matrix()
    np.testing.assert_allclose(directions(made), directions(dab) @ turned.T, atol=1e-9)


def slides(motion: Motion, joints: list[int], stands: np.ndarray) -> list[float]:
    """Return the mean level speed of each foot where it stands, in leg lengths in a second."""
    level = motion.places()[:, joints][..., [0, 2]]
    speed = np.linalg.norm(np.gradient(level, axis=0), axis=-1) * motion.rate
    leg = leg_length(motion.skeleton, body_of(motion.skeleton))
    return [float(speed[stands[:, i], i].mean() / leg) for i in range(len(joints))]


@pytest.mark.parametrize("name", ["rokoko_jesse_dance.bvh", "cmu_salsa_10.bvh"])
@needs_files
def test_feet_slide_no_more_than_in_the_original(name):
    motion, target = shared(name, 1200), shared("cmu1_jumping_jacks.bvh")
    leg = leg_length(motion.skeleton, body_of(motion.skeleton))
    feet, ours = ([x for x in body_of(m.skeleton).toes.values() if x is not None] for m in (motion, target))
    stands = foot_contacts(motion.places(), motion.rate, feet, SPEED * leg, HEIGHT * leg)
    assert stands.sum() > 50
    free, kept = (retargeted(motion, target.skeleton, target, contacts) for contacts in (False, True))
    true, loose, held = (slides(m, j, stands) for m, j in ((motion, feet), (free, ours), (kept, ours)))
    np.testing.assert_allclose(held, true, rtol=1e-3)
    assert np.mean(loose) > 1.1 * np.mean(true)  # without the contacts they do
    lengths = lambda m: np.linalg.norm(m.places()[:, ours] - m.places()[:, m.skeleton.parents[ours[0]], None], axis=-1)  # noqa: E731
    np.testing.assert_allclose(lengths(kept)[:, 0], lengths(free)[:, 0], rtol=1e-6)


def test_the_command_writes_each_form(tmp_path, cli):
    (tmp_path / "take.bvh").write_text(bvh.text_of(bvh.bvh_of(walk(SMPL, 12))))
    (tmp_path / "hero.bvh").write_text(bvh.text_of(bvh.bvh_of(walk(DEEPMIMIC, 2), "XYZ")))
    for end in ("glb", "gif", "npz", "bvh"):
        out = tmp_path / f"new.{end}"
        said = cli(0, "retarget", tmp_path / "take.bvh", "--to", tmp_path / "hero.bvh", "--out", out)
        assert "12 frames" in said and out.stat().st_size
    hero, made = bvh.read(tmp_path / "hero.bvh"), bvh.read(tmp_path / "new.bvh")
    assert made.channels == hero.channels and made.skeleton.names == hero.skeleton.names
    np.testing.assert_allclose(directions(made.motion), directions(walk(SMPL, 12)), atol=1e-6)
    (tmp_path / "box.bvh").write_text((tmp_path / "hero.bvh").read_text().replace("knee", "thing"))
    assert "has no left foot" in cli(2, "retarget", tmp_path / "take.bvh", "--to", tmp_path / "box.bvh")
    assert "There is no file" in cli(2, "retarget", tmp_path / "no.npz", "--to", tmp_path / "hero.bvh")
    assert "--out must end in" in cli(
        2, "retarget", tmp_path / "take.bvh", "--to", tmp_path / "hero.bvh", "--out", "x.a"
    )
