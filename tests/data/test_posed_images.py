"""Images with cameras: transforms.json of folders and archives, missing files, and what is wrong with one."""

import json
import tarfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, image_spec
from jaxgen.data import fingerprint, open_source
from tests.helpers.scenes import posed

EXAMPLE = {"image": image_spec((8, 8, 3)), "camera": ArraySpec("camera", (5, 4))}


def opened(path, split="train", example=EXAMPLE, **more) -> Any:
    return open_source(Data(f"nerf:{path}", split=split, **more), example)


def test_every_eighth_image_is_held_out(tmp_path):
    posed(tmp_path)
    train, test = opened(tmp_path), opened(tmp_path, "test")
    assert (train.names, test.names) == ([f"{i}.png" for i in (1, 2, 3, 4, 5, 6, 7, 9)], ["0.png", "8.png"])
    example = test[1]
    focal = 0.5 / np.tan(0.4)
    assert example["camera"][3] == pytest.approx([focal, focal, 0.5, 0.5]) and example["camera"][2, 3] == 3.8
    assert example["image"].shape == (8, 8, 3) and fingerprint(test)["files"] == 2


def test_a_central_crop_moves_the_centre_and_the_focal_length(tmp_path):
    """Of an image of 8 x 8 the middle half of the height is left: fy and cy are parts of that."""
    lens = {"fl_x": 10, "fl_y": 12, "cx": 4, "cy": 5, "w": 8, "h": 8, "k1": 0.1, "p2": 0.2}
    posed(tmp_path, **lens)
    wide = EXAMPLE | {"image": image_spec((4, 8, 3))}
    row, distortion = opened(tmp_path, example=wide)[0]["camera"][3:]
    assert row == pytest.approx([10 / 8, 12 / 4, 4 / 8, 3 / 4]) and distortion == pytest.approx([0.1, 0, 0, 0.2])
    assert opened(tmp_path, example=wide, crop="none")[0]["camera"][3] == pytest.approx([10 / 8, 12 / 8, 0.5, 5 / 8])


def test_missing_images_are_left_out_and_counted(tmp_path, capsys):
    posed(tmp_path)
    (tmp_path / "3.png").unlink()
    assert len(opened(tmp_path)) == 7
    assert "1 of the 8 images" in capsys.readouterr().err


def test_an_archive_is_the_same_as_its_folder(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    posed(folder)
    with tarfile.open(tmp_path / "scene.tar", "w") as tar:
        tar.add(folder, "scene")
    packed, plain = opened(tmp_path / "scene.tar"), opened(folder)
    assert packed.names == plain.names and (packed[2]["image"] == plain[2]["image"]).all()


def test_transparent_images_lie_on_white(tmp_path):
    posed(tmp_path)
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[0, 0] = [10, 20, 30, 255]
    for number in range(10):
        Image.fromarray(clear).save(tmp_path / f"{number}.png")
    image = opened(tmp_path)[0]["image"]
    assert image[0, 0].tolist() == [10, 20, 30] and (image[1:] == 255).all()


WRONG = {
    "singular": ({"transform_matrix": np.zeros((4, 4)).tolist()}, "it is singular"),
    "nan": ({"transform_matrix": [[float("nan")] * 4] * 4}, "4 x 4 finite numbers"),
    "shape": ({"transform_matrix": [[1, 2], [3, 4]]}, "4 x 4 finite numbers"),
    "no path": ({"file_path": ""}, "has no file_path"),
    "focal": ({"fl_x": 0}, "focal lengths must be above 0"),
    "size": ({"w": 16, "h": 8}, "and its image of 8x8"),
    "huge": ({"cx": 10**400}, "cx must be a finite number"),
    "lens": ({"k1": "x"}, "k1 must be a finite number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_frames_that_cannot_be_right(what, tmp_path):
    values = posed(tmp_path)
    changes, words = WRONG[what]
    values["frames"][2] |= changes
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=words):
        opened(tmp_path)


def test_folders_that_hold_no_scene(tmp_path):
    with pytest.raises(InputError, match=r"has no transforms\.json"):
        opened(tmp_path)
    values = posed(tmp_path)
    with pytest.raises(InputError, match="Unknown split"):
        opened(tmp_path, "val")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "4.png")
    with pytest.raises(InputError, match=r"4\.png is 9x9, others are 8x8"):
        opened(tmp_path)
    (tmp_path / "transforms.json").write_text(json.dumps(values | {"frames": []}))
    with pytest.raises(InputError, match="has no frames"):
        opened(tmp_path)
    for number in range(10):
        (tmp_path / f"{number}.png").unlink()
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="None of the 8 images"):
        opened(tmp_path)


def test_the_fox_is_read_without_its_missing_files(real_data, capsys):
    """Instant-NGP's photographs at a quarter of their size: 17 of the 67 that its list names are missing."""
    fox = opened(real_data / "nerf" / "fox_quarter.tar", "all")
    assert len(fox) == 50 and "17 of the 67 images" in capsys.readouterr().err
    camera = fox[0]["camera"]
    assert camera[4] == pytest.approx([0.0578421, -0.0805099, -0.000980296, 0.00015575])
