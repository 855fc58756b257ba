"""Clips of a drawn actor: the motion is what is drawn, by index and key; the camera; takes that can't be played."""

from typing import Any

import numpy as np
import pytest

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.data.actor_clips import ActorClips
from jaxgen.data.actor_drawing import FOCAL, LIMBS, Camera, build, camera_for, draw_actor
from jaxgen.data.known_skeletons import BODY, DEEPMIMIC, SMPL
from jaxgen.data.open import open_source
from jaxgen.nn import rotations
from jaxgen.nn.kinematics import forward
from tests.helpers.takes import take, walk, walking

CLIP = {"clip": ArraySpec("video", (4, 32, 32, 3))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("actors")
    for part, skeleton in (("train", SMPL), ("test", DEEPMIMIC)):
        (path / part).mkdir()
        (path / part / "walk.bvh").write_text(walking(skeleton, 30))
    return path


def test_an_example_is_a_function_of_its_index_and_key(folder):
    source: Any = open_source(Data(f"actor:{folder}"), CLIP)
    assert len(source) == 17 and source.clips == ("clip",)  # 37 frames at 25 a second, windows of 4 every 2
    one, again, other = source[3], source[3], source[4]
    for name in ("clip", "pose", "turns", "root"):
        np.testing.assert_array_equal(one[name], again[name])
        assert not np.array_equal(one[name], other[name])
    assert one["clip"].dtype == np.uint8 and one["clip"].shape == (4, 32, 32, 3)
    drawn = source.draw(3, 7)
    np.testing.assert_array_equal(drawn["clip"], source.draw(3, 7)["clip"])
    assert not np.array_equal(drawn["clip"], source.draw(3, 8)["clip"])
    assert len(open_source(Data(f"actor:{folder}", split="test"), CLIP)) == 17


def test_rotations_and_places_belong_together(folder):
    example = open_source(Data(f"actor:{folder}", split="test"), CLIP)[5]
    turned = np.asarray(rotations.six_to_matrix(example["turns"].astype(np.float64)))
    whole = np.concatenate([turned, np.broadcast_to(np.eye(3), (4, len(BODY) - 22, 3, 3))], 1)
    places = forward(whole, np.zeros((4, 3)), BODY.offsets, BODY.parents)[0]
    np.testing.assert_allclose(places - places[:, :1], example["pose"], atol=1e-5)
    assert (example["root"][..., 2] < -1).all(), "the body is in front of the camera"


def test_the_camera_draws_a_point_where_a_pinhole_would():
    numbers = np.random.default_rng(0)
    body = np.asarray(
        forward(np.eye(3)[None, None].repeat(len(BODY), 1), np.zeros((1, 3)), BODY.offsets, BODY.parents)[0]
    )
    camera = camera_for(body, lambda *shape: numbers.uniform(size=shape))
    assert isinstance(camera, Camera) and np.allclose(camera.axes @ camera.axes.T, np.eye(3))
    assert np.linalg.det(camera.axes) > 0 and camera.axes[0, 1] == 0, "x is level"
    pixels, depth = camera.project(body, 64)
    # By a matrix of the camera in homogeneous coordinates.
    inner = np.asarray([[FOCAL * 64, 0, 32], [0, FOCAL * 64, 32], [0, 0, 1]])
    outer = np.diag([1, -1, -1]) @ np.concatenate([camera.axes, -(camera.axes @ camera.place)[:, None]], 1)
    seen = np.concatenate([body, np.ones((*body.shape[:-1], 1))], -1) @ (inner @ outer).T
    np.testing.assert_allclose(pixels, seen[..., :2] / seen[..., 2:], atol=1e-9)
    assert (pixels > 0).all() and (pixels < 64).all() and (depth > 1).all()


def test_limbs_are_drawn_at_their_places():
    """The pixels that change when the actor appears are those within its capsules, seen from the camera."""
    draws = lambda: (lambda numbers: lambda *shape: numbers.uniform(size=shape))(np.random.default_rng(1))  # noqa: E731
    motion = walk(SMPL, 3)
    still = np.broadcast_to(np.eye(3), (3, len(BODY) - 22, 3, 3))
    places, world = forward(np.concatenate([motion.rotations, still], 1), motion.root, BODY.offsets, BODY.parents)
    camera = camera_for(places, draws())
    seen = draw_actor(places, world, 1.0, camera, 48, draws(), 0).astype(int)
    away = camera._replace(place=camera.place + np.asarray([1e4, 0, 0]))
    empty = draw_actor(places, world, 1.0, away, 48, draws(), 0).astype(int)
    changed = np.abs(seen - empty).max(-1) > 12
    number = {name: i for i, name in enumerate(BODY.names)}
    rows, columns = np.indices((48, 48)) + 0.5
    inside, near = np.zeros((2, 3, 48, 48), bool)
    for limb in LIMBS:
        for part in np.linspace(0, 1, 30):
            at = places[:, number[limb.start]] * (1 - part) + places[:, number[limb.stop]] * part
            pixel, depth = camera.project(at, 48)
            radius = FOCAL * 48 * (limb.first * (1 - part) + limb.last * part) / depth
            far = np.hypot(columns - pixel[:, 0, None, None], rows - pixel[:, 1, None, None])
            inside |= far < radius[:, None, None] - 0.5
            near |= far < radius[:, None, None] + 2.5
    assert changed[inside].mean() > 0.95 and not changed[~near].any()
    assert 0.02 < inside.mean() < 0.5


def test_actors_differ_and_things_hide_them():
    numbers = np.random.default_rng(0)
    draw = lambda *shape: numbers.uniform(size=shape)  # noqa: E731
    offsets, thick = build(draw)
    length = lambda name: np.linalg.norm(offsets[BODY.index(name)])  # noqa: E731
    assert np.isclose(length("left_knee"), length("left_knee")) and 0.8 <= thick <= 1.3
    ratio = np.linalg.norm(offsets, axis=1)[1:] / np.linalg.norm(BODY.offsets, axis=1)[1:]
    assert ratio.min() >= 0.88 - 1e-9 and ratio.max() <= 1.12 + 1e-9 and ratio.std() > 0.01


def test_more_is_hidden_where_asked(folder):
    plain, hidden = (ActorClips(folder, Data(f"actor:{folder}"), CLIP, hidden=share) for share in (0.0, 1.0))
    differ = [np.mean(plain[i]["clip"] != hidden[i]["clip"]) for i in range(6)]
    assert min(differ) > 0.01 and np.array_equal(plain[2]["turns"], hidden[2]["turns"])


def test_takes_that_no_actor_can_play(tmp_path):
    (tmp_path / "figure.bvh").write_text(take(20))
    with pytest.raises(InputError, match="can't be played by the actor: The skeleton has no left foot"):
        open_source(Data(f"actor:{tmp_path}"), CLIP)
    (tmp_path / "short.bvh").write_text(walking(SMPL, 2))
    with pytest.raises(InputError, match="figure"):
        open_source(Data(f"actor:{tmp_path}", skip_bad=True), CLIP)
    (tmp_path / "long.bvh").write_text(walking(SMPL, 9))
    assert len(open_source(Data(f"actor:{tmp_path}", skip_bad=True), CLIP)) == 4
    with pytest.raises(InputError, match="square and in colour"):
        open_source(Data(f"actor:{tmp_path}"), {"clip": ArraySpec("video", (4, 32, 16, 3))})
