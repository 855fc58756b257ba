"""Images of an actor of capsules: a body in colours of its own, a camera, a background, and things in front of it.

All frames of a clip are drawn together. What is drawn follows from numbers in [0, 1) alone: the same ones give the same
images.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.data.known_skeletons import BODY

FOCAL = 1.5  # focal length, in widths of the image
Draw = Callable[..., np.ndarray]  # (*shape) -> f64 in [0, 1)


class Limb(NamedTuple):
    """A capsule between two joints: its radii in metres, and what it is dressed in."""

    start: str
    stop: str
    first: float
    last: float
    part: str


LIMBS = (
    Limb("pelvis", "spine2", 0.125, 0.125, "shirt"),
    Limb("spine2", "spine3", 0.13, 0.13, "shirt"),
    Limb("left_shoulder", "right_shoulder", 0.075, 0.075, "shirt"),
    Limb("left_hip", "right_hip", 0.1, 0.1, "trousers"),
    Limb("spine3", "neck", 0.1, 0.06, "shirt"),
    Limb("neck", "head", 0.055, 0.055, "skin"),
    Limb("head", "head_top", 0.085, 0.085, "skin"),
    *(
        Limb(f"{side}_{start}", f"{side}_{stop}", first, last, part)
        for side in ("left", "right")
        for start, stop, first, last, part in (
            ("hip", "knee", 0.085, 0.06, "trousers"),
            ("knee", "ankle", 0.058, 0.042, "shins"),
            ("ankle", "foot", 0.045, 0.042, "shoes"),
            ("foot", "toes", 0.042, 0.032, "shoes"),
            ("shoulder", "elbow", 0.055, 0.043, "sleeves"),
            ("elbow", "wrist", 0.042, 0.033, "arms"),
            ("wrist", "hand", 0.038, 0.032, "skin"),
        )
    ),
)
PARTS = ("shirt", "trousers", "skin", "shoes", "sleeves", "arms", "shins", "hair")
SKIN = np.asarray([(0.98, 0.84, 0.72), (0.87, 0.67, 0.52), (0.62, 0.42, 0.29), (0.36, 0.23, 0.16)])
GROUPS = (  # joints whose offsets get longer together
    ("knee", "ankle"),
    ("elbow", "wrist", "hand"),
    ("spine", "neck"),
    ("hip",),
    ("shoulder", "collar"),
    ("head",),
    ("foot", "toes"),
)


def build(draw: Draw) -> tuple[np.ndarray, float]:
    """Return the offsets f64[j 3] of an actor: limbs are 12 % longer or shorter, alike on both sides; its thickness."""
    scale = np.ones((len(BODY), 1))
    for words, value in zip(GROUPS, draw(len(GROUPS)), strict=True):
        rows = [i for i, name in enumerate(BODY.names) if any(word in name for word in words)]
        scale[rows] = 0.88 + 0.24 * value
    return BODY.offsets * scale, float(0.8 + 0.5 * draw(1)[0])


class Camera(NamedTuple):
    """A camera that looks along -z, turned down by an angle: its place f64[3], and right, up and back as rows."""

    place: np.ndarray
    axes: np.ndarray

    def project(self, places: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and rows f64[... 2] in pixels, and distances along the view f64[...]."""
        seen = (places - self.place) @ self.axes.T
        depth = np.maximum(-seen[..., 2], 0.05)
        x, y = (FOCAL * side * seen[..., i] / depth for i in (0, 1))
        return np.stack([side / 2 + x, side / 2 - y], -1), depth


def camera_for(places: np.ndarray, draw: Draw) -> Camera:
    """Return a camera that has all places f64[t j 3] in view, more or less in the middle."""
    pitch, fill, *jitter = draw(5)
    pitch = np.radians(-5 + 30 * pitch)
    back = np.asarray([0, np.sin(pitch), np.cos(pitch)])
    axes = np.stack([np.asarray([1.0, 0, 0]), np.cross(back, [1.0, 0, 0]), back])
    low, high = places.min((0, 1)), places.max((0, 1))
    size = max(float(np.linalg.norm(high - low)) / 2, 0.3) + 0.1
    away = 2 * FOCAL * size / (0.9 + 0.25 * fill)
    middle = (low + high) / 2 + 0.08 * size * (2 * np.asarray(jitter) - 1)
    return Camera(middle + away * back, axes)


def draw_actor(places: np.ndarray, turns: np.ndarray, thick: float, camera: Camera, side: int, draw: Draw, hidden: int):
    """Return frames u8[t side side 3] of a body at places f64[t j 3] with rotations f64[t j 3 3] in the world.

    hidden: number of things in front of the actor
    """
    frames = len(places)
    canvas = _background(camera, side, draw)[:, None].repeat(frames, 1)  # f32[3 t h w]
    nearest = np.full(canvas.shape[1:], np.inf, np.float32)
    colours, stripes = _clothes(draw)
    light = 2 * draw(3) - 1
    light = np.asarray([light[0], 0.3 + abs(light[1]), 0.5 + abs(light[2])])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    number = {name: i for i, name in enumerate(BODY.names)}
    head = number["head"]
    behind = places[:, head] + turns[:, head] @ np.asarray([0, 0.12, -0.035])  # hair shows where the face is not
    above = places[:, head] + turns[:, head] @ np.asarray([0, 0.17, -0.01])
    capsules = [(places[:, number[x.start]], places[:, number[x.stop]], x.first, x.last, x.part) for x in LIMBS]
    capsules.append((behind, above, 0.088, 0.09, "hair"))
    for start, stop, first, last, part in capsules:
        (a, za), (b, zb) = camera.project(start, side), camera.project(stop, side)
        radii = [FOCAL * side * thick * r / z for r, z in ((first, za), (last, zb))]
        _capsule(canvas, nearest, (a, b), (za, zb), radii, thick * first, colours[part], stripes[part], light)
    for _ in range(hidden):
        _in_front(canvas, draw)
    noise = np.float32(0.03 * draw(1)[0])
    grain = draw(side, side).astype(np.float32) - np.float32(0.5)
    canvas += noise * grain
    return np.rint(255 * np.clip(canvas, 0, 1)).astype(np.uint8).transpose(1, 2, 3, 0)


def _capsule(
    canvas: np.ndarray,
    nearest: np.ndarray,
    ends: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    radii: Sequence[np.ndarray],
    bulge: float,
    colours: np.ndarray,
    stripes: tuple[float, float],
    light: np.ndarray,
):
    """Draw a capsule f64[t 2] to f64[t 2] into the frames, where nothing is nearer."""
    side = canvas.shape[2]
    a, b = (x.astype(np.float32) for x in ends)
    ra, rb = (np.maximum(r, 0.4).astype(np.float32)[:, None, None] for r in radii)
    low = np.floor(np.minimum(a, b).min(0) - max(ra.max(), rb.max()) - 1).astype(int)
    high = np.ceil(np.maximum(a, b).max(0) + max(ra.max(), rb.max()) + 1).astype(int)
    (x0, y0), (x1, y1) = np.clip(low, 0, side), np.clip(high, 0, side)
    if x0 >= x1 or y0 >= y1:
        return
    x = np.arange(x0, x1, dtype=np.float32)[None, None] + np.float32(0.5) - a[:, 0, None, None]  # [t 1 w]
    y = np.arange(y0, y1, dtype=np.float32)[None, :, None] + np.float32(0.5) - a[:, 1, None, None]  # [t h 1]
    bx, by = (b - a).T[:, :, None, None]
    square = np.maximum(bx * bx + by * by, np.float32(1e-3))
    along = x * (bx / square) + y * (by / square)  # [t h w]
    np.clip(along, 0, 1, out=along)
    dx, dy = x - along * bx, y - along * by
    radius = ra + along * (rb - ra)
    far = dx * dx + dy * dy
    t, i, j = np.nonzero(far < np.square(radius + np.float32(0.5)))
    # From here on there are only the pixels that it covers, [n].
    along, dx, dy, radius, far = (values[t, i, j] for values in (along, dx, dy, radius, far))
    cover = np.minimum(radius - np.sqrt(far) + np.float32(0.5), 1)
    out = np.sqrt(np.maximum(1 - far / (radius * radius), 0))  # how much of the capsule points to the camera
    za, zb = (z.astype(np.float32)[t] for z in depths)
    depth = za + along * (zb - za) - np.float32(bulge) * out
    i, j = i + y0, j + x0
    cover *= depth < nearest[t, i, j]
    bright = 0.5 + 0.55 * np.maximum((dx * light[0] - dy * light[1]) / radius + out * light[2], 0)
    count, share = (np.float32(value) for value in stripes)
    band = along * count
    second = band - np.floor(band) < share
    for channel, (one, other) in zip(canvas, colours.T, strict=True):
        old = channel[t, i, j]
        channel[t, i, j] = old + cover * (np.where(second, other, one) * bright - old)
    solid = cover > 0.5
    nearest[t[solid], i[solid], j[solid]] = depth[solid]


def _clothes(draw: Draw) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, float]]]:
    """Return two colours f32[2 3] for each part, and the number and share of its stripes."""
    values, plain = draw(len(PARTS), 2, 3), draw(6)
    colours = dict(zip(PARTS, 0.08 + 0.87 * values, strict=True))
    tone = plain[0] * (len(SKIN) - 1)
    skin = SKIN[int(tone)] + (tone - int(tone)) * (SKIN[min(int(tone) + 1, len(SKIN) - 1)] - SKIN[int(tone)])
    colours["skin"] = np.stack([skin, skin])
    colours["hair"] = 0.6 * colours["hair"]
    colours["sleeves"] = colours["shirt"] if plain[1] < 0.85 else colours["skin"]
    colours["arms"] = colours["shirt"] if plain[2] < 0.4 else colours["skin"]
    colours["shins"] = colours["trousers"] if plain[3] < 0.75 else colours["skin"]
    count, share = 1 + 4 * draw(len(PARTS)), 0.5 * (draw(len(PARTS)) < 0.4)
    stripes = {part: (float(count[i]), float(share[i])) for i, part in enumerate(PARTS)}
    same = {"skin": (1.0, 0.0), "sleeves": stripes["shirt"], "arms": stripes["shirt"], "shins": stripes["trousers"]}
    return {part: value.astype(np.float32) for part, value in colours.items()}, stripes | same


def _background(camera: Camera, side: int, draw: Draw) -> np.ndarray:
    """Return a wall and a floor with patterns, f32[3 side side]."""
    wall, floor, other = draw(3, 3).astype(np.float32)
    kind, contrast, cells, height = draw(4)
    rows, columns = np.indices((side, side), dtype=np.float32) / side
    grid = int(2 + 7 * cells)
    coarse = draw(grid, grid).astype(np.float32)
    if kind < 0.35:  # smooth
        at = np.linspace(0, grid - 1, side)
        low, part = np.minimum(at.astype(int), grid - 2), None
        part = (at - low).astype(np.float32)
        across = coarse[:, low] * (1 - part) + coarse[:, low + 1] * part
        pattern = across[low] * (1 - part[:, None]) + across[low + 1] * part[:, None]
    elif kind < 0.7:  # patches
        pattern = coarse[(rows * grid).astype(int), (columns * grid).astype(int)]
    else:  # stripes
        pattern = ((columns * grid) % 1 < 0.5).astype(np.float32)
    image = wall + contrast.astype(np.float32) * pattern[..., None] * (other - wall)
    if height < 0.7:
        down = float(camera.axes[2, 1])  # sine of the angle by which the camera looks down
        horizon = 0.5 - FOCAL * down / max(float(camera.axes[1, 1]), 0.1) + 0.35 * height + 0.1
        under = np.clip((rows - horizon) * side, 0, 1)[..., None]
        image = image + under * (floor * (0.75 + 0.25 * rows[..., None]) - image)
    return image.astype(np.float32).transpose(2, 0, 1)


def _in_front(canvas: np.ndarray, draw: Draw):
    """Draw a bar, a box or a disc that crosses the frames or stands, over a part of the time."""
    frames, side = canvas.shape[1:3]
    kind, start, length, pattern = draw(4)
    length = int(np.ceil(frames * (0.3 + 0.5 * length)))
    first = int(start * (frames - length + 1))
    size = side * (0.12 + 0.28 * draw(2))  # half of its width and height
    begin, end = side * (0.15 + 0.7 * draw(2, 2))
    end = begin + draw(1) * (end - begin)
    if kind < 0.35:
        size = np.asarray([0.5 * size[0], side])
    one, other = draw(2, 3).astype(np.float32)
    places = np.arange(side) + 0.5
    for frame in range(first, first + length):
        centre = begin + frame / max(frames - 1, 1) * (end - begin)
        dx, dy = (places - centre[0])[None] / size[0], (places - centre[1])[:, None] / size[1]
        inside = dx**2 + dy**2 < 1 if kind > 0.7 else np.maximum(abs(dx), abs(dy)) < 1
        second = (np.floor(3 * dx) + np.floor(3 * dy)) % 2 < (1 if pattern < 0.5 else 0)
        for channel, first_colour, second_colour in zip(canvas[:, frame], one, other, strict=True):
            channel[inside] = np.where(second, second_colour, first_colour)[inside]
