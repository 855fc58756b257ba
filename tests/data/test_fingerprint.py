"""A run notices that its data have changed."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.core.config import Data
from jaxgen.data.fingerprint import difference, fingerprint


@pytest.fixture
def folder(tmp_path):
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), len(name)).save(path)
    return tmp_path / "set"


def of(source: str, **settings):
    return fingerprint(data.open_source(Data(source, **settings)))


def test_names_sizes_and_counts_of_files_are_noticed_and_times_are_not(folder, tmp_path):
    before = of(f"folder:{folder}")
    assert (before["examples"], before["files"]) == (3, 3)
    os.utime(folder / "a/0.png", (0, 0))
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert of(f"folder:{folder}") == before == of(f"folder:{copy}")
    (folder / "a/0.png").rename(folder / "a/2.png")
    assert difference(before, of(f"folder:{folder}")).startswith("the names or sizes")
    Image.new("L", (9, 9)).save(copy / "b/0.png")
    assert difference(before, of(f"folder:{copy}")).startswith("the names or sizes")
    (copy / "b/0.png").unlink()
    assert difference(before, of(f"folder:{copy}")) == "3 examples then, 2 now"


def test_contents_of_arrays_are_noticed(tmp_path):
    images, labels = np.full((4, 8, 8), 200, np.uint8), np.arange(4)
    path, found = tmp_path / "set.npz", []
    for change in (lambda: None, lambda: images.__setitem__((0, 0, 0), 1), lambda: labels.__setitem__(0, 1)):
        change()
        np.savez(path, image=images, label=labels)
        found.append(of(f"npz:{path}"))
    assert len({one["digest"] for one in found}) == 3
    only = of(f"npz:{path}", only="1")
    assert only["examples"] == 2 and only["digest"] != found[-1]["digest"]


def test_sets_of_two_domains_count_on_both_sides(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    both = f"unpaired:{folder},{other}"
    before = of(both)
    Image.new("L", (9, 9)).save(other / "b/0.png")
    assert before["files"] == 6 and difference(before, of(both)).startswith("the names or sizes")
    for name in ("A", "B"):
        shutil.copytree(folder / "a", tmp_path / "pairs" / name)
    assert of(f"paired:{tmp_path / 'pairs'}")["files"] == 4


def test_images_drawn_by_rule_have_no_files():
    assert of("shapes")["files"] == 0 and not difference(of("shapes"), of("shapes"))
