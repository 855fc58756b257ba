"""Emoji as examples: drawn from sets of icons at the model's size, once, and kept in the user's cache folder.

A set is a style. The labels are categories, styles or both. The split is by name: all styles and all skin tones of an
emoji are in one split, 10 % of the names in "test", by a hash that is equal on all machines and for all sets.
"""

import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.core.cache import cache_folder
from jaxgen.core.class_names import ordered
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError, choose
from jaxgen.core.progress import progress
from jaxgen.core.whole_file import replacing
from jaxgen.data import svg
from jaxgen.data.arrays import first_line
from jaxgen.data.icon_sets import IconSet, read_sets, svg_of
from jaxgen.data.transforms import JITTER

SPLITS = ("train", "test", "all")
HELD_OUT = 10  # one name of so many is in "test"
TONE = "(?:medium-)?(?:light|dark)|medium"
# Of two persons each can have one; some sets write them at the end, and without "skin-tone".
TONES = re.compile(rf"-(?:{TONE})-skin-tone|(?:-(?:{TONE}))+$")
OTHER = "other"  # the category of icons without one
FAULTS = "faults.json"  # in the file of a set's images: {name: why it can't be drawn}
VERSION = 1  # of that file and of the SVGs


class DrawnSet:
    """The images of a set at one size, u8[h w 3] on white, by the icons' names; `faults` are those without an image.

    They are PNGs in a .zip in the cache folder, which is written whole or not at all. Raises InputError.
    """

    def __init__(self, icons: IconSet, height: int, width: int):
        self.icons = icons
        key = json.dumps([VERSION, icons.digest, height, width, svg.renderer()])
        self.path = cache_folder() / "emoji" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.zip"
        try:
            self._open()
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there, or damaged
            self._draw(height, width)
            self._open()

    def _open(self):
        self.file = zipfile.ZipFile(self.path)
        self.faults: dict[str, str] = json.loads(self.file.read(FAULTS))

    def _draw(self, height: int, width: int):
        names, faults, svgs = list(self.icons.icons), {}, []
        for name in names:
            try:
                svgs.append(svg_of(self.icons.icons[name], height, width))
            except ValueError as error:
                svgs.append("")
                faults[name] = str(error)
        text = f"drawing the icons of {self.icons.style} at {height}x{width}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part, zipfile.ZipFile(part, "w") as out, progress(text, len(names), 2) as show:
                for i, (name, drawn) in enumerate(zip(names, svg.draw(svgs), strict=True)):
                    if drawn.fault:
                        faults.setdefault(name, drawn.fault)
                    else:
                        out.writestr(f"{name}.png", drawn.png)
                    show(i + 1)
                out.writestr(FAULTS, json.dumps(faults))
        except OSError as error:
            raise InputError(
                f"The drawn icons can't be kept in {self.path.parent}, {first_line(error)}: let JAXGEN_CACHE name a "
                "folder with room."
            ) from error

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(self.file.read(f"{name}.png")), formats=["PNG"]) as image:
                return np.asarray(image)
        except Exception as error:  # zipfile and Pillow raise many kinds
            raise InputError(f"{self.path} is damaged ({first_line(error)}): remove it.") from error


@dataclass(frozen=True)
class Row:
    """One example: its name, its label, and by "image" or "source" the number of the set and the name of the icon."""

    name: str
    label: str | None
    images: dict[str, tuple[int, str]]


class Emoji:
    """Drawn icons, {"image": u8[h w 3], "label": int}, and "source" u8[h w 3] for pairs of two styles.

    `names` are "style/name", and "name" for pairs; `captions` the names in words, such as "grinning face".
    """

    def __init__(self, sets: Sequence[DrawnSet], rows: Sequence[Row], classes: tuple[str, ...]):
        self.sets, self.rows, self.classes = sets, rows, classes
        self.names = [row.name for row in rows]
        self.captions = [row.name.rpartition("/")[2].replace("-", " ") for row in rows]
        number = {name: i for i, name in enumerate(classes)}
        self.labels = np.asarray([number[row.label or ""] for row in rows], np.int32) if classes else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        images = {key: self.sets[number][name] for key, (number, name) in self.rows[index].images.items()}
        return images if self.labels is None else {**images, "label": int(self.labels[index])}


def emoji(path: Path, data: Data, image: Sequence[int] | None, labelled: bool = False) -> Emoji:
    """Return the icons of the styles `data.styles` in a folder or file; `labelled`: the model needs labels.

    Each icon counts once: aliases, and other names of equal icons, are no examples. Raises InputError, also for an icon
    that can't be drawn unless `data.skip_bad`.
    """
    return _singles(sorted(read_sets(path, data.styles), key=lambda icons: icons.style), data, image, labelled)


def emoji_pairs(path: Path, data: Data, image: Sequence[int] | None) -> Emoji:
    """Return pairs of the first of two styles ("source") and the second ("image"), labelled by the category.

    Icons form a pair if a name of one is a name of the other; aliases are names too. Raises InputError.
    """
    styles = _two(path, data)
    ours, theirs = ({**{name: name for name in x.icons}, **x.other_names} for x in styles)
    found: dict[tuple[str, str], str] = {}
    for name in sorted(ours.keys() & theirs.keys()):
        found.setdefault((ours[name], theirs[name]), name)
    if not found:
        raise InputError(f"The styles {data.styles} of {path} have no name in common: there are no pairs.")
    rows, known = [], any(x.categories for x in styles)
    for (a, b), name in found.items():
        category = styles[0].categories.get(a) or styles[1].categories.get(b) or OTHER
        if held_out(a) == held_out(b):  # no image is in both splits
            rows.append(Row(name, category if known else None, {"source": (0, a), "image": (1, b)}))
    return _opened(styles, rows, data, image, path)


def emoji_domains(path: Path, data: Data, image: Sequence[int] | None) -> tuple[Emoji, Emoji]:
    """Return the icons of each of two styles. Raises InputError."""
    first, second = (_singles([icons], data, image, False) for icons in _two(path, data))
    return first, second


def held_out(name: str) -> bool:
    """Return whether an emoji of this name, in any style and skin tone, is in "test"."""
    digest = hashlib.sha256(TONES.sub("", name).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT == 0


def drawn_size(image: Sequence[int] | None, crop: str) -> tuple[int, int]:
    """Return the height and width of the drawn images: the model's, and a little more for the crop "jitter"."""
    height, width = image[:2] if image else (64, 64)
    return (round(height * JITTER), round(width * JITTER)) if crop == "jitter" else (height, width)


def _two(path: Path, data: Data) -> list[IconSet]:
    """Return the two sets that `data.styles` names. Raises InputError for another number."""
    if len(sets := read_sets(path, data.styles)) != 2 or not data.styles:
        known = ", ".join(icons.style for icons in sets)
        raise InputError(f"Translation needs two styles, such as --data.styles noto,twemoji, not {known}.")
    return sets


def _singles(sets: list[IconSet], data: Data, image: Sequence[int] | None, labelled: bool) -> Emoji:
    known = any(icons.categories for icons in sets)
    if labelled and data.labels == "category" and not known:
        raise InputError(f"{sets[0].path} has no categories to be labels: use --data.labels style.")
    rows = []
    for number, icons in enumerate(sets):
        for name in icons.icons:
            category = icons.categories.get(name, OTHER)
            labels: Any = {"category": category if known else None, "style": icons.style}
            labels["both"] = f"{icons.style}/{category}"
            rows.append(Row(f"{icons.style}/{name}", labels[data.labels], {"image": (number, name)}))
    return _opened(sets, rows, data, image, sets[0].path)


def _opened(sets: Sequence[IconSet], rows: Sequence[Row], data: Data, image: Sequence[int] | None, path: Path) -> Emoji:
    """Return the rows of a split, drawn. Classes are those of all splits together."""
    split = choose(data.split, SPLITS, "split of emoji")
    classes = ordered(row.label for row in rows if row.label is not None)
    chosen = [row for row in rows if split == "all" or held_out(_icon(row)) == (split == "test")]
    if not chosen:
        raise InputError(f"{path} has no emoji in the split {split!r}, {len(rows)} in all: give a larger set.")
    drawn = [DrawnSet(icons, *drawn_size(image, data.crop)) for icons in sets]
    bad = {}
    for row in chosen:
        for number, name in row.images.values():
            if name in drawn[number].faults:
                bad[row.name] = f"{sets[number].path}: the icon {name!r} can't be drawn, {drawn[number].faults[name]}"
    if bad:
        _report(list(bad.values()), len(chosen), data.skip_bad)
    return Emoji(drawn, [row for row in chosen if row.name not in bad], classes)


def _icon(row: Row) -> str:
    return row.images["image"][1]


def _report(bad: list[str], total: int, skip: bool):
    """Report icons that can't be drawn: by an InputError, or by a line on stderr if they are skipped."""
    if len(bad) == total:
        raise InputError(f"None of {total} icons can be drawn ({bad[0]}).")
    if not skip:
        more = f", and {len(bad) - 1} more can't" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{more}: repair or remove it, or use --data.skip-bad.")
    print(f"Skipped {len(bad)} of {total} icons that can't be drawn (the first: {bad[0]}).", file=sys.stderr)
