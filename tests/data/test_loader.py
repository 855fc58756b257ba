"""The loader: properties of the order, the iterator, invalid counts."""

import collections
import threading
import time

import numpy as np
import pytest

from jaxgen.core.config import Data
from jaxgen.data import batches, open_source, to_device
from jaxgen.data.arrays import Arrays
from jaxgen.data.loader import shuffled, uniforms
from tests.helpers.data_samples import message, numbered, tree
from tests.helpers.data_samples import own_cache as own_cache  # for every test here


def labels(iterator, count):
    """Return the labels of the first `count` batches."""
    found = [next(iterator)["label"] for _ in range(count)]
    iterator.close()
    return np.concatenate(found)


def equal(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


# --- the order ---


@pytest.mark.parametrize("n,batch", [(10, 4), (10, 10), (7, 16), (64, 8)])
def test_every_example_occurs_once_per_epoch(n, batch):
    epochs = 5
    seen = labels(batches(numbered(n), Data(), (4, 4, 1), batch=batch, seed=3), -(-epochs * n // batch))
    parts = seen[: epochs * n].reshape(epochs, n)
    assert (np.sort(parts, axis=1) == np.arange(n)).all()
    assert len({tuple(part) for part in parts}) == epochs  # reshuffled
    other = labels(batches(numbered(n), Data(), (4, 4, 1), batch=batch, seed=4), -(-epochs * n // batch))
    assert not np.array_equal(seen, other)


def test_the_order_is_uniform():
    """Each example is equally likely at each position: chi-squared over 2,000 epochs of 16; no epoch repeats."""
    n, epochs = 16, 2000
    orders = np.stack([shuffled(n, 5, epoch) for epoch in range(epochs)])
    counts = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    expected = epochs / n
    assert ((counts - expected) ** 2 / expected).sum() < 225 + 5 * np.sqrt(2 * 225)  # (n - 1)^2 degrees of freedom
    assert len(np.unique(orders, axis=0)) == epochs
    assert not (shuffled(100, 0, 1) == shuffled(100, 1, 0)).all()  # epochs of different seeds differ


def test_the_order_never_changes():
    """The order is fixed, so that no upgrade silently breaks the resume of a saved run."""
    assert shuffled(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert shuffled(10, 7, 3).tolist() == [2, 0, 7, 3, 5, 4, 8, 9, 1, 6]
    np.testing.assert_allclose(
        uniforms(7, np.array([3]), np.array([5]))[0, :3],
        [0.4721423550867254, 0.638407506586084, 0.5517301136435623],
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize("start", [1, 2, 3, 7, 50])
def test_start_continues_an_uninterrupted_run(start):
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


def test_a_late_start_needs_no_replay():
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
    assert not np.array_equal(np.sort(runs[0][:24], 0), np.sort(runs[0][24:], 0))  # another epoch has other crops


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


def test_cached_examples_equal_fresh_ones(monkeypatch):
    """The second epoch comes from memory and equals the one without a cache."""
    source = Arrays(np.random.default_rng(0).integers(0, 256, (10, 9, 6, 3), dtype=np.uint8))
    runs = []
    for limit in (2**30, 0):
        monkeypatch.setattr("jaxgen.data.examples.CACHE_BYTES", limit)
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
    assert sorted(reads[1:]) == list(range(20))  # after the first read of example 0


def test_flip_and_crop_are_independent():
    ramp = np.arange(108, dtype=np.uint8)
    wide = np.broadcast_to(ramp[:, None], (2000, 8, 108, 1))  # the smallest value gives the position of the crop
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
    assert np.abs(np.corrcoef(draws.T) - np.eye(8)).max() < 0.05
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.05
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=5 * 0.289 / 100)


def test_a_batch_belongs_to_the_caller():
    """Writing into a batch does not change the source or the next epoch."""
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


def test_closing_early_stops_the_threads(capfd):
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
    (root / "5.png").write_bytes(b"no longer an image")
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


def test_invalid_counts_are_refused():
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
