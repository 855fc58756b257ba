"""A video worked on frame by frame by a function of image files, and written as one again, with its sound.

One frame is in memory at a time.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.core.progress import heard, progress
from jaxgen.data import image_files
from jaxgen.data.video_files import SUFFIXES
from jaxgen.media import containers, marks, output_files
from jaxgen.media.xmp_writing import insert_xmp

Result = TypeVar("Result")


def is_video(file: Path) -> bool:
    """Return whether a file is named as a video is."""
    return file.suffix.lower() in SUFFIXES


def by_frames(
    file: Path,
    target: Path,
    outputs: Callable[[Path], list[Path]],
    work: Callable[[Path, Path], Result],
    pull: float = 0.0,
) -> list[Result]:
    """Return the results of work(frame, made) for the frames of a video; what it writes becomes videos like `target`.

    outputs: target -> all files that `work` writes
    pull:    from 0 to 1: how far each frame is pulled to the one before it, against flicker
    Raises InputError as `work` does, and for a video that can't be read.
    """
    from jaxgen.media.video_edits.consistency import Steady
    from jaxgen.media.video_edits.footage import Frame, open_footage, to_bytes, to_float
    from jaxgen.media.video_edits.sound import sound_of
    from jaxgen.media.video_edits.writing import writer

    footage, _ = open_footage(file)
    found: list[Result] = []
    with file.open("rb") as stream:
        packet = containers.read_xmp(stream)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(output_files.together())
        paths = outputs(target)
        parts = [stack.enter_context(output_files.whole(path)) for path in paths]
        with ExitStack() as writers:  # closed before the files are marked
            adds: list[Any] = [
                writers.enter_context(writer(part, path.suffix.lower(), sound_of(file), footage.rate))
                for part, path in zip(parts, paths, strict=True)
            ]
            steadies = [Steady(pull) for _ in paths]
            given, made = folder / "frame.png", folder / "made.png"
            show = writers.enter_context(progress(f"frames of {file.name}", footage.count, unit="frames"))
            writers.enter_context(heard(lambda text, done, total: None))  # no bar for each frame
            own: list[bytes | None] = []
            for number, frame in enumerate(footage.frames, 1):
                Image.fromarray(frame.pixels).save(given, "PNG", compress_level=1)
                if packet:
                    insert_xmp(given, packet)
                try:
                    found.append(work(given, made))
                except InputError as error:
                    raise InputError(str(error).replace(str(given), f"Frame {number} of {file}")) from error
                for each, add, steady in zip(outputs(made), adds, steadies, strict=True):
                    if len(own) < len(paths):
                        own.append(_packet(each))
                    with image_files.opened(each) as image:
                        pixels = np.asarray(image.convert("RGB"))
                    if pull:
                        pixels = to_bytes(steady.shown(to_float(frame.pixels), to_float(pixels)))
                    add(Frame(frame.time, pixels), None)
                show(number)
            for add in adds:
                add(None, footage.seconds)
        for part, path, said in zip(parts, paths, own, strict=True):
            if said and not insert_xmp(part, said) and marks.wanted:
                print(f"{path} has no mark: a {path.suffix} can't hold one.", file=sys.stderr)
    return found


def _packet(path: Path) -> bytes | None:
    with path.open("rb") as file:
        return containers.read_xmp(file)
