"""Files of arrays, idx and npz: contents and errors."""

import gzip
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from jaxgen.core import memory
from jaxgen.core.config import Data
from jaxgen.core.spec import ArraySpec
from jaxgen.data import open_source
from tests.helpers.data_samples import REAL, message, opened, real, refuse
from tests.helpers.data_samples import own_cache as own_cache  # for every test here


def write_idx(path, array, magic=None, shape=None, keep=None):
    data = (
        bytes(magic or [0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *(shape or array.shape))
        + array.tobytes()
    )
    data = data[:keep]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(tmp_path, suffix):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{suffix}", images)
    bare = open_source(Data(source=f"idx:{tmp_path}", split="test"))
    assert bare.classes == () and "label" not in bare[0]
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{suffix}", np.array([3, 1, 0, 2, 2], np.uint8))
    for path in (tmp_path, tmp_path / f"t10k-images-idx3-ubyte{suffix}"):
        source = open_source(Data(source=f"idx:{path}", split="test"))
        assert [source[i]["label"] for i in range(5)] == [3, 1, 0, 2, 2] and source.classes == tuple("0123")
        assert np.array_equal([source[i]["image"][..., 0] for i in range(5)], images)
    refuse(f"idx:{tmp_path}", tmp_path, "'test'", "'train'", split="train")
    refuse(f"idx:{tmp_path}", "split", "'tset'", "'test'", split="tset")


def test_invalid_idx_files_are_refused(tmp_path):
    images, file = np.zeros((5, 4, 3), np.uint8), tmp_path / "train-images-idx3-ubyte"
    refuse(f"idx:{tmp_path}", tmp_path, "train-images-idx3-ubyte")
    refuse(f"idx:{tmp_path / 'nowhere'}", tmp_path / "nowhere")
    write_idx(file, images, magic=[0, 0, 13, 3])
    refuse(f"idx:{tmp_path}", file, "0x00000d03")
    write_idx(file, images, keep=40)
    refuse(f"idx:{tmp_path}", file, "60", "24")
    write_idx(file, images, shape=(2**31, 2**31, 2**31))
    refuse(f"idx:{tmp_path}", file, "holds 60")
    write_idx(file, images, keep=6)
    refuse(f"idx:{tmp_path}", file, "not an idx file")
    write_idx(file, np.zeros((0, 4, 3), np.uint8))
    refuse(f"idx:{tmp_path}", file, "0 x 4 x 3")
    file.unlink()
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    whole = (tmp_path / "train-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(whole[:-12])
    refuse(f"idx:{tmp_path}", "train-images-idx3-ubyte.gz", "cannot be read")
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    refuse(f"idx:{tmp_path}", "train-labels-idx1-ubyte", "5 images", "4 labels")


def test_npz_files(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "set.npz"
    images = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    images[0, 0, 0] = 0, 255, 1
    wanted = np.array([2, 0, 1, 1, 0, 2])
    for name, values in (
        ("image", images),
        ("x", images.astype(int)),
        ("arr_0", images / 255),
        ("images", images / 127.5 - 1),
    ):
        arrays: Any = {name: values}
        np.savez(path, **arrays, y=wanted)
        source = open_source(Data(source=f"npz:{path}"))
        assert np.array_equal([source[i]["image"] for i in range(6)], images), name
        assert [source[i]["label"] for i in range(6)] == wanted.tolist() and source.classes == ("0", "1", "2")
    np.savez(path, x_train=images[:4, ..., 0], y_train=wanted[:4, None], x_test=images[4:, ..., 0], y_test=wanted[4:])
    test = open_source(Data(source=f"npz:{path}", split="test"))
    assert test[0]["image"].shape == (4, 5, 1) and [test[i]["label"] for i in range(2)] == [0, 2]
    refuse(f"npz:{path}", "split", "'val'", "test", split="val")
    np.savez(path, image=images, label=wanted, classes=np.array(["cat", "dog", "owl", "emu"]))
    assert open_source(Data(source=f"npz:{path}")).classes == ("cat", "dog", "owl", "emu")
    np.savez(path, image=images)
    assert open_source(Data(source=f"npz:{path}")).classes == ()
    refuse(f"npz:{path}", path, "'test'", split="test")


def test_invalid_npz_files_are_refused(tmp_path):
    path, images = tmp_path / "set.npz", np.zeros((3, 4, 4), np.uint8)

    def bad(*parts, **arrays: Any):
        np.savez(path, **arrays)
        refuse(f"npz:{path}", path, *parts)

    bad("pixels", "'image'", pixels=images)
    bad("(4, 4)", image=images[0])
    bad("no image", image=images[:0])
    bad("Image 2", "not finite", image=np.array([0, 0.5, np.nan]).repeat(16).reshape(3, 4, 4))
    bad("Image 1", "not finite", image=np.array([0, np.inf, 0]).repeat(16).reshape(3, 4, 4))
    bad("0 to 200", image=np.linspace(0, 200, 48).reshape(3, 4, 4))
    bad("-1 to 255", image=np.linspace(-1, 255, 48).astype(int).reshape(3, 4, 4))
    bad("complex", image=images.astype(complex))
    bad("Label -1 of example 1", "0..2", image=images, label=np.array([0, -1, 2]))
    bad("Label 3 of example 2", "0..1", image=images, label=np.array([0, 1, 3]), classes=np.array(["a", "b"]))
    bad("(2,)", "3 images", image=images, label=np.array([0, 1]))
    bad("float64", "integers", image=images, label=np.array([0.5, 1, 2]))
    bad(
        "cannot be read as .npz: it is not an array file, or it holds Python objects.",
        image=np.array([None, 1, 2], dtype=object),
    )
    path.write_text("hello")
    refuse(f"npz:{path}", path, "cannot be read as .npz: it is not an array file, or it holds Python objects.")
    np.savez(path, image=images)
    path.write_bytes(path.read_bytes()[:100])
    refuse(f"npz:{path}", path, "cannot be read")
    path.write_bytes(b"")
    refuse(f"npz:{path}", path, "cannot be read")
    refuse(f"npz:{tmp_path}", tmp_path, "cannot be read")
    np.save(tmp_path / "one.npy", images)
    refuse(f"npz:{tmp_path / 'one.npy'}", "one.npy", "savez")


def test_levels_of_0_and_1_are_refused(tmp_path):
    path, images = tmp_path / "set.npz", np.eye(4, dtype=np.uint8)[None].repeat(3, 0)
    for values in (images, images.astype(int)):
        np.savez(path, image=values)
        refuse(f"npz:{path}", path, "integers from 0 to 1", "save it as bool, or times 255")
    np.savez(path, image=images.astype(bool))
    assert open_source(Data(f"npz:{path}"))[0]["image"].max() == 255
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    refuse(f"idx:{tmp_path}", "train-images-idx3-ubyte", "integers from 0 to 1")


def test_images_and_labels_in_two_files(tmp_path):
    """KMNIST as it is downloaded: one array in each file, and the split in their names."""
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    for split, known in (("train", [0, 3, 1, 2, 2]), ("test", [4, 0, 0, 1])):
        np.savez(tmp_path / f"kmnist-{split}-imgs.npz", images[: len(known)])
        np.savez(tmp_path / f"kmnist-{split}-labels.npz", np.array(known, np.uint8))
        data = Data(f"npz:{tmp_path}/kmnist-train-imgs.npz,{tmp_path}/kmnist-train-labels.npz")
        if split == "train":
            refuse(data.source, "has no split 'test'", split="test")
        source = opened(data.source, split=split)
        assert source.labels.tolist() == known and np.array_equal(source.images[..., 0], images[: len(known)])
    assert [opened(data.source, split=split).classes for split in ("train", "test")] == [tuple("01234")] * 2
    alone = f"npz:{tmp_path}/kmnist-test-imgs.npz,{tmp_path}/kmnist-test-labels.npz"
    assert opened(alone, split="test").labels.tolist() == [4, 0, 0, 1]
    write_idx(tmp_path / "x.idx", images)
    write_idx(tmp_path / "y, of x.idx.gz", np.array([0, 3, 1, 2, 2], np.uint8))
    assert opened(f"idx:{tmp_path}/x.idx,{tmp_path}/y, of x.idx.gz").labels.tolist() == [0, 3, 1, 2, 2]
    write_idx(tmp_path / "train-images", images)
    refuse(f"idx:{tmp_path}/train-images", "no file of the split 'test' beside", split="test")
    refuse(f"{data.source},{tmp_path}/more.npz", "There is no file", "more.npz")
    refuse(f"{data.source},{tmp_path}/x.idx", "names too many files: write npz:IMAGES,LABELS")
    np.savez(tmp_path / "words.npz", words=[1])
    refuse(f"npz:{tmp_path}/kmnist-train-imgs.npz,{tmp_path}/words.npz", "holds words: labels must be named 'label'")


def test_declared_sizes_are_checked_before_anything_is_allocated(tmp_path, monkeypatch):
    path, images = tmp_path / "set.npz", np.zeros((2, 4, 4), np.uint8)
    np.savez(path, image=images, label=[0, 2**62])
    refuse(f"npz:{path}", path, "labels up to 4611686018427387904, but only 2 different ones")
    header = (
        np.lib.format.magic(1, 0)
        + struct.pack("<H", 118)
        + repr({"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**3, 10**3)}).ljust(117).encode()
        + b"\n"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("image.npy", header + bytes(100))
    refuse(f"npz:{path}", path, "declares 1,000,000,000,000 bytes and holds at most 228")
    message(lambda: open_source(Data(f"npz:{path}"), {"image": ArraySpec("video", (1, 4, 4, 1))}), "and holds at most")
    example = {"tokens": ArraySpec("tokens", (2,), np.dtype(np.int32), count=9)}
    for values, words in (([[0, 9]], "int64 from 0 to 9"), ([[-1, 2**62]], "int64 from -1"), ([[0.5, 1]], "float64")):
        np.savez(path, tokens=values)
        message(lambda: open_source(Data(f"npz:{path}"), example), words, "the model takes integers from 0 to 8")
    (tmp_path / "set.npy").write_bytes(header)
    refuse(f"npz:{tmp_path / 'set.npy'}", "is a single .npy array")
    write_idx(tmp_path / "x.gz", images, shape=(2**16, 2**16, 2**16))
    refuse(f"idx:{tmp_path / 'x.gz'}", "x.gz cannot be read: it declares 281,475.0 GB")
    write_idx(tmp_path / "x.gz", np.full((3, 4, 4), 9, np.uint8), shape=(2, 4, 4))
    refuse(f"idx:{tmp_path / 'x.gz'}", "should hold 32 bytes of data and holds more")
    monkeypatch.setattr(memory, "SMALL", 10_000)
    np.savez_compressed(path, image=np.zeros((100, 100, 100), np.uint8))
    refuse(f"npz:{path}", path, "it declares 1 MB in 0.00 MB, as a decompression bomb does")
    write_idx(tmp_path / "x.gz", np.zeros((100, 100, 100), np.uint8))
    refuse(f"idx:{tmp_path / 'x.gz'}", "as a decompression bomb does")


@real
def test_fashion_mnist_has_its_test_split_only():
    refuse(f"idx:{REAL}/fashion_mnist", "'test'", "'train'", split="train")
    source = opened(f"idx:{REAL}/fashion_mnist", split="test")
    assert len(source) == 10_000 and np.bincount(source.labels).tolist() == [1000] * 10
    assert abs(np.mean(source.images) / 255 - 0.2868) < 1e-3
