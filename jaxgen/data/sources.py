"""Random-access sources of examples, and subsets of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxgen.core.errors import InputError


class Source(Protocol):
    """Examples by index: {"image": u8[h w c]}, and "label" (int) if there are classes; sizes may differ.

    Sources of two domains also have "source", the input from which "image" is generated (domains.py). Attributes are
    integers 0 or 1 under their names.

    Videos are arrays u8[t h w c], or lists of frames u8[h w c] of any size, under the names of the model's arrays.
    Those in `clips` are resized as images are.

    A source may also have `__getitems__(indices) -> list[dict]`, which reads several examples at once;
    `pil_example(index)`, an example with Pillow images; `draw(index, key)`, an example that a training draws anew in
    each epoch, by a key below 2**64; `labels`, all labels without decoding an image; and `names` and `captions` of all
    examples.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict: ...


class Subset:
    """The examples of a source at `indices`, in this order; with `classes`, their labels are the numbers of these."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray, classes: tuple[str, ...] = ()):
        self.source, self.classes = source, classes or source.classes
        self.indices = np.asarray(indices, np.int64)
        self.numbers = renumbering(source.classes, self.classes) if self.classes != source.classes else None
        whole: Any = source
        if hasattr(whole, "__getitems__"):
            several = lambda indices: whole.__getitems__(self.indices[indices].tolist())  # noqa: E731
            self.__getitems__ = lambda indices: [self._numbered(example) for example in several(indices)]
        if hasattr(whole, "pil_example"):
            self.pil_example = lambda index: self._numbered(whole.pil_example(int(self.indices[index])))

        if hasattr(whole, "draw"):
            self.draw = lambda index, key: self._numbered(whole.draw(int(self.indices[index]), key))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self._numbered(self.source[int(self.indices[index])])

    def _numbered(self, example: dict) -> dict:
        if self.numbers is None or "label" not in example:
            return example
        return {**example, "label": int(self.numbers[example["label"]])}

    @property
    def labels(self) -> np.ndarray:
        labels = labels_of(self.source)[self.indices]
        return labels if self.numbers is None else self.numbers[labels]

    @property
    def clips(self) -> tuple[str, ...]:
        """The names of the videos whose frames are resized."""
        return clips_of(self.source)

    @property
    def names(self) -> list[str]:
        """The names of the images' files, if the source knows them."""
        whole: Any = self.source
        return [whole.names[i] for i in self.indices]

    @property
    def captions(self) -> list[str]:
        """The captions of the images. Raises AttributeError where the source has none."""
        whole: Any = self.source
        return [whole.captions[int(i)] for i in self.indices]


def renumbering(found: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the numbers in `classes` of the classes `found`, i32[n]."""
    number = {name: i for i, name in enumerate(classes)}
    return np.asarray([number[name] for name in found], np.int32)


def clips_of(source: Source) -> tuple[str, ...]:
    """Return the names of a source's videos whose frames are resized as images are."""
    return getattr(source, "clips", ())


def labels_of(source: Source) -> np.ndarray:
    """Return the labels i32[n] of a source. Raises InputError if it has none."""
    if not source.classes:
        raise InputError("The data has no labels.")
    known = getattr(source, "labels", None)
    return np.asarray([source[i]["label"] for i in range(len(source))] if known is None else known, np.int32)
