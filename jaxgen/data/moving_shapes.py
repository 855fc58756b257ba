"""Coloured shapes that move by rule: shape, colour and motion are independent labels, and can be read off a clip."""

import math
from collections.abc import Iterator

import numpy as np

from jaxgen.core.errors import choose
from jaxgen.data.clips import ClipShape
from jaxgen.data.draws import stream
from jaxgen.data.shapes import CORNERS, SHAPES, draw

SPLITS = {"train": 10_000, "test": 1_000}
DEFAULT = (16, 64, 64, 3)  # frames, height, width, channels
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")  # hues of 0, 1/6, ... 5/6
MOTIONS = ("right", "left", "down", "up", "clockwise", "anticlockwise", "grow", "shrink")


class MovingShapes:
    """One shape in each clip u8[t h w c]; "label" is its motion, "motion", "shape" and "colour" are numbers of names.

    Clip i of a split is a function of i: all 384 combinations take turns. Start, size and speed are drawn.
    """

    classes = MOTIONS

    def __init__(self, split: str, clip: ClipShape):
        self.split, self.clip = choose(split, SPLITS, "split of moving-shapes"), clip
        self.clips = clip.names

    def __len__(self) -> int:
        return SPLITS[self.split]

    @property
    def labels(self) -> np.ndarray:
        return np.arange(len(self)) % len(MOTIONS)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # IndexError beyond the end
        rest, motion = divmod(index, len(MOTIONS))
        shape, colour = rest % len(SHAPES), rest // len(SHAPES) % len(COLOURS)
        uniform = stream(list(SPLITS).index(self.split), index)
        height, width = self.clip.height, self.clip.width
        states = motion_of(MOTIONS[motion], self.clip.frames, uniform)
        hue = colour / len(COLOURS)
        frames = np.stack([draw(shape, np.asarray([hue, *state, 0.0]), height, width) for state in states])
        if self.clip.channels == 1:
            frames = np.rint(frames @ np.asarray((0.299, 0.587, 0.114))).astype(np.uint8)[..., None]
        return {**self.clip.cut(frames), "label": motion, "motion": motion, "shape": shape, "colour": colour}


def radius(size: float) -> float:
    """Return the radius of a shape of a size in [0, 1], as a part of the frame's shorter side (`shapes.draw`)."""
    return (1 + size) / 6


def motion_of(motion: str, frames: int, uniform: Iterator[float]) -> list[tuple[float, ...]]:
    """Return size, x and y in [0, 1] in each frame, as `shapes.draw` takes them."""
    size, x, y, way = (next(uniform) for _ in range(4))
    way = 0.5 + 0.5 * way  # the part of the whole way that it moves
    time = np.linspace(0, 1, frames).tolist() if frames > 1 else [0.0]
    if motion in ("grow", "shrink"):
        sizes = [(1 - way) * size + way * t for t in time]
        largest = radius(max(sizes))
        x, y = (largest + at * (1 - 2 * largest) for at in (x, y))  # the centre, of a square of side 1
        moved = [(each, *((at - radius(each)) / (1 - 2 * radius(each)) for at in (x, y))) for each in sizes]
        return moved if motion == "grow" else moved[::-1]
    if motion in ("clockwise", "anticlockwise"):
        sign = 1 if motion == "clockwise" else -1  # y points down
        turns = [2 * math.pi * (x + sign * way * t) for t in time]
        return [(size, 0.5 + 0.5 * math.cos(turn), 0.5 + 0.5 * math.sin(turn)) for turn in turns]
    there = [(1 - way) * (x if motion in ("right", "left") else y) + way * t for t in time]
    there = there if motion in ("right", "down") else there[::-1]
    return [(size, at, y) if motion in ("right", "left") else (size, x, at) for at in there]


def read_labels(video: np.ndarray) -> dict[str, int]:
    """Return shape, colour and motion of a clip u8[t h w 3], by rule: the score of a generator of such clips.

    By the mean colour, centre and area of all that differs from the ground, the median colour of the border.
    """
    values = video.astype(np.float64)
    border = np.concatenate([values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]], 1)  # [t n 3]
    apart = np.abs(values - np.median(border, 1)[:, None, None]).sum(3)  # [t h w]
    mask = apart > 0.5 * apart.max((1, 2), keepdims=True).clip(1)
    area = mask.sum((1, 2)).astype(np.float64)  # [t]
    rows, columns = np.indices(mask.shape[1:])
    y, x = ((mask * places).sum((1, 2)) / area for places in (rows + 0.5, columns + 0.5))  # [t] each
    return {"shape": _shape(mask, area), "colour": _colour(values, mask), "motion": _motion(x, y, area)}


def _colour(values: np.ndarray, mask: np.ndarray) -> int:
    red, green, blue = values[mask].mean(0)
    # The angle of a colour around the grey axis is close to its hue.
    hue = math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * math.pi)
    return round(hue * len(COLOURS)) % len(COLOURS)


def _motion(x: np.ndarray, y: np.ndarray, area: np.ndarray) -> int:
    side = math.sqrt(area.mean())
    across, down = x[-1] - x[0], y[-1] - y[0]
    growth = math.sqrt(area[-1]) - math.sqrt(area[0])
    if abs(growth) > max(0.15 * side, math.hypot(across, down)):
        return MOTIONS.index("grow" if growth > 0 else "shrink")
    steps = np.diff(x) + 1j * np.diff(y)
    turned = np.angle((steps[1:] * steps[:-1].conj()).sum()) * (len(steps) - 1)  # the mean angle times their number
    if abs(turned) > math.pi / 2:  # a circle's arc has at least twice as much
        return MOTIONS.index("clockwise" if turned > 0 else "anticlockwise")
    if abs(across) > abs(down):
        return MOTIONS.index("right" if across > 0 else "left")
    return MOTIONS.index("down" if down > 0 else "up")


def _shape(mask: np.ndarray, area: np.ndarray) -> int:
    """Return the shape whose drawing at the same bounding box agrees best with the largest mask."""
    whole = mask[int(area.argmax())]
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    found = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return int(np.argmax([_agreement(found, CORNERS[name]) for name in SHAPES]))


def _agreement(found: np.ndarray, corners: np.ndarray) -> float:
    """Return the share of equal pixels of a mask and a polygon, at one scale that fits the mask's longer side."""
    from PIL import Image, ImageDraw

    low, high = corners.min(0), corners.max(0)
    height, width = found.shape
    scale = max(height, width) / (high - low).max()
    points = (corners - (low + high) / 2) * scale + np.array([width, height]) / 2
    image = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(image).polygon([tuple(point) for point in (points * 4 - 0.5).tolist()], fill=255)
    return float(((np.asarray(image.reduce(4)) > 127) == found).mean())
