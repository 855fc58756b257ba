"""A folder (or a .zip) of images; all files are checked before training starts."""

import os
import sys
import zipfile
from pathlib import Path
from typing import IO

from jaxgen.core.errors import InputError, choose
from jaxgen.data import image_files
from jaxgen.data.arrays import first_line
from jaxgen.data.decode_check import Stamp, find_undecodable
from jaxgen.data.image_decoding import decode
from jaxgen.data.image_files import SUFFIXES, reason
from jaxgen.data.transforms import pixels_of

SPLITS = ("train", "test", "val", "valid", "validation")


class Folder:
    """Images at any depth of a folder; if all are in sub-folders, these are the classes, sorted by name.

    A single folder around sub-folders is entered. Sub-folders named train, test or val[idation] are the splits;
    otherwise all images are "train". Names that begin with a dot are ignored. Every file is decoded once at the start,
    and the result is kept in the cache folder. Raises InputError with the name of a corrupt file; with `skip_bad`,
    corrupt files are skipped and their number is printed.
    """

    def __init__(self, path: Path, split: str, skip_bad: bool = False):
        self.path = path
        self.files: _Disk | _Zip = _Disk(path) if path.is_dir() else _Zip(path)
        stamps = {name: stamp for name, stamp in sorted(self.files.stamps.items()) if _wanted(name)}
        if not stamps:
            raise InputError(f"{path} holds no images: their names must end in {', '.join(sorted(SUFFIXES))}.")
        stamps, depth = _select_split(stamps, split, path)
        bad = find_undecodable(path, stamps, self.files.read)
        self.names = [name for name in stamps if name not in bad]
        if bad:
            _report(path, bad, len(stamps), skip_bad)
        # From all files, so that skipping corrupt ones cannot renumber the classes.
        tails = {name: name.split("/")[depth:] for name in stamps}
        labelled = all(len(tail) > 1 for tail in tails.values())
        self.classes: tuple[str, ...] = tuple(sorted({tail[0] for tail in tails.values()})) if labelled else ()
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[tails[name][0]] for name in self.names] if labelled else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        example = self.pil_example(index)
        return {**example, "image": pixels_of(example["image"])}

    def pil_example(self, index: int) -> dict:
        """Return the example with a Pillow image, which saves two copies on the way to a batch."""
        name = self.names[index]
        try:
            image = decode(self.files.read(name))
        except Exception as error:  # Pillow raises many types; the file was valid at the start
            raise InputError(f"{self.path / name} can no longer be read: {reason(error)}.") from error
        return {"image": image} if self.labels is None else {"image": image, "label": self.labels[index]}


class _Disk:
    """The files in a folder; links are followed."""

    def __init__(self, root: Path):
        self.root = root
        self.stamps: dict[str, Stamp] = {}
        try:
            self._walk(str(root), "", set())
        except OSError as error:
            raise InputError(f"{error.filename or root} cannot be read: {first_line(error)}.") from error

    def _walk(self, folder: str, prefix: str, above: set[tuple[int, int]]) -> None:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in above:  # a link to a parent folder
            return
        above = above | {(here.st_dev, here.st_ino)}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    self._walk(entry.path, f"{prefix}{entry.name}/", above)
                elif _wanted(entry.name):
                    # A broken link has no stat; it is reported when it is read.
                    stat = entry.stat() if entry.is_file() else None
                    self.stamps[prefix + entry.name] = (stat.st_size, stat.st_mtime_ns) if stat else (-1, -1)

    def read(self, name: str) -> bytes:
        return image_files.read(f"{self.root}/{name}")

    def open(self, name: str) -> IO[bytes]:
        return open(f"{self.root}/{name}", "rb")


class _Zip:
    """The files in a .zip; reading is thread-safe."""

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
    """Return the files of a split and the number of leading folders in their names that are not classes."""
    depth, chosen = 0, False
    while True:
        tops = {name.split("/")[depth] for name in stamps}
        deeper = all(name.count("/") > depth for name in stamps)  # all files are in sub-folders
        if deeper and not chosen and tops <= set(SPLITS):
            choose(split, sorted(tops), f"split of {path}")
            stamps = {name: stamp for name, stamp in stamps.items() if name.split("/")[depth] == split}
            chosen = True
        elif not (deeper and len(tops) == 1 and all(name.count("/") > depth + 1 for name in stamps)):
            break
        depth += 1
    if not chosen and split not in ("train", "all"):
        raise InputError(f"{path} has no sub-folder {split!r}: without sub-folders for splits it has only 'train'.")
    return stamps, depth


def _report(path: Path, bad: dict[str, str], total: int, skip: bool) -> None:
    """Report images that cannot be read: by an InputError, or by a line on stderr if they are skipped."""
    name, wrong = next(iter(bad.items()))
    if len(bad) == total:
        raise InputError(f"None of the {total} images in {path} can be read ({name}: {wrong}).")
    if not skip:
        more = f", and {len(bad) - 1} more in {path} cannot" if len(bad) > 1 else ""
        raise InputError(f"{path / name} cannot be read, {wrong}{more}: repair or remove it, or use --data.skip-bad.")
    print(f"Skipped {len(bad)} of {total} images in {path} that cannot be read (the first: {name}).", file=sys.stderr)
