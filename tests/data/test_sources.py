"""Digits and shapes, and invalid names of sources."""

import colorsys
from typing import Any

import numpy as np

from jaxgen.core.config import Data
from jaxgen.data import batches, open_source, shapes
from tests.helpers.data_samples import equal_example, refuse
from tests.helpers.data_samples import own_cache as own_cache  # for every test here


def test_digits_equal_scikit_learn():
    from sklearn.datasets import load_digits

    theirs: Any = load_digits()
    parts = [open_source(Data(split=split)) for split in ("train", "test")]
    assert [len(part) for part in parts] == [1500, 297] and len(open_source(Data(split="all"))) == 1797
    ours = np.concatenate([[part[i]["image"] for i in range(len(part))] for part in parts])
    assert ours.shape == (1797, 8, 8, 1) and ours.dtype == np.uint8
    assert np.array_equal(np.round(ours[..., 0] / 255 * 16), theirs["images"])
    assert [part[i]["label"] for part in parts for i in range(len(part))] == theirs["target"].tolist()
    assert parts[0].classes == tuple("0123456789") and ours.min() == 0 and ours.max() == 255


def test_shapes_are_functions_of_their_factors():
    source = open_source(Data(source="shapes"), (32, 48, 3))
    assert (
        len(source) == 60_000
        and source.classes == shapes.SHAPES
        and len(open_source(Data("shapes", split="test"))) == 10_000
    )
    examples = [source[i] for i in range(400)]
    assert examples[0]["image"].shape == (32, 48, 3)
    assert equal_example(source[123], open_source(Data(source="shapes"), (32, 48, 3))[123])
    assert not np.array_equal(source[0]["factors"], open_source(Data(source="shapes", split="test"))[0]["factors"])
    factors = np.stack([example["factors"] for example in examples])
    assert factors.dtype == np.float32 and factors.min() >= 0 and factors.max() < 1
    np.testing.assert_allclose(factors.mean(0), 0.5, atol=5 * np.sqrt(1 / 12 / 400))
    assert [example["label"] for example in examples[:9]] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    for example in examples[::8]:  # circles: colour, centre and area follow the factors
        hue, size, x, y, _ = example["factors"].astype(float)
        inside, radius = coverage(example["image"]), (1 + size) / 6 * 32
        rows, columns = np.mgrid[0:32, 0:48] + 0.5
        assert abs((inside * columns).sum() / inside.sum() - (radius + x * (48 - 2 * radius))) < 0.1
        assert abs((inside * rows).sum() / inside.sum() - (radius + y * (32 - 2 * radius))) < 0.1
        assert abs(inside.sum() / (np.pi * radius**2) - 1) < 0.03
        red, green, blue = example["image"][inside == 1].mean(0) / 255
        seen = colorsys.rgb_to_hls(red, green, blue)[0]
        assert min(abs(seen - hue), 1 - abs(seen - hue)) < 0.01


def coverage(image):
    """Return the coverage of each pixel by the shape; the corner is always background."""
    difference = np.abs(image.astype(float) - image[0, 0]).sum(2)
    return difference / difference.max()


def test_shapes_rotate_and_stay_inside_the_image():
    middle = np.array([0.1, 0.5, 0.5, 0.5, 0], np.float32)
    for label in range(len(shapes.SHAPES)):
        plain = shapes.draw(label, middle, 64, 64).astype(float)
        quarter = shapes.draw(label, middle + np.array([0, 0, 0, 0, 0.25], np.float32), 64, 64).astype(float)
        assert np.abs(np.rot90(plain, -1) - quarter).mean() < 2  # a quarter turn clockwise
        areas = []
        for x, y in ((0, 0), (0.5, 0.5), (0.999, 0.999)):
            factors = np.array([0.1, 0.999, x, y, 0.125], np.float32)
            areas.append(coverage(shapes.draw(label, factors, 32, 48)).sum())
        assert np.ptp(areas) < 0.04 * areas[1]  # nothing is cut off at the edges


def test_batches_of_shapes_have_factors():
    source = open_source(Data(source="shapes"), (16, 16, 1))
    batch = next(iterator := batches(source, Data(source="shapes"), (16, 16, 1), batch=5, seed=0, train=False))
    iterator.close()
    assert batch["image"].shape == (5, 16, 16, 1) and batch["factors"].dtype == np.float32
    assert np.array_equal(batch["factors"], np.stack([source[i]["factors"] for i in range(5)]))


def test_shapes_have_attributes():
    source = open_source(Data(source="shapes"), (8, 8, 3))
    examples = [source[i] for i in range(400)]
    found = np.array([[example[name] for name in shapes.ATTRIBUTES] for example in examples])
    hue, size, x, y, _ = np.stack([example["factors"] for example in examples]).T
    assert np.array_equal(found.T, [np.abs(hue - 0.5) < 0.25, size >= 0.5, x >= 0.5, y >= 0.5])
    assert (np.abs(found.mean(0) - 0.5) < 0.15).all()


def test_invalid_names_are_refused():
    refuse("digit", "'digit'", "did you mean 'digits'")
    refuse("fodler:/tmp", "'fodler'", "did you mean 'folder'")
    refuse("folder", "folder:PATH")
    refuse("tfds:", "tfds:NAME")
    refuse("digits:8", "takes no name")
    refuse("digits", "split", "'trian'", "did you mean 'train'", split="trian")
    refuse("shapes", "split", "'val'", split="val")
