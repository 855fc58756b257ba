"""One command, a picture or a folder of them: what is there is kept, what can't be done is told at the end."""

from collections.abc import Callable
from pathlib import Path

from jaxgen.errors import Incomplete, InputError

Told = tuple[list[Path], list[str]]  # answers that were there and are kept, and what could not be done


def work_through(
    files: list[Path],
    targets: list[Path],
    written: Callable[[Path], list[Path]],
    one: Callable[[Path, Path], object],
    *,
    single: bool,
    overwrite: bool,
) -> Told:
    """Do `one(file, target)` for every file but those of a folder whose answers, `written(target)`, are kept.

    Raises the InputError of a single picture; those of a folder's are returned.
    """
    kept, bad = [], []
    for file, target in zip(files, targets, strict=True):
        try:
            there = [path for path in written(target) if path.exists()]
            if there and not single and not overwrite:
                kept.append(there[0])
                continue
            one(file, target)
        except InputError as error:
            if single:
                raise
            bad.append(str(error))
    return kept, bad


def report(told: Told, count: int, done: str):
    """Print what was kept. Raises Incomplete where some of `count` pictures could not be `done`."""
    kept, bad = told
    if kept:
        print(f"{len(kept)} were there already and are kept (--overwrite replaces them), the first: {kept[0]}.")
    if bad:
        raise Incomplete(f"{len(bad)} of {count} could not be {done}:\n" + "\n".join(bad))
