"""Random-access sources of examples, and subsets of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxgen.core.errors import InputError


class Source(Protocol):
    """Examples by number: {"image": u8[h w c]}, and "label" (int) where there are classes; any size per example.

    Of two domains "image" is what is to be made, and "source" of what (domains.py). Attributes are integers by their
    names, 0 or 1.

    A source may also have `__getitems__(indices) -> list[dict]`, which reads several at once, `image(index)`, whose
    image is a Pillow image, and `labels`, all of them, which cost no image. They are used where they are there.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict: ...


class Subset:
    """The examples of a source at `indices`, in their order, each read as the source reads it."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        self.source, self.classes = source, source.classes
        self.indices = np.asarray(indices, np.int64)
        whole: Any = source
        if hasattr(whole, "__getitems__"):
            self.__getitems__ = lambda indices: whole.__getitems__(self.indices[indices].tolist())
        if hasattr(whole, "picture"):
            self.picture = lambda index: whole.picture(int(self.indices[index]))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self.source[int(self.indices[index])]

    @property
    def labels(self) -> np.ndarray:
        return labels_of(self.source)[self.indices]


def labels_of(source: Source) -> np.ndarray:
    """Return the labels i32[n] of a source. Raises InputError where it has none."""
    if not source.classes:
        raise InputError("The data has no labels.")
    known = getattr(source, "labels", None)
    return np.asarray([source[i]["label"] for i in range(len(source))] if known is None else known, np.int32)
