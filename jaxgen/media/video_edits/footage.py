"""A clip that is edited: its frames and its sound as streams that can be read once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data.arrays import first_line
from jaxgen.data.frame_files import Animation
from jaxgen.data.video_files import Unreadable, VideoFile
from jaxgen.data.video_folder import Clip, open_clip
from jaxgen.media.video_edits.sound import Sound, sound_of


class Frame(NamedTuple):
    """A frame: when it appears, in seconds from the clip's start, and its pixels u8[h w 3]."""

    time: float
    pixels: np.ndarray


Stage = Callable[[Iterator[Frame]], Iterator[Frame]]


@dataclass(frozen=True)
class Footage:
    """A clip between two edits.

    frames:  the frames, of one size, in order of time
    count:   how many there are
    seconds: how long they are shown
    size:    height and width
    sound:   None: it has none
    """

    frames: Iterator[Frame]
    count: int
    seconds: float
    size: tuple[int, int]
    sound: Sound | None = None

    @property
    def rate(self) -> float:
        """Frames per second, in the mean."""
        return self.count / self.seconds

    def through(self, stage: Stage, grows: int = 1) -> "Footage":
        """Return it with its frames sent through a stage, which multiplies their sides."""
        size = self.size[0] * grows, self.size[1] * grows
        return replace(self, frames=stage(self.frames), size=size)


def open_footage(path: Path) -> tuple[Footage, Clip]:
    """Return a video, an animation or a folder of frames as footage. Raises InputError for what is no clip."""
    found = open_clip(path)
    if isinstance(found, Animation) and len(found) == 1:
        raise InputError(f"{path} is a still image: name a video, an animation, or a folder of frames.")
    return footage_of(found, 0.0, None), found


def footage_of(clip: Clip, start: float, end: float | None) -> Footage:
    """Return the part of a clip from one time to another, in seconds; None: up to its end.

    A part begins with the frame that is shown at its start. Raises InputError for a part without frames.
    """
    times = clip.index.times
    seconds = length_of(times)
    if end is None or end > seconds:
        end = seconds
    first = max(int(np.searchsorted(times, start + 1e-6, "right")) - 1, 0)
    last = int(np.searchsorted(times, end - 1e-6, "left"))
    if start >= seconds or last <= first:
        raise InputError(f"{clip.path} lasts {seconds:.3g} s: it has no frames from {start:g} to {end:g} s.")
    numbers = range(first, last)
    height, width = clip.index.size
    if not height:  # a folder of frames
        height, width = next(iter(clip.frames([first]))).shape[:2]
    sound = sound_of(clip.path) if isinstance(clip, VideoFile) else None
    if sound is not None and (start > 0 or end < seconds):
        sound = sound.cut(start, end)
    frames = _frames(clip, numbers, start, (height, width))
    return Footage(frames, len(numbers), end - start, (height, width), sound)


def length_of(times: np.ndarray) -> float:
    """Return how long frames at these times are shown: the last one as long as most."""
    return float(times[-1]) + (float(np.median(np.diff(times))) if len(times) > 1 else 0.1)


def _frames(clip: Clip, numbers: range, start: float, size: tuple[int, int]) -> Iterator[Frame]:
    times = clip.index.times
    try:
        for number, pixels in zip(numbers, clip.frames(numbers), strict=True):
            yield Frame(max(float(times[number]) - start, 0.0), fitted(coloured(pixels), size))
    except (Unreadable, OSError) as error:
        raise InputError(f"{clip.path} can no longer be read: {first_line(error)}.") from error


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Return pixels u8[h w c] in three channels; what is transparent is white."""
    channels = pixels.shape[2]
    if channels in (2, 4):
        share = pixels[..., -1:].astype(np.float32) / np.float32(255)
        pixels = np.rint(pixels[..., :-1] * share + 255 * (1 - share)).astype(np.uint8)
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return pixels u8[h w 3] at a size, their shape kept between black bars."""
    if pixels.shape[:2] == size:
        return pixels
    factor = min(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    height, width = (min(max(round(a * factor), 1), b) for a, b in zip(pixels.shape[:2], size, strict=True))
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    made = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    made[top : top + height, left : left + width] = np.asarray(image)
    return made


def each(change: Callable[[np.ndarray], np.ndarray]) -> Stage:
    """Return the stage that changes each frame for itself."""

    def stage(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield Frame(frame.time, change(frame.pixels))

    return stage


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Return f32[h w 3] in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Return f32[h w 3] in [0, 1] as u8."""
    return np.rint(np.clip(np.asarray(values), 0, 1) * 255).astype(np.uint8)
