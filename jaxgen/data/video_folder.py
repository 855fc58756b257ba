"""Clips from video files: a file, or a folder of files, animations and folders of frames."""

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from jaxgen.core.class_names import ordered
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.data import class_folders, image_files
from jaxgen.data.arrays import first_line
from jaxgen.data.clips import ClipShape
from jaxgen.data.decode_check import find_undecodable
from jaxgen.data.draws import stream
from jaxgen.data.frame_files import MOVING, Animation, FrameFolder, is_animated
from jaxgen.data.image_folders import DiskFiles, Stamp
from jaxgen.data.video_files import SUFFIXES, Unreadable, VideoFile, slots

DEFAULT = (16, 64, 64, 3)  # frames, height, width, channels, for a model without videos
Clip = VideoFile | Animation | FrameFolder
PROGRESS_DELAY = 2.0  # seconds before a progress bar appears


class VideoFolder:
    """Clips of the model's number of frames, `data.stride` apart: u8[t h w c], and their labels, if any.

    A folder is read as a folder of images: its sub-folders are the classes, or the splits above them. A folder that
    directly holds still images is one clip. A file gives as many examples as fit into it one after the other. In
    training, an example begins at a random frame between its own first frame and that of the next one. Steps are
    frames; where a file's frame rate varies, they are of equal time.

    Every file is decoded once at the start. What can be read of a file that is cut short is used, which is printed.
    Raises InputError with the name of a file that can't be read or has too few frames (with `data.skip_bad` these are
    skipped, and their number is printed).
    """

    def __init__(self, path: Path, data: Data, clip: ClipShape, labelled: bool):
        self.path, self.clip, self.stride = path, clip, data.stride
        self.clips = clip.names
        self.need = (clip.frames - 1) * data.stride + 1  # steps from the first to the last frame, and one
        found, self.stamps = _found(path, clip.frames)
        mixed = not labelled and data.only is None
        parts, depth = class_folders.splits(sorted(found), path)
        classes = ordered(
            name for names in parts.values() for name in class_folders.classes(names, depth, path, mixed, "clip")
        )
        chosen = class_folders.chosen(data.split, parts, path)
        names = parts[chosen] if chosen in parts else sorted(name for part in parts.values() for name in part)
        files, bad = _opened(path, {name: found[name] for name in names}, self.stamps)
        self.steps = {name: slots(file.index.times) for name, file in files.items()}
        for name, steps in self.steps.items():
            if len(steps) < self.need:
                often = f" at a stride of {data.stride}" if data.stride > 1 else ""
                bad[name] = f"it has {_frames(len(steps))}, and the model takes clips of {clip.frames}{often}"
        if bad:
            _report(path, {name: bad[name] for name in names if name in bad}, len(names), data.skip_bad)
        self.files = {name: files[name] for name in names if name not in bad}
        _report_faults(path, self.files)
        self.examples = [(name, start) for name in self.files for start in self._starts(name)]
        self.names = [f"{name}@{start}" for name, start in self.examples]
        below = class_folders.below(depth, names)
        self.classes: tuple[str, ...] = classes if below else ()
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[name.split("/")[depth]] for name, _ in self.examples] if below else None

    def _starts(self, name: str) -> range:
        return range(0, len(self.steps[name]) - self.need + 1, self.clip.frames * self.stride)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        return self._read(index, self.examples[index][1])

    def draw(self, index: int, key: int) -> dict:
        """Return the example from a random start on, a function of index and key."""
        name, start = self.examples[index]
        last = len(self.steps[name]) - self.need
        beyond = min(start + self.clip.frames * self.stride, last + 1)
        return self._read(index, start + int(next(stream(key)) * (beyond - start)))

    def _read(self, index: int, start: int) -> dict:
        name = self.examples[index][0]
        numbers = self.steps[name][start : start + self.need : self.stride].tolist()
        try:
            frames = list(self.files[name].frames(numbers))
        except (Unreadable, OSError) as error:
            raise InputError(f"{_file(self.path, name)} can no longer be read: {first_line(error)}.") from error
        label = {} if self.labels is None else {"label": self.labels[index]}
        return {**self.clip.cut(frames), **label}


def open_clip(path: Path) -> Clip:
    """Return the clip of a video file, an animation, or a folder of frames. Raises InputError."""
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    found, _ = _found(path, 1)
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} clips: name one of them.")
    ((name, what),) = found.items()
    try:
        file = _open(path, name, what)
    except (Unreadable, OSError) as error:
        raise InputError(f"{path} can't be read: {first_line(error)}.") from error
    _report_faults(path, {name: file})
    return file


def _found(path: Path, frames: int) -> tuple[dict[str, Sequence[str] | None], dict[str, Stamp]]:
    """Return the clips by their names in a folder, with the names of the frames of each folder of frames.

    And the sizes and times of all files. The name of the folder or file itself is ".". Raises InputError.
    """
    if not path.is_dir():
        if path.suffix.lower() in image_files.SUFFIXES - MOVING:
            raise InputError(
                f"{path} is a still image, and the model takes clips of {_frames(frames)}: name a video, an animation, "
                "or a folder of frames."
            )
        about = path.stat()
        return {".": None}, {path.name: (about.st_size, about.st_mtime_ns)}
    files = DiskFiles(path, SUFFIXES | MOVING | image_files.SUFFIXES)
    found: dict[str, Any] = {}
    folders: dict[str, list[str]] = {}
    for name in sorted(files.stamps, key=_natural):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in SUFFIXES or suffix in (".gif", ".apng"):
            found[name] = None
        else:
            folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    for folder, names in folders.items():
        if is_animated(path / names[0]):
            found |= dict.fromkeys(names)
            continue
        beside = next((name for name in found if str(PurePosixPath(name).parent) == folder), None)
        if beside is not None:
            raise InputError(f"{path} has the still image {names[0]} beside the clip {beside}: move it away.")
        found[folder] = tuple(PurePosixPath(name).name for name in names)
    if not found:
        raise InputError(f"{path} holds no clips: no videos ({', '.join(sorted(SUFFIXES))}), animations or frames.")
    return found, files.stamps


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key by which frame 10 follows frame 9."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _file(path: Path, name: str) -> Path:
    return path if name == "." else path / name


def _open(path: Path, name: str, what: Sequence[str] | None) -> Clip:
    file = _file(path, name)
    if what is not None:
        return FrameFolder(file, tuple(what))
    if file.suffix.lower() in MOVING:
        return Animation.open(file)
    return VideoFile.open(file)


def _damaged(path: Path, found: dict[str, Sequence[str] | None], stamps: dict[str, Stamp]) -> dict[str, str]:
    """Return why folders of frames can't be used: the first of their frames that can't be read."""
    frames = {_joined(name, frame): name for name, frames in found.items() if frames for frame in frames}
    wrong = find_undecodable(path, {frame: stamps[frame] for frame in frames}, lambda n: image_files.read(path / n))
    bad: dict[str, str] = {}
    for frame, why in wrong.items():
        bad.setdefault(frames[frame], f"its frame {PurePosixPath(frame).name}: {why}")
    return bad


def _joined(folder: str, frame: str) -> str:
    return frame if folder == "." else f"{folder}/{frame}"


def _opened(
    path: Path, found: dict[str, Sequence[str] | None], stamps: dict[str, Stamp]
) -> tuple[dict[str, Clip], dict[str, str]]:
    """Return the clips that can be read, and why the others can't."""

    def attempt(name: str) -> Clip | str:
        try:
            return _open(path, name, found[name])
        except (Unreadable, OSError) as error:
            return first_line(error)

    files, bad = {}, _damaged(path, found, stamps)
    with (
        ThreadPoolExecutor(os.cpu_count() or 1, "jaxgen-index") as pool,
        progress(f"reading the clips of {path.name}", len(found), PROGRESS_DELAY) as show,
    ):
        try:
            for i, (name, clip) in enumerate(zip(found, pool.map(attempt, found), strict=True)):
                if isinstance(clip, str):
                    bad.setdefault(name, clip)
                elif name not in bad:
                    files[name] = clip
                show(i + 1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return files, bad


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"


def _report(path: Path, bad: dict[str, str], total: int, skip: bool):
    """Report clips that can't be used: by an InputError, or by a line on stderr if they are skipped."""
    name, wrong = next(iter(bad.items()))
    if len(bad) == total > 1:
        raise InputError(f"None of the {total} clips in {path} can be used ({name}: {wrong}).")
    if total == 1 or not skip:
        more = f", and {len(bad) - 1} more in {path} can't" if len(bad) > 1 else ""
        remedy = "repair or remove it, or use --data.skip-bad" if total > 1 else "name another clip"
        raise InputError(f"{_file(path, name)} can't be used, {wrong}{more}: {remedy}.")
    print(f"Skipped {len(bad)} of {total} clips in {path} that can't be used ({name}: {wrong}).", file=sys.stderr)


def _report_faults(path: Path, files: dict[str, Clip]):
    if faults := [(name, file) for name, file in files.items() if file.index.fault]:
        name, file = faults[0]
        more = f", and {len(faults) - 1} more clips in part" if len(faults) > 1 else ""
        part = f"only its first {_frames(len(file))}"
        print(f"{_file(path, name)} is used in part, {part}: {file.index.fault}{more}.", file=sys.stderr)
