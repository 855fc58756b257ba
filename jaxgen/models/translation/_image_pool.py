"""Images made earlier, of which a critic is shown some: Shrivastava et al. 2017, section 2.3."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.types import Array, Key

Pool = Mapping[str, Array]  # {"images": f32[n h w c], "count": i32[], how many of them are there}


def empty(size: int, image: tuple[int, int, int]) -> dict[str, Array]:
    """Return a pool with room for so many images."""
    return {"images": jnp.zeros((size, *image)), "count": jnp.zeros((), jnp.int32)}


def exchanged(pool: Pool, images: Array, key: Key) -> tuple[Array, Pool]:
    """Return the images f32[b h w c] that a critic is shown in place of these, and the pool afterwards.

    One after the other: while there is room an image is kept, and shown; then, half of the time, one of the pool is
    shown, and this one takes its place, otherwise this one is shown. A pool with no room shows what it is given.
    Zhu et al. 2017 (CycleGAN), section 4: 50 images; the authors' code.
    """
    size = len(pool["images"])
    if not size:
        return images, pool

    def one(pool: Pool, arrives: tuple[Array, Key]) -> tuple[Pool, Array]:
        image, key = arrives
        held, count = pool["images"], pool["count"]
        full, swap = count == size, jax.random.bernoulli(rng.fold(key, "swap"))
        place = jnp.where(full, jax.random.randint(rng.fold(key, "place"), (), 0, size), count)
        old = held[place]
        held = held.at[place].set(jnp.where(~full | swap, image, old))
        return {"images": held, "count": jnp.minimum(count + 1, size)}, jnp.where(full & swap, old, image)

    pool, shown = jax.lax.scan(one, dict(pool), (images, jax.random.split(key, len(images))))
    return shown, pool
