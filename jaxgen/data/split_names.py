"""Names of splits, in folders and in the names of files."""

import re
from pathlib import Path

# Words for a split, whatever their case.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "t10k": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(sorted(SPLITS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


def split_named(text: str) -> str:
    """Return the split that a word means, such as "val" for "dev"; the word itself if it means none."""
    return SPLITS.get(text.lower(), text)


def split_files(path: Path) -> dict[str, Path]:
    """Return a file named after a split and those beside it whose names differ in that word alone, by their splits.

    Of kmnist-train-imgs.npz they are {"train": kmnist-train-imgs.npz, "test": kmnist-test-imgs.npz}, if both exist.
    """
    if not (match := WORD.search(path.name)):
        return {}
    found = {split_named(match[0]): path}
    for word, split in SPLITS.items():
        word = word.capitalize() if match[0][0].isupper() else word
        other = path.with_name(path.name[: match.start()] + word + path.name[match.end() :])
        if split not in found and other.is_file():
            found[split] = other
    return found


def file_of(path: Path, split: str) -> Path | None:
    """Return the file of a split: the named one for "train", "all" and its own split; None if there is no such file."""
    return path if split_named(split) in ("train", "all") else split_files(path).get(split_named(split))
