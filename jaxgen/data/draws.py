"""Orders and random numbers that are pure functions of (seed, epoch, index), equal on all machines."""

from collections.abc import Iterator

import numpy as np


def evenly(count: int, part: int) -> np.ndarray:
    """Return `part` rising numbers below `count`, i64[part]: one drawn from each of as many equal ranges.

    Examples of a folder lie by class: a part spread evenly has all classes. Equal distances would meet a source whose
    classes take turns in one class.
    """
    edges = np.arange(part + 1) * count // part  # [part + 1]
    words = np.random.Philox(key=0).random_raw(part)
    return edges[:-1] + (words % np.diff(edges).astype(np.uint64)).astype(np.int64)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation i64[count] of an epoch.

    It sorts raw Philox words instead of Generator.permutation: NumPy keeps the raw words equal across versions, so a
    checkpoint resumes in the same order after an upgrade. (Grain's shuffle costs 8 us per example and gives seed s in
    epoch e the order of seed s + 1 in epoch e - 1.)
    """
    words = np.random.Philox(key=seed % 2**128, counter=[0, 0, 0, epoch]).random_raw(count)
    return np.argsort(words, kind="stable")


def uniforms(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return f64[b 8] in [0, 1), a hash (SplitMix64) of (seed, epoch, index, column): independent of the batch size."""
    return (_hashes(seed, epochs, indices, np.arange(8)) >> np.uint64(11)) * 2.0**-53


def keys(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return u64[b], a hash of (seed, epoch, index) that is independent of `uniforms`."""
    return _hashes(seed, epochs, indices, np.arange(8, 9))[:, 0]


def stream(key: int, index: int = 0) -> Iterator[float]:
    """Yield numbers in [0, 1) without end, a function of (key, index)."""
    words = np.random.Philox(key=key, counter=[0, 0, 0, index])  # its raw words are equal across NumPy's versions
    while True:
        yield from ((words.random_raw(32) >> np.uint64(11)) * 2.0**-53).tolist()


def _hashes(seed: int, epochs: np.ndarray, indices: np.ndarray, columns: np.ndarray) -> np.ndarray:
    state = np.full(1, seed % 2**64, np.uint64)
    for word in (epochs[:, None], indices[:, None], columns):  # -> [1], [b 1], [b 1], [b k]
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15)) ^ word.astype(np.uint64)
    return _mix(state + np.uint64(0x9E3779B97F4A7C15))


def binarised(pixels: np.ndarray, how: str, seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return binary images u8[b h w c] of 0 and 255: by a threshold of 128, or with probability grey / 255 per pixel.

    "fixed" draws the pixels of an example once, for any seed; "dynamic" draws them in each epoch (Salakhutdinov and
    Murray 2008; Burda et al. 2016). In evaluation, with one epoch of seed 0, both are equal.
    """
    if how == "threshold":
        return np.where(pixels < 128, np.uint8(0), np.uint8(255))
    if how == "fixed":
        seed, epochs = 0, np.zeros_like(epochs)
    start = uniforms(seed, epochs, indices)[:, 7:]  # [b 1], the column reserved for this
    places = np.arange(pixels[0].size, dtype=np.uint64)  # [h*w*c]
    words = _mix(_mix((start * 2.0**53).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) ^ places)  # [b h*w*c]
    draws = (words >> np.uint64(11)) * 2.0**-53
    return np.where(draws.reshape(pixels.shape) * 255 < pixels, np.uint8(255), np.uint8(0))


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
