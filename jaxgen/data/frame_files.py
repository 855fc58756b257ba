"""Clips that Pillow reads: animated GIF, WebP and PNG files, and folders of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data import image_files
from jaxgen.data.arrays import first_line
from jaxgen.data.image_decoding import decode, plain
from jaxgen.data.transforms import pixels_of
from jaxgen.data.video_files import Index, Unreadable

MOVING = frozenset({".gif", ".webp", ".png", ".apng"})  # files that can hold an animation
RATE = 10.0  # frames per second of a folder
SHORTEST, USUAL = 0.011, 0.1  # seconds; browsers show frames without a time, or with one so short, for the usual time


@dataclass(frozen=True)
class Animation:
    """An animated GIF, WebP or PNG. It has no key frames: frames are found from its start."""

    path: Path
    index: Index = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "Animation":
        """Return an animation after one decoding. Raises Unreadable and OSError."""
        times, fault, size, now = [], "", (0, 0), 0.0
        try:
            for image in _images(path):
                size = size if times else (image.height, image.width)
                times.append(now)
                shown = float(image.info.get("duration") or 0) / 1000
                now += shown if shown >= SHORTEST else USUAL
        except Unreadable as error:
            fault = str(error)
        if not times:
            raise Unreadable(fault or "it has no frames")
        return cls(path, Index(None, np.zeros(0, np.int64), np.asarray(times), size, 0, fault))

    def __len__(self) -> int:
        return len(self.index.times)

    def frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames u8[h w c] of rising numbers. Raises Unreadable."""
        at = 0
        for number, image in enumerate(_images(self.path)):
            while number == numbers[at]:
                yield pixels_of(image)
                at += 1
                if at == len(numbers):
                    return
        raise Unreadable(f"frame {numbers[at]} can no longer be read")


@dataclass(frozen=True)
class FrameFolder:
    """A folder of still images, the frames of a clip in the order of their names."""

    path: Path
    names: tuple[str, ...] = field(repr=False)

    @property
    def index(self) -> Index:
        return Index(None, np.zeros(0, np.int64), np.arange(len(self.names)) / RATE, (0, 0))

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames u8[h w c] with these numbers. Raises Unreadable."""
        for number in numbers:
            name = self.names[number]
            try:
                yield pixels_of(decode(image_files.read(self.path / name)))
            except Exception as error:  # Pillow raises many kinds on damaged data
                raise Unreadable(f"its frame {name}: {image_files.reason(error)}") from error


def is_animated(path: Path) -> bool:
    """Return whether a file is an animation; False where it can't be read."""
    try:
        return image_files.is_animated(path)
    except Exception:  # Pillow raises many kinds; whoever reads the image reports the reason
        return False


def _images(path: Path) -> Iterator[Any]:
    """Yield the frames of an animation up to its end. Raises Unreadable at its first fault."""
    number = 0
    try:
        with image_files.opened(path) as image:
            number = 1 if image.info.get("default_image") else 0  # that of a PNG is not shown
            while True:
                try:
                    image.seek(number)
                except EOFError:
                    return
                shown: Any = plain(image)
                shown.info["duration"] = image.info.get("duration")
                yield shown
                number += 1
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise Unreadable(image_files.reason(error) if number == 0 else first_line(error)) from error
