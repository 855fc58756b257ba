"""Files that commands write: told before the work, whole at every moment, and no other file is lost for them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jaxgen.core.errors import InputError


def check(out: Path, endings: Sequence[str], overwrite: bool, beside: Iterable[Path] = (), given: Iterable[Path] = ()):
    """Raise InputError where an answer can't be written to `out`, or would replace what must be kept.

    endings:   what its name may end in
    overwrite: whether it may replace a file
    beside:    other files of the answer
    given:     what it is made of, which is kept whatever `overwrite` says
    """
    if out.suffix.lower() not in endings:
        told = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise InputError(f"--out must end in {told}, not {out.name!r}.")
    given = list(given)
    for path in (out, *beside):
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file.")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir():
            raise InputError(f"{parent} is a file: {path.name} can't be written into it.")
        for file in given:
            if path.exists() and file.exists() and path.samefile(file):
                raise InputError(f"{file} would be replaced by its own answer: name another file with --out.")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already and is kept: name another with --out, or write --overwrite.")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the name of a file beside `path` to be written, which then becomes `path`, its folder made where needed.

    Raises InputError where it can't be written.
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
