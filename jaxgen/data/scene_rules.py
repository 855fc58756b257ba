"""Accuracy of text to image, by rule: whether the objects of an image are those that a caption of a scene names.

An image is cut into regions of one colour on white; a region's hue names its colour, the outline that overlaps most its
shape, its area its size, its centroid its place. No net is needed: the images that data/scenes.py draws are all right.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxgen.data.scenes import HUES, PLACES, RADII, RELATIONS, SHAPES, Caption, Thing, corners_of

ATTRIBUTES = ("count", "shape", "colour", "size", "place", "relation")
COLOURED = 0.5  # a pixel belongs to an object where the whitest colour would cover less than half of it
SMALLEST = 0.3  # of a small circle's area: a region below it is no object
AHEAD = 0.1  # of the short side: how much further left an object must be, to be left of another
FINE = 8  # supersampling of the outlines


@dataclass(frozen=True)
class Found:
    """An object of an image; its centre and radius are of the short side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    likeness: float  # of its outline with the shape's: intersection over union


def objects_in(image: np.ndarray) -> list[Found]:
    """Return the objects of an image u8[h w 3], the largest first."""
    x = image.astype(np.float64) / 255
    cover = np.clip((1 - x.min(2)) / 0.93, 0, 1)  # of a pixel, since one channel of each colour is nearly 0
    hue = _hues(x)
    angles = np.asarray(list(HUES.values()), np.float64)
    distance = np.abs((hue[..., None] - angles + 180) % 360 - 180)  # [h w k]
    nearest, side = distance.argmin(2), min(image.shape[:2])
    found = []
    for number, colour in enumerate(HUES):
        labelled: Any = ndimage.label((nearest == number) & (cover > COLOURED))
        regions, count = labelled
        for region in range(1, count + 1):
            inside = regions == region
            near = ndimage.binary_dilation(inside, np.ones((3, 3)))
            weight = np.where(near, np.where(inside, cover, np.minimum(cover, 0.5) * (nearest == number)), 0)
            area = weight.sum() / side**2
            if area < SMALLEST * np.pi * RADII["small"] ** 2:
                continue
            found.append((area, colour, weight, side))
    return [_named(*one) for one in sorted(found, key=lambda one: -one[0])]


def judge(image: np.ndarray, caption: Caption) -> dict[str, bool]:
    """Return whether each attribute that a caption names is right in an image u8[h w 3], and "all" of them.

    The caption's objects are compared with as many of the image, the largest, in the order that agrees best.
    """
    found, things = objects_in(image), caption.things
    best: dict[str, bool] = {}
    rows = [*found[: len(things)], *[None] * max(len(things) - len(found), 0)]
    for some in itertools.permutations(rows):
        right = _attributes(some, caption)
        if not best or sum(right.values()) > sum(best.values()):
            best = right
    best["count"] = len(found) == len(things)
    return {**best, "all": all(best.values())}


def _attributes(some: Sequence[Found | None], caption: Caption) -> dict[str, bool]:
    things, right = caption.things, {}
    for name in ("shape", "colour", "size"):
        if any(getattr(thing, name) for thing in things):
            right[name] = all(map(functools.partial(_agrees, name), some, things))
    first = some[0]
    if caption.place:
        dx, dy = PLACES[caption.place]
        right["place"] = first is not None and (first.x - 0.5) * dx > 0 and (first.y - 0.5) * dy > 0
    if caption.relation:
        second, (dx, dy) = some[1], RELATIONS[caption.relation]
        if first is None or second is None:
            right["relation"] = False
        else:
            along = (first.x - second.x) * dx + (first.y - second.y) * dy
            across = (first.x - second.x) * dy + (first.y - second.y) * dx
            right["relation"] = along > max(AHEAD, abs(across))
    return right


def _agrees(name: str, one: Found | None, thing: Thing) -> bool:
    wanted = getattr(thing, name)
    return not wanted or (one is not None and getattr(one, name) == wanted)


def _named(area: float, colour: str, weight: np.ndarray, side: int) -> Found:
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    total = weight.sum()
    x, y = (weight * columns).sum() / total, (weight * rows).sum() / total
    best = (-1.0, "", 0.0)
    for shape in SHAPES:
        own, centroid = _outline(shape)
        radius = float(np.sqrt(total / own))
        mask = _mask(shape, radius, x - centroid[0] * radius, y - centroid[1] * radius, weight.shape)
        likeness = np.minimum(mask, weight).sum() / np.maximum(mask, weight).sum()
        best = max(best, (float(likeness), shape, radius / side))
    likeness, shape, radius = best
    size = "large" if radius > sum(RADII.values()) / 2 else "small"
    return Found(shape, colour, size, x / weight.shape[1], y / weight.shape[0], likeness)


@functools.cache
def _outline(shape: str) -> tuple[float, tuple[float, float]]:
    """Return the area and the centroid of a shape of radius 1."""
    x, y = corners_of(shape).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    centre = [((v + np.roll(v, -1)) * cross).sum() / (6 * area) for v in (x, y)]
    return abs(float(area)), (float(centre[0]), float(centre[1]))


def _mask(shape: str, radius: float, x: float, y: float, size: tuple[int, ...]) -> np.ndarray:
    """Return how much of each pixel a shape covers, f64[h w]."""
    corners = corners_of(shape) * (radius * FINE - 0.5) + np.array([x, y]) * FINE
    mask = Image.new("L", (size[1] * FINE, size[0] * FINE))
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    return np.asarray(mask.reduce(FINE), np.float64) / 255


def _hues(x: np.ndarray) -> np.ndarray:
    """Return the hue of each pixel in degrees, f64[h w]; 0 where it has none."""
    high, low = x.max(2), x.min(2)
    spread = np.where(high > low, high - low, 1)
    red, green, blue = np.moveaxis(x, 2, 0)
    sector = np.where(
        high == red,
        (green - blue) / spread,
        np.where(high == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    return np.where(high > low, 60 * sector, 0) % 360
