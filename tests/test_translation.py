"""Translators: what they are trained for, and the command that uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import rng
from jaxgen.models.translation.pool import empty, exchanged


def test_the_pool_is_the_authors_list():
    state, kept = empty(3, (1, 1, 1)), []
    step = jax.jit(exchanged)
    for number in range(6):
        key = jax.random.key(number)
        arrive = jnp.arange(4.0).reshape(4, 1, 1, 1) + 4 * number
        shown, state = step(state, arrive, key)
        for i, k in enumerate(jax.random.split(key, 4)):
            x = float(arrive[i, 0, 0, 0])
            if len(kept) < 3:
                kept.append(x)
            elif bool(jax.random.bernoulli(rng.fold(k, "swap"))):
                place = int(jax.random.randint(rng.fold(k, "place"), (), 0, 3))
                kept[place], x = x, kept[place]
            assert float(shown[i, 0, 0, 0]) == x
        np.testing.assert_array_equal(state["images"].ravel(), kept)


def test_half_of_the_time_an_older_picture_is_shown():
    state = {"images": jnp.full((50, 1, 1, 1), -1.0), "count": jnp.asarray(50)}
    shown, after = jax.jit(exchanged)(state, jnp.arange(400.0).reshape(400, 1, 1, 1), jax.random.key(0))
    older = shown.ravel() != jnp.arange(400)
    assert 0.4 < float(older.mean()) < 0.6
    assert sorted([*shown.ravel().tolist(), *after["images"].ravel().tolist()]) == sorted([*range(400), *[-1.0] * 50])
