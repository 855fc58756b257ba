"""A pool of earlier generated images for the discriminator: Shrivastava et al. 2017, section 2.3."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.types import Array, Key

Pool = Mapping[str, Array]  # {"images": f32[n h w c], "count": i32[], the number of stored images}


def empty(size: int, image: tuple[int, int, int]) -> dict[str, Array]:
    """Return an empty pool for `size` images."""
    return {"images": jnp.zeros((size, *image)), "count": jnp.zeros((), jnp.int32)}


def exchange(pool: Pool, images: Array, key: Key) -> tuple[Array, Pool]:
    """Return images f32[b h w c] for the discriminator instead of these, and the new pool.

    Images are processed in order. While the pool is not full, an image is stored and returned. Later, with probability
    1/2, a random image of the pool is returned and replaced by the new one; otherwise the new one is returned. A pool
    of size 0 returns its inputs. Zhu et al. 2017 (CycleGAN), section 4: 50 images; as in the authors' code.
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

    pool, returned = jax.lax.scan(one, dict(pool), (images, jax.random.split(key, len(images))))
    return returned, pool
