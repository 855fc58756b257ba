"""Captions of images: those of a source, of text files beside the images, or of a table; and their tokens."""

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core import paths
from jaxgen.core.class_names import listed
from jaxgen.core.errors import InputError
from jaxgen.data import fetched
from jaxgen.data.arrays import first_line
from jaxgen.data.folder import Folder
from jaxgen.data.sources import Source, Subset
from jaxgen.data.tokeniser import Tokeniser, vocabulary_of

TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")  # in the folder of images
FILES, TEXTS = ("file_name", "file", "image"), ("text", "caption")  # a table's columns
MOST = 100_000  # captions that a vocabulary is made of, and that are measured


class Captioned:
    """A source whose examples have the tokens of their captions, i32[n], under a name; `vocabulary` is theirs."""

    def __init__(self, source: Source, captions: Sequence[str], tokeniser: Tokeniser, name: str, length: int):
        self.source, self.captions, self.tokeniser = source, captions, tokeniser
        self.name, self.length, self.classes = name, length, source.classes
        self.vocabulary = tokeniser.vocabulary
        whole: Any = source
        if hasattr(whole, "pil_example"):
            self.pil_example = lambda index: self._with(index, whole.pil_example(index))
        if hasattr(whole, "draw"):
            self.draw = lambda index, key: self._with(index, whole.draw(index, key))
        if hasattr(whole, "__getitems__"):
            self.__getitems__ = lambda indices: list(map(self._with, indices, whole.__getitems__(indices)))

    def __getattr__(self, name: str) -> Any:
        if name not in ("labels", "names", "clips"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        return self._with(index, self.source[index])

    def _with(self, index: int, example: dict) -> dict:
        return {**example, self.name: self.tokeniser.row(self.captions[index], self.length)}


def captioned(source: Source, vocabulary: Sequence[str], name: str, length: int, count: int) -> Captioned:
    """Return a source with its captions as tokens i32[length] under a name.

    vocabulary: the run's; (): one of at most `count` tokens is made of the captions
    Raises InputError where the source has no captions, or where the vocabulary is larger than `count`. Prints how many
    captions are longer than `length`.
    """
    captions = getattr(source, "captions", None)
    if captions is None:
        raise InputError(
            "The model learns from captions, and the data have none: put a .txt with the same name beside each image, "
            f"or a table {TABLES[0]} or {TABLES[1]} into the folder."
        )
    some = [captions[int(i)] for i in np.linspace(0, len(captions) - 1, min(len(captions), MOST)).astype(int)]
    tokeniser = Tokeniser(vocabulary or vocabulary_of(some, count))
    if len(tokeniser.vocabulary) > count:
        raise InputError(
            f"The run's vocabulary has {len(tokeniser.vocabulary)} tokens, the model {count}: write "
            f"--model.text.vocabulary {len(tokeniser.vocabulary)}."
        )
    if not vocabulary:  # said once, where a run begins
        _say_cut([len(tokeniser.numbers(text)) for text in some], length)
    return Captioned(source, captions, tokeniser, name, length)


def _say_cut(lengths: Sequence[int], length: int):
    longer = sum(n > length for n in lengths)
    if longer:
        print(
            f"{longer:,} of {len(lengths):,} captions are longer than the model's {length} tokens, and are cut: "
            f"--model.text.context {max(lengths)} would hold them all.",
            file=sys.stderr,
        )


def with_captions(folder: Folder, table: str, skip: bool) -> Source:
    """Return the images of a folder that have a caption, with `captions`.

    table: a file of captions; "": that in the folder, if there is one of TABLES, or text files beside the images
    Raises InputError for an image without a caption and for a caption without an image, unless `skip`.
    """
    path = (
        fetched.here(paths.path(table))
        if table
        else next(filter(None, (_inside(folder, name) for name in TABLES)), None)
    )
    found = _of_table(folder, path) if path is not None else _beside(folder)
    if not table and path is None and not found:
        return folder  # a folder without captions, which is said where a model needs some
    lacking = [name for name in folder.names if name not in found]
    if lacking and (not skip or len(lacking) == len(folder.names)):
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        where = f"in {path}" if path is not None else "beside it"
        raise InputError(f"{folder.path / lacking[0]}{more} has no caption {where}: add it, or use --data.skip-bad.")
    if lacking:
        print(f"Skipped {len(lacking)} of {len(folder.names)} images without a caption.", file=sys.stderr)
    kept = [i for i, name in enumerate(folder.names) if name in found]
    whole: Any = folder
    whole.captions = [found.get(name, "") for name in folder.names]
    return folder if len(kept) == len(folder.names) else Subset(folder, kept)


def _inside(folder: Folder, name: str) -> Path | None:
    return path if folder.path.is_dir() and (path := folder.path / name).is_file() else None


def _beside(folder: Folder) -> dict[str, str]:
    """Return the texts of the files beside images, by the images' names."""
    found = {}
    members: Any = getattr(getattr(folder.files, "file", None), "namelist", list)()
    inside = set(members)
    for name in folder.names:
        other = os.path.splitext(name)[0] + ".txt"
        try:
            if folder.path.is_dir():
                data = (folder.path / other).read_bytes() if (folder.path / other).is_file() else None
            else:
                files: Any = folder.files
                data = files.file.read(other) if other in inside else None
        except OSError as error:
            raise InputError(f"{folder.path / other} can't be read: {first_line(error)}.") from error
        if data is not None:
            found[name] = " ".join(_decoded(data, folder.path / other).split())
    return found


def _of_table(folder: Folder, path: Path) -> dict[str, str]:
    """Return the captions of a .csv or .jsonl, by the images' names. Raises InputError for one that does not fit."""
    try:
        text = _decoded(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"The captions {path} can't be read: {first_line(error)}.") from error
    rows = _lines(text, path) if path.suffix.lower() in (".jsonl", ".json") else csv.DictReader(io.StringIO(text))
    everywhere = set(itertools.chain(folder.files.stamps))
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        file, caption = (next((row[key] for key in keys if row.get(key) is not None), None) for keys in (FILES, TEXTS))
        if not isinstance(file, str) or not isinstance(caption, str):
            raise InputError(
                f"{path}: entry {number} needs the columns {FILES[0]} and {TEXTS[0]}; it has "
                f"{listed([str(key) for key in row]) or 'none'}."
            )
        name = file.replace("\\", "/").removeprefix("./")
        if name not in everywhere:
            raise InputError(f"{path}: entry {number} is of {name!r}, and {folder.path} has no such image.")
        found[name] = " ".join(caption.split())
    if not found:
        raise InputError(f"The captions {path} hold no entry.")
    return found


def _lines(text: str, path: Path) -> list[Mapping[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no JSON, {first_line(error)}.") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} must be an object with {FILES[0]} and {TEXTS[0]}.")
        rows.append(row)
    return rows


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: {first_line(error)}.") from error
