"""Windows of motions from files: a file, a folder, or a .zip such as the CMU split."""

import re
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.class_names import ordered
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.memory import check_size
from jaxgen.core.progress import progress
from jaxgen.core.spec import Example
from jaxgen.data import class_folders
from jaxgen.data.motion_clips import format_of
from jaxgen.data.motion_files import SUFFIXES, motion_of_text, natural, open_motion
from jaxgen.data.skeleton import Motion

PROGRESS_DELAY = 2.0  # seconds before a progress bar appears
SAME_RATE = 0.02  # rates that differ by less are the same
DEFAULT = {"pose": 32}  # frames, for a model without poses


class Mocap:
    """Windows of motions: places of joints, or clips of rotations (motion_clips.py), as the model's poses have it.

    Places f32[t j 3] are those of the joints that move, in the frame of the root, which neither moves nor turns. Takes
    are resampled where the model's clips have another rate; with `data.flip` each is there in a mirror as well.

    Every window of the model's number of frames, `data.stride` apart, is one example. The arrays of kind pose are its
    consecutive parts. A folder is read as a folder of images: its sub-folders are the classes, or the splits above
    them; without sub-folders the takes' names are, of a model with classes. Places have the unit of the files. Raises
    InputError with the name of a file that can't be used (with `data.skip_bad` it is skipped).
    """

    def __init__(self, path: Path, data: Data, example: Example):
        self.path, self.stride = path, data.stride
        specs = {name: spec for name, spec in example.items() if spec.kind == "pose"}
        self.parts: Mapping[str, int] = {name: int(spec.shape[0]) for name, spec in specs.items()} or DEFAULT
        self.frames = sum(self.parts.values())
        self.need = (self.frames - 1) * self.stride + 1
        clips = next((spec for spec in specs.values() if spec.offsets), None)
        self.format = format_of(clips) if clips else None
        self.mirrored = bool(clips) and data.flip
        takes = Takes(path, data, "label" in example)
        self.classes = takes.classes

        def use(motion: Motion, where: str) -> tuple[int, list[list[np.ndarray]]]:
            motion = self._at_rate(motion)
            check_joints(motion, specs, where)
            if len(motion) < self.need:
                return len(motion), []
            return len(motion), [self._phases(motion.mirrored() if i else motion) for i in range(1 + self.mirrored)]

        # of a name, 1: in a mirror; of each first frame
        self.takes: dict[tuple[str, int], list[np.ndarray]] = {
            (name, mirror): phases
            for name, both in takes.read(self.need, self.frames, use).items()
            for mirror, phases in enumerate(both)
        }
        self.examples = [
            (take, start)
            for take, phases in self.takes.items()
            for start in range(sum(map(len, phases)) - self.need + 1)
        ]
        self.names = [f"{takes.files[name]}@{start}" for (name, _), start in self.examples]
        self.labels = takes.labels([name for (name, _), _ in self.examples])

    def _at_rate(self, motion: Motion) -> Motion:
        if self.format is None or abs(motion.rate / (self.format.rate * self.stride) - 1) < SAME_RATE:
            return motion
        return motion.at_rate(self.format.rate * self.stride)

    def _phases(self, motion: Motion) -> list[np.ndarray]:
        """Return every `stride`-th frame of a take f32[t j d], from the first, the second, ... on."""
        if self.format is None:
            places = motion.places_of_body()[:, list(motion.skeleton.moving)].astype(np.float32)
            return [places[first :: self.stride] for first in range(self.stride)]
        parts = [motion.part(first, len(motion), self.stride) for first in range(self.stride)]
        return [self.format.encode(part).astype(np.float32) for part in parts]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        take, start = self.examples[index]
        first, found, at = start // self.stride, {}, 0
        window = self.takes[take][start % self.stride][first : first + self.frames]
        for part, count in self.parts.items():
            found[part] = window[at : at + count]
            at += count
        return found if self.labels is None else {**found, "label": self.labels[index]}


class Takes:
    """The motions of one split of a folder, a .zip, or a file, and their classes. Raises InputError."""

    def __init__(self, path: Path, data: Data, labelled: bool):
        self.path, self.data = path, data
        found = _found(path)
        self.files = by_action(list(found)) if labelled else {name: name for name in found}
        self.found = {name: found[file] for name, file in self.files.items()}
        parts, self.depth = class_folders.splits(sorted(self.found, key=natural), path)
        mixed = not labelled and data.only is None
        classes = ordered(
            name for names in parts.values() for name in class_folders.classes(names, self.depth, path, mixed, "take")
        )
        chosen = class_folders.chosen(data.split, parts, path)
        self.names = parts[chosen] if chosen in parts else [name for part in parts.values() for name in part]
        self.below = class_folders.below(self.depth, self.names)
        self.classes: tuple[str, ...] = classes if self.below else ()

    def labels(self, names: Sequence[str]) -> list[int] | None:
        """Return the numbers of the classes of motions by their names; None without classes."""
        number = {name: i for i, name in enumerate(self.classes)}
        return [number[name.split("/")[self.depth]] for name in names] if self.below else None

    def read(self, need: int, frames: int, use: Callable[[Motion, str], tuple[int, Any]]) -> dict[str, Any]:
        """Return what `use` makes of each motion, by name: (motion, its name for a message) -> its length, and that.

        Raises InputError where one can't be read or used, or less than `need` frames remain of it, unless
        `data.skip_bad` leaves it out.
        """
        bad: dict[str, str] = {}
        kept: dict[str, Any] = {}
        stride = self.data.stride
        with progress(f"reading the motions of {self.path.name}", len(self.names), PROGRESS_DELAY) as show:
            for i, name in enumerate(self.names):
                try:
                    motion = _open(self.path, self.files[name], self.found[name])
                    where = f"{self.path}" if name == "." else f"{self.path}, {self.files[name]}"
                    length, made = use(motion, where)
                except InputError as error:
                    bad[name] = str(error)
                else:
                    if length < need:
                        often = f" at a stride of {stride}" if stride > 1 else ""
                        has = f"{self.files[name]} has {_frames(length)}"
                        bad[name] = f"{has}, and the model takes {_frames(frames)}{often}."
                    else:
                        kept[name] = made
                show(i + 1)
        if bad and (not self.data.skip_bad or not kept):
            raise InputError(next(iter(bad.values())))
        if bad:
            print(f"Skipped {len(bad)} of {len(self.names)} motions ({next(iter(bad.values()))}).", file=sys.stderr)
        return kept


def check_joints(motion: Motion, specs: Example, where: str):
    """Raise InputError if a motion's skeleton is not that of a model's poses."""
    parents = motion.skeleton.parents_among(motion.skeleton.moving)
    for spec in specs.values():
        if spec.kind == "pose" and spec.offsets:
            if spec.parents != motion.skeleton.parents:
                raise InputError(
                    f"The skeleton of {where} has {len(motion.skeleton)} joints, and is not that of the model, which "
                    f"has {len(spec.parents)}: train one for it with --model.skeleton and a file that has it."
                )
        elif spec.kind == "pose" and spec.parents != parents:
            listed = " ".join(map(str, parents))
            raise InputError(
                f"The skeleton of {where} has {len(parents)} moving joints, not those of the model, which has "
                f"{spec.shape[1]}: train one for it with --model.parents {listed}."
            )


def by_action(names: list[str]) -> dict[str, str]:
    """Return {name: file}: where no file is in a folder, a name is below its action, that of the file.

    The action is the file's name without what all of them begin with, and without numbers at its end:
    humanoid3d_walk_2.bvh is a "walk" beside humanoid3d_jump.bvh.
    """
    stems = [Path(name).stem for name in names]
    if any("/" in name for name in names) or names == ["."]:
        return {name: name for name in names}
    differ = next((i for i, letters in enumerate(zip(*stems, strict=False)) if len(set(letters)) > 1), 0)
    begin = max(stems[0].rfind(mark, 0, differ) for mark in "_- .") + 1 if len(names) > 1 else 0
    actions = [re.sub(r"[\W_]*\d*$", "", stem[begin:]) or stem for stem in stems]
    return {f"{action}/{name}": name for action, name in zip(actions, names, strict=True)}


def _found(path: Path) -> dict[str, zipfile.ZipFile | None]:
    """Return the names of the motions in a folder or .zip, with the archive; "." for a single file."""
    if path.is_dir():
        names = [str(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()]
        archive = None
    elif path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} can't be read as .zip: {error}.") from error
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    else:
        return {".": None}
    kept = [name for name in names if name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")]
    if not kept:
        raise InputError(f"{path} holds no motions: no {', '.join(SUFFIXES)}.")
    return dict.fromkeys(kept, archive)


def _open(path: Path, name: str, archive: zipfile.ZipFile | None) -> Motion:
    if archive is None:
        return open_motion(path if name == "." else path / name)
    info = archive.getinfo(name)
    check_size(info.file_size, info.compress_size, f"{name} of {path}")
    if name.lower().endswith(".npz"):
        raise InputError(f"{path}, {name}: unpack a .zip of .npz files into a folder.")
    try:
        return motion_of_text(archive.read(info), f"{path}, {name}")
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{name} of {path} can't be read: {error}.") from error


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
