"""Batches in an order that is a pure function of (seed, batch number), prefetched by Grain's threads."""

import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, Example, image_spec
from jaxgen.data.derived_sources import DERIVED_SOURCES, grey
from jaxgen.data.domains import UnpairedImages
from jaxgen.data.sources import Source, Subset
from jaxgen.data.transforms import (
    HELD_OUT_CROPS,
    RANDOM_CROPS,
    SCALED_CROPS,
    Shape,
    all_to_size,
    pixels_of,
    quarter_turns,
    shift_pixels,
    to_float,
    to_number,
    to_size,
)

IMAGE_NAMES = ("image", "source")  # possible images of an example
SECOND_DOMAIN_SEED = 0x9E3779B97F4A7C15  # added to the seed for the second domain
CACHE_BYTES = 2**30  # images are cached at the model's size if all of them fit into this


def batches(
    source: Source,
    data: Data,
    example: Example | Shape,
    *,
    batch: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    train: bool = True,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yield batches from batch `start` on: image f32[b h w c] in [-1, 1], label i32[b], other arrays of the source.

    example: the specs of the arrays of an example by name, or the shape (h, w, c) of its image. Images are resized;
    other arrays must have their shape; u8 videos and integer audio are converted to f32 in [-1, 1].

    `batch` is the global size; process (p, P) gets rows [p batch / P, (p + 1) batch / P) of each batch. Training is
    endless and reshuffled each epoch; each example occurs exactly once per epoch, and batches can span two epochs.
    With `data.pair`, or a source of two domains, there is also "source" f32[b h w c]: cropped and flipped as its image,
    or, for `UnpairedImages`, in an independent order.

    `train=False` is one pass in order without random crops or flips; the last batch can be smaller, or empty for a
    process. Close the iterator to stop its threads. Raises InputError, also for an example that cannot be read later.
    """
    rank, count = process
    specs = example if isinstance(example, Mapping) else {"image": image_spec(tuple(example))}
    _check(source, data, specs, batch, start, rank, count)
    rows = range(rank * batch // count, (rank + 1) * batch // count)
    settings = data, specs, batch, rows, seed, train
    if train and isinstance(source, UnpairedImages):
        reader: Any = _Domains(source, *settings)
    else:
        reader = _Batches(source, *settings)
    if start >= len(reader):
        return _read(None)
    # A thread makes a whole batch, so as many batches are in progress as there are threads.
    options = grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=max(data.prefetch, data.threads))
    return _read(grain.MapDataset.source(reader).slice(slice(start, None)).to_iter_dataset(options))


def to_device(iterator: Iterator, put: Callable[[Any], Any], ahead: int) -> Generator[Any, None, None]:
    """Yield `put(batch)` for each batch, with `put` called for `ahead` batches in advance; closes the iterator."""
    ready = deque()
    try:
        for batch in iterator:
            ready.append(put(batch))
            if len(ready) > ahead:
                yield ready.popleft()
        while ready:
            yield ready.popleft()
    finally:
        if close := getattr(iterator, "close", None):
            close()


def _read(dataset: Iterable | None) -> Generator[dict[str, np.ndarray], None, None]:
    iterator = iter(dataset or ())
    try:
        yield from iterator
    finally:
        if close := getattr(iterator, "close", None):
            close()


def _check(source: Source, data: Data, example: Example, batch: int, start: int, rank: int, count: int) -> None:
    """Raise InputError for invalid sizes and counts."""
    named = {"batch size": batch, "process count": count, "number of data threads": data.threads}
    if image := image_shape(example):
        named |= dict(zip(("image height", "image width", "channel count"), image, strict=True))
    named |= {"number of batches kept ready": data.prefetch}
    for name, value in named.items():
        if value < 1:
            raise InputError(f"The {name} is {value}: it must be at least 1.")
    if start < 0:
        raise InputError(f"The first batch is {start}: it must be at least 0.")
    if not 0 <= rank < count:
        raise InputError(f"The process index is {rank}: with {count} processes it must be in 0..{count - 1}.")
    if batch % count:
        raise InputError(f"A batch of {batch} cannot be divided among {count} processes: choose a multiple of {count}.")
    check_turn(data, example)
    if count > len(source):
        raise InputError(f"There are more data shards ({count}) than examples ({len(source)}).")


def image_shape(example: Example) -> Shape | None:
    """Return height, width and channels of the images of an example, or None if it has none."""
    return next((x.shape for x in example.values() if x.kind == "image"), None)  # pyright: ignore[reportReturnType]


def check_shift(data: Data, example: Example):
    """Raise InputError if a shift can move a whole image out of its frame."""
    if (image := image_shape(example)) and data.shift >= min(image[:2]):
        raise InputError(f"data.shift={data.shift} must be below the sides of the model's images, {min(image[:2])}.")


def check_turn(data: Data, example: Example):
    """Raise InputError if data.turn is set for images that are not square."""
    if data.turn and (image := image_shape(example)) and image[0] != image[1]:
        raise InputError(f"data.turn needs square images, not {image[0]}x{image[1]}.")


def check_shape(name: str, shape: tuple[int, ...], spec: ArraySpec | None):
    """Raise InputError if an array of a source has another shape than its spec; only images are resized."""
    if spec is not None and spec.kind != "image" and shape != spec.shape:
        raise InputError(f"The model takes {name!r} of shape {spec.shape}, the data has {shape}.")


def check_source(source: Source, data: Data, example: Example):
    """Raise InputError if the examples of a source do not match the specs of a model."""
    check_turn(data, example)
    check_shift(data, example)
    first = source[0]
    for name, spec in example.items():
        if name == "source" and spec.kind == "image" and name not in first:
            if data.pair == "none":
                raise InputError(
                    "This model translates images between two domains: give --data.source paired:PATH or "
                    "unpaired:PATH_A,PATH_B, or --data.pair edges, grey, mask or small."
                )
        elif name not in first:
            hint = ": put the images of each label into a sub-folder" if name == "label" else ""
            raise InputError(f"The model needs {name!r} in every example, but the data has only {sorted(first)}{hint}.")
        elif not spec.shape and np.ndim(first[name]):
            raise InputError(f"The model needs a single number {name!r}, but the data has several.")
        else:
            check_shape(name, np.shape(first[name]), spec)
    classes = example["label"].count if "label" in example else 0
    if classes and len(source.classes) > classes:
        count = len(source.classes)
        raise InputError(f"The data has {count} classes, the model {classes}: write --model.classes {count}.")


def finished(values: np.ndarray, spec: ArraySpec | None) -> np.ndarray:
    """Return arrays [b ...] in the dtype of their spec: u8 videos and integer audio as f32 in [-1, 1]."""
    if spec is None or values.dtype == spec.dtype:
        return values
    if spec.kind == "video" and values.dtype == np.uint8:
        return to_float(values)
    if spec.kind == "audio" and np.issubdtype(values.dtype, np.signedinteger):
        return values.astype(np.float32) / -np.float32(np.iinfo(values.dtype).min)
    return values.astype(spec.dtype)


class _Batches:
    """Random access to the batches of this process: batch i holds positions i * batch ... of the endless order."""

    def __init__(self, source: Source, data: Data, example: Example, batch: int, rows: range, seed: int, train: bool):
        self.batch, self.rows, self.seed, self.train = batch, rows, seed, train
        self.mirror = train and data.flip
        self.turn = train and data.turn
        self.grey = data.grey if train else 0.0
        self.shift = data.shift if train else 0
        self.binarise = data.binarise
        self.pair = DERIVED_SOURCES.get(data.making)
        self.random_cut = train and data.crop in RANDOM_CROPS
        # For held-out images a random patch becomes the central one.
        crop = data.crop if train else HELD_OUT_CROPS.get(data.crop, data.crop)
        self.examples = _Examples(source, example, crop)
        self.example = example
        self.count = len(source)
        # Caches the orders of two epochs, since a batch can span two.
        self.order = functools.lru_cache(maxsize=2)(lambda epoch: shuffled(self.count, seed, epoch))

    def __len__(self) -> int:
        return sys.maxsize if self.train else -(-self.count // self.batch)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        places = index * self.batch + np.arange(self.rows.start, self.rows.stop)
        if self.train:
            epochs, places = np.divmod(places, self.count)
            indices = np.empty_like(places)
            for epoch in np.unique(epochs):
                here = epochs == epoch
                indices[here] = self.order(int(epoch))[places[here]]
        else:
            indices = places[places < self.count]
            epochs = np.zeros_like(indices)
        drawn = self.mirror or self.turn or self.random_cut or self.shift or self.grey
        draws = uniforms(self.seed, epochs, indices) if drawn else None
        rows = self.examples.read(indices, draws[:, 1:5] if draws is not None and self.random_cut else None)
        images = {name: rows.pop(name) for name in IMAGE_NAMES if name in rows}
        if draws is not None:
            for pixels in images.values():
                self._move(pixels, draws)
        if self.pair and images:
            images["source"] = self.pair(images.get("source", images["image"]))
        if self.binarise != "none" and images:
            images["image"] = binarised(images["image"], self.binarise, self.seed, epochs, indices)
        rows = {name: finished(values, self.example.get(name)) for name, values in rows.items()}
        return {name: to_float(pixels) for name, pixels in images.items()} | rows

    def _move(self, pixels: np.ndarray, draws: np.ndarray) -> None:
        """Shift, flip, rotate and make grey u8[b h w c] in place, by draws f64[b 8]."""
        if self.shift:
            for i, (down, right) in enumerate(draws[:, 5:7]):
                pixels[i] = shift_pixels(pixels[i], self.shift, down, right)
        if self.mirror:
            mirrored = draws[:, 0] < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        if self.turn:
            for i, draw in enumerate(draws[:, 0]):
                pixels[i] = np.rot90(pixels[i], quarter_turns(draw)).copy()
        if self.grey:
            chosen = draws[:, 7] < self.grey
            pixels[chosen] = grey(pixels[chosen])


class _Domains:
    """Random access to batches of two sources, with independent orders, crops and flips."""

    def __init__(
        self, source: UnpairedImages, data: Data, example: Example, batch: int, rows: range, seed: int, train: bool
    ):
        alone = dataclasses.replace(data, pair="none")
        self.image = _Batches(source.image, alone, example, batch, rows, seed, train)
        other = dataclasses.replace(data, binarise="none")
        self.source = _Batches(source.source, other, example, batch, rows, seed + SECOND_DOMAIN_SEED, train)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        other = self.source[index]
        return {"image": self.image[index]["image"], "source": other.get("source", other["image"])}


class _Examples:
    """Examples at the model's size, as arrays u8[b h w c] and i32[b]; cached in memory if all of them fit."""

    def __init__(self, source: Source, example: Example, crop: str):
        self.source, self.crop, first = source, crop, source[0]
        self.image = image = image_shape(example) or (1, 1, 1)
        self.image_names = [name for name in IMAGE_NAMES if name in first]
        for name in self.image_names:
            to_size(first[name], image, crop)  # reports an impossible conversion before training
        arrays = {name for name, spec in example.items() if spec.kind not in ("image", "label")}
        specs = {
            name: np.asarray(value) if name in arrays else to_number(value)
            for name, value in first.items()
            if name not in self.image_names
        }
        for name, spec in specs.items():
            check_shape(name, spec.shape, example.get(name))
        self.empty = lambda n: {
            **{name: np.empty((n, *image), np.uint8) for name in self.image_names},
            **{name: np.empty((n, *spec.shape), spec.dtype) for name, spec in specs.items()},
        }
        self.kept, self.known = None, None
        self.wholes: dict[int, dict] = {}  # decoded images for random patches, as many as fit
        self.room = CACHE_BYTES if crop == "patch" else 0
        images = getattr(source, "images", None)  # already in memory, possibly at the right size
        if images is not None and images.shape[1:] == image and crop not in SCALED_CROPS:
            labels = getattr(source, "labels", None)
            self.kept = {"image": images} | ({} if labels is None else {"label": labels})
        elif crop not in RANDOM_CROPS and len(source) * sum(x.nbytes for x in self.empty(1).values()) <= CACHE_BYTES:
            self.kept = self.empty(len(source))  # uses no memory until it is written
            self.known = np.zeros(len(source), bool)

    def read(self, indices: np.ndarray, draws: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return new arrays of the examples; `draws` f64[b 4] determine random crops."""
        if self.kept is None:
            rows = self.empty(len(indices))
            self._make(indices, rows, range(len(indices)), draws)
            return rows
        if self.known is not None:
            missing = indices[~self.known[indices]]
            # Two threads may make the same example; they write the same bytes.
            self._make(missing, self.kept, missing, None)
            self.known[missing] = True
        return {name: values[indices] for name, values in self.kept.items()}

    def _make(self, indices: np.ndarray, out: dict, places: Iterable, draws: np.ndarray | None) -> None:
        if not len(indices):
            return
        several = getattr(self.source, "__getitems__", None)
        single = getattr(self.source, "pil_example", self.source.__getitem__)
        fitted = None
        if several:  # reading and resizing many examples at once is faster
            examples = several(indices.tolist())
            if draws is None:
                fitted = all_to_size([example["image"] for example in examples], self.image, self.crop)
        else:  # one at a time: a batch of full-size photographs might not fit into memory
            examples = (self._whole(index, single) for index in indices.tolist())
        for row, (place, example) in enumerate(zip(places, examples, strict=True)):
            cut = () if draws is None else draws[row]
            for name in out:
                if name not in self.image_names:
                    out[name][place] = example[name]
                elif fitted is not None and name == "image":
                    out[name][place] = fitted[row]
                else:
                    out[name][place] = to_size(example[name], self.image, self.crop, *cut)

    def _whole(self, index: int, read: Callable[[int], dict]) -> dict:
        if (known := self.wholes.get(index)) is not None:
            return known
        example = read(index)
        if self.room:
            example = {**example, **{name: pixels_of(example[name]) for name in self.image_names}}
            size = sum(example[name].size for name in self.image_names)
            if size <= self.room:  # two threads may cache the same image, which is then counted twice
                self.room -= size
                self.wholes[index] = example
        return example


class RandomSubset(Subset):
    """A random subset of `count` examples of a source; it does not depend on the order, which may be by class."""

    def __init__(self, source: Source, count: int):
        super().__init__(source, np.sort(shuffled(len(source), 0, 0)[:count]))


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
    state = np.full(1, seed % 2**64, np.uint64)
    for word in (epochs[:, None], indices[:, None], np.arange(8)):  # -> [1], [b 1], [b 1], [b 8]
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15)) ^ word.astype(np.uint64)
    return (_mix(state + np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * 2.0**-53


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
