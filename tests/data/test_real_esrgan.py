"""Degradation of Real-ESRGAN: the published probabilities, and images of different sizes on one canvas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from jaxgen.data import blur, real_esrgan
from tests.helpers.degradation_samples import batch, keys


def test_resizing_each_image_equals_pytorch():
    """Against torch 2.13's interpolate(mode="bicubic"), scipy's linear interpolation, and means over areas."""
    row = np.array([0.0, 1, 0, 2, 5, 3])
    wide = [-0.07177734375, 0.74951171875, 0.61767578125, 0.1064453125, 1.5654296875, 4.2705078125, 4.60888671875]
    wide, narrow = [*wide, 2.8564453125], [0.26171875, 0.05078125, 2.9609375, 3.55859375]
    mode, old, new = jnp.asarray([2, 2, 1, 0, 0]), jnp.full(5, 6), jnp.asarray([8, 4, 8, 2, 3])
    taps = jax.jit(real_esrgan.resize_weights, static_argnums=(2, 3))
    made = np.asarray(taps(old, new, 9, 10, mode, old / new)) @ np.append(row, [50, 60, 70])
    np.testing.assert_allclose(made[0, :8], wide, atol=1e-5)
    np.testing.assert_allclose(made[1, :4], narrow, atol=1e-5)
    linear = ndimage.map_coordinates(row, [(np.arange(8) + 0.5) * 0.75 - 0.5], order=1, mode="nearest")
    np.testing.assert_allclose(made[2, :8], linear, atol=1e-5)
    np.testing.assert_allclose(made[3, :2], row.reshape(2, 3).mean(1), atol=1e-5)
    np.testing.assert_allclose(made[4, :3], row.reshape(3, 2).mean(1), atol=1e-5)
    for line, n in zip(made, new, strict=True):
        np.testing.assert_allclose(line[n:], line[n - 1], atol=1e-5)  # beyond the image, its last pixel


def test_an_image_on_a_canvas_is_treated_as_alone():
    x, n = batch(2, (40, 44)), [[33, 40], [29, 31]]
    size = [jnp.asarray(a) for a in n]
    kernels = jax.random.uniform(jax.random.key(0), (2, 21, 21)) / 441
    beyond = jax.jit(real_esrgan.extend, static_argnums=(2, 3))
    made = blur.filter_images(beyond(x, size, (50, 54), "mirror"), kernels)
    wide = np.asarray(beyond(x, size, (50, 54), "edge"))
    for i, (h, w) in enumerate(zip(*n, strict=True)):
        alone = blur.filter_images(x[i : i + 1, :h, :w], kernels[i : i + 1])[0]
        np.testing.assert_allclose(made[i, :h, :w], alone, atol=2e-5)
        theirs = np.pad(np.asarray(x[i, :h, :w]), ((0, 50 - h), (0, 54 - w), (0, 0)), "edge")
        assert np.array_equal(wide[i], theirs)


def test_random_choices_follow_the_published_configuration():
    """The configuration is train_realesrnet_x4plus.yml of xinntao/Real-ESRGAN."""
    published = {
        "kernel": ([0.45, 0.25, 0.12, 0.03, 0.12, 0.03], tuple(real_esrgan.KINDS.values())),
        "resize": ([0.2, 0.7, 0.1], real_esrgan.FIRST.resize),
        "resize2": ([0.3, 0.4, 0.3], real_esrgan.SECOND.resize),
    }
    n = 4000
    for name, (odds, ours) in published.items():
        counts = np.bincount(real_esrgan.random_choice(keys(n, len(name)), ours), minlength=len(odds))
        assert stats.chisquare(counts, n * np.array(odds)).pvalue > 1e-3, name
    sides = np.asarray(real_esrgan.sides(keys(n)))
    assert stats.chisquare(np.unique(sides, return_counts=True)[1]).pvalue > 1e-3
    assert set(sides) == set(range(7, 22, 2))
    for stage, odds, low, high in (
        (real_esrgan.FIRST, published["resize"][0], 0.15, 1.5),
        (real_esrgan.SECOND, published["resize2"][0], 0.3, 1.2),
    ):
        by = np.asarray(real_esrgan.resize_factors(keys(n), stage))
        counts = [(by > 1).sum(), (by < 1).sum(), (by == 1).sum()]
        assert stats.chisquare(counts, n * np.array(odds)).pvalue > 1e-3
        assert stats.kstest(by[by > 1], stats.uniform(1, high - 1).cdf).pvalue > 1e-3
        assert stats.kstest(by[by < 1], stats.uniform(low, 1 - low).cdf).pvalue > 1e-3
    first, second = real_esrgan.FIRST, real_esrgan.SECOND
    assert (first.sigma, first.noise, first.poisson, first.blurred) == ((0.2, 3), (1, 30), (0.05, 3), 1)
    assert (second.sigma, second.noise, second.poisson, second.blurred) == ((0.2, 1.5), (1, 25), (0.05, 2.5), 0.8)
    assert real_esrgan.JPEG == (30, 95) and real_esrgan.GREY_NOISE == 0.4 and real_esrgan.GAUSSIAN == 0.5


def test_kinds_of_kernels_have_their_probabilities():
    n = 1500
    middle = np.zeros((21, 21))
    middle[10, 10] = 1
    first, second, last = (
        np.asarray(jax.jit(make)(keys(n)), float)
        for make in (
            lambda k: real_esrgan.blur_kernels(k, real_esrgan.FIRST),
            lambda k: real_esrgan.blur_kernels(k, real_esrgan.SECOND),
            real_esrgan.last_kernels,
        )
    )
    for kernels, sinc, none in ((first, 0.1, 0.0), (second, 0.1 * 0.8, 0.2), (last, 0.8, 0.2)):
        np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-4)
        error = 4 * math.sqrt(0.25 / n)
        assert abs((kernels.min((1, 2)) < -1e-6).mean() - sinc) < error  # only the low-pass has negative lobes
        assert (kernels == middle).all((1, 2)).mean() >= none - error


def test_noises_have_their_published_probabilities():
    n = 600
    x = jnp.broadcast_to(jnp.linspace(-0.6, 0.6, 12).reshape(1, 12, 1, 1), (n, 12, 12, 3)) * jnp.asarray(
        [1, 0.7, 0.4]
    ).reshape(1, 1, 1, 3)
    made = jax.jit(lambda x, k: real_esrgan.add_noise(x, k, real_esrgan.FIRST))(x, keys(n))
    noise = np.asarray(made - x)
    grey = np.median(np.abs(noise[..., 2] - noise[..., 0]), (1, 2)) < 1e-5  # a few are clipped
    assert abs(grey.mean() - 0.4) < 4 * math.sqrt(0.24 / n)
    full = np.asarray(real_esrgan.white_photons(jnp.linspace(-1, 1, 3 * 100).reshape(1, 10, 10, 3), jnp.zeros(1, bool)))
    assert full == [256] and np.asarray(real_esrgan.white_photons(x[:1], jnp.ones(1, bool))) == [16]
