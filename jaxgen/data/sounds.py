"""Windows of sounds from files: a file, a folder, or a .zip."""

import functools
import re
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.class_names import listed, ordered
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.memory import check_size
from jaxgen.core.progress import progress
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.data import class_folders, draws
from jaxgen.data.audio_files import CLIPPED, SUFFIXES, clipped_share, decode, is_silent, resampled

PROGRESS_DELAY = 2.0  # seconds before a progress bar appears
DEFAULT = ArraySpec("audio", (16_000, 1), rate=16_000.0)
CACHE_BYTES = 2**30  # decoded sounds stay in memory up to this size; others are decoded again for each window


class Sounds:
    """Windows f32[t 1] in [-1, 1] of sounds, at the model's rate, and of the mean of their channels.

    A sound that is longer than a window has one window after the other; the last one ends where the sound ends. A
    shorter one is followed by silence. With `data.crop` "random" windows begin anywhere, drawn anew in each epoch.

    Sub-folders are the classes, or the splits above them. Without any, or with one around all files, the parts
    `data.parts` of the files' names, between "_", are the classes. The files with a part of the name, or a folder, that
    `data.held_out` lists are the split "test", the others "train". Raises InputError with the name of a file that can't
    be used (with `data.skip_bad` it is skipped).
    """

    def __init__(self, path: Path, data: Data, example: Example):
        self.path = path
        self.array, spec = next(((n, x) for n, x in example.items() if x.kind == "audio"), ("audio", DEFAULT))
        self.length, self.rate = int(spec.shape[0]), round(spec.rate or DEFAULT.rate)
        self.archive, found = _found(path)
        names, depth = _chosen(sorted(found, key=_natural), path, data, "label" in example)
        self.lengths: dict[str, int] = {}
        self.stamps: dict[str, int] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._room = CACHE_BYTES
        self._lock = threading.Lock()  # of the archive, which has one place at which it reads
        self._read_all(names, data.skip_bad)
        names = list(self.lengths)
        labels = [_label(name, depth, data.parts) for name in names]
        every = [_label(name, depth, data.parts) for name in sorted(found, key=_natural)]
        self.classes: tuple[str, ...] = () if None in every else ordered(x for x in every if x is not None)
        self.windows = [(name, start) for name in names for start in starts(self.lengths[name], self.length)]
        self.names = [f"{name}@{start}" for name, start in self.windows]
        number, of = {name: i for i, name in enumerate(self.classes)}, dict(zip(names, labels, strict=True))
        self.labels = [number[of[name] or ""] for name, _ in self.windows] if self.classes else None
        if data.crop == "random":
            self.draw = self._draw

    def _read_all(self, names: list[str], skip_bad: bool):
        bad: dict[str, str] = {}
        clipped: list[str] = []
        rates: dict[int, int] = {}
        with progress(f"reading the sounds of {self.path.name}", len(names), PROGRESS_DELAY) as show:
            for i, name in enumerate(names):
                try:
                    self._read_one(name, clipped, rates)
                except InputError as error:
                    bad[name] = str(error)
                show(i + 1)
        if bad and (not skip_bad or not self.lengths):
            raise InputError(next(iter(bad.values())))
        if bad:
            print(f"Skipped {len(bad)} of {len(names)} sounds ({next(iter(bad.values()))}).", file=sys.stderr)
        if clipped:
            some = f"{len(clipped)} of {len(names)} sounds are clipped"
            print(f"{some}, and a model of them clips as well: {listed(clipped)}.", file=sys.stderr)
        if others := sorted(rate for rate in rates if rate != self.rate):
            some = f"{sum(rates[rate] for rate in others)} of {len(names)} sounds have another rate than the model's"
            lower = "; what they lack of high frequencies stays absent" if others[0] < self.rate else ""
            said = " and ".join(f"{rate:,} Hz" for rate in others)
            print(f"{some} {self.rate:,} Hz ({said}) and are resampled{lower}.", file=sys.stderr)

    def _read_one(self, name: str, clipped: list[str], rates: dict[int, int]):
        sound, rate = self._decoded(name)
        if is_silent(sound):
            raise InputError(f"{self._where(name)} is silent: remove it, or add --data.skip-bad.")
        if clipped_share(sound) > CLIPPED:
            clipped.append(name)
        rates[rate] = rates.get(rate, 0) + 1
        sound = resampled(sound, rate, self.rate)
        self.lengths[name] = len(sound)
        self._keep(name, sound)

    def _where(self, name: str) -> str:
        return str(self.path) if name == "." else f"{self.path}, {name}"

    def _decoded(self, name: str) -> tuple[np.ndarray, int]:
        if self.archive is None:
            file = self.path if name == "." else self.path / name
            self.stamps[name] = file.stat().st_size
            return decode(file, str(file))
        info = self.archive.getinfo(name)
        check_size(info.file_size, info.compress_size, f"{name} of {self.path}")
        self.stamps[name] = info.CRC
        try:
            with self._lock:
                content = self.archive.read(info)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"{name} of {self.path} can't be read: {error}.") from error
        return decode(self.path, self._where(name), content)

    def _keep(self, name: str, sound: np.ndarray):
        if sound.nbytes <= self._room:
            self._room -= sound.nbytes
            self._kept[name] = sound

    def sound(self, name: str) -> np.ndarray:
        """Return a whole sound f32[t] at the model's rate."""
        if (kept := self._kept.get(name)) is not None:
            return kept
        return resampled(*self._decoded(name), self.rate)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict:
        name, start = self.windows[index]
        return self._example(index, self.sound(name), start)

    def _draw(self, index: int, key: int) -> dict:
        """Return a window of the sound of example `index` that begins anywhere, by a key."""
        sound = self.sound(self.windows[index][0])
        start = int(next(draws.stream(key)) * (max(len(sound) - self.length, 0) + 1))
        return self._example(index, sound, start)

    def _example(self, index: int, sound: np.ndarray, start: int) -> dict:
        window = np.zeros((self.length, 1), np.float32)
        part = sound[start : start + self.length]
        window[: len(part), 0] = part
        return {self.array: window} | ({} if self.labels is None else {"label": self.labels[index]})


def starts(length: int, window: int) -> list[int]:
    """Return where the windows of a sound begin: one after the other, and the last one at its end."""
    last = max(length - window, 0)
    return [*range(0, last, window), last]


def _found(path: Path) -> tuple[zipfile.ZipFile | None, list[str]]:
    """Return the archive, if it is one, and the names of the sounds in a folder or .zip; "." for a single file."""
    archive = None
    if path.is_dir():
        names = [str(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()]
    elif path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} can't be read as .zip: {error}.") from error
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    elif path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no sound: {', '.join(SUFFIXES)}, a folder or a .zip of them are read.")
    else:
        return None, ["."]
    kept = [name for name in names if name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")]
    if not kept:
        raise InputError(f"{path} holds no sounds: no {', '.join(SUFFIXES)}.")
    return archive, kept


def _chosen(names: list[str], path: Path, data: Data, labelled: bool) -> tuple[list[str], int]:
    """Return the names of the split, and the number of their leading folders above classes."""
    parts, depth = class_folders.splits(names, path)
    words = {word.strip() for word in data.held_out.split(",") if word.strip()}
    if words and "" not in parts:
        raise InputError(f"{path} has folders for its splits: data.held_out={data.held_out} can't choose others.")
    if words:
        if unknown := sorted(words - {word for name in names for word in _words(name)}):
            raise InputError(
                f"No file of {path} has {listed(unknown)} in its name: data.held_out lists parts of names."
            )
        out = [name for name in names if words & set(_words(name))]
        parts = {"train": [name for name in names if name not in set(out)], "test": out}
        if not parts["train"]:
            raise InputError(f"data.held_out={data.held_out} holds out all sounds of {path}.")
    classes = class_folders.classes(names, depth, path, not labelled and data.only is None, "sound")
    depth += len(classes) == 1  # one folder around all files is no class
    chosen = class_folders.chosen(data.split, parts, path)
    return parts.get(chosen, names), depth


def _words(name: str) -> list[str]:
    """Return the folders of a file's name, and the parts of its stem between "_"."""
    *folders, file = name.split("/")
    return [*folders, *file.rpartition(".")[0].split("_")]


def _label(name: str, depth: int, parts: tuple[int, ...]) -> str | None:
    """Return the name of a sound's class: its folder, or the given parts of its own name; None without any."""
    *folders, file = name.split("/")
    if len(folders) > depth:
        return folders[depth]
    words = file.rpartition(".")[0].split("_")
    if len(words) < 2 or max(parts, default=0) > len(words):
        return None
    return "_".join(words[part - 1] for part in parts)


@functools.cache
def _natural(name: str) -> tuple[Any, ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)
