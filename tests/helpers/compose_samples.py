"""Smooth images and their files."""

import numpy as np
from PIL import Image


def smooth(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width][..., None] / 9
    a, b, c = np.random.default_rng(seed).uniform(0.5, 2, (3, channels))
    return (0.7 * np.sin(a * y + b * x + c) * np.cos(b * y - c * x)).astype(np.float32)


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y - height * 0.4) ** 2 + (x - width * 0.6) ** 2 < (min(height, width) * 0.38) ** 2)[..., None]


def save(path, x: np.ndarray, alpha: np.ndarray | None = None):
    values = np.rint((x + 1) * 127.5).astype(np.uint8)
    if alpha is not None:
        values = np.concatenate([values, np.rint(alpha * 255).astype(np.uint8)], 2)
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path)
    return path


def load(path) -> np.ndarray:
    x = np.asarray(Image.open(path))
    return (x if x.ndim == 3 else x[..., None]).astype(np.float32)
