"""DiffAugment: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", sections 3 and 4.

It augments the discriminator's inputs, real and generated, in the losses of both nets.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.core import rng
from jaxgen.core.errors import choose

Array = jax.Array
Key = jax.Array


def brightness(key: Key, x: Array) -> Array:
    """Return x [h w c] plus one number from U(-1/2, 1/2)."""
    return x + jax.random.uniform(key, (), x.dtype, -0.5, 0.5)


def saturation(key: Key, x: Array) -> Array:
    """Return x [h w c] with each pixel's deviation from its mean over the channels multiplied by U(0, 2)."""
    grey = x.mean(-1, keepdims=True)  # [h w 1]
    return grey + (x - grey) * jax.random.uniform(key, (), x.dtype, 0, 2)


def contrast(key: Key, x: Array) -> Array:
    """Return x [h w c] with the deviation from the mean of the image multiplied by U(1/2, 3/2)."""
    mean = x.mean()
    return mean + (x - mean) * jax.random.uniform(key, (), x.dtype, 0.5, 1.5)


def translation(key: Key, x: Array) -> Array:
    """Return x [h w c] translated by whole pixels, up to an eighth of each side, with zeros outside."""
    limits = [int(n / 8 + 0.5) for n in x.shape[:2]]
    padded = jnp.pad(x, [*((n, n) for n in limits), (0, 0)])  # [h+2n w+2m c]
    starts = [jax.random.randint(rng.fold(key, a), (), 0, 2 * n + 1) for a, n in zip("yx", limits, strict=True)]
    return lax.dynamic_slice(padded, (*starts, 0), x.shape)


def cutout(key: Key, x: Array) -> Array:
    """Return x [h w c] with zeros in a random rectangle of half of each side, which can be partly outside the image."""
    inside = []
    for axis, n in zip("yx", x.shape[:2], strict=True):
        size = int(n / 2 + 0.5)
        start = jax.random.randint(rng.fold(key, axis), (), 0, n + 1 - size % 2) - size // 2
        inside.append((jnp.arange(n) >= start) & (jnp.arange(n) < start + size))
    return jnp.where((inside[0][:, None] & inside[1][None, :])[..., None], 0, x)


POLICIES: dict[str, tuple[Callable[[Key, Array], Array], ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}


def check_policy(policy: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in a policy such as "color,translation,cutout". Raises InputError for an unknown name."""
    names = policy.split(",") if isinstance(policy, str) else policy
    return tuple(choose(name.strip(), POLICIES, "augmentation") for name in names if name.strip())


def diffaugment(key: Key, x: Array, policy: str | tuple[str, ...] = "color,translation,cutout") -> Array:
    """Return x f32[b h w c] in [-1, 1] with the policy's augmentations in sequence, each image with its own numbers.

    color:       x + U(-1/2, 1/2); deviations from each pixel's mean times U(0, 2); from the image's times U(1/2, 3/2)
    translation: by U{-h/8 .. h/8} and U{-w/8 .. w/8} pixels
    cutout:      zeros in a rectangle of h/2 by w/2 pixels
    The result is not clipped. Raises InputError for an unknown name.
    Zhao et al. 2020, section 4, as in the authors' code.
    """
    steps = [step for name in check_policy(policy) for step in POLICIES[name]]

    def one(key: Key, x: Array) -> Array:
        for step in steps:
            x = step(rng.fold(key, step.__name__), x)
        return x

    return jax.vmap(one)(rng.sample_keys(key, jnp.arange(len(x))), x)
