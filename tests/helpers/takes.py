"""A take of a small figure as a BVH file, whose moving joints have the tree of the tiny predictors of motion."""

import numpy as np

from jaxgen.data.bvh import bvh_of, text_of
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
