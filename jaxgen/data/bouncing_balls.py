"""Bouncing balls (Sutskever, Hinton and Taylor 2008): three equal balls in a box that collide without loss.

The box has sides of 10 and the balls a radius of 1.2; a pixel's brightness is exp(-(d / r)^8) at the distance d from a
ball's centre r. In each frame two steps of half the speed are taken.
"""

import math
from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np

from jaxgen.core.errors import choose
from jaxgen.data.clips import ClipShape
from jaxgen.data.draws import stream

SPLITS = {"train": 10_000, "test": 1_000}
DEFAULT = (20, 32, 32, 1)  # frames, height, width, channels
BALLS, BOX, RADIUS = 3, 10.0, 1.2
SPEED, STEPS = 0.5, 2  # of all balls together, sqrt(sum v^2), in a frame's step


class BouncingBalls:
    """Clips of three white balls on black, u8[t h w c]. In training each example is drawn anew in each epoch."""

    classes = ()

    def __init__(self, split: str, clip: ClipShape):
        self.split, self.clip = choose(split, SPLITS, "split of bouncing-balls"), clip
        self.clips = clip.names

    def __len__(self) -> int:
        return SPLITS[self.split]

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # IndexError beyond the end
        return self._drawn(stream(list(SPLITS).index(self.split), index))

    def draw(self, index: int, key: int) -> dict:
        """Return a clip that is a function of the key alone."""
        return self._drawn(stream(key))

    def _drawn(self, uniform: Iterator[float]) -> dict:
        places = np.asarray(list(islice(orbits(*start(uniform)), self.clip.frames)))  # [t balls], complex
        across = (np.arange(self.clip.width) + 0.5) * (BOX / self.clip.width)
        down = (np.arange(self.clip.height) + 0.5) * (BOX / self.clip.height)
        x = (across - np.real(places)[..., None]) ** 2  # [t balls w]
        y = (down - np.imag(places)[..., None]) ** 2  # [t balls h]
        squares = (y[..., None] + x[:, :, None]) / RADIUS**2  # [t balls h w]
        frames = np.rint(255 * np.minimum(np.exp(-(squares**4)).sum(1), 1)).astype(np.uint8)  # [t h w]
        return self.clip.cut(np.repeat(frames[..., None], self.clip.channels, 3))


def start(uniform: Iterator[float]) -> tuple[list[complex], list[complex]]:
    """Return places in the box, without contact, and velocities of the balls; x is the real part, y the imaginary."""
    places: list[complex] = []
    while len(places) < BALLS:
        x, y = next(uniform), next(uniform)
        place = complex(x, y) * (BOX - 2 * RADIUS) + complex(RADIUS, RADIUS)
        if all(abs(place - other) > 2 * RADIUS for other in places):
            places.append(place)
    # Normal numbers by Box and Muller.
    normal = [math.sqrt(-2 * math.log(1 - next(uniform))) * _unit(next(uniform)) for _ in places]
    norm = math.sqrt(sum(abs(v) ** 2 for v in normal))
    return places, [v * (SPEED / norm) for v in normal]


def orbits(places: list[complex], speeds: list[complex]) -> Iterator[list[complex]]:
    """Yield the places of the balls in each frame."""
    while True:
        yield list(places)
        for _ in range(STEPS):
            places = [place + speed / STEPS for place, speed in zip(places, speeds, strict=True)]
            speeds = [_off_walls(place, speed) for place, speed in zip(places, speeds, strict=True)]
            for i, j in combinations(range(BALLS), 2):
                if (distance := abs(places[i] - places[j])) < 2 * RADIUS:
                    line = (places[i] - places[j]) / distance
                    # Of equal masses: the parts of the speeds along the line are exchanged.
                    apart = _along(speeds[i] - speeds[j], line)
                    if apart < 0:  # they approach each other
                        speeds[i], speeds[j] = speeds[i] - apart * line, speeds[j] + apart * line


def _off_walls(place: complex, speed: complex) -> complex:
    sides = ((place.real, speed.real), (place.imag, speed.imag))
    x, y = (abs(v) if at < RADIUS else -abs(v) if at > BOX - RADIUS else v for at, v in sides)
    return complex(x, y)


def _along(a: complex, line: complex) -> float:
    return a.real * line.real + a.imag * line.imag


def _unit(turn: float) -> complex:
    return complex(math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn))
