"""Blur against scipy's filters, densities and Bessel function."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special, stats

from jaxgen.data import blur
from tests.helpers.degradation_samples import batch, floats, keys, pieces_of


def test_gaussian_blur_equals_scipy():
    x, sigma = batch(3, (31, 44)), floats(0, 0.8, 4)
    ours = jax.jit(blur.gaussian_blur)(x, sigma)
    for row, one, s in zip(ours, x, sigma, strict=True):
        theirs = ndimage.gaussian_filter(np.asarray(one, float), (float(s), float(s), 0), truncate=7, mode="reflect")
        np.testing.assert_allclose(row, theirs, atol=2e-6)


@pytest.mark.parametrize("size", [(31, 44), (8, 9)])
@pytest.mark.parametrize("side", [1, 7, 21])
def test_filtering_equals_scipy_correlation(size, side):
    x, kernels = batch(2, size), jax.random.uniform(jax.random.key(1), (2, side, side)) - 0.3
    ours = jax.jit(blur.filter_images)(x, kernels)
    for row, one, kernel in zip(ours, x, kernels, strict=True):
        for c in range(3):
            theirs = ndimage.correlate(np.asarray(one[..., c], float), np.asarray(kernel, float), mode="reflect")
            np.testing.assert_allclose(row[..., c], theirs, atol=3e-5)


def test_gaussian_kernels_equal_scipy_densities():
    along, across, angle, power = floats(3, 1.5, 2), floats(1, 1.5, 2), floats(0.7, 0, 0), floats(1, 1, 0.6)
    ours = blur.gaussian_kernels(along, across, angle, power, 21)
    places = np.moveaxis(np.mgrid[-10:11, -10:11][::-1], 0, -1)  # x, y
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]], float)
    cov: Any = turn @ np.diag([9, 1]) @ turn.T
    theirs = stats.multivariate_normal(cov=cov).pdf(places)
    np.testing.assert_allclose(ours[0], theirs / theirs.sum(), atol=1e-6)
    radius = np.hypot(*np.moveaxis(places, -1, 0))
    theirs = stats.gennorm.pdf(radius, 1.2, scale=2 * 2 ** (1 / 1.2))  # exp(-(r^2 / 4)^0.6 / 2)
    np.testing.assert_allclose(ours[2], theirs / theirs.sum(), atol=1e-6)
    plateau = blur.plateau_kernels(along, across, angle, floats(1, 2, 1), 21)
    theirs = stats.burr12.sf(radius / 1.5, 4, 1)  # 1 / (1 + (r / 1.5)^4)
    np.testing.assert_allclose(plateau[1], theirs / theirs.sum(), atol=1e-6)


def test_sinc_kernels_equal_scipy_bessel_function():
    x = np.linspace(0, 60, 500)[1:]
    np.testing.assert_allclose(blur.jinc(jnp.asarray(x, jnp.float32)), special.j1(x) / x, atol=2e-7)
    radius = np.hypot(*np.mgrid[-10:11, -10:11])
    for cutoff in (math.pi / 5, 2.9):
        r = np.where(radius > 0, radius, 1)
        theirs = np.where(radius > 0, cutoff * special.j1(cutoff * r) / (2 * np.pi * r), cutoff**2 / (4 * np.pi))
        np.testing.assert_allclose(blur.sinc_kernels(floats(cutoff), 21)[0], theirs / theirs.sum(), atol=3e-6)


def test_cropped_kernels_have_their_side():
    kernels = blur.crop_kernels(jnp.ones((3, 21, 21)), jnp.asarray([7, 13, 21]))
    assert [int((k > 0).sum()) for k in kernels] == [49, 169, 441]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-5)


def test_line_kernels_have_the_moments_of_a_line():
    length, angle = floats(0, 9, 20, 20), floats(1, 0, math.pi / 2, math.pi / 4)
    kernels = np.asarray(blur.line_kernels(length, angle, 25), float)
    y, x = np.mgrid[-12:13, -12:13]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-5)
    for kernel, n, turn in zip(kernels, length, angle, strict=True):
        assert abs((kernel * x).sum()) < 1e-4 and abs((kernel * y).sum()) < 1e-4
        # The variance of a uniform density; splitting a point over pixels adds at most 1/4 to each.
        for place, part in ((x, math.cos(turn)), (y, math.sin(turn))):
            assert 0 <= (kernel * place**2).sum() - (float(n) * part) ** 2 / 12 + 1e-3 < 0.26
        assert abs((kernel * x * y).sum() - float(n) ** 2 / 12 * math.sin(turn) * math.cos(turn)) < 0.05
    assert np.argmax(kernels[0]) == 12 * 25 + 12 and kernels[0].max() > 0.999


def test_shake_kernels_are_centred_and_connected():
    kernels = np.asarray(jax.jit(blur.shake_kernels, static_argnums=2)(jnp.linspace(5, 40, 32), keys(32), 43), float)
    y, x = np.mgrid[-21:22, -21:22]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-4)  # nothing is cut off
    assert max(abs((kernels * place).sum((1, 2))).max() for place in (x, y)) < 1e-3
    pieces = [pieces_of(kernel > 1e-6) for kernel in kernels]
    assert pieces == [1] * 32
    spread = np.sqrt((kernels * (x * x + y * y)).sum((1, 2)))
    straight = np.linspace(5, 40, 32) / math.sqrt(12)
    assert (spread < straight + 0.5).all() and (spread[8:] < 0.9 * straight[8:]).any()  # some of them bend
