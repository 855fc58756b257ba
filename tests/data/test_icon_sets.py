"""Files of icons in the iconify format: styles, aliases, categories, and damaged ones."""

import json
import lzma
import os

import pytest

from jaxgen.data import icon_sets
from jaxgen.data.icon_sets import read_set, read_sets, style_files
from tests.helpers.data_samples import message
from tests.helpers.icon_samples import CORNER, LEFT_RED, filled, write_set


def test_a_style_is_a_file_or_the_folder_of_a_package(tmp_path):
    write_set(tmp_path / "noto.json", {"a": LEFT_RED})
    write_set(tmp_path / "twemoji.json.xz", {"b": LEFT_RED})
    package = write_set(tmp_path / "package" / "icons.json", {"c": LEFT_RED, "d": CORNER}).parent
    (package / "info.json").write_text(json.dumps({"prefix": "openmoji"}))
    (package / "metadata.json").write_text(json.dumps({"categories": {"Food & Drink": ["c"], "Flags": ["d"]}}))
    write_set(tmp_path / "fluent" / "icons.json", {"e": LEFT_RED})
    assert list(style_files(tmp_path)) == ["fluent", "noto", "openmoji", "twemoji"]
    assert [list(read_sets(path, "")[0].icons) for path in (tmp_path / "noto.json", package)] == [["a"], ["c", "d"]]
    assert [x.style for x in read_sets(tmp_path, "twemoji, noto,twemoji")] == ["twemoji", "noto"]
    assert read_sets(package, "openmoji")[0].categories == {"c": "food-drink", "d": "flags"}
    message(lambda: read_sets(tmp_path, "nto"), "'nto'", "did you mean 'noto'")
    write_set(tmp_path / "noto.json.xz", {"a": LEFT_RED})
    message(lambda: style_files(tmp_path), "noto.json.xz", "'noto'", "remove one")
    (tmp_path / "empty").mkdir()
    message(lambda: style_files(tmp_path / "empty"), "holds no icon sets")
    message(lambda: style_files(tmp_path / "nowhere"), "no file or folder")


def test_each_icon_counts_once(tmp_path):
    icons = {"cat": LEFT_RED, "cat-face": LEFT_RED, "axe": filled("red"), "old": {"body": CORNER, "hidden": True}}
    aliases = {
        "kitten": {"parent": "cat"},
        "kitty": {"parent": "kitten"},
        "mirrored": {"parent": "kitten", "hFlip": True},
        "mirrored-again": {"parent": "mirrored", "hFlip": True},
        "of-old": {"parent": "old"},
        "of-nothing": {"parent": "nothing"},
        "loop": {"parent": "pool"},
        "pool": {"parent": "loop"},
        "damaged": ["cat"],
    }
    both = {"categories": {"cat": "Animals & Nature", "axe": "Animals Nature"}}
    found = read_set(write_set(tmp_path / "a.json", icons, aliases=aliases, **both), "a")
    assert list(found.icons) == ["axe", "cat", "mirrored", "mirrored-again"], "flipped twice it says so: another entry"
    assert found.other_names == {"cat-face": "cat", "kitten": "cat", "kitty": "cat"}
    assert found.icons["mirrored"]["hFlip"] is True and found.icons["mirrored-again"]["hFlip"] is False
    assert found.categories["mirrored"] == found.categories["axe"] == "animals-nature", "one name for both spellings"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"icons": "\xff"}', "can't decode"),
        (b"[" * 200_000, "too deep"),
        (b"[]", "no icon set"),
        (b"{}", "no icon set"),
        (b'{"icons": [1]}', "no icon set"),
        (b'{"icons": {"a": {"body": "x"}}, "aliases": 3}', "no icon set"),
        (b'{"icons": {"../a": {"body": "x"}}}', "'../a'"),
        (b'{"icons": {"a": {"body": "x", "hidden": true}}}', "no visible icon"),
    ],
)
def test_a_damaged_set_is_refused_in_one_sentence(tmp_path, content, parts):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    message(lambda: read_set(path, "bad"), str(path), parts)


def test_a_packed_set_that_ends_early_or_grows_too_large_is_refused(tmp_path, monkeypatch):
    path, data = tmp_path / "a.json.xz", write_set(tmp_path / "a.json.xz", {"a": LEFT_RED}).read_bytes()
    path.write_bytes(data[:-20])
    message(lambda: read_set(path, "a"), str(path), "ends too early")
    path.write_bytes(b"no xz at all")
    message(lambda: read_set(path, "a"), str(path), "cannot be read")
    with monkeypatch.context() as limited:
        limited.setattr(icon_sets, "LIMIT", 2**22)
        path.write_bytes(lzma.compress(b" " * 2**23, preset=0))
        assert path.stat().st_size < 10_000
        message(lambda: read_set(path, "a"), str(path), "larger than 4 MB unpacked")
        path.with_suffix("").write_bytes(b" " * 2**23)
        message(lambda: read_set(path.with_suffix(""), "a"), "larger than 4 MB")
    os.mkfifo(tmp_path / "pipe.json")
    message(lambda: read_set(tmp_path / "pipe.json", "pipe"), "not a regular file")


def test_a_set_in_which_something_is_no_object_still_opens(tmp_path):
    icons = {"a": LEFT_RED, "b": {"body": 3}, "c": 3}
    path = write_set(tmp_path / "a.json", icons, categories={"a": 3, "Flags": [["b"], 4, "c"]})
    found = read_set(path, "a")
    assert list(found.icons) == ["a", "b", "c"] and found.categories == {"c": "flags"}


BAD_BOXES = [{"width": 0}, {"height": -1}, {"width": "16"}, {"width": float("nan")}, {"width": 10**400}, {"left": 1e9}]


@pytest.mark.parametrize("box", BAD_BOXES, ids=str)
def test_a_box_that_is_none_is_a_fault_of_its_icon(box):
    with pytest.raises(ValueError, match="its box"):
        icon_sets.svg_of({"body": LEFT_RED, **icon_sets.BOX, **box}, 16, 16)
