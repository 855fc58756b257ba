"""Drawings of poses: a figure of capsules where the joints' parents are known, otherwise dots on a line."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.core.spec import ArraySpec
from jaxgen.data.motion_clips import format_of
from jaxgen.data.skeleton import Motion

SIDE, MARGIN, DOT = 96, 8, 2  # pixels
FINE = 3  # a figure is drawn at this multiple of its size, and made smaller
TURN = 0.6  # radians about the vertical axis, so that neither the front nor the side hides the limbs
THICK = 0.022  # of the drawing's side


def draw_spec(spec: ArraySpec, poses: np.ndarray) -> np.ndarray:
    """Return poses f32[n t j d] of a spec as images f32[n t h w 1]. Clips of rotations are seen beside their root."""
    if not spec.offsets:
        return draw_poses(poses, spec.parents)
    clips = format_of(spec)
    places = clips.places(np.nan_to_num(np.asarray(poses, np.float32)))  # [n t j 3]
    places = places - places[..., :1, :] * np.asarray([1, 0, 1], np.float32)
    return draw_poses(places, spec.parents, root=True)


def draw_poses(poses: np.ndarray, parents: Sequence[int] = (), root: bool = False) -> np.ndarray:
    """Return poses f32[n t j d], y upwards, as images f32[n t h w 1] in [-1, 1], all at the same scale.

    parents: the number of each joint's parent; -1: the root, which is at 0. The bones of a pose in three dimensions are
             drawn from the farthest to the nearest, the near ones darker, above a line on the ground. Without parents
             each joint is connected to the previous one, in its first two coordinates.
    root:    whether the root is one of the joints, at its own place
    """
    values = np.nan_to_num(np.asarray(poses, np.float32))
    if not parents or values.shape[-1] < 3:
        return _chains(values[..., :2])
    if root:
        points, bones = values, [(joint, parent) for joint, parent in enumerate(parents) if parent >= 0]
    else:  # [n t j+1 3], the root last
        points = np.concatenate([values, np.zeros((*values.shape[:2], 1, 3), np.float32)], 2)
        bones = [(joint, parent if parent >= 0 else len(parents)) for joint, parent in enumerate(parents)]
    c, s = np.cos(TURN), np.sin(TURN)
    x, depth = c * points[..., 0] + s * points[..., 2], c * points[..., 2] - s * points[..., 0]
    seen = np.stack([x, points[..., 1]], -1)
    low, high = seen.min((0, 1, 2)), seen.max((0, 1, 2))
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-6)
    middle = (low + high)[0] / 2
    places = np.stack([(x - middle) * scale + SIDE / 2, SIDE - MARGIN - (points[..., 1] - low[1]) * scale], -1)
    shade = _shade(depth)
    made = np.empty((*points.shape[:2], SIDE, SIDE, 1), np.float32)
    for i, t in np.ndindex(points.shape[:2]):
        made[i, t, ..., 0] = _figure(places[i, t], shade[i, t], bones)
    return made


def draw_motion(motion: Motion, turn: float = TURN) -> np.ndarray:
    """Return a motion as images f32[t h w 1] in [-1, 1] of a figure on the ground; the view follows it to the sides.

    turn: radians about the vertical axis
    """
    points = motion.places().astype(np.float32)  # [t j 3]
    points = points - points[:, :1] * np.asarray([1, 0, 1], np.float32)
    c, s = np.cos(turn), np.sin(turn)
    x, depth = c * points[..., 0] + s * points[..., 2], c * points[..., 2] - s * points[..., 0]
    low, high = points[..., 1].min(), points[..., 1].max()
    scale = (SIDE - 2 * MARGIN) / max(float(high - low), 2 * float(np.abs(x).max()), 1e-6)
    places = np.stack([x * scale + SIDE / 2, SIDE - MARGIN - (points[..., 1] - low) * scale], -1)
    shade = _shade(depth)
    lengths = np.abs(motion.skeleton.offsets).max(1)
    bones = [(j, p) for j, p in enumerate(motion.skeleton.parents) if p >= 0 and lengths[j]]
    return np.stack([_figure(places[t], shade[t], bones) for t in range(len(motion))])[..., None]


def _shade(depth: np.ndarray) -> np.ndarray:
    """Return 1 for the nearest points, 0 for the farthest."""
    near, far = depth.max(), depth.min()
    return (depth - far) / max(near - far, 1e-6)


def _figure(places: np.ndarray, shade: np.ndarray, bones: Sequence[tuple[int, int]]) -> np.ndarray:
    side, width = SIDE * FINE, max(round(THICK * SIDE * FINE), 1)
    canvas = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(canvas)
    ground = (SIDE - MARGIN) * FINE + width
    pen.line([(0, ground), (side, ground)], fill=200, width=max(width // 2, 1))
    at = [(float(x) * FINE, float(y) * FINE) for x, y in places]
    for joint, parent in sorted(bones, key=lambda bone: shade[bone[0]] + shade[bone[1]]):
        grey = round(170 - 150 * float(shade[joint] + shade[parent]) / 2)
        # A light rim makes the nearer one of two limbs that cross visible.
        for fill, half in ((255, width), (grey, width * 0.6)):
            pen.line([at[joint], at[parent]], fill=fill, width=round(2 * half))
            for x, y in (at[joint], at[parent]):
                if fill != 255:
                    pen.ellipse((x - half, y - half, x + half, y + half), fill=fill)
    small = canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 127.5 - 1


def _chains(points: np.ndarray) -> np.ndarray:
    """Return points f32[n t j 2] as images f32[n t h w 1] of dots, each connected to the previous one."""
    low, high = points.min((0, 1, 2)), points.max((0, 1, 2))
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-6)
    places = (points - low) * scale + MARGIN
    places[..., 1] = SIDE - places[..., 1]
    made = np.full((*points.shape[:2], SIDE, SIDE, 1), 1, np.float32)
    for i, t in np.ndindex(points.shape[:2]):
        canvas = Image.new("L", (SIDE, SIDE), 255)
        pen, joints = ImageDraw.Draw(canvas), [(float(x), float(y)) for x, y in places[i, t]]
        pen.line(joints, fill=160)
        for x, y in joints:
            pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=0)
        made[i, t, ..., 0] = np.asarray(canvas, np.float32) / 127.5 - 1
    return made
