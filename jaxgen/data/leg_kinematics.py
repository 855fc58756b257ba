"""Inverse kinematics of legs: feet that stand on the ground stand still there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxgen.data.body_parts import Body
from jaxgen.data.skeleton import Motion, foot_contacts, in_parents, unit
from jaxgen.nn.rotations import shortest_turn

SPEED, HEIGHT = 0.4, 0.12  # of a standing foot: leg lengths in a second, and leg lengths above its lowest place
BLEND = 0.15  # seconds in which a leg goes to a contact and comes from one
STRETCH = 0.9995  # the largest part of a leg's length that it is stretched to


def keep_contacts(motion: Motion, body: Body, source: np.ndarray, theirs: Body, up: np.ndarray, leg: float) -> Motion:
    """Return the motion with its legs bent so that its feet stand as those of the source do.

    source: the places f64[t i 3] of the source's joints, scaled to the motion's size, and theirs its parts of the body
    up:     the vertical f64[3], an axis; leg: the length of a leg
    In a contact a foot moves as the source's foot does, and so it slides no more. The pelvis goes down where a leg is
    too short. Frames of which nothing is to be changed stay as they are.
    """
    places, world = motion.in_world()
    height = source @ up
    upright = np.stack([np.zeros_like(height), height, np.zeros_like(height)], -1)
    level = source - height[..., None] * up
    sides, changes, shown = list(body.legs), [], []
    for side in sides:
        ours, other = body.toes[side], theirs.toes[side]
        ours, other = (body.legs[side][2], theirs.legs[side][2]) if ours is None or other is None else (ours, other)
        # `foot_contacts` looks at y: the speed is that of the level part as well.
        flat = upright.copy()
        flat[..., [0, 2]] = level[..., [i for i in range(3) if not up[i]]]
        stands = foot_contacts(flat, motion.rate, [other], SPEED * leg, HEIGHT * leg)[:, 0]
        near = np.pad(stands, 1)  # with one frame on either side, the speed in the first and the last one is kept too
        stands = near[:-2] | near[1:-1] | near[2:]
        changes.append(_change(places[:, ours] - source[:, other], stands, up, motion.rate))
        shown.append(stands)
    change, stands = np.stack(changes, 1), np.stack(shown, 1)  # [t 2 3], [t 2]
    changed = np.linalg.norm(change, axis=-1) > 1e-9 * leg  # [t 2]
    if not changed.any():
        return motion
    drop = np.zeros(len(motion))
    for i, side in enumerate(sides):
        hip, ankle = (places[:, body.legs[side][k]] for k in (0, 2))
        reach = _reach(places, body.legs[side])
        way = ankle + change[:, i] - hip
        down = -way @ up
        across = np.linalg.norm(way + down[:, None] * up, axis=-1)
        need = down - np.sqrt(np.maximum(reach**2 - across**2, 0))
        drop = np.maximum(drop, np.where(changed[:, i] & stands[:, i], need, 0))
    drop = _smooth(np.maximum(drop, 0), max(round(BLEND * motion.rate), 1))
    moved = motion if not drop.any() else replace(motion, root=motion.root - drop[:, None] * up)
    lower = places - drop[:, None, None] * up
    for i, side in enumerate(sides):
        aims = places[:, body.legs[side][2]] + change[:, i]
        rows = np.flatnonzero(changed[:, i] | (drop > 0))
        if len(rows):
            # Where only the pelvis went down, the foot stays where it was.
            world[rows] = _bent(motion, world[rows], lower[rows], aims[rows], body, side)
    turned = in_parents(world, motion.skeleton.parents)
    same = ~(changed.any(1) | (drop > 0))
    turned[same] = motion.rotations[same]
    return replace(moved, rotations=turned)


def _change(away: np.ndarray, stands: np.ndarray, up: np.ndarray, rate: float) -> np.ndarray:
    """Return what is added to a foot's place f64[t 3], so that in each contact its distance from the source's is fixed.

    The distance is the mean of the contact, and its vertical part that of all contacts.
    """
    change, frames = np.zeros_like(away), len(away)
    if not stands.any():
        return change
    level = (away[stands] @ up).mean() * up
    edges = np.flatnonzero(np.diff(np.concatenate([[0], stands.astype(int), [0]])))
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    for start, stop in spans:
        mean = away[start:stop].mean(0)
        change[start:stop] = mean - (mean @ up) * up + level - away[start:stop]
    wide = max(round(BLEND * rate), 1)
    total = np.zeros(frames)
    free = np.zeros_like(change)
    for start, stop in spans:
        for edge, times in ((start, np.arange(max(start - wide, 0), start)), (stop - 1, np.arange(stop, stop + wide))):
            times = times[(times < frames)]
            times = times[~stands[times]]
            weight = 1 - np.abs(times - edge) / (wide + 1)
            free[times] += weight[:, None] * change[edge]
            total[times] += weight
    return np.where(stands[:, None], change, free / np.maximum(total, 1)[:, None])


def _reach(places: np.ndarray, leg: tuple[int, int, int]) -> np.ndarray:
    """Return how far a leg is stretched at most, f64[t]: a little less than its length, or as far as it is."""
    hip, knee, ankle = (places[:, joint] for joint in leg)
    length = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
    return np.maximum(STRETCH * length, np.linalg.norm(ankle - hip, axis=-1))


def _smooth(values: np.ndarray, wide: int) -> np.ndarray:
    """Return a smooth curve that is nowhere below the values, f64[t]."""
    padded = np.pad(values, 2 * wide)
    windows = lambda x: np.lib.stride_tricks.sliding_window_view(x, 2 * wide + 1)  # noqa: E731
    return windows(windows(padded).max(-1)).mean(-1)


def _bent(motion: Motion, world: np.ndarray, places: np.ndarray, aims: np.ndarray, body: Body, side: str) -> np.ndarray:
    """Return rotations in the world [n j 3 3] with one leg bent so that its ankle is at `aims`; the foot stays turned.

    The knee's angle follows from the law of cosines, about the axis that it bends about already.
    """
    hip, knee, ankle = body.legs[side]
    thigh, shin = places[:, knee] - places[:, hip], places[:, ankle] - places[:, knee]
    a, b = (np.linalg.norm(x, axis=-1) for x in (thigh, shin))
    left = places[:, body.legs["left"][0]] - places[:, body.legs["right"][0]]
    axis = unit(np.cross(thigh, shin) + 1e-3 * (a * b / np.linalg.norm(left, axis=-1))[:, None] * left)
    axis = unit(axis - (axis * unit(thigh)).sum(-1, keepdims=True) * unit(thigh))
    way = aims - places[:, hip]
    far = np.clip(
        np.linalg.norm(way, axis=-1), np.abs(a - b) + 1e-9, np.maximum(a + b, _reach(places, body.legs[side]))
    )
    bend = np.arccos(np.clip((far**2 - a**2 - b**2) / (2 * a * b), -1, 1))  # between thigh and shin
    across = np.cross(axis, unit(thigh))
    new_shin = b[:, None] * (np.cos(bend)[:, None] * unit(thigh) + np.sin(bend)[:, None] * across)
    at_knee = _frames(axis, new_shin) @ _frames(axis, shin).swapaxes(1, 2)
    swing = shortest_turn(unit(thigh + new_shin), unit(way))
    made = world.copy()
    foot = below(motion.skeleton.parents, ankle)
    for joint in below(motion.skeleton.parents, hip):
        if joint not in foot:
            lower = joint in below(motion.skeleton.parents, knee)
            made[:, joint] = swing @ (at_knee @ world[:, joint] if lower else world[:, joint])
    return made


def _frames(axis: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Return rotations [n 3 3]: the first column is a bone's direction, the last one near the axis."""
    first = unit(bone)
    last = unit(axis - (axis * first).sum(-1, keepdims=True) * first)
    return np.stack([first, np.cross(last, first), last], -1)


def below(parents: Sequence[int], top: int) -> set[int]:
    """Return a joint and all joints below it."""
    found = {top}
    for joint, parent in enumerate(parents):
        if parent in found:
            found.add(joint)
    return found
