"""GLB files of motions: the binary parts, and the joints where the animation puts them, beside forward kinematics."""

import json
import struct

import numpy as np
from scipy.spatial.transform import Rotation

from jaxgen.data import bvh
from jaxgen.media import glb
from tests.data.test_motion import FILE


def test_the_animation_puts_the_joints_where_they_are():
    motion = bvh.parse(FILE).motion
    data = glb.glb_of(motion, 0.1)
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    tree, start = json.loads(data[20 : 20 + size]), 20 + size
    size, kind = struct.unpack_from("<I4s", data, start)
    assert kind == b"BIN\0" and size == tree["buffers"][0]["byteLength"] == len(data) - start - 8
    binary = data[start + 8 :]

    def values(number: int) -> np.ndarray:
        accessor = tree["accessors"][number]
        view = tree["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        dtype = {5126: np.float32, 5123: np.uint16}[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0 and view["byteLength"] == accessor["count"] * width * dtype().nbytes
        found = np.frombuffer(binary, dtype, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
        if "min" in accessor:
            np.testing.assert_array_equal(found.min(0), np.float32(accessor["min"]))
            np.testing.assert_array_equal(found.max(0), np.float32(accessor["max"]))
        return found

    (animation,) = tree["animations"]
    moved = {}
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        np.testing.assert_allclose(values(sampler["input"])[:, 0], [0, 0.04], rtol=1e-6)
        moved[channel["target"]["node"], channel["target"]["path"]] = values(sampler["output"])
    places = {}

    def walk(node: int, place: np.ndarray, turn: Rotation):
        about, frames = tree["nodes"][node], len(motion)
        shift = moved.get((node, "translation"), np.tile(about.get("translation", [0, 0, 0]), (frames, 1)))
        place = place + turn.apply(shift)
        turn = turn * Rotation.from_quat(moved.get((node, "rotation"), np.tile([0, 0, 0, 1.0], (frames, 1))))
        places[about["name"]] = place
        for child in about.get("children", []):
            walk(child, place, turn)

    walk(tree["scenes"][0]["nodes"][0], np.zeros((2, 3)), Rotation.identity(2))
    for joint, name in enumerate(motion.skeleton.names):
        np.testing.assert_allclose(places[name], 0.1 * motion.places()[:, joint], atol=1e-5)
    bones = [node for node in tree["nodes"] if "mesh" in node]
    assert len(bones) == 3 and all(np.isclose(np.linalg.norm(node["rotation"]), 1) for node in bones)
    assert values(tree["meshes"][0]["primitives"][0]["indices"]).max() == 7
    assert glb.metres(motion) == 0.1
