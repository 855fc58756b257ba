"""Restoration of clips for `python -m jaxgen restore`: frames are read, restored and written one after the other."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.data.arrays import first_line
from jaxgen.data.transforms import reduce_channels, to_float
from jaxgen.data.video_files import Unreadable, slots
from jaxgen.data.video_folder import open_clip
from jaxgen.inference.restoration import Model
from jaxgen.inference.video_editing import restoring
from jaxgen.inference.video_restoration import OVERLAP, TILE, restored_frames
from jaxgen.media import containers, xmp
from jaxgen.media.animation import ANIMATIONS, ENCODINGS, check_animation, save_animation
from jaxgen.media.batch_files import check_memory, is_video
from jaxgen.media.frames import SUFFIXES
from jaxgen.media.marks import Mark
from jaxgen.media.photo import quantised
from jaxgen.media.video_edits import writing
from jaxgen.media.video_edits.footage import open_footage

ANIMATED = set(ANIMATIONS) - set(SUFFIXES.values())  # what is written of clips only


def restore_clip(
    model: Model,
    mark: Mark | None,
    file: Path,
    target: Path,
    tile: int | None = None,
    overlap: int = OVERLAP,
    memory: float = 4.0,
    seed: int = 0,
    sigma: float | None = None,
    text: str = "restoring",
):
    """Write a clip, restored. Raises InputError.

    A .mp4, .webm or .mkv keeps the frames' times and the sound; other files have the clip's frame rate.

    tile:   None: 192 pixels
    memory: limit of a tile in GiB
    sigma:  standard deviation of the noise, of 255, where the model takes it
    text:   of the progress bar
    """
    if target.suffix.lower() in ENCODINGS:
        return _restore_film(model, mark, file, target, tile, overlap, memory, seed, sigma, text)
    clip = open_clip(file)
    times = clip.index.times
    steps = slots(times)
    rate = frame_rate(times[steps])
    check_animation(target, rate)

    def frames() -> Iterator[np.ndarray]:
        try:
            for frame in clip.frames(steps.tolist()):
                yield to_float(reduce_channels(frame, 1 if frame.shape[2] < 3 else 3))
        except (Unreadable, OSError) as error:
            raise InputError(f"{file} can no longer be read: {first_line(error)}.") from error

    def check(taken: float):
        check_memory(file, clip.index.size, taken, memory, "Set a smaller --tile")

    def made() -> Iterator[np.ndarray]:
        with progress(text, len(steps)) as show:
            side = TILE if tile is None else tile
            given = {} if sigma is None else {"sigma": np.float32(sigma)}
            found = restored_frames(model, frames(), side, overlap, seed=seed, conditioning=given, check=check)
            for number, frame in enumerate(found, 1):
                values = quantised(frame, 8)
                yield values[..., 0] if values.shape[2] == 1 else values
                show(number)

    save_animation(target, made(), rate, mark)


def _restore_film(
    model: Model,
    mark: Mark | None,
    file: Path,
    target: Path,
    tile: int | None,
    overlap: int,
    memory: float,
    seed: int,
    sigma: float | None,
    text: str,
):
    footage, _ = open_footage(file)
    given: dict[str, Any] = {} if sigma is None else {"sigma": np.float32(sigma)}
    advice = "Set a smaller --tile"
    stage = restoring(
        model,
        TILE if tile is None else tile,
        overlap,
        seed,
        given,
        lambda taken: check_memory(file, footage.size, taken, memory, advice),
    )
    with progress(text, footage.count, unit="frames") as show, file.open("rb") as opened:
        packet = containers.read_xmp(opened)
        own = (packet and xmp.described(packet)) or b""
        writing.write(target, footage.through(stage), mark, show, own)


def is_clip(model: Model, file: Path, target: Path) -> bool:
    """Return whether a file is restored as a clip, and not as an image or an animation of images."""
    return model.transform.source.kind == "video" or is_video(file) or target.suffix.lower() in ANIMATED


def check_options(name: str, **options: object):
    """Raise InputError for options that clips do not have, which are given as true values."""
    if given := [option for option, value in options.items() if value]:
        raise InputError(f"{name} is restored as a clip, which has no --{given[0]}: leave it out.")


def frame_rate(times: np.ndarray) -> Fraction:
    """Return the frames per second of steps at times in seconds f64[n]; 10 for a single frame."""
    if len(times) < 2 or times[-1] <= times[0]:
        return Fraction(10)
    return Fraction((len(times) - 1) / float(times[-1] - times[0])).limit_denominator(1001)
