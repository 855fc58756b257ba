"""Files that are written whole or not at all, one alone or several together, on this machine or in a store."""

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from jaxgen.core import paths


class Written(NamedTuple):
    """A file that is written, but does not have its name yet."""

    part: Path
    path: Path
    mode: int
    durable: bool

    def rename(self):
        if paths.remote(self.path):
            paths.send(self.part, self.path)
            discard(self.part)
            return
        self.part.chmod(self.mode)  # some writers have made the file anew, readable by its owner only
        if self.durable:
            sync(self.part)
        self.part.replace(self.path)
        if self.durable:
            sync(self.path.parent)


_waiting: ContextVar[list[Written] | None] = ContextVar("_waiting", default=None)


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield the temporary path of an empty file beside `path`, which then takes its place.

    Where `path` lies in a store, the temporary file lies on this machine.
    durable: survive a power failure: the contents are on the disk before the name is, and the name before this returns
    """
    part, waiting = temporary(path), _waiting.get()
    try:
        with part.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # of a new file: the user's umask decides
        yield part
        written = Written(part, path, mode, durable)
        written.rename() if waiting is None else waiting.append(written)
    except BaseException:
        discard(part)
        raise


@contextmanager
def together() -> Iterator[None]:
    """Give the files that are written inside their names at the end: all, or none if an error is raised.

    The first one that was written, the one that counts, is renamed last: where it is, the others are too.
    """
    waiting: list[Written] = []
    token = _waiting.set(waiting)
    try:
        yield
        for written in reversed(waiting):
            written.rename()
    finally:
        _waiting.reset(token)
        for written in waiting:
            discard(written.part)


def temporary(path: Path) -> Path:
    """Return a hidden name beside `path` that no other process has, and that is short however long the path's is."""
    if paths.remote(path):
        path = Path(tempfile.gettempdir()) / path.name
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")


def discard(part: Path):
    """Delete a temporary file, if it is there. Never hides the error that led here."""
    with suppress(OSError):
        part.unlink(missing_ok=True)


def sync(path: Path):
    """Return once a file's contents, or a folder's names, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no fsync of folders
            raise
    finally:
        os.close(number)
