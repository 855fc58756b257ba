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
from jaxgen.data.draws import binarised, keys, shuffled, uniforms
from jaxgen.data.examples import IMAGE_NAMES, Examples, check_shape, image_shape
from jaxgen.data.sources import Source, Subset, clips_of
from jaxgen.data.transforms import HELD_OUT_CROPS, RANDOM_CROPS, Shape, quarter_turns, shift_pixels, to_float

SECOND_DOMAIN_SEED = 0x9E3779B97F4A7C15  # added to the seed for the second domain


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


def check_shift(data: Data, example: Example):
    """Raise InputError if a shift can move a whole image out of its frame."""
    if (image := image_shape(example)) and data.shift >= min(image[:2]):
        raise InputError(f"data.shift={data.shift} must be below the sides of the model's images, {min(image[:2])}.")


def check_turn(data: Data, example: Example):
    """Raise InputError if data.turn is set for images that are not square."""
    if data.turn and (image := image_shape(example)) and image[0] != image[1]:
        raise InputError(f"data.turn needs square images, not {image[0]}x{image[1]}.")


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
        elif name not in clips_of(source):
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
        self.examples = Examples(source, example, crop, train)
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
        new = keys(self.seed, epochs, indices)
        drawn = self.mirror or self.turn or self.random_cut or self.shift or self.grey
        draws = uniforms(self.seed, epochs, indices) if drawn else None
        rows = self.examples.read(indices, new, draws[:, 1:5] if draws is not None and self.random_cut else None)
        images = {name: rows.pop(name) for name in IMAGE_NAMES if name in rows}
        clips = {name: rows.pop(name) for name in self.examples.clips}
        if draws is not None:
            for pixels in (*images.values(), *clips.values()):
                self._move(pixels, draws)
        if self.pair and images:
            images["source"] = self.pair(images.get("source", images["image"]))
        if self.binarise != "none" and images:
            images["image"] = binarised(images["image"], self.binarise, self.seed, epochs, indices)
        rows = {name: finished(values, self.example.get(name)) for name, values in rows.items()}
        return {name: to_float(pixels) for name, pixels in (images | clips).items()} | rows

    def _move(self, pixels: np.ndarray, draws: np.ndarray) -> None:
        """Shift, flip, rotate and make grey u8[b h w c] or u8[b t h w c] in place, by draws f64[b 8]."""
        frames = pixels.reshape(len(pixels), -1, *pixels.shape[-3:])  # [b t h w c], the same memory
        if self.shift:
            for clip, draw in zip(frames, draws, strict=True):
                for frame in clip:
                    frame[:] = shift_pixels(frame, self.shift, *draw[5:7])
        if self.mirror:
            mirrored = draws[:, 0] < 0.5
            frames[mirrored] = frames[mirrored, :, :, ::-1]
        if self.turn:
            for clip, draw in zip(frames, draws[:, 0], strict=True):
                clip[:] = np.rot90(clip, quarter_turns(draw), (1, 2)).copy()
        if self.grey:
            chosen = draws[:, 7] < self.grey
            some = frames[chosen]
            frames[chosen] = grey(some.reshape(-1, *some.shape[2:])).reshape(some.shape)


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


class RandomSubset(Subset):
    """A random subset of `count` examples of a source; it does not depend on the order, which may be by class."""

    def __init__(self, source: Source, count: int):
        super().__init__(source, np.sort(shuffled(len(source), 0, 0)[:count]))
