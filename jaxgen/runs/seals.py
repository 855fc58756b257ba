"""Seals of checkpoints: digests show whether a checkpoint's files are as they were written.

<step>.sha256 has a heading, a line a file as sha256sum writes them, and the digest of all lines above. It is written
last: without it a checkpoint is none. Version 0.1 wrote neither the heading nor the last line.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from jaxgen.core import paths
from jaxgen.core.whole_file import replacing, sync

HEADING = "# The last line is the SHA-256 of all lines above it.\n"


def sealed(folder: Path, step: int) -> bool:
    """Return whether a checkpoint was completed. `check` reads it, and returns whether it is still whole."""
    return _seal(folder, step).exists() and (folder / str(step)).is_dir()


def seal(folder: Path, step: int):
    """Write the digests of a checkpoint's files beside it, once those files are on the disk."""
    root = folder / str(step)

    def line(path: Path) -> str:
        if not paths.remote(path):
            sync(path)
        return f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" if path.is_file() else ""

    with ThreadPoolExecutor(8) as pool:  # a disk writes many files in the time of one
        lines = [HEADING, *pool.map(line, (*sorted(root.rglob("*")), root, folder))]
    with replacing(_seal(folder, step), durable=True) as part:
        part.write_text("".join([*lines, _last(lines)]))


def check(folder: Path, step: int) -> str | None:
    """Return what is wrong with a checkpoint's files, or None."""
    file, root = _seal(folder, step), folder / str(step)
    cut = f"{file.name} is not as it was written"
    try:
        lines = file.read_text("utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return "it was never completed"
    except UnicodeDecodeError:
        return cut
    except OSError as error:
        return f"{file.name} can't be read: {error.strerror}"
    if lines[:1] == [HEADING]:
        if lines[-1] != _last(lines[:-1]):
            return cut
        lines = lines[1:-1]
    listed = {name: digest for digest, _, name in (line.rstrip("\n").partition("  ") for line in lines)}
    if not listed or "" in listed:
        return cut
    try:
        there = {path.relative_to(folder).as_posix(): path for path in root.rglob("*") if path.is_file()}
        for name, digest in listed.items():  # only files in the checkpoint's folder are read
            if name not in there:
                return f"{name} is missing"
            if _digest(there[name]) != digest:
                return f"{name} is not as it was written"
    except OSError as error:
        return f"{error.filename or root} can't be read: {error.strerror}"
    # File systems and desktops put files of their own into folders, such as .nfs0001 and .DS_Store.
    more = [name for name, path in there.items() if name not in listed and not path.name.startswith(".")]
    return f"{more[0]} is not in {file.name}" if more else None


def digest(folder: Path, step: int) -> str:
    """Return the SHA-256 that identifies a checkpoint: that of the list of its files' digests, its seal's last line."""
    lines = _seal(folder, step).read_text("utf-8").splitlines(keepends=True)
    return _last(lines[:-1] if lines[:1] == [HEADING] else lines).strip("# \n")


def newest_whole(folder: Path) -> tuple[int | None, dict[int, str]]:
    """Return the newest step whose files are as they were written, and what is wrong with each newer one."""
    damaged = {}
    for step in reversed([step for step in _steps(folder) if (folder / str(step)).is_dir()]):
        fault = check(folder, step)
        if fault is None:
            return step, damaged
        damaged[step] = fault
    return None, damaged


def sealed_steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints that were completed, in order."""
    return [step for step in _steps(folder) if sealed(folder, step)]


def set_aside_damaged(folder: Path) -> dict[int, str]:
    """Rename the checkpoints that are newer than the newest whole one, so that the run can save those steps again.

    Returns what is wrong with the renamed ones. What killed processes and users have left of others is deleted.
    """
    _, damaged = newest_whole(folder)
    for step in damaged:
        aside = folder / f"{step}.damaged"
        paths.delete(aside, ignore_errors=True)
        paths.move(folder / str(step), aside)
    for step in _steps(folder):
        if not (folder / str(step)).is_dir():
            _seal(folder, step).unlink()
    for half in folder.glob("*.orbax-checkpoint-tmp*"):
        paths.delete(half, ignore_errors=True)
    for part in folder.glob(".*.sha256.*.part"):
        part.unlink(missing_ok=True)
    return damaged


def discard(folder: Path, step: int):
    """Delete what a save that failed has left. A checkpoint that is sealed is never touched."""
    with suppress(OSError):
        if not sealed(folder, step):
            for path in (folder / str(step), *folder.glob(f"{step}.orbax-checkpoint-tmp*")):
                paths.delete(path, ignore_errors=True)


def prune(folder: Path, keep: int) -> list[str]:
    """Delete all checkpoints that are older than the newest `keep`, and return what could not be deleted.

    The seal goes first: half deleted, one no longer counts. What remains of it is deleted by the next call.
    """
    kept, faults = sealed_steps(folder)[-keep:], []
    for step in _steps(folder):
        if kept and step < kept[0]:
            try:
                _seal(folder, step).unlink(missing_ok=True)
                if (folder / str(step)).exists():
                    paths.delete(folder / str(step))
            except OSError as error:
                faults.append(f"{folder / str(step)}: {error.strerror or error}")
    return faults


def _seal(folder: Path, step: int) -> Path:
    return folder / f"{step}.sha256"


def _steps(folder: Path) -> list[int]:
    """Return the steps that have a folder or a seal, in order."""
    names = {path.name.removesuffix(".sha256") for path in folder.glob("*")}
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def _last(lines: list[str]) -> str:
    return f"# {hashlib.sha256(''.join(lines).encode()).hexdigest()}\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
