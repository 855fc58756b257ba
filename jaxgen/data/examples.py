"""Examples of a source at the model's size, cached in memory if all of them fit."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.data.sources import Source, clips_of
from jaxgen.data.transforms import (
    RANDOM_CROPS,
    SCALED_CROPS,
    Shape,
    all_to_size,
    clip_to_size,
    pixels_of,
    to_number,
    to_size,
)

IMAGE_NAMES = ("image", "source")  # possible images of an example
CACHE_BYTES = 2**30  # examples are cached at the model's size if all of them fit into this


def image_shape(example: Example) -> Shape | None:
    """Return height, width and channels of the images or frames of an example, or None if it has none."""
    return next((x.shape[-3:] for x in example.values() if x.kind in ("image", "video")), None)  # pyright: ignore


def check_shape(name: str, shape: tuple[int, ...], spec: ArraySpec | None):
    """Raise InputError if an array of a source has another shape than its spec; only images are resized."""
    if spec is not None and spec.kind != "image" and shape != spec.shape:
        raise InputError(f"The model takes {name!r} of shape {spec.shape}, the data has {shape}.")


class Examples:
    """Examples at the model's size, as arrays u8[b h w c] and i32[b]; cached in memory if all of them fit.

    With `fresh`, those of a source with `draw` are drawn anew by their keys, and not cached.
    """

    def __init__(self, source: Source, example: Example, crop: str, fresh: bool):
        self.source, self.crop, first = source, crop, source[0]
        self.draw: Callable[[int, int], dict] | None = getattr(source, "draw", None) if fresh else None
        self.image = image = image_shape(example) or (1, 1, 1)
        self.image_names = [name for name in IMAGE_NAMES if name in first]
        for name in self.image_names:
            to_size(first[name], image, crop)  # reports an impossible conversion before training
        self.clips: dict[str, Any] = {name: example[name].shape for name in clips_of(source) if name in example}
        for name, shape in self.clips.items():
            clip_to_size(first[name][:1], shape[1:], crop)
        arrays = {name for name, spec in example.items() if spec.kind not in ("image", "label")}
        specs = {
            name: np.asarray(value) if name in arrays else to_number(value)
            for name, value in first.items()
            if name not in self.image_names and name not in self.clips
        }
        for name, spec in specs.items():
            check_shape(name, spec.shape, example.get(name))
        self.empty = lambda n: {
            **{name: np.empty((n, *image), np.uint8) for name in self.image_names},
            **{name: np.empty((n, *shape), np.uint8) for name, shape in self.clips.items()},
            **{name: np.empty((n, *spec.shape), spec.dtype) for name, spec in specs.items()},
        }
        self.kept, self.known = None, None
        self.wholes: dict[int, dict] = {}  # decoded images for random patches, as many as fit
        self.room = CACHE_BYTES if crop == "patch" and not self.clips else 0
        images = getattr(source, "images", None)  # already in memory, possibly at the right size
        if images is not None and images.shape[1:] == image and crop not in SCALED_CROPS:
            labels = getattr(source, "labels", None)
            self.kept = {"image": images} | ({} if labels is None else {"label": labels})
        elif crop not in RANDOM_CROPS and not self.draw and len(source) * self._bytes() <= CACHE_BYTES:
            self.kept = self.empty(len(source))  # uses no memory until it is written
            self.known = np.zeros(len(source), bool)

    def _bytes(self) -> int:
        """Return the bytes of one example."""
        return sum(x.nbytes for x in self.empty(1).values())

    def read(self, indices: np.ndarray, keys: np.ndarray, draws: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return new arrays of the examples; `draws` f64[b 4] determine random crops, `keys` u64[b] what is drawn."""
        if self.kept is None:
            rows = self.empty(len(indices))
            self._make(indices, rows, range(len(indices)), draws, keys)
            return rows
        if self.known is not None:
            missing = indices[~self.known[indices]]
            # Two threads may make the same example; they write the same bytes.
            self._make(missing, self.kept, missing, None, missing)
            self.known[missing] = True
        return {name: values[indices] for name, values in self.kept.items()}

    def _make(
        self, indices: np.ndarray, out: dict, places: Iterable, draws: np.ndarray | None, keys: np.ndarray
    ) -> None:
        if not len(indices):
            return
        several = getattr(self.source, "__getitems__", None)
        single = getattr(self.source, "pil_example", self.source.__getitem__)
        fitted = None
        if self.draw:
            examples = map(self.draw, indices.tolist(), keys.tolist())
        elif several:  # reading and resizing many examples at once is faster
            examples = several(indices.tolist())
            if draws is None:
                fitted = all_to_size([example["image"] for example in examples], self.image, self.crop)
        else:  # one at a time: a batch of full-size photographs might not fit into memory
            examples = (self._whole(index, single) for index in indices.tolist())
        for row, (place, example) in enumerate(zip(places, examples, strict=True)):
            cut = () if draws is None else draws[row]
            for name in out:
                if shape := self.clips.get(name):
                    out[name][place] = clip_to_size(example[name], shape[1:], self.crop, *cut)
                elif name not in self.image_names:
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
