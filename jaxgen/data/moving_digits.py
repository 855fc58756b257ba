"""Moving digits (Srivastava et al. 2015, section 4.1), by the rule of OpenSTL's data set Moving-MNIST.

Two digits start at random places and move straight on by a tenth of their way in each frame; each turns back at the
borders, where it touches them. Overlapping pixels show the brighter digit.
"""

import functools
import math
import random
from collections.abc import Iterator

import numpy as np

from jaxgen.core.errors import choose
from jaxgen.data.clips import ClipShape
from jaxgen.data.draws import stream
from jaxgen.data.sources import Source
from jaxgen.data.transforms import reduce_channels, resize

SPLITS = {"train": 10_000, "test": 10_000}  # OpenSTL's
DEFAULT = (20, 64, 64, 1)  # frames, height, width, channels
DIGITS, STEP = 2, 0.1
SIDE, FRAME = 28, 64  # of a digit and of its frame; other frames have digits in proportion
TEST_SEED = 0


class MovingDigits:
    """Clips of two digits, u8[t h w c], drawn from images of a source.

    In training each example is drawn anew in each epoch. "test" is the sequence of clips by Python's generator with
    seed 0. Both take their digits from the same images.
    """

    classes = ()

    def __init__(self, digits: Source, split: str, clip: ClipShape):
        self.digits, self.split, self.clip = digits, choose(split, SPLITS, "split of moving-digits"), clip
        self.clips = clip.names
        self.side = max(round(min(clip.height, clip.width) * SIDE / FRAME), 1)
        self.image = functools.lru_cache(maxsize=60_000)(self._image)

    def __len__(self) -> int:
        return SPLITS[self.split]

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # IndexError beyond the end
        if self.split == "test":
            return self._drawn(_test_numbers(len(self), len(self.digits))[index])
        return self.draw(index, index)

    def draw(self, index: int, key: int) -> dict:
        """Return a clip that is a function of the key alone."""
        uniform = stream(key)
        places = [(next(uniform), next(uniform), next(uniform), next(uniform)) for _ in range(DIGITS)]
        return self._drawn([(x, y, turn, int(which * len(self.digits))) for x, y, turn, which in places])

    def _drawn(self, numbers: list[tuple[float, float, float, int]]) -> dict:
        _, height, width, channels = self.clip.frames, self.clip.height, self.clip.width, self.clip.channels
        frames = np.zeros((self.clip.frames, height, width), np.uint8)
        for x, y, turn, which in numbers:
            digit = self.image(which)
            for frame, (right, down) in zip(frames, path(x, y, turn * 2 * math.pi), strict=False):
                left, top = int((width - self.side) * right), int((height - self.side) * down)
                place = frame[top : top + self.side, left : left + self.side]
                np.maximum(place, digit, out=place)
        return self.clip.cut(np.repeat(frames[..., None], channels, 3))

    def _image(self, which: int) -> np.ndarray:
        """Return a digit u8[side side]."""
        pixels = reduce_channels(self.digits[which]["image"], 1)
        return pixels[..., 0] if pixels.shape[0] == self.side else resize(pixels, self.side, self.side, "none")[..., 0]


def path(x: float, y: float, angle: float) -> Iterator[tuple[float, float]]:
    """Yield the places in [0, 1] x [0, 1] of a digit in each frame, the first one step from (x, y)."""
    right, down = STEP * math.cos(angle), STEP * math.sin(angle)
    while True:
        x, y = x + right, y + down
        if not 0 < x < 1:
            x, right = min(max(x, 0.0), 1.0), -right
        if not 0 < y < 1:
            y, down = min(max(y, 0.0), 1.0), -down
        yield x, y


@functools.lru_cache(maxsize=2)
def _test_numbers(count: int, digits: int) -> list[list[tuple[float, float, float, int]]]:
    """Return x, y, the direction as a part of a turn and the number of the image, of each digit of each test clip."""
    rng = random.Random(TEST_SEED)
    one = lambda: (rng.random(), rng.random(), rng.random(), rng.randint(0, digits - 1))  # noqa: E731
    # OpenSTL's generator chooses the number of digits from [2], which uses up random bits.
    return [[one() for _ in range(rng.choice([DIGITS]))] for _ in range(count)]
