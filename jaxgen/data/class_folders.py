"""Splits and classes of examples by the names of their folders."""

from collections.abc import Iterable
from pathlib import Path

from jaxgen.core.class_names import listed, ordered
from jaxgen.core.errors import InputError, choose
from jaxgen.data.split_names import SPLITS, split_named


def splits(names: list[str], path: Path) -> tuple[dict[str, list[str]], int]:
    """Return the names of each split, {"": all} without splits, and the number of their leading folders above classes.

    Raises InputError for splits beside anything else, and for splits inside of classes.
    """
    parts, depth = {"": names}, 0
    while True:
        folders = {name.split("/")[depth] for name in names if name.count("/") > depth}
        splits = sorted(folder for folder in folders if folder.lower() in SPLITS)
        if splits and "" in parts:
            if odd := [*sorted(folders - {*splits}), *(name for name in names if name.count("/") == depth)]:
                raise InputError(
                    f"{path} has {listed(odd)} beside the splits {listed(splits)}: move or rename it. If these are "
                    "classes, put all class folders into one folder named train."
                )
            parts = {}
            for name in names:
                parts.setdefault(SPLITS[name.split("/")[depth].lower()], []).append(name)
            if len(parts) < len(splits):
                raise InputError(f"{path} has the folders {listed(splits)}, and two of them are the same split.")
        elif not (len(folders) == 1 and any(below(depth + 1, part) for part in parts.values())):
            break
        depth += 1
    if "" in parts:
        inner = {tuple(name.split("/")[depth : depth + 2]) for name in names if name.count("/") > depth + 1}
        inside = sorted(folder for folder, below in inner if below.lower() in SPLITS)
        if twice := [folder for folder in inside if inside.count(folder) > 1]:
            raise InputError(f"{path} has splits inside of the folder {twice[0]}: put the splits above the classes.")
    return parts, depth


def below(depth: int, names: Iterable[str]) -> bool:
    """Return whether all names have more leading folders than `depth`."""
    return all(name.count("/") > depth for name in names)


def chosen(split: str, parts: dict[str, list[str]], path: Path) -> str:
    """Return the split's name in `parts`, or "all". Raises InputError if it is not there."""
    name = split_named(split)
    if "" not in parts:
        if name == "all":
            return name
        return choose(name, sorted(parts), f"split of {path}")
    if name not in ("train", "all"):
        raise InputError(f"{path} has no sub-folder {split!r}: without sub-folders for splits it has only 'train'.")
    return ""


def classes(names: list[str], depth: int, path: Path, mixed: bool, what: str = "image") -> tuple[str, ...]:
    """Return the classes of a split, () without any. Raises InputError for an example beside class folders."""
    classes = ordered(name.split("/")[depth] for name in names if name.count("/") > depth)
    loose = [name for name in names if name.count("/") <= depth]
    if classes and loose and not mixed:
        raise InputError(
            f"{path} has the {what} {loose[0]} beside the folders {listed(classes)}: move it into one of them, or all "
            f"{what}s into one folder."
        )
    return () if loose else classes
