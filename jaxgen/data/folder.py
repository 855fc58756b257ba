"""A folder (or a .zip) of images, checked whole before training starts."""

import os
import sys
import zipfile
from pathlib import Path
from typing import IO

from jaxgen.core.errors import InputError, choose
from jaxgen.data.arrays import first_line
from jaxgen.data.decode_check import Stamp, find_undecodable
from jaxgen.data.image_decoding import SUFFIXES, decode, reason
from jaxgen.data.transforms import pixels_of

SPLITS = ("train", "test", "val", "valid", "validation")


class Folder:
    """Images at any depth; where all of them lie in sub-folders, those are the classes, sorted by name.

    A single folder around sub-folders is entered. Where the sub-folders are called train, test or val[idation], they
    are the splits; otherwise all is "train". Names that begin with a dot are left out. Every file is decoded once at
    the start and its verdict kept in the cache folder. Raises InputError naming a corrupt file; with `skip_bad` it is
    left out and the number of them printed.
    """

    def __init__(self, path: Path, split: str, skip_bad: bool = False):
        self.path = path
        self.files: _Disk | _Zip = _Disk(path) if path.is_dir() else _Zip(path)
        stamps = {name: stamp for name, stamp in sorted(self.files.stamps.items()) if _wanted(name)}
        if not stamps:
            raise InputError(f"{path} holds no image: they end in {', '.join(sorted(SUFFIXES))}.")
        stamps, depth = _select_split(stamps, split, path)
        bad = find_undecodable(path, stamps, self.files.read)
        self.names = [name for name in stamps if name not in bad]
        if bad:
            _report(path, bad, len(stamps), skip_bad)
        # Of all files, so that leaving a corrupt one out cannot renumber the classes.
        tails = {name: name.split("/")[depth:] for name in stamps}
        labelled = all(len(tail) > 1 for tail in tails.values())
        self.classes: tuple[str, ...] = tuple(sorted({tail[0] for tail in tails.values()})) if labelled else ()
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[tails[name][0]] for name in self.names] if labelled else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        example = self.picture(index)
        return {**example, "image": pixels_of(example["image"])}

    def picture(self, index: int) -> dict:
        """Return the example with its image as a Pillow image, which saves two copies on the way to a batch."""
        name = self.names[index]
        try:
            image = decode(self.files.read(name))
        except Exception as error:  # Pillow raises many kinds; the file was good at the start
            raise InputError(f"{self.path / name} can no longer be read: {reason(error)}.") from error
        return {"image": image} if self.labels is None else {"image": image, "label": self.labels[index]}


class _Disk:
    """The files under a folder, links followed."""

    def __init__(self, root: Path):
        self.root = root
        self.stamps: dict[str, Stamp] = {}
        try:
            self._walk(str(root), "", set())
        except OSError as error:
            raise InputError(f"{error.filename or root} cannot be read: {first_line(error)}.") from error

    def _walk(self, folder: str, prefix: str, above: set[tuple[int, int]]) -> None:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in above:  # a link to a folder that holds it
            return
        above = above | {(here.st_dev, here.st_ino)}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    self._walk(entry.path, f"{prefix}{entry.name}/", above)
                elif _wanted(entry.name):
                    stat = entry.stat() if entry.is_file() else None  # None: a link to nothing, found on reading it
                    self.stamps[prefix + entry.name] = (stat.st_size, stat.st_mtime_ns) if stat else (-1, -1)

    def read(self, name: str) -> bytes:
        with open(f"{self.root}/{name}", "rb", buffering=0) as file:
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        return open(f"{self.root}/{name}", "rb")


class _Zip:
    """The files in a .zip; reading is safe from several threads."""

    def __init__(self, path: Path):
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is neither a folder nor a .zip file.")
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be read: {first_line(error)}.") from error
        self.stamps: dict[str, Stamp] = {info.filename: (info.file_size, info.CRC) for info in self.file.infolist()}

    def read(self, name: str) -> bytes:
        return self.file.read(name)

    def open(self, name: str) -> IO[bytes]:
        return self.file.open(name)


def _wanted(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in SUFFIXES


def _select_split(stamps: dict[str, Stamp], split: str, path: Path) -> tuple[dict[str, Stamp], int]:
    """Return the files of a split, and how many leading folders of their names are not classes."""
    depth, chosen = 0, False
    while True:
        tops = {name.split("/")[depth] for name in stamps}
        deeper = all(name.count("/") > depth for name in stamps)  # all of them lie in sub-folders
        if deeper and not chosen and tops <= set(SPLITS):
            choose(split, sorted(tops), f"split of {path}")
            stamps = {name: stamp for name, stamp in stamps.items() if name.split("/")[depth] == split}
            chosen = True
        elif not (deeper and len(tops) == 1 and all(name.count("/") > depth + 1 for name in stamps)):
            break
        depth += 1
    if not chosen and split not in ("train", "all"):
        raise InputError(f"{path} has no sub-folder {split!r}: without sub-folders for splits all of it is 'train'.")
    return stamps, depth


def _report(path: Path, bad: dict[str, str], total: int, skip: bool) -> None:
    """Say which images cannot be read: an InputError, or a line on stderr where they are skipped."""
    name, wrong = next(iter(bad.items()))
    if len(bad) == total:
        raise InputError(f"None of the {total} images in {path} can be read ({name}: {wrong}).")
    if not skip:
        more = f", and {len(bad) - 1} more in {path} cannot" if len(bad) > 1 else ""
        raise InputError(
            f"{path / name} cannot be read, {wrong}{more}: mend or remove it, or train with --data.skip-bad."
        )
    print(f"Skipped {len(bad)} of {total} images in {path} that cannot be read (the first: {name}).", file=sys.stderr)
