"""Classes: one number for each name, in all splits of a set, in later sets, and wherever a user names one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxgen.commands.score import anomalous
from jaxgen.core.capabilities import Transform
from jaxgen.core.class_names import class_number, class_numbers, ordered
from jaxgen.core.config import Data, Run
from jaxgen.data import Subset, open_source, with_classes
from jaxgen.inference.image_translation import number_of
from jaxgen.inference.previews import directions
from jaxgen.inference.sampling import classes_of
from jaxgen.interop.programs import signature
from jaxgen.models.classifier import lenet
from jaxgen.models.translation.stargan import StarGAN
from jaxgen.runs.config_io import differences, from_json, named, to_json
from tests.data.test_idx_npz import write_idx
from tests.helpers.data_samples import equal_example, message, refuse, tree
from tests.helpers.data_samples import own_cache as own_cache  # for every test here

PETS = ("cat", "dog", "owl")


def labels(data: Data) -> list[int]:
    source = open_source(data)
    return [source[i]["label"] for i in range(len(source))]


def pets(root):
    """Return a folder whose test split lacks the first class, and whose training split lacks the last."""
    return tree(root, ["train/cat/1.png", "train/dog/2.png", "test/dog/3.png", "test/owl/4.png"])


@pytest.mark.parametrize("zipped", [False, True])
def test_all_splits_of_a_folder_number_the_classes_together(tmp_path, zipped):
    root = pets(tmp_path / "set")
    if zipped:
        root = shutil.make_archive(str(root), "zip", root)
    data = Data(f"folder:{root}")
    assert open_source(data).classes == open_source(data.at("test")).classes == PETS
    assert labels(data) == [0, 1] and labels(data.at("test")) == [1, 2]
    flat = tree(tmp_path / "flat", ["train/images/a/1.png", "train/images/b/2.png", "test/images/3.png"])
    assert open_source(Data(f"folder:{flat}")).classes == ("a", "b")
    assert open_source(Data(f"folder:{flat}", split="test")).classes == (), "a split without labels"


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    root = tree(tmp_path / "set", [f"{i}/1.png" for i in (*range(12), 100)])
    assert open_source(Data(f"folder:{root}")).classes == tuple(map(str, (*range(12), 100)))
    assert ordered(["b10", "10", "b9", "9", "010", "-1"]) == ("-1", "9", "010", "10", "b10", "b9")
    assert ordered(["9" * 5000, "1"]) == ("1", "9" * 5000), "a number that is too long is a text"


def test_all_splits_of_arrays_number_the_classes_together(tmp_path):
    images = np.full((3, 4, 4), 9, np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=[0, 1, 4], x_test=images, y_test=[5, 1, 0])
    for split in ("train", "test"):
        assert open_source(Data(f"npz:{tmp_path}/set.npz", split=split)).classes == tuple("012345")
    for start, values in (("train", [0, 1, 4]), ("t10k", [5, 1, 0])):
        write_idx(tmp_path / f"{start}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{start}-labels-idx1-ubyte.gz", np.array(values, np.uint8))
    for path in (tmp_path, tmp_path / "train-images-idx3-ubyte.gz"):
        for split, known in (("train", [0, 1, 4]), ("test", [5, 1, 0])):
            assert open_source(Data(f"idx:{path}", split=split)).classes == tuple("012345")
            assert labels(Data(f"idx:{path}", split=split)) == known


def test_a_later_set_has_the_numbers_of_the_run(tmp_path):
    root = tree(tmp_path / "set", ["dog/1.png", "owl/2.png"])
    images = np.stack([np.full((4, 4), 9, np.uint8)] * 2)
    np.savez(tmp_path / "set.npz", image=images, label=[0, 1], classes=["owl", "dog"])
    for source, own, wanted in ((f"folder:{root}", [0, 1], [1, 2]), (f"npz:{tmp_path}/set.npz", [0, 1], [2, 1])):
        data = Data(source)
        assert labels(data) == own and labels(replace(data, classes=PETS)) == wanted
        found: Any = open_source(replace(data, classes=PETS))
        assert found.classes == PETS and list(found.labels) == wanted
        assert np.array_equal(found[0]["image"], open_source(data)[0]["image"])
        assert labels(replace(data, classes=PETS, only="dog")) == labels(replace(data, classes=PETS, only="1")) == [1]
        refuse(source, source, "has the classes dog", "the run's classes are cat, owl", classes=("cat", "owl"))
    part: Any = Subset(open_source(Data(f"folder:{root}", classes=PETS)), [1])
    assert list(part.labels) == [2] and part[0]["label"] == part.pil_example(0)["label"] == 2
    assert part.names == ["owl/2.png"]
    digits = open_source(Data("digits", classes=tuple("9876543210")))
    assert equal_example(digits[3], {**open_source(Data("digits"))[3], "label": 6})


def test_a_class_is_named_or_numbered():
    assert class_numbers("owl,cat", PETS, "labels") == class_numbers("2, 0", PETS, "labels") == (2, 0)
    assert class_numbers("1-2", PETS, "labels") == (1, 2)
    assert class_numbers("a-b,c", ("a-b", "a-b,c"), "labels") == (1,) and class_numbers("a-b", ("a-b",), "x") == (0,)
    assert class_numbers("4", PETS, "labels", 9) == (4,), "a model can have more classes than its data"
    letters = ("1", "2", "10")
    assert class_numbers("10", letters, "labels") == (2,) and class_numbers("1-2", letters, "labels") == (0, 1)
    assert class_numbers("0-3", tuple("0123"), "labels") == (0, 1, 2, 3)
    message(lambda: class_numbers("cow", PETS, "labels"), "Unknown class 'cow': did you mean 'owl'?")
    message(lambda: class_numbers("3", PETS, "Labels"), "Labels must be from 0 to 2, not 3.")
    message(lambda: class_numbers("0", letters, "labels"), "Unknown class '0': did you mean '10'?")
    message(lambda: class_number("cat,dog", PETS, "The domain"), "The domain must be one class, not 'cat,dog'.")
    source = open_source(Data("digits"))
    assert np.array_equal(anomalous(source, "9"), [x == 9 for x in labels(Data("digits"))])


def test_a_run_saves_the_names_of_its_classes(tmp_path):
    model = lenet.LeNet5(classes=3)
    example, data = model.task(1).example, Data(f"folder:{pets(tmp_path / 'set')}")
    run = Run(model, "lenet5", data=with_classes(data, open_source(data, example), example))
    assert run.data.classes == PETS and from_json(to_json(run)).data.classes == PETS
    assert json.loads(to_json(run))["data"]["classes"] == list(PETS)
    more = replace(run, data=replace(run.data, classes=(*PETS, "pig")))
    assert "data.classes" in differences(run, more)[0] and "pig" in differences(run, more)[0]
    assert not differences(replace(run, data=data), run), "a run of an older version has saved none"
    without = {"image": example["image"]}
    assert not with_classes(data, open_source(data), without).classes, "a model without labels depends on no name"
    assert with_classes(replace(data, only="dog"), open_source(data), without).classes == PETS


def test_a_resumed_run_refuses_other_classes(tmp_path, cli):
    args = ["train.classifier", "--preset", "lenet5", "--tiny", "--model.classes", 4, "--out", tmp_path / "run"]
    (tmp_path / "run").mkdir()
    root = tree(tmp_path / "set", [f"{name}/{i}.png" for name in (*PETS, "pig") for i in range(2)])
    args += ["--data.source", f"folder:{root}", "--mesh.data", 1, "--batch", 2]
    printed = cli(0, *args, "--dry-run")
    assert "classes" in printed
    from jaxgen.commands.parse import parse

    run: Any = parse("classifier", [str(x) for x in args[1:]]).run
    (tmp_path / "run/config.json").write_text(to_json(replace(run, data=replace(run.data, classes=PETS))))
    printed = cli(2, *args)
    assert "data.classes: ('cat', 'dog', 'owl') -> ('cat', 'dog', 'owl', 'pig')" in printed


def test_a_model_knows_the_names_of_its_run():
    model = StarGAN(image=(16, 16, 3), classes=3, downsamplings=2)
    run = Run(model, data=Data(classes=PETS))
    bare, task = model.task(1), named(model.task(1), run)
    assert task.example["label"].names == PETS
    pets, image = named(lenet.LeNet5(classes=3).task(1), run), SimpleNamespace(dtype=np.float32, shape=(1, 28, 28, 1))
    program: Any = SimpleNamespace(platforms=("cpu",), in_avals=[image], out_avals=[])
    assert signature(pets, program, "classify", Path("a.stablehlo"))["classes"] == list(PETS)
    to = task.get(Transform).inputs["to"]
    assert [number_of(to, name) for name in (*PETS, "1")] == [0, 1, 2, 1]
    assert number_of(bare.get(Transform).inputs["to"], "2") == 2
    message(lambda: number_of(to, None), "translates into 3 domains: write --to cat or dog or owl.")
    message(lambda: number_of(to, "pig"), "Unknown domain 'pig': choose one of cat, dog, owl.")
    assert directions(task, {"image": np.zeros((2, 1)), "label": np.array([0, 2])})[2].tolist() == [1, 0]
    faces = named(StarGAN((16, 16, 3), attributes=("Male", "Young"), downsamplings=2).task(1), run)
    assert number_of(faces.get(Transform).inputs["to"], "Young") == 1


def test_samples_are_conditioned_on_names(monkeypatch, tmp_path):
    from jaxgen import zoo
    from jaxgen.runs import config_io

    preset = zoo.load("cgan").tiny
    run = replace(preset, data=replace(preset.data, classes=tuple(f"digit {i}" for i in range(10))))
    task = named(run.model.task(1), run)
    assert classes_of(task, "digit 3,digit 1") == classes_of(task, "3,1") == (3, 1)
    assert classes_of(task, None) == tuple(range(10))
    message(lambda: classes_of(task, "digit 12"), "Unknown class 'digit 12'")
    # A guide, teacher or classifier must mean the same classes.
    guided = replace(run, model=SimpleNamespace(sampling=SimpleNamespace(classifier="runs/other")))
    monkeypatch.setattr(config_io, "load_config", lambda folder: replace(preset, data=Data(classes=PETS)))
    message(
        lambda: config_io.check_names(guided), "The classes of runs/other are cat, dog, owl, those of this run digit"
    )
    assert config_io.check_names(replace(guided, data=Data())) == PETS
