"""What damages pictures: blur, noise, JPEG, resampling. Pure functions of (pictures, keys), jitted with what uses them.

x f32[b h w c] in [-1, 1]; keys Key[b], one a picture, so that the damage depends on its key alone. Strengths are f32[b].
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxgen import rng
from jaxgen.errors import InputError
from jaxgen.nn.resample import imresize

Array = jax.Array
Key = jax.Array
Span = tuple[float, float]  # the least and the most; each picture's is drawn between them


@dataclass(frozen=True)
class Degradation:
    """What is done to a clean picture, in this order; a span of 0 to 0 leaves a step out."""

    noise: Span = (0.0, 0.0)  # Gaussian, its standard deviation of 255

    def check(self):
        """Raise InputError for a span that is none."""
        for name, (low, high) in {"noise": self.noise}.items():
            if not 0 <= low <= high:
                raise InputError(f"model.degradation.{name} must rise from at least 0, not be {low} {high}.")

    def __call__(self, x: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return {"degraded": f32[b h/scale w/scale c], not clipped, "sigma": f32[b], the noise's of 255}."""
        if scale != 1:
            x = imresize(x, 1 / scale)
        sigma = drawn(self.noise, keys, "sigma")
        if self.noise[1]:
            x = gaussian_noise(x, sigma, keys)
        return {"degraded": x, "sigma": sigma}


def drawn(span: Span, keys: Key, name: str) -> Array:
    """Return a number of a span for each picture, f32[b]."""
    low, high = span
    return jax.vmap(lambda key: jax.random.uniform(rng.fold(key, name), (), jnp.float32, low, high))(keys)


def gaussian_noise(x: Array, sigma: Array, keys: Key) -> Array:
    """Return x with N(0, sigma^2) added to every number, sigma f32[b] of 255."""
    noise = rng.normal(jax.vmap(lambda key: rng.fold(key, "noise"))(keys), x.shape[1:])
    return x + jnp.broadcast_to((sigma / 127.5).reshape(-1, 1, 1, 1), x.shape) * noise
