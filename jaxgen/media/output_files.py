"""Files that commands write: checked before the work begins, written atomically, never over another file by mistake."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file.")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir():
            raise InputError(f"{parent} is a file, not a folder: {path.name} can't be written into it.")
        for file in given:
            if path.exists() and file.exists() and path.samefile(file):
                raise InputError(f"{file} would be replaced by its own output: name another file with --out.")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already: name another file with --out, or add --overwrite.")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is then renamed to `path`. Missing folders are created.

    Raises InputError if it can't be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}.") from error
    finally:
        if path.parent.is_dir():
            part.unlink(missing_ok=True)
