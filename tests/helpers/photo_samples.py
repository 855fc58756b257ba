"""Images with detail at every scale, their files and pixels."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxgen.nn.resample import resize


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return an image u8[h w c] with detail at every scale."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(height // 8 + 2, width // 8 + 2, channels)).astype(np.float32)
    x = np.asarray(resize(jax.numpy.asarray(coarse), (height, width))) + 0.1 * rng.normal(
        size=(height, width, channels)
    )
    return np.clip(128 + 50 * x, 0, 255).astype(np.uint8)


def save(path: Path, values: np.ndarray, **how) -> Path:
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path, **how)
    return path


def save_smooth(path: Path, height: int = 8, width: int = 8) -> Path:
    """Save such an image in colour, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, smooth(height, width))


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)
