"""Folders and zip files of images: classes, splits, corrupt files, and the cache of decode results."""

import os
import pathlib
import shutil
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.core import memory
from jaxgen.core.cache import cache_folder
from jaxgen.core.config import Data
from jaxgen.core.spec import image_spec
from jaxgen.data import batches, decode_check, open_source
from jaxgen.data.image_decoding import decode
from jaxgen.data.image_folders import files_in
from jaxgen.media.photo import find
from tests.helpers.data_samples import REAL, encoded, equal_example, opened, real, refuse, sample_image, tree
from tests.helpers.data_samples import own_cache as own_cache  # for every test here


@pytest.mark.parametrize("zipped", [False, True])
def test_folder_of_classes(tmp_path, zipped):
    files = ["b/1.png", "b/deeper/2.PNG", "a/3.png", "a/.hidden.png", ".git/4.png", "a/notes.txt", "c/5.png"]
    root = tree(
        tmp_path / "set", dict.fromkeys(files) | {"a/notes.txt": b"hello"} | {"c/5.png": encoded(sample_image(9))}
    )
    if zipped:
        shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "set")  # the single folder "set/" is entered
        root = tmp_path / "set.zip"
    source = open_source(Data(source=f"folder:{root}"))
    assert source.classes == ("a", "b", "c") and len(source) == 4
    assert [source[i]["label"] for i in range(4)] == [0, 1, 1, 2]
    assert np.array_equal(source[3]["image"], np.asarray(sample_image(9)))


def test_folder_without_classes_and_with_splits(tmp_path):
    flat = open_source(Data(source=f"folder:{tree(tmp_path / 'flat', dict.fromkeys(['1.png', '2.png']))}"))
    assert flat.classes == () and len(flat) == 2 and "label" not in flat[0]
    one = open_source(Data(source=f"folder:{tree(tmp_path / 'one', dict.fromkeys(['cat/1.png']))}"))
    assert one.classes == ("cat",) and one[0]["label"] == 0
    data = Data(source=f"folder:{tree(tmp_path / 'mixed', dict.fromkeys(['1.png', 'a/2.png']))}")
    refuse(data.source, "mixed", "1.png beside the folders a: move it into one of them")
    mixed = open_source(data, {"image": image_spec((8, 8, 3))})  # no class is missed
    assert mixed.classes == () and len(mixed) == 2
    root = tree(tmp_path / "split", dict.fromkeys(["train/a/1.png", "train/b/2.png", "test/a/3.png"]))
    assert [len(open_source(Data(source=f"folder:{root}", split=split))) for split in ("train", "test")] == [2, 1]
    refuse(f"folder:{root}", "split", "'val'", "test", split="val")
    refuse(f"folder:{tmp_path / 'flat'}", "flat", "'test'", split="test")


def test_folder_follows_links_without_loops(tmp_path):
    root = tree(tmp_path / "set", dict.fromkeys(["a/1.png", "b/2.png"]))
    (root / "c").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "lost.png").symlink_to(root / "nothing.png")
    refuse(f"folder:{root}", "lost.png", "No such file")
    (root / "b" / "lost.png").unlink()
    assert open_source(Data(source=f"folder:{root}")).classes == ("a", "b", "c")


@pytest.mark.parametrize("names", ["Train Test", "Training Testing", "train dev", "TRAIN Validation", "train val test"])
def test_splits_have_many_names(tmp_path, names):
    found = names.split()
    root = tree(tmp_path / "set", [f"{split}/{name}/{i}.png" for i, split in enumerate(found) for name in "ab"])
    for i, split in enumerate(found):
        for word in (split, split.lower(), {"dev": "val", "Validation": "val", "Testing": "test"}.get(split, split)):
            source = opened(f"folder:{root}", split=word)
            assert source.names == [f"{split}/a/{i}.png", f"{split}/b/{i}.png"] and source.classes == ("a", "b")
    assert len(opened(f"folder:{root}", split="all")) == 2 * len(found)


def test_splits_beside_anything_else_are_refused(tmp_path):
    def bad(*parts, files):
        refuse(f"folder:{tree(tmp_path / str(len(list(tmp_path.iterdir()))), files)}", *parts)

    splits = ["train/a/1.png", "val/a/2.png", "test/a/3.png"]
    bad("has unlabeled beside the splits test, train, val", files=[*splits, "unlabeled/4.png"])
    bad("has preview.png beside the splits test, train, val", files=[*splits, "preview.png"])
    bad("has bus beside the splits train", "If these are classes", files=["train/1.png", "bus/2.png"])
    bad("dev, train, val, and two of them are the same split", files=["train/1.png", "val/2.png", "dev/3.png"])
    bad("splits inside of the folder a", files=["a/train/1.png", "a/test/2.png", "b/train/3.png"])
    bad("preview.png beside the folders a, b", files=["a/1.png", "b/2.png", "preview.png"])
    root = tree(tmp_path / "vehicles", ["train/train/1.png", "train/bus/2.png"])
    assert opened(f"folder:{root}").classes == ("bus", "train"), "a class can have the name of a split"


def test_folders_are_read_alike_by_training_and_commands(tmp_path, capsys):
    root = tree(
        tmp_path / "set", ["a/1.png", "a/2.PNG", "b/x.png/3.png", ".hidden/4.png", "a/.ipynb_checkpoints/1.png"]
    )
    tree(tmp_path / "more", ["5.png"])
    (root / "c").symlink_to(tmp_path / "more")
    (root / "a" / "up").symlink_to(root)
    wanted = ["a/1.png", "a/2.PNG", "b/x.png/3.png", "c/5.png"]
    assert opened(f"folder:{root}").names == wanted
    assert f"{root}/a/up links to a folder above it and is left out." in capsys.readouterr().err
    assert [str(path.relative_to(root)) for path in find(root)] == wanted
    os.mkfifo(root / "a" / "pipe.png")
    refuse(f"folder:{root}", root / "a" / "pipe.png", "it is not a regular file")


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def test_names_in_a_zip(tmp_path):
    image = encoded(sample_image())
    path = zipped(tmp_path / "set.zip", {"set\\a\\1.png": image, "set\\b\\2.png": image})
    source = opened(f"folder:{path}")
    assert source.classes == ("a", "b") and [source[i]["label"] for i in range(2)] == [0, 1]
    for name in ("/etc/1.png", "../1.png", "a\\..\\..\\1.png", "C:\\1.png"):
        refuse(f"folder:{zipped(path, {'a/1.png': image, name: image})}", path, "a path outside the archive")


def test_a_decompression_bomb_in_a_zip_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 10_000)
    path = zipped(tmp_path / "set.zip", {"a/1.png": encoded(sample_image()), "a/2.png": bytes(1_000_000)})
    refuse(f"folder:{path}", path / "a/2.png", "it declares 1 MB in 0.00 MB, as a decompression bomb does")
    lying = path.read_bytes().replace((1_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(lying)
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):  # no more than is declared was read
        files_in(path).read("a/2.png")


def damaged():
    """Return incomplete or invalid image files by name."""
    whole = encoded(sample_image(size=(200, 200)), "JPEG")
    png = encoded(sample_image(size=(200, 200)))
    return {
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2],
        "flipped.png": png[:200] + bytes([png[200] ^ 255]) + png[201:],
        "empty.png": b"",
        "text.jpg": b"this is no image",
        "head.png": png[:20],
    }


@pytest.mark.parametrize("name", damaged())
def test_a_corrupt_image_is_named_or_skipped(tmp_path, name, capsys):
    root = tree(tmp_path / "set", {"a/1.png": None, "b/2.png": None, f"a/{name}": damaged()[name]})
    refuse(f"folder:{root}", root / "a" / name, "--data.skip-bad")
    refuse(f"folder:{root}", root / "a" / name)  # from the cache
    assert capsys.readouterr() == ("", "")
    source = open_source(Data(source=f"folder:{root}", skip_bad=True))
    assert len(source) == 2 and [source[i]["label"] for i in range(2)] == [0, 1]
    assert capsys.readouterr().err.startswith("Skipped 1 of 3 images")
    sample_image().save(root / "a" / name)  # repaired: checked again
    assert len(open_source(Data(source=f"folder:{root}"))) == 3


def test_a_corrupt_image_in_a_zip_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("a/1.png", encoded(sample_image()))
        file.writestr("a/2.png", encoded(sample_image())[:300])
    refuse(f"folder:{tmp_path / 'set.zip'}", "a/2.png", "set.zip")


def test_skipping_preserves_the_class_numbers(tmp_path):
    root = tree(tmp_path / "set", {"a/1.png": b"bad", "b/2.png": None})
    source = open_source(Data(source=f"folder:{root}", skip_bad=True))
    assert source.classes == ("a", "b") and source[0]["label"] == 1


def test_decode_results_are_cached(tmp_path, monkeypatch, cache):
    root = tree(tmp_path / "set", {f"{i}.png": None for i in range(150)} | {"bad.png": b"bad"})
    decoded = []
    look = lambda data: decoded.append(1) or decode(data)  # noqa: E731
    monkeypatch.setattr(decode_check, "decode", look)
    refuse(f"folder:{root}", "bad.png")
    assert len(decoded) == 151 and len(list(cache.rglob("*.json"))) == 1
    refuse(f"folder:{root}", "bad.png")
    assert len(decoded) == 151
    sample_image(99).save(root / "7.png")
    os.utime(root / "7.png", ns=(1, 1))
    (root / "bad.png").unlink()
    assert len(open_source(Data(source=f"folder:{root}"))) == 150 and len(decoded) == 152
    next(cache.rglob("*.json")).write_text("{damaged")
    assert len(open_source(Data(source=f"folder:{root}"))) == 150 and len(decoded) == 302
    monkeypatch.setenv("JAXGEN_CACHE", str(root / "7.png"))  # no folder can be made there
    assert len(open_source(Data(source=f"folder:{root}"))) == 150 and len(decoded) == 452


def test_the_cache_folder(monkeypatch):
    assert cache_folder() == pathlib.Path(os.environ["JAXGEN_CACHE"])
    monkeypatch.delenv("JAXGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == pathlib.Path("/somewhere/jaxgen")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == pathlib.Path.home() / ".cache" / "jaxgen"


def test_a_file_without_permission_is_not_cached_as_corrupt(tmp_path, monkeypatch):
    root = tree(tmp_path / "set", {"1.png": None, "2.png": None})
    from jaxgen.data import image_folders

    read = image_folders.DiskFiles.read

    def denied(self, name):
        if name == "2.png":
            raise PermissionError(13, "Permission denied", name)
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(image_folders.DiskFiles, "read", denied)
        refuse(f"folder:{root}", root / "2.png", "Permission denied")
    assert len(open_source(Data(source=f"folder:{root}"))) == 2


def test_invalid_folders_are_refused(tmp_path, monkeypatch):
    refuse(f"folder:{tmp_path / 'nowhere'}", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refuse(f"folder:{tmp_path / 'empty'}", tmp_path / "empty", "no image", ".png")
    (tmp_path / "file.png").write_bytes(encoded(sample_image()))
    refuse(f"folder:{tmp_path / 'file.png'}", tmp_path / "file.png", "neither a folder nor a .zip")
    refuse(f"folder:{tree(tmp_path / 'all', {'1.png': b'bad', '2.png': b'bad'})}", "None of the 2", skip_bad=True)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("jaxgen.data.image_folders.os.scandir", denied)
    refuse(f"folder:{tmp_path / 'all'}", tmp_path / "all", "Permission denied")


@real
def test_a_zip_equals_its_folder(tmp_path):
    archive = f"{REAL}/flowers128/flowers128_2000.zip"
    source = opened(f"folder:{archive}")
    assert len(source) == 2000 and source.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    folder = opened(f"folder:{tmp_path / 'flowers'}")
    assert folder.classes == source.classes and folder.labels == source.labels
    assert all(equal_example(source[i], folder[i]) for i in range(0, 2000, 97))
    theirs = Image.open(tmp_path / "flowers" / folder.names[0].removeprefix("flowers/"))
    assert np.array_equal(folder[0]["image"], np.asarray(theirs))


@real
def test_photos_of_any_size_and_mode():
    source: Any = open_source(Data(f"folder:{REAL}/photos"), {"image": image_spec((48, 64, 3))})  # without labels
    assert len(source) == 13
    found = list(batches(source, Data(), (48, 64, 3), batch=5, seed=0, train=False))
    assert [batch["image"].shape for batch in found] == [(5, 48, 64, 3), (5, 48, 64, 3), (3, 48, 64, 3)]
    pairs = opened(f"folder:{REAL}/sr/T91")
    names = [os.path.basename(name) for name in pairs.names]
    twins = [pairs[names.index(name)]["image"] for name in ("t36.png", "t65.png")]
    assert np.array_equal(*twins)  # known duplicates in T91


def test_the_first_frame_is_used_and_this_is_said(tmp_path, capsys):
    frames = [sample_image(seed) for seed in range(3)]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    pages = encoded(frames[1], "TIFF", save_all=True, append_images=frames)
    phone = encoded(frames[2], "MPO", save_all=True, append_images=frames[:1])
    root = tree(tmp_path / "set", {"a.webp": moving, "b.tif": pages, "c.jpg": phone, "d.png": None})
    said = f"2 of 4 images in {root} have several frames or pages: the first is used (such as a.webp).\n"
    for _ in range(2):  # the second time from the cache
        source = open_source(Data(source=f"folder:{root}"))
        assert capsys.readouterr().err == said
    assert [np.array_equal(source[i]["image"], np.asarray(frames[i])) for i in (0, 1)] == [True, True]
