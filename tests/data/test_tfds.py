"""TensorFlow Datasets: names, slices, damaged files, and MNIST against its idx files."""

import collections
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.data import batches, open_source, prepare
from tests.helpers.data_samples import REAL, as_unit, message, opened, real, refuse
from tests.helpers.data_samples import own_cache as own_cache  # for every test here


def test_invalid_tfds_names_are_refused(tmp_path, capfd):
    folder = {"dir": str(tmp_path)}
    refuse("tfds:mnits", "'mnits'", "did you mean 'mnist'", **folder)
    refuse(
        "tfds:cifar10", "'cifar10'", "jaxgen[prepare]", f"python -m jaxgen prepare cifar10 --dir {tmp_path}", **folder
    )
    refuse("tfds:coco", "'coco'", "jaxgen[prepare]", "python -m jaxgen prepare coco", **folder)
    refuse("tfds:mnist", "There is no folder", tmp_path / "nowhere", dir=str(tmp_path / "nowhere"))
    refuse("tfds:huggingface:mnist", "huggingface:mnist", **folder)
    refuse("tfds:mnist:9.9.9", "9.9.9", **folder)
    assert capfd.readouterr() == ("", "")


def test_prepare_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message(lambda: prepare("mnist"), "TensorFlow", "pip install 'jaxgen[prepare]'")


def digests(source):
    return collections.Counter(
        (hashlib.sha256(example["image"].tobytes()).digest(), example["label"])
        for start in range(0, len(source), 1000)
        for example in read(source, range(start, min(start + 1000, len(source))))
    )


def read(source, indices):
    several = getattr(source, "__getitems__", None)
    return several(list(indices)) if several else [source[i] for i in indices]


def test_attributes_are_integers_under_their_names(tmp_path):
    """A set with the features of CelebA and two of its forty attributes."""
    code = """
import tensorflow_datasets as tfds, numpy as np, pathlib, sys
from PIL import Image
root = pathlib.Path(sys.argv[1])
class Faces(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = root
    def _info(self):
        attributes = {"Male": np.bool_, "Young": np.bool_}
        image = tfds.features.Image(shape=(6, 4, 3))
        landmarks = {"nose_x": np.int64}
        features = {"image": image, "attributes": attributes, "landmarks": landmarks}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))
    def _split_generators(self, manager):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(12):
            path = root / f"{i}.png"
            Image.fromarray(np.full((6, 4, 3), i, np.uint8)).save(path)
            attributes = {"Male": i % 2 == 0, "Young": i % 3 == 0}
            yield i, {"image": str(path), "attributes": attributes, "landmarks": {"nose_x": 7}}
Faces(data_dir=str(root), file_format="array_record").download_and_prepare(file_format="array_record")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, timeout=120)
    data = Data("tfds:faces", dir=str(tmp_path))
    source = open_source(data)
    assert len(source) == 12 and source.classes == () and sorted(source[0]) == ["Male", "Young", "image"]
    for example in (source[i] for i in range(12)):
        number = int(example["image"][0, 0, 0])
        assert (example["Male"], example["Young"]) == (number % 2 == 0, number % 3 == 0)
    [batch] = batches(source, data, (6, 4, 3), batch=12, seed=0, train=False)
    assert batch["Male"].tolist() == [source[i]["Male"] for i in range(12)] and batch["Male"].dtype == np.int32


@pytest.mark.slow
@real
def test_mnist_from_tfds_equals_idx():
    idx = opened(f"idx:{REAL}/mnist")
    assert len(idx) == 60_000 and idx[0]["label"] == 5 and idx.classes == tuple("0123456789")
    assert [idx[i]["label"] for i in range(10)] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert abs(np.mean(idx.images) / 255 - 0.1307) < 1e-4 and abs(np.std(idx.images / 255) - 0.3081) < 1e-4
    tfds = opened("tfds:mnist", dir=f"{REAL}/tfds")
    assert len(tfds) == 60_000 and tfds.classes == idx.classes
    assert digests(tfds) == digests(idx)
    test = [opened(s, dir=f"{REAL}/tfds", split="test") for s in (f"idx:{REAL}/mnist", "tfds:mnist")]
    assert [len(source) for source in test] == [10_000, 10_000] and test[0][0]["label"] == 7


@real
def test_tfds_batches_and_slices(capfd):
    data = Data(source="tfds:mnist", dir=f"{REAL}/tfds", split="train[:1%]")
    source = open_source(data)
    assert len(source) == 600
    found = list(batches(source, data, (32, 32, 3), batch=256, seed=0, train=False))
    assert [len(batch["label"]) for batch in found] == [256, 256, 88]
    assert found[0]["label"].tolist() == [source[i]["label"] for i in range(256)]
    resized = Image.fromarray(source[3]["image"][..., 0]).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(found[0]["image"][3], np.repeat(as_unit(resized)[..., None], 3, 2))
    assert capfd.readouterr() == ("", "")  # no advice, no progress
    for split in ("validation", "train[", "tset", "train[5:5]", "train[5:3]"):
        refuse("tfds:mnist", repr(split), "train, test", dir=data.dir, split=split)


@real
def test_a_new_process_reads_tfds_without_output():
    code = """
from jaxgen.core.config import Data
from jaxgen.data import batches, open_source, to_device
data = Data(source="tfds:mnist", dir=DIR, split="test")
next(to_device(batches(open_source(data), data, (32, 32, 1), batch=8, seed=0), lambda batch: batch, 2))
""".replace("DIR", repr(f"{REAL}/tfds"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@real
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_tfds_set_is_refused_at_once(tmp_path, damage):
    shutil.copytree(f"{REAL}/tfds/mnist/3.0.1", tmp_path / "mnist" / "3.0.1", copy_function=shutil.copyfile)
    file = tmp_path / "mnist" / "3.0.1" / "mnist-test.array_record-00000-of-00001"
    file.unlink() if damage == "missing" else os.truncate(file, file.stat().st_size // 2)
    refuse("tfds:mnist", "Example 0", "cannot be read", dir=str(tmp_path), split="test")
