"""Synthetic coloured shapes with known factors; image i is a function of i and the split only."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.core.errors import choose

SPLITS = {"train": 60_000, "test": 10_000}
SHAPES = ("circle", "square", "triangle", "pentagon", "star", "cross", "heart", "crescent")
FACTORS = ("hue", "size", "x", "y", "rotation")  # each in [0, 1), the columns of "factors"
ATTRIBUTES = ("cold", "large", "right", "low")  # 0 or 1, from the first four factors: hue green to blue; others >= 1/2
SCALE = 4  # supersampling factor, for antialiased edges


def _regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """Return a regular polygon f64[k 2], one corner up; `inner` < 1 adds corners of that radius in between: a star."""
    count = corners if inner == 1 else 2 * corners
    angle = 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2 == 0, 1, inner)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _cross() -> np.ndarray:
    arm = np.array([(-0.3, -0.3), (-0.3, -1), (0.3, -1)]) * 0.95  # rotated three times by a quarter turn
    turns = ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]])
    return np.concatenate([arm @ np.array(turn) for turn in turns])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 17


def _crescent() -> np.ndarray:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 48)
    tip = np.array([np.cos(outer[0]), np.sin(outer[0])])
    centre, radius = tip[0], tip[1]  # the bite: a circle through both tips
    bite = np.linspace(1.5 * np.pi, 0.5 * np.pi, 32)
    points = [np.stack([np.cos(outer), np.sin(outer)], 1)]
    points.append(np.stack([centre + radius * np.cos(bite), radius * np.sin(bite)], 1))
    return np.concatenate(points)


CORNERS = {
    "circle": _regular(64),
    "square": _regular(4),
    "triangle": _regular(3),
    "pentagon": _regular(5),
    "star": _regular(5, 0.45),
    "cross": _cross(),
    "heart": _heart(),
    "crescent": _crescent(),
}


class Shapes:
    """One shape per image: image u8[h w 3], label (index in SHAPES, i % 8), factors f32[5] (FACTORS).

    Examples also have the attributes in ATTRIBUTES.
    """

    classes = SHAPES

    def __init__(self, split: str, image: tuple[int, int, int] | None = None):
        self.split = choose(split, SPLITS, "split of shapes")
        self.height, self.width = image[:2] if image else (64, 64)

    def __len__(self) -> int:
        return SPLITS[self.split]

    @property
    def labels(self) -> np.ndarray:
        return np.arange(len(self)) % len(SHAPES)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # IndexError beyond the end
        words = np.random.Philox(key=list(SPLITS).index(self.split), counter=[0, 0, 0, index]).random_raw(len(FACTORS))
        factors = ((words >> np.uint64(40)) * 2.0**-24).astype(np.float32)  # 24 bits are exact in f32
        label, (hue, *others) = index % len(SHAPES), factors[:-1]
        has = (0.25 <= hue < 0.75, *(value >= 0.5 for value in others))
        example = {"image": draw(label, factors, self.height, self.width), "label": label, "factors": factors}
        return example | {name: int(yes) for name, yes in zip(ATTRIBUTES, has, strict=True)}


def draw(label: int, factors: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the image u8[h w 3] of a shape: hue, size (radius 1/6 to 1/3 of the short side), centre, rotation."""
    hue, size, x, y, rotation = (float(value) for value in factors)
    radius = (1 + size) / 6 * min(height, width)
    # The shape is always inside the image.
    centre = np.array([radius + x * (width - 2 * radius), radius + y * (height - 2 * radius)])
    angle = 2 * np.pi * rotation
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # Pillow also fills the pixels of the outline, half a pixel too much on each side.
    corners = CORNERS[SHAPES[label]] @ turn * (radius * SCALE - 0.5) + centre * SCALE
    colour = tuple(round(255 * value) for value in colorsys.hls_to_rgb(hue, 0.55, 0.75))
    ground = tuple(round(255 * value) for value in colorsys.hls_to_rgb((hue + 0.5) % 1, 0.93, 0.5))
    mask = Image.new("L", (width * SCALE, height * SCALE))
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    image = Image.new("RGB", (width, height), ground)
    image.paste(colour, None, mask.reduce(SCALE))
    return np.asarray(image)
