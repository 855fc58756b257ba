"""Takes by rule: of a small figure with the joints of the tiny predictors, and of a body that walks."""

import numpy as np

from jaxgen.data.body_parts import body_of
from jaxgen.data.bvh import bvh_of, text_of
from jaxgen.data.retargeting import leg_length
from jaxgen.data.skeleton import Motion, Skeleton
from jaxgen.nn import rotations

OFFSETS = np.asarray([(0, 0, 0), (0, 1, 0), (0, 3, 0), (2, 0, 0), (-2, 0, 0), (0, -2, 0.5)], np.float64)
FIGURE = Skeleton(("hips", "back", "chest", "right_arm", "left_arm", "left_hand"), (-1, 0, 1, 2, 2, 4), OFFSETS)


def take(frames: int, seed: int = 0, rate: float = 10.0) -> str:
    """Return the text of a BVH file of swings that are drawn at random."""
    draw = np.random.default_rng(seed)
    waves = np.sin(np.arange(frames)[:, None, None] * draw.uniform(0.1, 0.5, (1, len(FIGURE), 3)))
    turned = np.asarray(rotations.expmap_to_matrix(waves * draw.normal(0, 0.4, (1, len(FIGURE), 3))))
    return text_of(bvh_of(Motion(FIGURE, turned, np.cumsum(draw.normal(size=(frames, 3)), 0), rate)))


def walk(skeleton: Skeleton, frames: int = 40) -> Motion:
    """Return a walk by rule: legs and arms swing, knees bend, the root goes on."""
    body, time = body_of(skeleton), np.arange(frames) / 20
    angles = np.zeros((frames, len(skeleton), 3))
    for side, sign in (("left", 1), ("right", -1)):
        swing = 0.5 * sign * np.sin(2 * np.pi * time)
        angles[:, body.legs[side][0], 0] = -swing
        angles[:, body.legs[side][1], 0] = 0.6 * (1 - np.cos(2 * np.pi * time + sign))
        angles[:, body.arms[side][0], 0] = swing
        angles[:, body.arms[side][1], 1] = -0.5 * sign
    root = np.stack([0 * time, 0.02 * np.sin(time), time], 1) * leg_length(skeleton, body)
    return Motion(skeleton, np.asarray(rotations.expmap_to_matrix(angles)), root, 20.0)


def walking(skeleton: Skeleton, frames: int) -> str:
    """Return the text of a BVH file of a walk."""
    return text_of(bvh_of(walk(skeleton, frames)))
