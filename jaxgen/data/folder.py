"""A folder (or a .zip) of images; all files are checked before training starts."""

import sys
from pathlib import Path

from jaxgen.core.class_names import ordered
from jaxgen.core.errors import InputError
from jaxgen.data import class_folders
from jaxgen.data.decode_check import find_undecodable
from jaxgen.data.image_decoding import decode
from jaxgen.data.image_files import SUFFIXES, reason
from jaxgen.data.image_folders import files_in
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
        parts, depth = class_folders.splits(sorted(self.files.stamps), path)
        # From the names in all splits, so that neither a split nor a corrupt file renumbers the classes.
        classes = ordered(name for names in parts.values() for name in class_folders.classes(names, depth, path, mixed))
        chosen = class_folders.chosen(split, parts, path)
        names = parts[chosen] if chosen in parts else sorted(name for part in parts.values() for name in part)
        stamps = {name: self.files.stamps[name] for name in names}
        self.bad = bad = find_undecodable(path, stamps, self.files.read)
        self.names = [name for name in names if name not in bad]
        if bad:
            _report(path, bad, len(names), skip_bad)
        labelled = class_folders.below(depth, names)
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


def _report(path: Path, bad: dict[str, str], total: int, skip: bool) -> None:
    """Report images that cannot be read: by an InputError, or by a line on stderr if they are skipped."""
    name, wrong = next(iter(bad.items()))
    if len(bad) == total:
        raise InputError(f"None of the {total} images in {path} can be read ({name}: {wrong}).")
    if not skip:
        more = f", and {len(bad) - 1} more in {path} cannot" if len(bad) > 1 else ""
        raise InputError(f"{path / name} cannot be read, {wrong}{more}: repair or remove it, or use --data.skip-bad.")
    print(f"Skipped {len(bad)} of {total} images in {path} that cannot be read (the first: {name}).", file=sys.stderr)
