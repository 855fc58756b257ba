"""Files that are written whole or not at all, and that are on the disk before they have their names."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield the temporary path of an empty file beside `path`, which then takes its place.

    durable: survive a power failure: the contents are on the disk before the name is, and the name before this returns
    """
    part = temporary(path)
    try:
        mode = reserve(part)
        yield part
        finish(part, path, mode, durable)
    finally:
        discard(part)


def temporary(path: Path) -> Path:
    """Return a hidden name beside `path` that no other process has, and that is short however long the path's is."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")


def reserve(part: Path) -> int:
    """Make the empty file, and return the permissions of a new file, which the user's umask decides."""
    with part.open("xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def finish(part: Path, path: Path, mode: int, durable: bool = False):
    """Rename a written file to `path`. Some writers have made it anew, readable by its owner only."""
    part.chmod(mode)
    if durable:
        sync(part)
    part.replace(path)
    if durable:
        sync(path.parent)


def discard(part: Path):
    """Delete a temporary file that has no use any more, if it is there. Never hides the error that led here."""
    with suppress(OSError):
        part.unlink(missing_ok=True)


def sync(path: Path):
    """Return once a file's contents, or a folder's names, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems of networks know no fsync of folders
            raise
    finally:
        os.close(number)
