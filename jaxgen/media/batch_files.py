"""One command, an image or a folder of them: what is there is kept, what can't be done is told at the end."""

import itertools
from collections.abc import Callable
from pathlib import Path

from jaxgen.core.errors import Incomplete, InputError

Written = Callable[[Path], list[Path]]  # where an answer goes -> all the files of it
Told = tuple[list[Path], list[str]]  # answers that were there and are kept, and what could not be done


def answered(target: Path, answers: int) -> list[Path]:
    """Return where so many answers go, the first to `target`."""
    return [target, *(target.with_name(f"{target.stem}-{i}{target.suffix}") for i in range(2, answers + 1))]


def plan(
    picture: Path,
    files: list[Path],
    out: Path | None,
    made: str,
    written: Written,
) -> list[Path]:
    """Return where the answers go: where `out` is unset, beside what they are made of, whose names end in `-made`.

    Raises InputError where two would be one file, or an answer would replace one of the images.
    """
    if picture.is_file():
        targets = [out or picture.with_name(f"{picture.stem}-{made}.png")]
    else:
        folder = out or picture.with_name(f"{picture.resolve().name}-{made}")
        if folder.is_file():
            raise InputError(f"{folder} is a file: for a folder of images name a folder with --out.")
        targets = [folder / file.relative_to(picture).with_suffix(".png") for file in files]
    pairs = zip(targets, files, strict=True)
    every = [(path, file) for target, file in pairs for path in written(target)]
    pictures = {file.resolve() for file in files}
    for path, _ in every:
        if path.resolve() in pictures:
            raise InputError(f"{path} would be replaced by its own answer: name another place with --out.")
    for a, b in itertools.pairwise(sorted(every)):
        if a[0] == b[0]:
            raise InputError(f"{a[1]} and {b[1]} would both become {a[0]}: give them different names.")
    return targets


def work_through(
    files: list[Path],
    targets: list[Path],
    written: Written,
    one: Callable[[Path, Path], object],
    *,
    single: bool,
    overwrite: bool,
) -> Told:
    """Do `one(file, target)` for every file but those of a folder whose answers, `written(target)`, are kept.

    Raises the InputError of a single image; those of a folder's are returned.
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
    """Print what was kept. Raises Incomplete where some of `count` images could not be `done`."""
    kept, bad = told
    if kept:
        print(f"{len(kept)} were there already and are kept (--overwrite replaces them), the first: {kept[0]}.")
    if bad:
        raise Incomplete(f"{len(bad)} of {count} could not be {done}:\n" + "\n".join(bad))
