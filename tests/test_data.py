"""Sources, transforms and the loader: known facts about real data, the order's properties, and every bad input."""

import collections
import colorsys
import gzip
import hashlib
import importlib.util
import io
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.cache import cache_folder
from jaxgen.config import Data
from jaxgen.data import batches, open_source, prepare, shapes, to_device, transform, verdicts
from jaxgen.data.arrays import Arrays
from jaxgen.data.loader import shuffled, uniforms
from jaxgen.data.pictures import decode
from jaxgen.data.transforms import fit, fit_all, planes_of
from jaxgen.errors import InputError

REAL = os.environ.get("JAXGEN_TEST_DATA")
real = pytest.mark.skipif(not REAL, reason="JAXGEN_TEST_DATA does not point at the real data")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the tests' verdicts out of the user's cache folder."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbered(n, size=(4, 4), channels=1):
    """A source whose picture i is filled with i."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, *size, channels))
    return Arrays(np.ascontiguousarray(images), np.arange(n, dtype=np.int32), tuple(map(str, range(n))))


def labels(iterator, count):
    """The labels of the first `count` batches."""
    found = [next(iterator)["label"] for _ in range(count)]
    iterator.close()
    return np.concatenate(found)


def equal(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


def picture(seed=0, size=(40, 30), mode="RGB"):
    """Smooth noise, width x height."""
    rng = np.random.default_rng(seed)
    return (
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        .resize(size, Image.Resampling.BICUBIC)
        .convert(mode)
    )


def tree(root, files):
    """Write PNG pictures (or the given bytes) under root; return root."""
    for i, (name, content) in enumerate(dict.fromkeys(files) if isinstance(files, list) else files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            picture(i).save(path)
        else:
            path.write_bytes(content)
    return root


def message(call, *parts):
    """Check that the call raises InputError with one sentence on one line that holds the parts; return it."""
    with pytest.raises(InputError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and text[0].isupper() | text.startswith("/") and text.endswith((".", "?")), text
    for part in parts:
        assert str(part) in text, (part, text)
    return text


def opened(source, **fields) -> Any:
    """The source, as the class it is."""
    return open_source(Data(source=source, **fields))


def refuse(source, *parts, **fields):
    return message(lambda: open_source(Data(source=source, **fields)), *parts)


# --- the order ---


@pytest.mark.parametrize("n,batch", [(10, 4), (10, 10), (7, 16), (64, 8)])
def test_every_example_once_an_epoch(n, batch):
    epochs = 5
    seen = labels(batches(numbered(n), Data(), (4, 4, 1), batch=batch, seed=3), -(-epochs * n // batch))
    parts = seen[: epochs * n].reshape(epochs, n)
    assert (np.sort(parts, axis=1) == np.arange(n)).all()
    assert len({tuple(part) for part in parts}) == epochs  # reshuffled
    other = labels(batches(numbered(n), Data(), (4, 4, 1), batch=batch, seed=4), -(-epochs * n // batch))
    assert not np.array_equal(seen, other)


def test_the_order_is_fair():
    """Each example is equally likely at each place: chi-squared over 2,000 epochs of 16, and no epoch repeats."""
    n, epochs = 16, 2000
    orders = np.stack([shuffled(n, 5, epoch) for epoch in range(epochs)])
    counts = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    expected = epochs / n
    assert ((counts - expected) ** 2 / expected).sum() < 225 + 5 * np.sqrt(2 * 225)  # (n - 1)^2 degrees of freedom
    assert len(np.unique(orders, axis=0)) == epochs
    assert not (shuffled(100, 0, 1) == shuffled(100, 1, 0)).all()  # epochs of one seed are not those of the next


def test_the_order_never_changes():
    """Written down, so that no upgrade silently breaks the resume of a saved run."""
    assert shuffled(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert shuffled(10, 7, 3).tolist() == [2, 0, 7, 3, 5, 4, 8, 9, 1, 6]
    np.testing.assert_allclose(
        uniforms(7, np.array([3]), np.array([5]))[0, :3],
        [0.4721423550867254, 0.638407506586084, 0.5517301136435623],
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize("start", [1, 2, 3, 7, 50])
def test_start_is_where_an_uninterrupted_run_would_be(start):
    data = Data(flip=True, crop="random")
    source = Arrays(
        np.random.default_rng(0).integers(0, 256, (11, 9, 6, 3), dtype=np.uint8), np.arange(11, dtype=np.int32)
    )
    whole = batches(source, data, (4, 4, 3), batch=4, seed=1)
    later = batches(source, data, (4, 4, 3), batch=4, seed=1, start=start)
    for _ in range(start):
        next(whole)
    assert all(equal(next(whole), next(later)) for _ in range(8))
    whole.close()
    later.close()


def test_a_far_start_costs_no_replay():
    class Counted(Arrays):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    reads = []
    small = numbered(100)
    iterator = batches(
        Counted(small.images, small.labels), Data(crop="random", threads=1), (2, 2, 1), batch=4, seed=0, start=10**12
    )
    next(iterator)
    iterator.close()
    assert len(reads) < 50


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("train", [True, False])
def test_processes_share_the_same_batches(count, train):
    data, source = Data(flip=True), numbered(14, (4, 5))

    def run(process):
        iterator = batches(source, data, (4, 4, 1), batch=6, seed=2, process=process, train=train)
        found = [next(iterator) for _ in range(3)]
        iterator.close()
        return found

    whole, parts = run((0, 1)), [run((i, count)) for i in range(count)]
    for i in range(3):
        joined = {name: np.concatenate([part[i][name] for part in parts]) for name in whole[i]}
        assert equal(whole[i], joined)
    if train:
        assert all(len(part[0]["label"]) == 6 // count for part in parts)


def test_the_batch_size_does_not_change_an_example():
    data = Data(flip=True, crop="random")
    source = Arrays(np.random.default_rng(0).integers(0, 256, (24, 9, 6, 3), dtype=np.uint8))
    runs = []
    for batch in (4, 12):
        iterator = batches(source, data, (4, 4, 3), batch=batch, seed=1)
        runs.append(np.concatenate([next(iterator)["image"] for _ in range(48 // batch)]))
        iterator.close()
    assert np.array_equal(*runs)
    assert not np.array_equal(np.sort(runs[0][:24], 0), np.sort(runs[0][24:], 0))  # another epoch, other cuts


def test_threads_do_not_change_the_batches():
    class Slow(Arrays):
        def __getitem__(self, index):
            time.sleep(0.002 * (index % 3))  # finish out of order
            return super().__getitem__(index)

    small = numbered(30, (5, 7))
    runs = []
    for threads, prefetch in ((1, 1), (2, 2), (8, 16)):
        data = Data(flip=True, crop="random", threads=threads, prefetch=prefetch)
        iterator = batches(Slow(small.images, small.labels), data, (4, 4, 1), batch=7, seed=0)
        runs.append([next(iterator) for _ in range(12)])
        iterator.close()
    assert all(equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


def test_evaluation_is_one_pass_in_order():
    ramp = np.broadcast_to(np.arange(0, 210, 30, dtype=np.uint8)[:, None], (10, 4, 7, 1))
    source = Arrays(np.ascontiguousarray(ramp), np.arange(10, dtype=np.int32))
    found = list(batches(source, Data(flip=True, crop="random"), (4, 4, 1), batch=4, seed=0, train=False))
    assert [len(batch["label"]) for batch in found] == [4, 4, 2]
    assert np.concatenate([batch["label"] for batch in found]).tolist() == list(range(10))
    plain = list(batches(source, Data(crop="center"), (4, 4, 1), batch=4, seed=9, train=False))
    assert all(equal(a, b) for a, b in zip(found, plain, strict=True))
    assert [len(b["label"]) for b in batches(source, Data(), (4, 4, 1), batch=4, seed=0, start=2, train=False)] == [2]
    assert list(batches(source, Data(), (4, 4, 1), batch=4, seed=0, start=3, train=False)) == []


def test_kept_examples_equal_fresh_ones(monkeypatch):
    """The second epoch comes from memory, and is the same as without it."""
    source = Arrays(np.random.default_rng(0).integers(0, 256, (10, 9, 6, 3), dtype=np.uint8))
    runs = []
    for limit in (2**30, 0):
        monkeypatch.setattr("jaxgen.data.loader.CACHE_BYTES", limit)
        iterator = batches(source, Data(flip=True), (8, 8, 3), batch=5, seed=0)
        runs.append([next(iterator) for _ in range(6)])
        iterator.close()
    assert all(equal(a, b) for a, b in zip(*runs, strict=True))


def test_the_second_epoch_reads_nothing():
    class Counted(Arrays):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    reads = []
    small = numbered(20)
    iterator = batches(Counted(small.images, small.labels), Data(threads=1), (8, 8, 1), batch=5, seed=0)
    for _ in range(40):
        next(iterator)
    iterator.close()
    assert sorted(reads[1:]) == list(range(20))  # after the first look at example 0


def test_mirror_and_cut_are_independent():
    ramp = np.arange(108, dtype=np.uint8)
    wide = np.broadcast_to(ramp[:, None], (2000, 8, 108, 1))  # the least value tells where it was cut
    tall = np.broadcast_to(ramp[:, None, None] + np.uint8(140) * (np.arange(8) > 3)[:, None], (2000, 108, 8, 1))
    for source in (wide, tall):
        iterator = batches(Arrays(source), Data(flip=True, crop="random"), (8, 8, 1), batch=2000, seed=0)
        image = next(iterator)["image"][..., 0]
        iterator.close()
        cut, mirrored = np.round((image.min(axis=(1, 2)) + 1) * 127.5), image[:, 0, 0] > image[:, 0, 7]
        assert set(cut) == set(range(101))
        for part in (cut[mirrored], cut[~mirrored]):
            assert abs(part.mean() - 50) < 5 * 29.2 / np.sqrt(len(part))
    draws = uniforms(3, np.zeros(10_000, int), np.arange(10_000))
    assert np.abs(np.corrcoef(draws.T) - np.eye(7)).max() < 0.05
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.05
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=5 * 0.289 / 100)


def test_a_batch_belongs_to_the_caller():
    """Writing into a batch leaves the source and the next epoch as they were."""
    source = numbered(4)
    before = source.images.copy()
    iterator = batches(source, Data(flip=True), (4, 4, 1), batch=4, seed=0)
    next(iterator)["image"][:] = 7
    assert np.sort(next(iterator)["image"][:, 0, 0, 0]).tolist() == [
        np.float32(i) / np.float32(127.5) - 1 for i in range(4)
    ]
    iterator.close()
    assert np.array_equal(source.images, before)


# --- the iterator ---


def grain_threads():
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_closing_early_leaves_no_thread(capfd):
    iterator = batches(numbered(10), Data(threads=3), (8, 8, 1), batch=4, seed=0)
    next(iterator)
    assert grain_threads()
    iterator.close()
    assert wait_for(lambda: not grain_threads())
    with pytest.raises(StopIteration):
        next(iterator)
    device = to_device(batches(numbered(10), Data(), (8, 8, 1), batch=4, seed=0), lambda batch: batch, 2)
    next(device)
    device.close()
    assert wait_for(lambda: not grain_threads())
    batches(numbered(10), Data(), (8, 8, 1), batch=4, seed=0).close()  # never started
    assert capfd.readouterr() == ("", "")


def test_an_error_in_a_thread_reaches_the_caller(tmp_path):
    root = tree(tmp_path / "set", {f"{i}.png": None for i in range(8)})
    source = open_source(Data(source=f"folder:{root}"))
    (root / "5.png").write_bytes(b"no longer a picture")
    iterator = batches(source, Data(), (8, 8, 3), batch=2, seed=0)
    message(lambda: collections.deque(iterator), root / "5.png", "can no longer be read")
    assert wait_for(lambda: not grain_threads())


def test_to_device_keeps_batches_ahead():
    put = []

    def hand(batch):
        put.append(batch)
        return -batch

    iterator = to_device(iter(range(1, 7)), hand, 2)
    assert next(iterator) == -1 and put == [1, 2, 3]
    assert next(iterator) == -2 and put == [1, 2, 3, 4]
    assert list(iterator) == [-3, -4, -5, -6]
    assert list(to_device(iter([1, 2]), hand, 0)) == [-1, -2]


# --- transforms ---


def as_unit(pixels):
    return np.asarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)


def test_pixels_become_exactly_x_over_127_5_minus_1():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    image = transform({"image": ramp}, (16, 16, 1), Data(), np.random.default_rng(0))["image"]
    assert image.dtype == np.float32 and image.min() == -1 and image.max() == 1
    assert np.array_equal(image, as_unit(ramp))
    iterator = batches(Arrays(ramp[None]), Data(), (16, 16, 1), batch=1, seed=0)
    assert np.array_equal(next(iterator)["image"][0], image)
    iterator.close()


@pytest.mark.parametrize("size", [(32, 32), (20, 50), (8, 8), (31, 17)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_squash_is_pillows_bicubic(size, mode):
    source = picture(size=(40, 30), mode=mode)
    channels = len(source.getbands())
    pixels = np.asarray(source).reshape(30, 40, channels)
    ours = transform({"image": pixels}, (*size, channels), Data(crop="none"), np.random.default_rng(0))["image"]
    theirs = source.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    assert np.array_equal(ours, as_unit(theirs).reshape(*size, channels))


def test_center_covers_and_cuts_the_middle():
    source = picture(size=(60, 30))
    ours = transform({"image": np.asarray(source)}, (15, 15, 3), Data(crop="center"), np.random.default_rng(0))["image"]
    theirs = source.resize((15, 15), Image.Resampling.BICUBIC, (15, 0, 45, 30))
    assert np.array_equal(ours, as_unit(theirs))
    tall = transform({"image": np.asarray(picture(size=(20, 80)))}, (10, 30, 3), Data(), np.random.default_rng(0))[
        "image"
    ]
    theirs = picture(size=(20, 80)).resize(
        (30, 10), Image.Resampling.BICUBIC, (0, (80 - 20 / 3) / 2, 20, (80 + 20 / 3) / 2)
    )
    np.testing.assert_allclose(tall, as_unit(theirs), atol=1.01 / 127.5)


def test_random_cuts_anywhere_and_center_does_not():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (8, 64, 1))  # the value tells the column
    rng = np.random.default_rng(0)
    found = [transform({"image": ramp}, (8, 8, 1), Data(crop="random"), rng)["image"][0, 0, 0] for _ in range(900)]
    assert {round((value + 1) * 127.5) for value in found} == set(range(57))
    middle = {float(transform({"image": ramp}, (8, 8, 1), Data(), rng)["image"][0, 0, 0]) for _ in range(9)}
    assert middle == {float(as_unit(28))}


def test_flip_mirrors_half_of_the_time():
    source = picture(size=(16, 16))
    pixels, rng = np.asarray(source), np.random.default_rng(0)
    plain, mirrored = as_unit(pixels), as_unit(pixels[:, ::-1])
    found = [transform({"image": pixels}, (16, 16, 3), Data(flip=True), rng)["image"] for _ in range(200)]
    count = sum(np.array_equal(image, mirrored) for image in found)
    assert 70 < count < 130 and count + sum(np.array_equal(image, plain) for image in found) == 200
    assert all(
        np.array_equal(transform({"image": pixels}, (16, 16, 3), Data(), rng)["image"], plain) for _ in range(20)
    )


def test_flip_in_batches_is_per_epoch_and_example():
    left = np.zeros((200, 2, 2, 1), np.uint8)
    left[:, :, 0] = 255
    iterator = batches(Arrays(left, np.arange(200, dtype=np.int32)), Data(flip=True), (2, 2, 1), batch=200, seed=0)
    epochs = []
    for _ in range(2):
        batch = next(iterator)
        epochs.append(batch["image"][np.argsort(batch["label"]), 0, 0, 0] < 0)
    iterator.close()
    assert 70 < epochs[0].sum() < 130 and 60 < (epochs[0] != epochs[1]).sum() < 140


def test_colour_becomes_itu_r_601_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [12, 200, 77]], np.uint8)[None]
    grey = transform({"image": colours}, (1, 5, 1), Data(), np.random.default_rng(0))["image"]
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose((grey[..., 0] + 1) * 127.5, luma, atol=0.51)


def test_grey_is_repeated_and_alpha_laid_on_white():
    rng = np.random.default_rng(0)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    assert np.array_equal(transform({"image": grey}, (4, 4, 3), Data(), rng)["image"], as_unit(np.repeat(grey, 3, 2)))
    alpha = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 128]]], np.uint8)
    seen = transform({"image": alpha}, (1, 3, 3), Data(), rng)["image"]
    mixed = [(c * 128 + 255 * 127) / 255 for c in (10, 20, 30)]
    np.testing.assert_allclose((seen[0] + 1) * 127.5, [[10, 20, 30], [255, 255, 255], mixed], atol=0.51)
    kept = transform({"image": alpha}, (1, 3, 4), Data(), rng)["image"]  # a model of four channels reads alpha itself
    assert np.array_equal(kept, as_unit(alpha))


def test_any_channel_count_that_the_source_has():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 5), dtype=np.uint8)
    image = transform({"image": pixels}, (8, 8, 5), Data(), np.random.default_rng(0))["image"]
    plane = Image.fromarray(pixels[..., 3]).resize((8, 8), Image.Resampling.BICUBIC)
    assert image.shape == (8, 8, 5) and np.array_equal(image[..., 3], as_unit(plane))
    for channels in (1, 2, 3, 4):
        call = lambda c=channels: transform({"image": pixels}, (8, 8, c), Data(), np.random.default_rng(0))  # noqa: E731
        message(call, "5 channels", channels)
    message(lambda: batches(numbered(3), Data(), (4, 4, 2), batch=1, seed=0), "1 channels", "2")


def test_grey_pictures_resized_together_equal_each_alone():
    pictures = list(np.random.default_rng(0).integers(0, 256, (7, 28, 20, 1), dtype=np.uint8))
    for image in ((32, 32, 1), (9, 20, 3), (28, 20, 1)):
        for crop in ("none", "center"):
            alone = [fit(pixels, image, crop) for pixels in pictures]
            assert np.array_equal(fit_all(pictures, image, crop), alone)


def test_whole_pixels_are_not_resampled():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 3), dtype=np.uint8)
    image = transform({"image": pixels}, (8, 8, 3), Data(), np.random.default_rng(0))["image"]
    assert np.array_equal(image, as_unit(pixels[1:9]))


# --- pictures ---


def pixels_of(data):
    return planes_of(decode(data))


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_modes_and_depths():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert np.array_equal(pixels_of(encoded(Image.fromarray(deep)))[..., 0], np.arange(256).reshape(16, 16))
    assert np.array_equal(pixels_of(encoded(Image.fromarray(deep), "TIFF"))[..., 0], np.arange(256).reshape(16, 16))
    bits = Image.fromarray(np.eye(8, dtype=bool))
    assert np.array_equal(pixels_of(encoded(bits))[..., 0], np.eye(8) * 255)
    indexed = picture().quantize(16)
    assert np.array_equal(pixels_of(encoded(indexed)), np.asarray(indexed.convert("RGB")))
    indexed.info["transparency"] = 3
    assert np.array_equal(pixels_of(encoded(indexed, transparency=3)), np.asarray(indexed.convert("RGBA")))
    ink = picture(mode="CMYK")
    assert np.array_equal(pixels_of(encoded(ink, "TIFF")), np.asarray(ink.convert("RGB")))
    assert pixels_of(encoded(picture(mode="LA"))).shape == (30, 40, 4)
    assert pixels_of(encoded(picture(mode="L"), "JPEG")).shape == (30, 40, 1)
    frames = [picture(seed) for seed in range(3)]
    first = pixels_of(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.abs(first[..., :3].astype(int) - np.asarray(frames[0])).mean() < 10  # the first frame, in 256 colours


@pytest.mark.parametrize("turn", [(3, 180), (6, 270), (8, 90)])
def test_exif_orientation_is_applied(turn):
    tag, degrees = turn
    source = picture()
    exif = Image.Exif()
    exif[0x0112] = tag
    seen = pixels_of(encoded(source, "PNG", exif=exif.tobytes()))
    assert np.array_equal(seen, np.asarray(source.rotate(degrees, expand=True)))


# --- sources ---


def test_digits_are_scikit_learns():
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
    for example in examples[::8]:  # circles: colour, centre and area are what the factors say
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
    """How much of each pixel the shape covers; the corner is always ground."""
    difference = np.abs(image.astype(float) - image[0, 0]).sum(2)
    return difference / difference.max()


def equal_example(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_shapes_turn_and_never_leave_the_picture():
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


def test_shapes_give_their_factors_in_batches():
    source = open_source(Data(source="shapes"), (16, 16, 1))
    batch = next(iterator := batches(source, Data(source="shapes"), (16, 16, 1), batch=5, seed=0, train=False))
    iterator.close()
    assert batch["image"].shape == (5, 16, 16, 1) and batch["factors"].dtype == np.float32
    assert np.array_equal(batch["factors"], np.stack([source[i]["factors"] for i in range(5)]))


@pytest.mark.parametrize("zipped", [False, True])
def test_folder_of_classes(tmp_path, zipped):
    files = ["b/1.png", "b/deeper/2.PNG", "a/3.png", "a/.hidden.png", ".git/4.png", "a/notes.txt", "c/5.png"]
    root = tree(tmp_path / "set", dict.fromkeys(files) | {"a/notes.txt": b"hello"} | {"c/5.png": encoded(picture(9))})
    if zipped:
        shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "set")  # "set/" around everything is entered
        root = tmp_path / "set.zip"
    source = open_source(Data(source=f"folder:{root}"))
    assert source.classes == ("a", "b", "c") and len(source) == 4
    assert [source[i]["label"] for i in range(4)] == [0, 1, 1, 2]
    assert np.array_equal(source[3]["image"], np.asarray(picture(9)))


def test_folder_without_classes_and_with_splits(tmp_path):
    flat = open_source(Data(source=f"folder:{tree(tmp_path / 'flat', dict.fromkeys(['1.png', '2.png']))}"))
    assert flat.classes == () and len(flat) == 2 and "label" not in flat[0]
    one = open_source(Data(source=f"folder:{tree(tmp_path / 'one', dict.fromkeys(['cat/1.png']))}"))
    assert one.classes == ("cat",) and one[0]["label"] == 0
    mixed = open_source(Data(source=f"folder:{tree(tmp_path / 'mixed', dict.fromkeys(['1.png', 'a/2.png']))}"))
    assert mixed.classes == () and len(mixed) == 2
    root = tree(tmp_path / "split", dict.fromkeys(["train/a/1.png", "train/b/2.png", "test/a/3.png"]))
    assert [len(open_source(Data(source=f"folder:{root}", split=split))) for split in ("train", "test")] == [2, 1]
    refuse(f"folder:{root}", "split", "'val'", "test", split="val")
    refuse(f"folder:{tmp_path / 'flat'}", "flat", "'test'", split="test")


def test_folder_follows_links_but_not_in_circles(tmp_path):
    root = tree(tmp_path / "set", dict.fromkeys(["a/1.png", "b/2.png"]))
    (root / "c").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "lost.png").symlink_to(root / "nothing.png")
    refuse(f"folder:{root}", "lost.png", "No such file")
    (root / "b" / "lost.png").unlink()
    assert open_source(Data(source=f"folder:{root}")).classes == ("a", "b", "c")


def damaged():
    """Files that are no whole picture, by name."""
    whole = encoded(picture(size=(200, 200)), "JPEG")
    png = encoded(picture(size=(200, 200)))
    return {
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2],
        "flipped.png": png[:200] + bytes([png[200] ^ 255]) + png[201:],
        "empty.png": b"",
        "text.jpg": b"this is no picture",
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
    assert capsys.readouterr().err.startswith("Skipped 1 of 3 pictures")
    picture().save(root / "a" / name)  # mended: looked at again
    assert len(open_source(Data(source=f"folder:{root}"))) == 3


def test_a_corrupt_picture_in_a_zip_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("a/1.png", encoded(picture()))
        file.writestr("a/2.png", encoded(picture())[:300])
    refuse(f"folder:{tmp_path / 'set.zip'}", "a/2.png", "set.zip")


def test_skipping_keeps_the_classes_numbers(tmp_path):
    root = tree(tmp_path / "set", {"a/1.png": b"bad", "b/2.png": None})
    source = open_source(Data(source=f"folder:{root}", skip_bad=True))
    assert source.classes == ("a", "b") and source[0]["label"] == 1


def test_verdicts_are_remembered(tmp_path, monkeypatch, cache):
    root = tree(tmp_path / "set", {f"{i}.png": None for i in range(150)} | {"bad.png": b"bad"})
    decoded = []
    look = lambda data: decoded.append(1) or decode(data)  # noqa: E731
    monkeypatch.setattr(verdicts, "decode", look)
    refuse(f"folder:{root}", "bad.png")
    assert len(decoded) == 151 and len(list(cache.rglob("*.json"))) == 1
    refuse(f"folder:{root}", "bad.png")
    assert len(decoded) == 151
    picture(99).save(root / "7.png")
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


def test_a_file_one_may_not_read_is_not_remembered_as_bad(tmp_path, monkeypatch):
    root = tree(tmp_path / "set", {"1.png": None, "2.png": None})
    from jaxgen.data import folder

    read = folder._Disk.read

    def denied(self, name):
        if name == "2.png":
            raise PermissionError(13, "Permission denied", name)
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(folder._Disk, "read", denied)
        refuse(f"folder:{root}", root / "2.png", "Permission denied")
    assert len(open_source(Data(source=f"folder:{root}"))) == 2


def test_bad_folders(tmp_path, monkeypatch):
    refuse(f"folder:{tmp_path / 'nowhere'}", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refuse(f"folder:{tmp_path / 'empty'}", tmp_path / "empty", "no picture", ".png")
    (tmp_path / "file.png").write_bytes(encoded(picture()))
    refuse(f"folder:{tmp_path / 'file.png'}", tmp_path / "file.png", "neither a folder nor a .zip")
    refuse(f"folder:{tree(tmp_path / 'all', {'1.png': b'bad', '2.png': b'bad'})}", "None of the 2", skip_bad=True)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("jaxgen.data.folder.os.scandir", denied)
    refuse(f"folder:{tmp_path / 'all'}", tmp_path / "all", "Permission denied")


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


def test_bad_idx_files(tmp_path):
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
    refuse(f"idx:{tmp_path}", file, "no idx file")
    write_idx(file, np.zeros((0, 4, 3), np.uint8))
    refuse(f"idx:{tmp_path}", file, "0 x 4 x 3")
    file.unlink()
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    whole = (tmp_path / "train-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(whole[:-12])
    refuse(f"idx:{tmp_path}", "train-images-idx3-ubyte.gz", "cannot be read")
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    refuse(f"idx:{tmp_path}", "train-labels-idx1-ubyte", "5 pictures", "4 labels")


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


def test_bad_npz_files(tmp_path):
    path, images = tmp_path / "set.npz", np.zeros((3, 4, 4), np.uint8)

    def bad(*parts, **arrays: Any):
        np.savez(path, **arrays)
        refuse(f"npz:{path}", path, *parts)

    bad("pixels", "'image'", pixels=images)
    bad("(4, 4)", image=images[0])
    bad("no picture", image=images[:0])
    bad("Picture 2", "not finite", image=np.array([0, 0.5, np.nan]).repeat(16).reshape(3, 4, 4))
    bad("Picture 1", "not finite", image=np.array([0, np.inf, 0]).repeat(16).reshape(3, 4, 4))
    bad("0 to 200", image=np.linspace(0, 200, 48).reshape(3, 4, 4))
    bad("-1 to 255", image=np.linspace(-1, 255, 48).astype(int).reshape(3, 4, 4))
    bad("complex", image=images.astype(complex))
    bad("Label -1 of example 1", "0..2", image=images, label=np.array([0, -1, 2]))
    bad("Label 3 of example 2", "0..1", image=images, label=np.array([0, 1, 3]), classes=np.array(["a", "b"]))
    bad("(2,)", "3 pictures", image=images, label=np.array([0, 1]))
    bad("float64", "integers", image=images, label=np.array([0.5, 1, 2]))
    bad("cannot be read", image=np.array([None, 1, 2], dtype=object))
    path.write_bytes(path.read_bytes()[:100])
    refuse(f"npz:{path}", path, "cannot be read")
    path.write_bytes(b"")
    refuse(f"npz:{path}", path, "cannot be read")
    refuse(f"npz:{tmp_path}", tmp_path, "cannot be read")
    np.save(tmp_path / "one.npy", images)
    refuse(f"npz:{tmp_path / 'one.npy'}", "one.npy", "savez")


def test_bad_names():
    refuse("digit", "'digit'", "did you mean 'digits'")
    refuse("fodler:/tmp", "'fodler'", "did you mean 'folder'")
    refuse("folder", "folder:PATH")
    refuse("tfds:", "tfds:NAME")
    refuse("digits:8", "takes no name")
    refuse("digits", "split", "'trian'", "did you mean 'train'", split="trian")
    refuse("shapes", "split", "'val'", split="val")


def test_bad_tfds_names(tmp_path, capfd):
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


def test_bad_counts():
    source, good = numbered(3), {"batch": 4, "seed": 0}

    def bad(*parts, data=None, image=(4, 4, 1), **changes):
        message(lambda: batches(source, data or Data(), image, **{**good, **changes}), *parts)

    bad("batch size is 0", batch=0)
    bad("batch size is -4", batch=-4)
    bad("batch of 4", "3 processes", process=(0, 3))
    bad("more data shards (4) than examples (3)", process=(0, 4))
    bad("process index is 2", "0..1", process=(2, 2))
    bad("process count is 0", process=(0, 0))
    bad("-1", start=-1)
    bad("threads is 0", data=Data(threads=0))
    bad("kept ready is -1", data=Data(prefetch=-1))
    bad("image height is 0", image=(0, 4, 1))
    bad("channel count is -1", image=(4, 4, -1))


# --- real data ---


def digests(source):
    return collections.Counter(
        (hashlib.sha256(example["image"].tobytes()).digest(), example["label"])
        for start in range(0, len(source), 1000)
        for example in read(source, range(start, min(start + 1000, len(source))))
    )


def read(source, indices):
    several = getattr(source, "__getitems__", None)
    return several(list(indices)) if several else [source[i] for i in indices]


@real
def test_mnist_from_tfds_and_from_idx_is_the_same():
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
def test_a_fresh_process_reads_tfds_and_leaves_without_a_word():
    code = """
from jaxgen.config import Data
from jaxgen.data import batches, open_source, to_device
data = Data(source="tfds:mnist", dir=DIR, split="test")
next(to_device(batches(open_source(data), data, (32, 32, 1), batch=8, seed=0), lambda batch: batch, 2))
""".replace("DIR", repr(f"{REAL}/tfds"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@real
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_tfds_set_is_told_at_once(tmp_path, damage):
    shutil.copytree(f"{REAL}/tfds/mnist/3.0.1", tmp_path / "mnist" / "3.0.1", copy_function=shutil.copyfile)
    file = tmp_path / "mnist" / "3.0.1" / "mnist-test.array_record-00000-of-00001"
    file.unlink() if damage == "missing" else os.truncate(file, file.stat().st_size // 2)
    refuse("tfds:mnist", "Example 0", "cannot be read", dir=str(tmp_path), split="test")


@real
def test_fashion_mnist_has_its_test_split_only():
    refuse(f"idx:{REAL}/fashion_mnist", "'test'", "'train'", split="train")
    source = opened(f"idx:{REAL}/fashion_mnist", split="test")
    assert len(source) == 10_000 and np.bincount(source.labels).tolist() == [1000] * 10
    assert abs(np.mean(source.images) / 255 - 0.2868) < 1e-3


@real
def test_flowers_in_a_zip_are_flowers_in_a_folder(tmp_path):
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
    source = opened(f"folder:{REAL}/photos")
    assert len(source) == 13
    found = list(batches(source, Data(), (48, 64, 3), batch=5, seed=0, train=False))
    assert [batch["image"].shape for batch in found] == [(5, 48, 64, 3), (5, 48, 64, 3), (3, 48, 64, 3)]
    pairs = opened(f"folder:{REAL}/sr/T91")
    names = [os.path.basename(name) for name in pairs.names]
    twins = [pairs[names.index(name)]["image"] for name in ("t36.png", "t65.png")]
    assert np.array_equal(*twins)  # a known fact of T91
