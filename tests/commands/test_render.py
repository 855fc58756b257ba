"""python -m jaxgen render, of scene files."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from jaxgen.media.radiance import exr, tone_mapped

LIGHT = {"kind": "sphere", "center": [0, 0, 0], "radius": 1, "material": "m", "emission": 1}
FLAT = {"kind": "mesh", "vertices": [[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], "material": "m"}
SCENE = {
    "camera": {"origin": [0, 0, 4], "target": [0, 0, 0], "width": 8, "height": 6},
    "materials": {"m": {"kind": "lambert", "albedo": 0.5}, "g": {"kind": "dielectric"}},
    "shapes": [LIGHT],
}
WRONG = {
    "no light": ({"shapes": [{**LIGHT, "emission": 0}]}, "has no light"),
    "no shapes": ({"shapes": []}, "has no shapes"),
    "negative": ({"materials": {"m": {"kind": "lambert", "albedo": [0.5, -0.1, 0]}}}, "albedo must be from 0 to 1"),
    "missing": ({"materials": {"m": {"kind": "lambert"}}}, "lacks albedo"),
    "kind": ({"materials": {"m": {"kind": "lamber", "albedo": 1}}}, "did you mean 'lambert'?"),
    "flat": ({"shapes": [LIGHT, {**FLAT, "faces": [[0, 1, 3], [0, 1, 2]]}]}, "triangle 2 has no area"),
    "faces": ({"shapes": [LIGHT, {**FLAT, "faces": [[0, 1, 9]]}]}, "faces must be from 0 to 3, not 9"),
    "open": ({"shapes": [LIGHT, {**FLAT, "faces": [[0, 1, 3]], "material": "g"}]}, "this mesh is open"),
    "matrix": ({"shapes": [{**FLAT, "faces": [[0, 1, 3]], "matrix": np.zeros((4, 4)).tolist()}]}, "must be invertible"),
    "nan": ({"shapes": [{**LIGHT, "radius": float("nan")}]}, "radius must be one finite numbers"),
    "huge": ({"environment": 10**400}, "environment must be 3 finite numbers"),
    "up": ({"camera": {**SCENE["camera"], "up": [0, 0, 1]}}, "not in the direction of up"),
    "typo": ({"shape": []}, "did you mean 'shapes'?"),
    "map": ({"environment": {"file": "none.npy"}}, "can't be read as a .npy"),
}


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_are_one_sentence(what, cli, tmp_path):
    changes, words = WRONG[what]
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(SCENE | changes))
    printed = cli(2, "render", path, "--out", tmp_path / "x.png")
    assert words in printed and not (tmp_path / "x.png").exists()


def test_files_that_are_no_scene(cli, tmp_path):
    path = tmp_path / "scene.json"
    assert "can't be read" in cli(2, "render", path, "--out", tmp_path / "x.png")
    path.write_text("{")
    assert "is no JSON" in cli(2, "render", path, "--out", tmp_path / "x.png")
    assert "--out must end in" in cli(2, "render", path, "--out", tmp_path / "x.gif")
    assert "size must be" in cli(2, "render", "cornell", "--size", "9", "--out", tmp_path / "x.png")


def test_a_scene_becomes_the_same_image_in_every_format(cli, tmp_path):
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(SCENE))
    more = ("--samples", 4, "--depth", 2, "--exposure", -1)
    for name in ("x.npy", "x.png", "x.exr"):
        assert "8 x 6, 4 paths a pixel" in cli(0, "render", path, "--out", tmp_path / name, *more)
    light = np.load(tmp_path / "x.npy")
    assert light.shape == (6, 8, 3) and light[3, 4] == pytest.approx(1) and light[0, 0] == pytest.approx(0)
    assert (np.asarray(Image.open(tmp_path / "x.png")) == tone_mapped(light, "clip", -1)).all()
    assert (tmp_path / "x.exr").read_bytes() == exr(light)


def test_an_exr_has_the_layout_of_its_specification():
    light = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    data = exr(light)
    assert struct.unpack("<ii", data[:8]) == (20000630, 2)
    second = struct.unpack("<Q", data[-2 * 56 - 8 : -2 * 56])[0]  # offset of the last line
    y, size = struct.unpack("<ii", data[second : second + 8])
    assert (y, size) == (1, 48) and len(data) == second + 8 + size
    blue = np.frombuffer(data[second + 8 : second + 24], "<f4")
    assert (blue == light[1, :, 2]).all()


def test_tone_mapping_keeps_black_and_the_order_of_greys():
    grey = np.repeat(np.array([0, 0.18, 0.5, 1, 4, 1e6])[:, None], 3, 1)
    for tone in ("clip", "reinhard", "filmic"):
        found = tone_mapped(grey, tone)[:, 0].astype(int)
        assert found[0] == 0 and found[-1] >= 254 and (np.diff(found) >= 0).all()
    assert tone_mapped(grey)[1, 0] == 118 and tone_mapped(grey, exposure=-1)[3, 0] == tone_mapped(grey)[2, 0]
