"""Colours by optimal transport: closed forms, conditions up to 1e8, and photographs onto themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.media.photo import read
from jaxgen.nn import colour_transport
from jaxgen.nn.colour_transport import ColourStatistics, colour_statistics, monge_kantorovich, transfer_colours

LEVEL = 1 / 127.5


def maps(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=shape) @ rng.normal(size=(shape[-1], shape[-1])) + rng.normal(size=shape[-1])
    return mixed.astype(np.float32)


def covariance(x: np.ndarray) -> np.ndarray:
    return np.cov(np.float64(x).reshape(-1, 3).T, bias=True)


def turned(seed: int, variances) -> np.ndarray:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn @ np.diag(variances) @ turn.T


@pytest.mark.parametrize("least", [0.2, 1e-4, 1e-8])
def test_linear_transport_is_the_closed_form(least):
    # Of covariances that commute T is diagonal in their axes: sqrt(b / a).
    a, b = np.array([least, 0.5, 1.0]), np.array([0.9, 0.1, least])
    found = monge_kantorovich(*(ColourStatistics(np.zeros(3), turned(0, v)) for v in (a, b)))
    np.testing.assert_allclose(found, turned(0, np.sqrt(b / a)), rtol=1e-6)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e8])
def test_any_covariance_becomes_any_other(condition):
    for seed in range(5):
        a, b = (turned(seed + k, [condition**-1, condition**-0.5, 1]) for k in (0, 10))
        t = monge_kantorovich(ColourStatistics(np.zeros(3), a), ColourStatistics(np.ones(3), b))
        np.testing.assert_allclose(t, t.T, atol=1e-9 * np.abs(t).max())
        np.testing.assert_allclose(np.linalg.eigvalsh(t @ a @ t), np.linalg.eigvalsh(b), rtol=1e-4)
        same = monge_kantorovich(*2 * (ColourStatistics(np.zeros(3), a),))
        np.testing.assert_allclose(same, np.eye(3), atol=1e-6)


def test_transport_matches_moments_and_moves_least():
    x, y = maps(0, (12, 11, 3)), maps(1, (9, 8, 3))
    made = transfer_colours(x, y)
    a, b = covariance(x), covariance(y)
    np.testing.assert_allclose(covariance(made), b, atol=1e-5 * np.abs(b).max())
    np.testing.assert_allclose(made.mean((0, 1)), y.mean((0, 1)), atol=1e-5)
    # Bures: of the maps that match, this one's cost is tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2.
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values) @ vectors.T
    cost = np.trace(a) + np.trace(b) - 2 * np.sqrt(np.linalg.eigvalsh(root @ b @ root)).sum()
    moved = (made - made.mean((0, 1))) - (x - x.mean((0, 1)))
    assert np.square(moved).sum(2).mean() == pytest.approx(cost, rel=1e-5)


def test_a_photographs_own_colours_change_nothing(real_data):
    """Of a third axis with 1/500 to 1/3000 of the first's variance, and of none at all."""
    for name in ("photos/rocket.jpg", "photos_free/free_by_Peter_Nerlich.jpg", "photos_free/ColdRipple.jpg"):
        x = read(real_data / name).pixels[::4, ::4]
        np.testing.assert_allclose(transfer_colours(x, x), x, atol=0.01 * LEVEL, err_msg=name)


@pytest.mark.parametrize("step", [1, 0.01])
def test_muted_colours_are_kept_and_rounding_is_none(step):
    """Colours that move about grey by a level, or by a hundredth of one, are axes of their own; f32 noise is none."""
    rng = np.random.default_rng(0)
    grey = rng.uniform(-1, 1, (64, 64, 1)).astype(np.float32).repeat(3, 2)
    muted = grey + np.float32(step * LEVEL) * rng.integers(-1, 2, grey.shape).astype(np.float32)
    np.testing.assert_allclose(transfer_colours(muted, muted), muted, atol=1e-4 * step * LEVEL)
    noisy = grey * (1 + rng.uniform(-1, 1, grey.shape).astype(np.float32) * np.float32(2**-23))
    made = transfer_colours(noisy, maps(0, (30, 30, 3)))
    assert np.ptp(made - made.mean((0, 1)), 2).max() < 1e-5, "grey stays grey"


def test_more_pixels_than_one_block():
    x, y = maps(0, (400, 300, 3)), maps(1, (9, 8, 3))
    assert len(x) * x.shape[1] > colour_transport.BLOCK
    found = colour_statistics(x)
    np.testing.assert_allclose(found.mean, np.float64(x).mean((0, 1)), rtol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance(x), rtol=1e-10)
    made = transfer_colours(x, y)
    np.testing.assert_allclose(covariance(made), covariance(y), atol=1e-5 * np.abs(covariance(y)).max())


def test_sliced_transport_matches_every_marginal():
    x, y = maps(0, (160, 3)), np.exp(maps(1, (160, 3)) / 2)
    made = np.asarray(colour_transport.sliced_transport(jnp.asarray(x), jnp.asarray(y), jax.random.key(0)))
    np.testing.assert_allclose(np.sort(made, 0), np.sort(y, 0), rtol=1e-3, atol=1e-4)
    before, after = (np.corrcoef(v.T) - np.corrcoef(y.T) for v in (x, made))
    assert np.abs(after).max() < 0.3 * np.abs(before).max(), "not the marginals alone"


def test_the_transport_of_numbers_is_by_rank():
    found = colour_transport.match_distribution(jnp.float32([3, 1, 2]), jnp.float32([10, 30, 20]))
    assert found.tolist() == [30, 10, 20]
    numbers = jnp.asarray(maps(0, (90, 7)).ravel())
    many = colour_transport.match_distribution(numbers, jnp.arange(5000, dtype=jnp.float32))
    assert float(many.mean()) == pytest.approx(2499.5, rel=1e-3)
    heavy = colour_transport.match_distribution(
        jnp.float32([3, 1]), jnp.arange(8, dtype=jnp.float32), jnp.float32([3, 1])
    )
    assert heavy.tolist() == [4.5, 0.5], "the middle of three quarters, and of one"
