"""The samples of runs for a page: images, animations, sounds and texts within a budget of bytes."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.core.printable import printable


class Medium(NamedTuple):
    """A format of samples: how a page shows it, its type, and the bytes that its files begin with."""

    shown: str
    type: str
    magic: bytes


MEDIA = {
    ".png": Medium("image", "image/png", b"\x89PNG\r\n\x1a\n"),
    ".gif": Medium("image", "image/gif", b"GIF8"),
    ".wav": Medium("audio", "audio/wav", b"RIFF"),
    ".txt": Medium("text", "", b""),
}
MOST = 100  # samples of a kind and a run
LONGEST = 20_000  # bytes of a text


@dataclass(frozen=True)
class Group:
    """The samples of one kind of a run: files by step, in order; None for a file that is of no step."""

    run: int
    kind: str
    ending: str
    files: tuple[tuple[int | None, Path], ...]

    def size(self, index: int) -> int:
        """Return the bytes that a sample takes in a page."""
        size = self.files[index][1].stat().st_size
        return -(-size // 3) * 4 if MEDIA[self.ending].type else min(size, LONGEST)

    def item(self, index: int) -> str | None:
        """Return a sample as a data URI, or as text; None where the file is not what its name says."""
        medium = MEDIA[self.ending]
        with self.files[index][1].open("rb") as file:
            data = file.read(-1 if medium.type else LONGEST)
        if not data.startswith(medium.magic) or not data:
            return None
        if not medium.type:
            return printable(data.decode(errors="replace"), "\n\t")
        return f"data:{medium.type};base64,{base64.b64encode(data).decode()}"


def groups_of(folder: Path, run: int) -> list[Group]:
    """Return the kinds of samples that a run's folder holds: folders of files that are named by steps.

    A link is no sample: a page holds nothing from outside of the run's folder.
    """
    found: dict[tuple[str, str], dict[int | None, Path]] = {}
    for path in folder.glob("*/*.*"):
        if re.fullmatch(r"[0-9]{1,15}", path.stem) and path.suffix in MEDIA and _own(path):
            found.setdefault((path.parent.name, path.suffix), {})[int(path.stem)] = path
    confusion = folder / "confusion.png"
    last = {("confusion matrix", ".png"): {None: confusion}} if _own(confusion) else {}
    ordered = {key: found[key] for key in sorted(found, key=lambda key: (key[0] != "samples", key))} | last
    steps = lambda files: tuple(sorted(files.items())) if len(files) > 1 else tuple(files.items())  # noqa: E731
    return [Group(run, printable(kind), ending, steps(files)) for (kind, ending), files in ordered.items()]


def embed(groups: Sequence[Group], budget: int) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Return groups as a page holds them, and (run, sentence) on what is left out of them.

    budget: bytes of all together; what a small group does not need of its share is left to the others
    """
    made, notes, left = {}, [], budget
    sizes = [[group.size(i) for i in range(len(group.files))] for group in groups]
    for rank, i in enumerate(sorted(range(len(groups)), key=lambda i: sum(sizes[i]))):
        group, count = groups[i], len(groups[i].files)
        chosen = evenly(sizes[i], left // (len(groups) - rank))
        left -= sum(sizes[i][k] for k in chosen)
        items = {k: group.item(k) for k in chosen}
        if len(chosen) < count:
            why = "evenly spread" if chosen else "each takes more than its share of --megabytes"
            notes.append((group.run, f"{len(chosen)} of {count:,} {group.kind} are shown, {why}."))
        if damaged := sum(item is None for item in items.values()):
            notes.append((group.run, f"{damaged:,} of the {group.kind} are damaged files, and left out."))
        good = {group.files[k][0]: item for k, item in items.items() if item is not None}
        if good:
            about = {"run": group.run, "kind": group.kind, "shown": MEDIA[group.ending].shown}
            made[i] = {**about, "steps": list(good), "items": list(good.values())}
    return [made[i] for i in sorted(made)], notes


def evenly(sizes: Sequence[int], share: int) -> list[int]:
    """Return the indices of as many items as fit into a share of bytes, evenly spread from the first to the last."""
    for count in range(min(len(sizes), MOST), 1, -1):
        chosen = np.rint(np.linspace(0, len(sizes) - 1, count)).astype(int).tolist()
        if sum(sizes[k] for k in chosen) <= share:
            return chosen
    return [len(sizes) - 1] if sizes and sizes[-1] <= share else []


def _own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()
