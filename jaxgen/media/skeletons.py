"""Drawings of poses: joints as dots, each connected to the previous one."""

import numpy as np
from PIL import Image, ImageDraw

SIDE, MARGIN, DOT = 96, 8, 2  # pixels


def draw_poses(poses: np.ndarray) -> np.ndarray:
    """Return poses f32[n t j d] drawn in their first two coordinates, y upwards, as images f32[n t h w 1] in [-1, 1].

    All poses are drawn at the same scale.
    """
    points = np.asarray(poses, np.float32)[..., :2]
    points = np.nan_to_num(points)
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
