"""Files that commands write: checked before the work begins, written atomically, never over another file by mistake."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jaxgen.core import paths, whole_file
from jaxgen.core.errors import InputError


def check(out: Path, endings: Sequence[str], overwrite: bool, beside: Iterable[Path] = (), given: Iterable[Path] = ()):
    """Raise InputError if `out` can't be written, or would replace a file that must be kept.

    endings:   the allowed suffixes
    overwrite: whether existing files may be replaced
    beside:    other files that are written with it
    given:     input files, which are never replaced, even with `overwrite`
    """
    if out.suffix.lower() not in endings:
        allowed = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise InputError(f"--out must end in {allowed}, not {out.name!r}.")
    given = list(given)
    for path in (out, *beside):
        check_place(path)
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file.")
        for file in given:
            if path.exists() and file.exists() and paths.remote(path) == paths.remote(file) and path.samefile(file):
                raise InputError(f"{file} would be replaced by its own output: name another file with --out.")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already: name another file with --out, or add --overwrite.")


def beside(out: Path, suffix: str) -> Path:
    """Return the path of the file with another suffix that is written with `out`; `check` refuses an empty name."""
    return out.with_suffix(suffix) if out.name else out


def check_place(path: Path):
    """Raise InputError if the system refuses the path's name, or to write into its folder."""
    with _as_input_error(path):
        path.exists()  # raises OSError for a name that is too long
        if paths.remote(path):
            return  # a store has no folders
        parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise InputError(f"{parent} is a file, not a folder: {path.name} can't be written into it.")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path} can't be written: {parent} is read-only.")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is then renamed to `path`. Missing folders are created.

    Raises InputError if it can't be written.
    """
    with _as_input_error(path):
        if not paths.remote(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file.replacing(path) as part:
            yield part


@contextmanager
def together() -> Iterator[None]:
    """Have all files that are written inside, or none of them: the same command can be given again after a kill.

    Raises InputError if one can't be written.
    """
    try:
        with whole_file.together():
            yield
    except OSError as error:
        if error.filename2 is None:  # not of a renaming
            raise
        raise InputError(f"{error.filename2} can't be written: {error.strerror}.") from error


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}.") from error
