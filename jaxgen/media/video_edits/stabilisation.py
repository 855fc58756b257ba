"""Stabilisation without a net: the camera's motion is estimated and smoothed over time.

The motion from each frame to the next is fitted to the optical flow: a similarity by RANSAC (Fischler and Bolles 1981)
and least squares, or a homography. A point of frame t is carried to its place in the frames around t. The weighted mean
of these places is where it is shown.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen.media.video_edits.footage import Frame, Stage, to_float
from jaxgen.media.video_edits.motion import flow_of, same_scene, trust_in

Camera = Literal["similarity", "homography"]
Border = Literal["crop", "fill"]

FLOW_PIXELS = 320 * 192  # at which the flow is computed
POINTS = 48  # along the longer side
TRIALS, INLIER = 256, 1 / 800  # hypotheses; the error of an inlier, in longer sides
ZOOM = 1.1  # of "crop"


class Motion(NamedTuple):
    """Points x, y of a frame f64[n 2], and where they are in the next one."""

    before: np.ndarray
    after: np.ndarray


def points(first: np.ndarray, second: np.ndarray) -> Motion | None:
    """Return textured points and where they go, for frames f32[h w 3]; None where the scene changes."""
    one, other = jnp.asarray(first), jnp.asarray(second)
    flow = flow_of(one, other, FLOW_PIXELS)
    if not same_scene(trust_in(one, other, flow)):
        return None
    found = np.asarray(flow, np.float64)
    height, width = first.shape[:2]
    step = max(max(height, width) // POINTS, 1)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    light = first.mean(2)
    reach = max(step // 2, 1)
    # The smaller of the variations down and right near each point: little along an edge, none on a wall
    texture = np.array(
        [
            min(np.abs(np.diff(part, axis=0)).mean(), np.abs(np.diff(part, axis=1)).mean())
            for part in (
                light[max(r - reach, 0) : r + reach + 2, max(c - reach, 0) : c + reach + 2]
                for r, c in zip(rows, columns, strict=True)
            )
        ]
    )
    kept = texture >= np.median(texture)
    before = np.stack([columns, rows], 1)[kept].astype(np.float64)
    return Motion(before, before + found[rows[kept], columns[kept]][:, ::-1])


def similarity(motion: Motion, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarity transform f64[3 3] that most points follow, and which do, bool[n]."""
    p, q = (side[:, 0] + 1j * side[:, 1] for side in motion)  # q = a p + b in complex numbers
    limit = INLIER * float(np.ptp(motion.before, axis=0).max())
    draws = np.random.default_rng(seed).integers(0, len(p), (TRIALS, 2))
    one, other = draws.T
    apart = p[one] != p[other]
    one, other = one[apart], other[apart]
    a = (q[one] - q[other]) / (p[one] - p[other])
    b = q[one] - a * p[one]
    a, b = np.append(a, 1), np.append(b, np.median(q.real - p.real) + 1j * np.median(q.imag - p.imag))
    votes = (np.abs(a[:, None] * p + b[:, None] - q) < limit).sum(1)
    best = int(votes.argmax())
    turn, shift = a[best], b[best]
    inliers = np.abs(turn * p + shift - q) < limit
    for _ in range(3):  # least squares over the inliers, which are found again
        if inliers.sum() < 2:
            break
        x, y = p[inliers], q[inliers]
        spread = x - x.mean()
        turn = (np.conj(spread) * (y - y.mean())).sum() / max((np.abs(spread) ** 2).sum(), 1e-9)
        shift = y.mean() - turn * x.mean()
        inliers = np.abs(turn * p + shift - q) < limit
    matrix = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0, 0, 1]]
    return np.array(matrix), inliers


def homography(motion: Motion, inliers: np.ndarray) -> np.ndarray:
    """Return the homography f64[3 3] that fits the inliers: the normalised direct linear transform (Hartley 1997)."""
    p, q = motion.before[inliers], motion.after[inliers]
    centre, size = p.mean(0), max(np.ptp(p, axis=0).max(), 1)
    norm = np.array([[2 / size, 0, -2 * centre[0] / size], [0, 2 / size, -2 * centre[1] / size], [0, 0, 1]])
    p, q = moved(norm, p), moved(norm, q)
    zero, one = np.zeros(len(p)), np.ones(len(p))
    rows = [
        np.stack([*p.T, one, zero, zero, zero, *(-q[:, :1] * p).T, -q[:, 0]], 1),
        np.stack([zero, zero, zero, *p.T, one, *(-q[:, 1:] * p).T, -q[:, 1]], 1),
    ]
    matrix = np.linalg.svd(np.concatenate(rows), full_matrices=False)[2][-1].reshape(3, 3)
    matrix = np.linalg.inv(norm) @ matrix @ norm
    return matrix / matrix[2, 2]


def moved(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return places x, y f64[n 2] under a transform f64[3 3]."""
    found = np.concatenate([places, np.ones((len(places), 1))], 1) @ matrix.T
    return found[:, :2] / found[:, 2:]


def motion_between(first: np.ndarray, second: np.ndarray, camera: Camera = "similarity") -> np.ndarray | None:
    """Return the camera's motion f64[3 3] from one frame f32[h w 3] to the next; None where the scene changes."""
    found = points(first, second)
    if found is None or len(found.before) < 8:
        return None
    matrix, inliers = similarity(found)
    if inliers.sum() < max(8, 0.1 * len(inliers)):
        return None
    return homography(found, inliers) if camera == "homography" and inliers.sum() >= 30 else matrix


def correction(motions: list[np.ndarray | None], at: int, reach: int) -> np.ndarray:
    """Return the transform f64[3 3] from frame `at` to where its points are shown.

    motions: from each frame to the next; None: the scene changes there
    reach:   frames before and after that count, with Gaussian weights
    """
    total, weights = np.eye(3), 1.0
    for way in (-1, 1):
        chain = np.eye(3)
        for steps in range(1, reach + 1):
            number = at - steps if way < 0 else at + steps - 1
            hop = motions[number] if 0 <= number < len(motions) else None
            if hop is None:
                break
            chain = (np.linalg.inv(hop) if way < 0 else hop) @ chain
            weight = float(np.exp(-0.5 * (2 * steps / reach) ** 2))
            total, weights = total + weight * chain / chain[2, 2], weights + weight
    return total / weights


def stabilised(reach: int, camera: Camera = "similarity", border: Border = "crop", log: Any = None) -> Stage:
    """Return the stage that smooths the camera's motion over `reach` frames before and after each.

    border: crop: the frame is enlarged by a tenth, and moved only as far as it covers the whole; fill: it keeps its
            scale, and what it leaves bare is taken from the frame shown before
    log:    a list that gets the transform of each frame, for measurements
    """

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        waiting: deque[Frame] = deque()  # frames that are not shown yet
        motions: list[np.ndarray | None] = []  # from the oldest frame that counts on
        last, first, shown = None, 0, None  # `first`: of the frames that wait, among those that count
        for frame in frames:
            now = to_float(frame.pixels)
            if last is not None:
                motions.append(motion_between(last, now, camera))
            last = now
            waiting.append(frame)
            if len(waiting) > reach:
                shown = show(waiting.popleft(), motions, first, shown)
                yield shown[0]
                first += 1
            if first > reach:
                motions.pop(0)
                first -= 1
        while waiting:
            shown = show(waiting.popleft(), motions, first, shown)
            yield shown[0]
            first += 1

    def show(frame: Frame, motions: list, at: int, shown: Any) -> tuple[Frame, np.ndarray]:
        height, width = frame.pixels.shape[:2]
        matrix = correction(motions, at, reach)
        if border == "crop":
            matrix = within(matrix, (height, width))
            made = transformed(frame.pixels, np.linalg.inv(matrix))
        else:
            made = transformed(frame.pixels, np.linalg.inv(matrix))
            bare = bare_of(np.linalg.inv(matrix), (height, width))
            under = frame.pixels
            if shown is not None and (hop := motions[at - 1] if at else None) is not None:
                relative = matrix @ hop @ np.linalg.inv(shown[1])  # from what was shown to what is
                under = transformed(shown[0].pixels, np.linalg.inv(relative))
                rest = bare_of(np.linalg.inv(relative), (height, width))
                under = np.where(rest, edged(frame.pixels, np.linalg.inv(matrix)), under)
            else:
                under = edged(frame.pixels, np.linalg.inv(matrix))
            made = np.where(bare, under, made)
        if log is not None:
            log.append(matrix)
        return Frame(frame.time, made), matrix

    return stage


def within(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a transform, enlarged, and weakened as far as it has to be to cover a frame."""
    height, width = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    zoom = np.array([[ZOOM, 0, (1 - ZOOM) * centre[0]], [0, ZOOM, (1 - ZOOM) * centre[1]], [0, 0, 1]])
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float64)

    def covers(share: float) -> bool:
        inverse = np.linalg.inv(zoom @ ((1 - share) * np.eye(3) + share * matrix))
        found = moved(inverse, corners)
        return bool((found >= 0).all() and (found <= [width - 1, height - 1]).all())

    low, high = 0.0, 1.0
    if not covers(1.0):
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if covers(middle) else (low, middle)
        high = low
    return zoom @ ((1 - high) * np.eye(3) + high * matrix)


def transformed(pixels: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return pixels u8[h w 3] whose place q shows what was at `inverse` q, bicubic; black where that is outside."""
    height, width = pixels.shape[:2]
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # Pillow measures from the corner of the first pixel
    data = half @ inverse @ np.linalg.inv(half)
    data = (data / data[2, 2]).ravel()[:8].tolist()
    image = Image.fromarray(pixels)
    kind, filter_ = Image.Transform.PERSPECTIVE, Image.Resampling.BICUBIC
    return np.asarray(image.transform((width, height), kind, data, filter_))


def _places(inverse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    return moved(inverse, np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float64)).reshape(height, width, 2)


def bare_of(inverse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return where a transformed frame has no pixels, bool[h w 1]."""
    found = _places(inverse, size)
    return np.any((found < 0) | (found > [size[1] - 1, size[0] - 1]), axis=2, keepdims=True)


def edged(pixels: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return a transformed frame u8[h w 3] whose edge goes on beyond it, by nearest pixels."""
    found = np.rint(_places(inverse, (pixels.shape[0], pixels.shape[1]))).astype(int)
    columns, rows = found[..., 0].clip(0, pixels.shape[1] - 1), found[..., 1].clip(0, pixels.shape[0] - 1)
    return pixels[rows, columns]
