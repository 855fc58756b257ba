"""A folder (or a .zip) of images; all files are checked before training starts."""

import sys
from collections.abc import Iterable
from pathlib import Path

from jaxgen.core.class_names import listed, ordered
from jaxgen.core.errors import InputError, choose
from jaxgen.data.decode_check import find_undecodable
from jaxgen.data.image_decoding import decode
from jaxgen.data.image_files import SUFFIXES, reason
from jaxgen.data.image_folders import files_in
from jaxgen.data.split_names import SPLITS, split_named
from jaxgen.data.transforms import pixels_of


class Folder:
    """Images at any depth of a folder; if all are in sub-folders, these are the classes.

    A single folder around sub-folders is entered. Sub-folders named train, test, val or the like are the splits;
    otherwise all images are "train". Classes are those of all splits together, whole numbers in the order of their
    values, others by name. Names that begin with a dot are ignored. Every file is decoded once at the start, and the
    result is kept in the cache folder.

    Raises InputError with the name of a corrupt file (with `skip_bad`, corrupt files are skipped and their number is
    printed), of whatever lies beside splits, and of an image beside sub-folders, which would leave all images without
    a class; with `mixed`, such images are accepted.
    """

    def __init__(self, path: Path, split: str, skip_bad: bool = False, mixed: bool = False):
        self.path = path
        self.files = files_in(path)
        if not self.files.stamps:
            raise InputError(f"{path} holds no images: their names must end in {', '.join(sorted(SUFFIXES))}.")
        parts, depth = _splits(sorted(self.files.stamps), path)
        # From the names in all splits, so that neither a split nor a corrupt file renumbers the classes.
        classes = ordered(name for names in parts.values() for name in _classes(names, depth, path, mixed))
        chosen = _chosen(split, parts, path)
        names = parts[chosen] if chosen in parts else sorted(name for part in parts.values() for name in part)
        stamps = {name: self.files.stamps[name] for name in names}
        self.bad = bad = find_undecodable(path, stamps, self.files.read)
        self.names = [name for name in names if name not in bad]
        if bad:
            _report(path, bad, len(names), skip_bad)
        labelled = _below(depth, names)
        self.classes: tuple[str, ...] = classes if labelled else ()
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[name.split("/")[depth]] for name in self.names] if labelled else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        example = self.pil_example(index)
        return {**example, "image": pixels_of(example["image"])}

    def pil_example(self, index: int) -> dict:
        """Return the example with a Pillow image, which saves two copies on the way to a batch."""
        name = self.names[index]
        try:
            image = decode(self.files.read(name))
        except Exception as error:  # Pillow raises many types; the file was valid at the start
            raise InputError(f"{self.path / name} can no longer be read: {reason(error)}.") from error
        return {"image": image} if self.labels is None else {"image": image, "label": self.labels[index]}


def _splits(names: list[str], path: Path) -> tuple[dict[str, list[str]], int]:
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
        elif not (len(folders) == 1 and any(_below(depth + 1, part) for part in parts.values())):
            break
        depth += 1
    if "" in parts:
        inner = {tuple(name.split("/")[depth : depth + 2]) for name in names if name.count("/") > depth + 1}
        inside = sorted(folder for folder, below in inner if below.lower() in SPLITS)
        if twice := [folder for folder in inside if inside.count(folder) > 1]:
            raise InputError(f"{path} has splits inside of the folder {twice[0]}: put the splits above the classes.")
    return parts, depth


def _below(depth: int, names: Iterable[str]) -> bool:
    """Return whether all names have more leading folders than `depth`."""
    return all(name.count("/") > depth for name in names)


def _chosen(split: str, parts: dict[str, list[str]], path: Path) -> str:
    """Return the split's name in `parts`, or "all". Raises InputError if it is not there."""
    name = split_named(split)
    if "" not in parts:
        if name == "all":
            return name
        return choose(name, sorted(parts), f"split of {path}")
    if name not in ("train", "all"):
        raise InputError(f"{path} has no sub-folder {split!r}: without sub-folders for splits it has only 'train'.")
    return ""


def _classes(names: list[str], depth: int, path: Path, mixed: bool) -> tuple[str, ...]:
    """Return the classes of a split, () without any. Raises InputError for an image beside class folders."""
    classes = ordered(name.split("/")[depth] for name in names if name.count("/") > depth)
    loose = [name for name in names if name.count("/") <= depth]
    if classes and loose and not mixed:
        raise InputError(
            f"{path} has the image {loose[0]} beside the folders {listed(classes)}: move it into one of them, or all "
            "images into one folder."
        )
    return () if loose else classes


def _report(path: Path, bad: dict[str, str], total: int, skip: bool) -> None:
    """Report images that cannot be read: by an InputError, or by a line on stderr if they are skipped."""
    name, wrong = next(iter(bad.items()))
    if len(bad) == total:
        raise InputError(f"None of the {total} images in {path} can be read ({name}: {wrong}).")
    if not skip:
        more = f", and {len(bad) - 1} more in {path} cannot" if len(bad) > 1 else ""
        raise InputError(f"{path / name} cannot be read, {wrong}{more}: repair or remove it, or use --data.skip-bad.")
    print(f"Skipped {len(bad)} of {total} images in {path} that cannot be read (the first: {name}).", file=sys.stderr)
