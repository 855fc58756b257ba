"""Measures of generated motions: how far feet slide, and how different clips are.

Foot sliding after Ling, Zinno, Cheng and van de Panne 2020 and Zhang, Starke, Komura and Saito 2018; diversity and
multimodality after Guo et al. 2020 (Action2Motion), section 5.1.
"""

import numpy as np

LOW = 0.05  # metres above the ground, below which a foot should not slide
GROUND = 5  # per cent of all heights of feet in a clip that are below the ground


def foot_sliding(feet: np.ndarray, rate: float) -> np.ndarray:
    """Return how fast the feet slide that are near the ground, in centimetres a second, f64[n].

    feet: their places f[n t f 3] in metres, y upwards; rate: frames in a second
    The mean over frames and feet of |v| (2 - 2^(h / LOW)), v the velocity along the ground and h the height above it,
    of those with h < LOW. The ground is where a twentieth of the heights are below it. 0 where no foot is near it.
    """
    feet = np.asarray(feet, np.float64)
    height = feet[..., 1] - np.percentile(feet[..., 1], GROUND, axis=(1, 2), keepdims=True)
    height = np.maximum((height[:, 1:] + height[:, :-1]) / 2, 0)  # [n t-1 f]
    speed = np.linalg.norm(np.diff(feet, axis=1)[..., [0, 2]], axis=-1) * rate * 100
    near = height < LOW
    slides = np.where(near, speed * (2 - 2 ** (height / LOW)), 0).sum((1, 2))
    return slides / np.maximum(near.sum((1, 2)), 1)


def diversity(features: np.ndarray, pairs: int, seed: int = 0) -> float:
    """Return the mean distance of features f[n d] of `pairs` random pairs of clips."""
    draw = np.random.default_rng(seed)
    first, second = (features[draw.integers(0, len(features), pairs)] for _ in range(2))
    return float(np.linalg.norm(first - second, axis=-1).mean())


def multimodality(features: np.ndarray, labels: np.ndarray, pairs: int, seed: int = 0) -> float:
    """Return the mean over the classes of the mean distance of `pairs` random pairs of clips of one class."""
    return float(np.mean([diversity(features[labels == k], pairs, seed) for k in np.unique(labels)]))
