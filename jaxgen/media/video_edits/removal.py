"""Objects removed without a net: the hidden part is taken from other frames, along the optical flow.

The flow is carried on into the hole from its surroundings. Each hidden pixel follows it forwards and backwards to the
first frame in which it is seen. What is seen in none is taken from the frame that was filled before, at first from a
given function or from the surroundings. After Xu et al., "Deep Flow-Guided Video Inpainting", 2019, without its nets.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxgen.core.errors import InputError
from jaxgen.data.video_folder import open_clip
from jaxgen.media import photo
from jaxgen.media.video_edits.footage import Footage, Frame, coloured, to_float
from jaxgen.media.video_edits.motion import flow_of, same_scene, trust_in

REACH = 16  # frames before, and after, in which a hidden pixel is looked for
BYTES = 600_000_000  # of the frames and flows in memory: fewer frames where they are large
STRAY = 1.0  # pixels from which on the flows there and back disagree: a way along them leads astray
GROWN = 2  # pixels around the mask that are taken for hidden as well: codecs smear edges
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]  # f32[h w 3] in [0, 1], hidden bool[h w] -> f32[h w 3]


def spread(values: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return f32[h w c] whose hidden part, bool[h w], continues its surroundings: push-pull, smoothed by diffusion."""
    if not hidden.any():
        return values
    if hidden.all():
        return np.zeros_like(values)
    height, width, _ = values.shape
    weight = (~hidden).astype(np.float32)[..., None]
    pads = ((0, height % 2), (0, width % 2), (0, 0))
    sums, weights = (
        np.pad(x, pads).reshape((height + 1) // 2, 2, (width + 1) // 2, 2, -1).sum((1, 3))
        for x in (values * weight, weight)
    )
    small = spread(sums / np.maximum(weights, 1e-6), weights[..., 0] == 0)
    made = np.where(hidden[..., None], small.repeat(2, 0).repeat(2, 1)[:height, :width], values)
    rows, columns = np.nonzero(hidden)
    top, bottom = slice(max(rows.min() - 1, 0), rows.max() + 2), slice(max(columns.min() - 1, 0), columns.max() + 2)
    part, inner = made[top, bottom], hidden[top, bottom, None]
    for _ in range(8):
        around = np.pad(part, ((1, 1), (1, 1), (0, 0)), "edge")
        mean = (around[2:, 1:-1] + around[:-2, 1:-1] + around[1:-1, 2:] + around[1:-1, :-2]) / 4
        part = np.where(inner, mean, part)
    made[top, bottom] = part
    return made


def by_spreading(pixels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return a frame whose hidden part continues its surroundings."""
    return spread(pixels, hidden)


class Held(NamedTuple):
    """A frame in the window: its pixels f32[h w 3] (hidden: filled by spreading), what is hidden, and the flows to its
    neighbours f16[h w 2]; none where the scene changes."""

    time: float
    pixels: np.ndarray
    hidden: np.ndarray
    flows: dict[int, np.ndarray]  # by -1 and 1


def removed(masks: Iterable[np.ndarray], fill: Fill = by_spreading) -> Callable[[Iterator[Frame]], Iterator[Frame]]:
    """Return the stage that removes what the masks hide. masks: bool[h w], one for each frame"""

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        window: deque[Held] = deque()
        middle, before, reach = 0, None, REACH
        for frame, mask in zip(frames, masks, strict=False):
            hidden = ndimage.binary_dilation(mask, iterations=GROWN) if mask.any() else mask
            held = Held(frame.time, spread(to_float(frame.pixels), hidden).astype(np.float16), hidden, {})
            reach = max(min(REACH, BYTES // (hidden.size * 14) // 2), 2)
            if window:
                _link(window[-1], held)
            window.append(held)
            if len(window) - middle > reach:
                before = _filled(window, middle, before, fill, reach)
                yield _shown(before)
                middle += 1
            if middle > reach:
                window.popleft()
                middle -= 1
        for at in range(middle, len(window)):
            before = _filled(window, at, before, fill, reach)
            yield _shown(before)

    return stage


def _shown(held: Held) -> Frame:
    return Frame(held.time, np.rint(held.pixels.astype(np.float32).clip(0, 1) * 255).astype(np.uint8))


def _link(one: Held, other: Held):
    """Find the flows between two frames, carried on into what is hidden."""
    first, second = one.pixels.astype(np.float32), other.pixels.astype(np.float32)
    forth, back = flow_of(first, second), flow_of(second, first)
    if same_scene(trust_in(first, second, forth)):
        near = [ndimage.binary_dilation(held.hidden, iterations=3) for held in (one, other)]
        one.flows[1] = spread(np.asarray(forth), near[0]).astype(np.float16)
        other.flows[-1] = spread(np.asarray(back), near[1]).astype(np.float16)


def at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values f32[n c] of an image [h w c] at places (down, right) f32[2 n], bilinear."""
    height, width = values.shape[:2]
    low = np.floor(places).astype(int)
    down, right = (places - low)[:, :, None].astype(np.float32)
    rows = [np.clip(low[0] + i, 0, height - 1) for i in (0, 1)]
    columns = [np.clip(low[1] + i, 0, width - 1) for i in (0, 1)]
    upper = values[rows[0], columns[0]] * (1 - right) + values[rows[0], columns[1]] * right
    lower = values[rows[1], columns[0]] * (1 - right) + values[rows[1], columns[1]] * right
    return upper * (1 - down) + lower * down


def _filled(window: "deque[Held]", number: int, before: Held | None, fill: Fill, reach: int) -> Held:
    """Return a frame of the window with its hidden part filled; `before` is the frame that was filled before it."""
    held = window[number]
    where = np.nonzero(held.hidden)
    if not len(where[0]):
        return held
    total = np.zeros((len(where[0]), 3), np.float32)
    weights = np.zeros((len(where[0]), 1), np.float32)
    for way in (-1, 1):
        places, open_ = np.stack(where).astype(np.float32), np.ones(len(where[0]), bool)
        for steps in range(1, reach + 1):
            here, there = number + way * (steps - 1), number + way * steps
            if not 0 <= there < len(window) or way not in window[here].flows or not open_.any():
                break
            hop = at(window[here].flows[way], places[:, open_]).T.astype(np.float32)
            back = at(window[there].flows[-way], places[:, open_] + hop).T
            places[:, open_] += hop
            open_[open_] = np.hypot(*(hop + back)) < STRAY + 0.1 * np.hypot(*hop)
            sides = np.array(held.hidden.shape, np.float32)[:, None] - 1
            inside = ((places >= 0) & (places <= sides)).all(0)
            other = window[there]
            seen = np.zeros_like(open_)
            seen[open_] = at(other.hidden[..., None].astype(np.float32), places[:, open_])[:, 0] < 0.01
            seen &= open_ & inside
            total[seen] += at(other.pixels, places[:, seen]) / steps
            weights[seen] += 1 / steps
            open_ &= inside & ~seen
    found = weights[:, 0] > 0
    made, left = held.pixels.astype(np.float32), held.hidden.copy()
    made[tuple(axis[found] for axis in where)] = total[found] / weights[found]
    left[where] = ~found
    if left.any() and before is not None and -1 in held.flows:  # from the frame that was shown before
        rest = np.stack(np.nonzero(left))
        hop = at(held.flows[-1], rest).T.astype(np.float32)
        back = at(before.flows[1], rest + hop).T
        rest, hop = (x[:, np.hypot(*(hop + back)) < STRAY + 0.1 * np.hypot(*hop)] for x in (rest, hop))
        made[tuple(rest)] = at(before.pixels, rest + hop)
        left[tuple(rest)] = False
    if left.any():
        made = np.where(left[..., None], fill(made, left), made)
    return held._replace(pixels=made.astype(np.float16))


def open_masks(path: Path, footage: Footage) -> Iterator[np.ndarray]:
    """Return a mask bool[h w] for each frame: of an image, for all, or of a clip with as many frames.

    White is removed. Raises InputError for masks of another size, without white, or too few.
    """
    size = footage.size
    if not path.exists():
        raise InputError(f"There is no mask {path}.")
    still = photo.size_of(path) if path.is_file() else None
    if still is not None and path.suffix.lower() not in (".gif", ".apng"):
        mask = photo.read(path).pixels.mean(2) > 0
        check_mask(path, mask, size)
        if not mask.any():
            raise InputError(f"The mask {path} is all black: nothing is to be removed.")
        if mask.all():
            raise InputError(f"The mask {path} is all white: nothing of the clip is known.")
        return itertools.repeat(mask)
    clip = open_clip(path)
    if len(clip) < footage.count:
        raise InputError(f"The masks {path} are {len(clip)} frames, and the clip has {footage.count}.")
    check_mask(path, next(iter(clip.frames([0]))), size)
    return (coloured(pixels).mean(2) > 127 for pixels in clip.frames(range(footage.count)))


def check_mask(path: Path, mask: np.ndarray, size: tuple[int, int]):
    """Raise InputError for a mask [h w ...] that has not the size of the clip."""
    if mask.shape[:2] != size:
        sizes = ["x".join(map(str, each)) for each in (mask.shape[:2], size)]
        raise InputError(f"The mask {path} is {sizes[0]}, the clip {sizes[1]}: they must have the same size.")
