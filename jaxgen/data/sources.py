"""Where examples come from: `open_source` turns `data.source` into a random-access source."""

from pathlib import Path
from typing import Protocol

from jaxgen.config import Data
from jaxgen.data import arrays
from jaxgen.errors import InputError, choose

KINDS = ("digits", "shapes", "tfds", "folder", "idx", "npz")
MEANING = {"tfds": "NAME", "folder": "PATH", "idx": "PATH", "npz": "PATH"}


class Source(Protocol):
    """Examples by number: {"image": u8[h w c]}, and "label" (int) where there are classes; any size per example.

    A source may also have `__getitems__(indices) -> list[dict]`, which reads several at once, and `picture(index)`,
    whose image is a Pillow picture. The loader uses them where it can.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict: ...


def open_source(data: Data, image: tuple[int, int, int] | None = None) -> Source:
    """Return the source `data.source` names; `image` (height, width, channels) is the size `shapes` is drawn at.

    Raises InputError for an unknown source or split, and for data that is missing, empty, damaged or unreadable.
    """
    kind, colon, rest = data.source.partition(":")
    choose(kind, KINDS, "data source")
    if kind in MEANING and not rest:
        raise InputError(f"The data source {data.source!r} lacks its {MEANING[kind]}: write {kind}:{MEANING[kind]}.")
    if kind not in MEANING and colon:
        raise InputError(f"The data source {data.source!r} takes no name or path: write {kind}.")
    if kind == "digits":
        return arrays.digits(data.split)
    if kind == "shapes":
        from jaxgen.data import shapes

        return shapes.Shapes(data.split, image)
    if kind == "tfds":
        from jaxgen.data import tfds

        return tfds.Tfds(rest, data.dir, data.split)
    path = Path(rest).expanduser()
    if not path.exists():
        raise InputError(f"There is no file or folder {path} for the data source {data.source!r}.")
    if kind == "npz":
        return arrays.npz(path, data.split)
    if kind == "idx":
        from jaxgen.data import idx

        return idx.idx(path, data.split)
    from jaxgen.data import folder

    return folder.Folder(path, data.split, data.skip_bad)
