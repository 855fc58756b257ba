"""Scenes of one to four objects with captions; image i is a function of i and of the split only.

A caption names some of a scene's attributes: shapes, colours, sizes, how many, where one object is, or where it is of
another. The others are drawn at random. Eight kinds of captions take turns (SLICES; six of them are those of GenEval:
Ghosh et al. 2023). Six pairs of a shape and a colour (`is_held_out`) occur in no scene of "train" and "test"; in
"unseen" every caption names at least one of them.
"""

import colorsys
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.core.errors import InputError, choose
from jaxgen.data.shapes import CORNERS, SCALE

SPLITS = {"train": 60_000, "test": 2_000, "unseen": 2_000}
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
HUES = {"red": 0, "yellow": 52, "green": 120, "cyan": 183, "blue": 232, "purple": 290}  # degrees
COLOURS = tuple(HUES)
RADII = {"small": 0.125, "large": 0.2}  # of the short side
SLICES = ("one", "two", "counting", "colours", "size", "place", "position", "attribution")
NAMING = ("colours", "size", "place", "position", "attribution")  # those of "unseen": they can name a colour
COUNTS = {"two": 2, "three": 3, "four": 4}
PLACES = {"top left": (-1, -1), "top right": (1, -1), "bottom left": (-1, 1), "bottom right": (1, 1)}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
GAP = 0.06  # between two objects, of the short side
APART = 0.25  # of the centres of two objects with a relation
TRIES = 400  # of placing objects at random, before a scene is begun anew


@dataclass(frozen=True)
class Thing:
    """An object that a caption names; "": any."""

    shape: str = ""
    colour: str = ""
    size: str = ""


@dataclass(frozen=True)
class Caption:
    """The content of a caption: the objects, where the first is of the second, or where it is in the image."""

    slice: str
    things: tuple[Thing, ...]
    relation: str = ""
    place: str = ""

    @property
    def text(self) -> str:
        """The caption in words, such as "a red circle left of a blue square"."""
        first, *others = self.things
        if self.slice == "counting":
            return " ".join(filter(None, (list(COUNTS)[len(self.things) - 2], first.colour, plural(first.shape))))
        if self.place:
            return f"{phrase(first)} in the {self.place}"
        between = f" {self.relation} " if self.relation else " and "
        return between.join(map(phrase, (first, *others)))


@dataclass(frozen=True)
class Drawn:
    """An object of a scene: centre and radius are of the short side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        return RADII[self.size]


def phrase(thing: Thing) -> str:
    return " ".join(filter(None, ("a", thing.size, thing.colour, thing.shape)))


def plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def is_held_out(shape: str, colour: str) -> bool:
    """Return whether this pair is in no scene that is trained on."""
    return (COLOURS.index(colour) - SHAPES.index(shape)) % len(COLOURS) == 2


SEEN = [pair for pair in itertools.product(SHAPES, COLOURS) if not is_held_out(*pair)]
UNSEEN = [pair for pair in itertools.product(SHAPES, COLOURS) if is_held_out(*pair)]


def captions_of(split: str, index: int) -> Caption:
    """Return the caption of a scene."""
    rng = _draws(split, index, 0)
    unseen = split == "unseen"
    kinds = NAMING if unseen else SLICES
    kind = kinds[index % len(kinds)]
    pick = lambda options: options[int(rng.integers(len(options)))]  # noqa: E731
    (shape, colour), other = pick(UNSEEN if unseen else SEEN), pick(SEEN)
    while other == (shape, colour) or (kind in ("two", "position") and other[0] == shape):
        other = pick(SEEN)
    one, two = Thing(shape, colour), Thing(*other)
    if kind == "one":
        return Caption(kind, (Thing(shape),))
    if kind == "two":
        return Caption(kind, (Thing(shape), Thing(other[0])))
    if kind == "counting":
        coloured = Thing(shape, colour) if rng.integers(2) else Thing(shape)
        return Caption(kind, (coloured,) * (2 + int(rng.integers(3))))
    if kind == "size":
        return Caption(kind, (replace(one, size=pick(list(RADII))),))
    if kind == "place":
        return Caption(kind, (one,), place=pick(list(PLACES)))
    if kind == "position":
        things = (two, one) if rng.integers(2) else (one, two)
        bare = not unseen and bool(rng.integers(2))
        return Caption(kind, tuple(Thing(t.shape) for t in things) if bare else things, pick(list(RELATIONS)))
    return Caption(kind, (one, two) if kind == "attribution" else (one,))


def parse(text: str) -> Caption:
    """Return what the text of a caption says. Raises InputError for a text that is none of a scene."""
    words = " ".join(text.lower().split())
    relation = next((one for one in RELATIONS if f" {one} " in words), "")
    place = next((one for one in PLACES if words.endswith(f" in the {one}")), "")
    head = words.partition(" ")[0]
    if head in COUNTS:
        *colour, shapes = words.split(" ")[1:]
        shape = next((one for one in SHAPES if plural(one) == shapes), "")
        thing = _thing([*colour, shape], text)
        return Caption("counting", (thing,) * COUNTS[head])
    parts = words.removesuffix(f" in the {place}") if place else words
    between = f" {relation} " if relation else " and "
    things = [_thing(part.split(" ")[1:] if part.startswith("a ") else [], text) for part in parts.split(between)]
    if len(things) > 2 or (place and len(things) > 1):
        raise _no_caption(text)
    first = things[0]
    if relation or place:
        kind = "position" if relation else "place"
    elif len(things) == 2:
        kind = "attribution" if first.colour else "two"
    else:
        kind = "size" if first.size else "colours" if first.colour else "one"
    return Caption(kind, tuple(things), relation, place)


def _thing(words: Sequence[str], text: str) -> Thing:
    found: dict[str, str] = {}
    for word in words:
        kind = "size" if word in RADII else "colour" if word in HUES else "shape" if word in SHAPES else ""
        if not kind or kind in found:
            raise _no_caption(text)
        found[kind] = word
    if "shape" not in found:
        raise _no_caption(text)
    return Thing(**found)


def _no_caption(text: str) -> InputError:
    return InputError(f"{text!r} is no caption of a scene, such as 'a red circle left of a blue square'.")


def scene_of(caption: Caption, split: str, index: int) -> tuple[Drawn, ...]:
    """Return the objects of a scene with this caption. What the caption leaves open is drawn at random.

    Raises ValueError where no place is found, which a caption of `captions_of` never needs.
    """
    for attempt in range(1, 50):
        rng = _draws(split, index, attempt)
        objects: list[Drawn] = []
        for number, thing in enumerate(caption.things):
            made = _placed(caption, thing, number, objects, split, rng)
            if made is None:
                break
            objects.append(made)
        if len(objects) == len(caption.things):
            return tuple(objects)
    raise ValueError(f"no place for {caption}")


def _placed(
    caption: Caption, thing: Thing, number: int, before: Sequence[Drawn], split: str, rng: np.random.Generator
) -> Drawn | None:
    """Return an object beside those before it, or None where there is no room."""
    pick = lambda options: options[int(rng.integers(len(options)))]  # noqa: E731
    colour = thing.colour or pick([c for c in COLOURS if not is_held_out(thing.shape, c)])
    size = thing.size or ("small" if len(caption.things) > 2 else pick(list(RADII)))
    radius = RADII[size]
    for _ in range(TRIES):
        x, y = radius + 0.02 + (0.96 - 2 * radius) * rng.random(2)
        if caption.place:
            dx, dy = PLACES[caption.place]
            if (x - 0.5) * dx < 0.08 or (y - 0.5) * dy < 0.08:
                continue
        if any(np.hypot(x - o.x, y - o.y) < radius + o.radius + GAP for o in before):
            continue
        if caption.relation and number == 1:
            dx, dy = RELATIONS[caption.relation]
            along, across = (
                (before[0].x - x) * dx + (before[0].y - y) * dy,
                (before[0].x - x) * dy + (before[0].y - y) * dx,
            )
            if along < max(APART, 1.3 * abs(across)):
                continue
        return Drawn(thing.shape, colour, size, float(x), float(y))
    return None


def _draws(split: str, index: int, attempt: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=list(SPLITS).index(split) + 7, counter=[0, 0, attempt, index]))


def corners_of(shape: str) -> np.ndarray:
    """Return the outline of a shape f64[k 2], radius 1 about (0, 0); a square lies on a side."""
    turn = np.array([(1, 1), (-1, 1)]) / np.sqrt(2) if shape == "square" else np.eye(2)
    return CORNERS[shape] @ turn


def draw(objects: Sequence[Drawn], height: int, width: int) -> np.ndarray:
    """Return the image u8[h w 3] of objects on white."""
    side, image = min(height, width), Image.new("RGB", (width, height), (255, 255, 255))
    for one in objects:
        centre = np.array([one.x * width, one.y * height])
        # Pillow also fills the pixels of the outline, half a pixel too much on each side.
        corners = corners_of(one.shape) * (one.radius * side * SCALE - 0.5) + centre * SCALE
        mask = Image.new("L", (width * SCALE, height * SCALE))
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
        image.paste(rgb(one.colour), None, mask.reduce(SCALE))
    return np.asarray(image)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return a colour as red, green and blue from 0 to 255."""
    red, green, blue = (round(255 * value) for value in colorsys.hls_to_rgb(HUES[colour] / 360, 0.47, 0.95))
    return red, green, blue


class Captions(Sequence):
    """The captions of a split, made when they are asked for."""

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return SPLITS[self.split]

    def __getitem__(self, index):
        return captions_of(self.split, range(len(self))[index]).text


class Scenes:
    """{"image": u8[h w 3]} and `captions`, the texts of all scenes."""

    classes: tuple[str, ...] = ()

    def __init__(self, split: str, image: tuple[int, int, int] | None = None):
        self.split = choose(split, SPLITS, "split of scenes")
        self.height, self.width = image[:2] if image else (32, 32)
        self.captions = Captions(split)

    def __len__(self) -> int:
        return SPLITS[self.split]

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # IndexError beyond the end
        objects = scene_of(captions_of(self.split, index), self.split, index)
        return {"image": draw(objects, self.height, self.width)}
