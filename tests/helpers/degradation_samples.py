"""Images to degrade, keys for them, and the number of connected parts of a mask."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from tests.helpers.data_samples import sample_image


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


def batch(n: int = 3, size: tuple[int, int] = (38, 45), mode: str = "RGB") -> jax.Array:
    """Return n images, [n h w c]."""
    rows = [np.asarray(sample_image(i, size[::-1], mode), np.float32).reshape(*size, -1) for i in range(n)]
    return jnp.asarray(np.stack(rows) / 127.5 - 1, jnp.float32)


def floats(*numbers: float) -> jax.Array:
    return jnp.asarray(numbers, jnp.float32)


def pieces_of(mask: np.ndarray) -> int:
    """Return the number of connected parts of a mask, with diagonal neighbours connected."""
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    return found[1]
