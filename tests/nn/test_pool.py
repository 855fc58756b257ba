"""Pooling against explicit windows, and the order of flattened images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.pool import adaptive_avg_pool, avg_pool, flatten, max_pool

WINDOWS = [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 0), (3, 1, 1), (2, 1, 0), (4, 4, 0), (4, 3, 2)]
pools = pytest.mark.parametrize("window, stride, pad", WINDOWS)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def windows_of(x: np.ndarray, window: int, stride: int, pad: int, fill: float) -> np.ndarray:
    """[b h w c] -> [b h' w' window window c]."""
    x = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    rows, columns = (range(0, size - window + 1, stride) for size in x.shape[1:3])
    return np.stack([np.stack([x[:, i : i + window, j : j + window] for j in columns], 1) for i in rows], 1)


@pools
def test_pooling_is_over_windows(window, stride, pad):
    x = random(2, 9, 11, 3)
    found = max_pool(jnp.asarray(x), window, stride, pad)
    np.testing.assert_array_equal(found, windows_of(x, window, stride, pad, -np.inf).max((3, 4)))
    with_zeros = avg_pool(jnp.asarray(x), window, stride, pad)
    np.testing.assert_allclose(with_zeros, windows_of(x, window, stride, pad, 0).mean((3, 4)), atol=1e-6)
    without = avg_pool(jnp.asarray(x), window, stride, pad, count_padding=False)
    np.testing.assert_allclose(without, np.nanmean(windows_of(x, window, stride, pad, np.nan), (3, 4)), atol=1e-6)


@pools
def test_max_pool_gradient_goes_to_the_maximum(window, stride, pad):
    """The gradient equals that of XLA's pooling."""
    x, pads = jnp.asarray(random(2, 9, 11, 3)), ((0, 0), (pad, pad), (pad, pad), (0, 0))
    sizes = (1, window, window, 1), (1, stride, stride, 1), pads
    plain = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *sizes)  # noqa: E731
    weights = jnp.asarray(random(*plain(x).shape))
    mine = lambda x: max_pool(x, window, stride, pad)  # noqa: E731
    ours, theirs = (jax.grad(lambda x, pool=pool: (pool(x) * weights).sum())(x) for pool in (mine, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_image_smaller_than_a_window_is_refused():
    with pytest.raises(ValueError, match="no room for a 3x3 window in 2x5 pixels"):
        max_pool(jnp.zeros((1, 2, 5, 1)), 3, 2)


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (1, 1), (9, 11), (4, 13)])
def test_adaptive_pooling_covers_the_image(size):
    x = random(2, 9, 11, 3)
    wanted = np.empty((2, *size, 3))
    for i, j in np.ndindex(*size):
        (top, below), (left, right) = (
            (k * n // parts, int(np.ceil((k + 1) * n / parts))) for k, n, parts in ((i, 9, size[0]), (j, 11, size[1]))
        )
        wanted[:, i, j] = x[:, top:below, left:right].mean((1, 2))
    np.testing.assert_allclose(adaptive_avg_pool(jnp.asarray(x), size), wanted, atol=1e-6)


def test_flatten_puts_channels_first():
    x = random(2, 3, 4, 5)
    found = np.asarray(flatten(jnp.asarray(x)))
    assert found.shape == (2, 60)
    for c, i, j in np.ndindex(5, 3, 4):
        assert np.array_equal(found[:, (c * 3 + i) * 4 + j], x[:, i, j, c])
