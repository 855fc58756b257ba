"""The image files in a folder or a .zip, read alike by training and by commands."""

import os
import re
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.core.memory import fault_of
from jaxgen.data import image_files
from jaxgen.data.arrays import first_line
from jaxgen.data.image_files import SUFFIXES, check_bytes

Stamp = tuple[int, int]  # size and modification time (in a .zip: size and checksum); a changed file is checked again


class DiskFiles:
    """The image files in a folder, at any depth, by their names in it; other files with other `suffixes`.

    Links are followed; one that leads back to a folder above it is left out, which is printed. Names that begin with a
    dot, such as .ipynb_checkpoints, are left out.
    """

    def __init__(self, root: Path, suffixes: frozenset[str] = SUFFIXES):
        self.root, self.suffixes = root, suffixes
        self.stamps: dict[str, Stamp] = {}
        loops: list[str] = []
        try:
            self._walk(str(root), "", {}, loops)
        except OSError as error:
            raise InputError(f"{error.filename or root} cannot be read: {first_line(error)}.") from error
        except RecursionError as error:
            raise InputError(f"{root} cannot be read: too many folders lie inside each other.") from error
        if loops:
            more = f", and {len(loops) - 1} more such links" if len(loops) > 1 else ""
            print(f"{loops[0]} links to a folder above it and is left out{more}.", file=sys.stderr)

    def _walk(self, folder: str, prefix: str, above: dict[tuple[int, int], None], loops: list[str]) -> None:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in above:
            loops.append(folder)
            return
        above = {**above, (here.st_dev, here.st_ino): None}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    self._walk(entry.path, f"{prefix}{entry.name}/", above, loops)
                elif wanted(entry.name, self.suffixes):
                    # A link to nothing has no stat; it is reported when it is read.
                    found = entry.stat() if entry.is_file() else None
                    self.stamps[prefix + entry.name] = (found.st_size, found.st_mtime_ns) if found else (-1, -1)

    def read(self, name: str) -> bytes:
        return image_files.read(f"{self.root}/{name}")

    def open(self, name: str) -> IO[bytes]:
        return image_files.regular(f"{self.root}/{name}")


class ZipFiles:
    """The image files in a .zip by their names in it; backslashes are read as slashes. Reading is thread-safe."""

    def __init__(self, path: Path):
        file: Any = path.open("rb") if paths.remote(path) else path
        if not zipfile.is_zipfile(file):
            raise InputError(f"{path} is neither a folder nor a .zip file.")
        try:
            self.file = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise InputError(f"{path} cannot be read: {first_line(error)}.") from error
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for info in self.file.infolist():
            name = info.filename.replace("\\", "/")
            if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:/", name):
                raise InputError(
                    f"{path} holds {name!r}, a path outside the archive: make it again with relative names."
                )
            if wanted(name):
                self.entries[name] = info
        self.stamps: dict[str, Stamp] = {name: (info.file_size, info.CRC) for name, info in self.entries.items()}

    def read(self, name: str) -> bytes:
        info = self._checked(name)
        image_files.note(name)
        with self.file.open(info) as file:
            return file.read(info.file_size)  # no more, even if the compressed data hold more

    def open(self, name: str) -> IO[bytes]:
        return self.file.open(self._checked(name))

    def _checked(self, name: str) -> zipfile.ZipInfo:
        info = self.entries[name]
        check_bytes(info.file_size)
        if fault := fault_of(info.file_size, info.compress_size):
            raise ValueError(fault)
        return info


class StoreFiles:
    """The image files in a folder of an object store, as DiskFiles has those of this machine."""

    def __init__(self, root: Path, suffixes: frozenset[str] = SUFFIXES):
        self.root = root
        self.stamps: dict[str, Stamp] = {n: s for n, s in paths.stamps(root).items() if wanted(n, suffixes)}

    def read(self, name: str) -> bytes:
        return image_files.read(self.root / name)

    def open(self, name: str) -> IO[bytes]:
        return image_files.regular(self.root / name)


def files_in(path: Path) -> "DiskFiles | ZipFiles | StoreFiles":
    """Return the image files of a folder or a .zip. Raises InputError if it can't be read."""
    if not path.is_dir():
        return ZipFiles(path)
    return StoreFiles(path) if paths.remote(path) else DiskFiles(path)


def images_in(folder: Path) -> list[Path]:
    """Return the paths of a folder's image files, sorted. Raises InputError if it can't be read."""
    return sorted(folder / name for name in files_in(folder).stamps)


def wanted(name: str, suffixes: frozenset[str] = SUFFIXES) -> bool:
    """Return whether a name in a folder or a .zip is that of an image, or another file, that counts."""
    parts = name.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in suffixes
