"""Damages beside scipy's filters and distributions, Pillow's JPEG and drawings, and their published constants."""

import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, special, stats

from jaxgen.data import ageing, blur, damage, masks, real_esrgan
from jaxgen.data.degradations import Degradation
from tests.data_samples import message, picture

DAMAGES = {
    "blur": Degradation(blur=(0.5, 3)),
    "motion": Degradation(motion=(3, 9)),
    "shake": Degradation(shake=(3, 20)),
    "noise": Degradation(noise=(1, 50)),
    "poisson": Degradation(poisson=(0.5, 3)),
    "camera": Degradation(camera=(1e-4, 1e-2)),
    "jpeg": Degradation(jpeg=(20, 90)),
    "all": Degradation((0.5, 2), (1, 5), (1, 5), "haze", (1, 9), (1, 2), (1e-3, 1e-2), (30, 90), "boxes"),
    **{name: Degradation(pipeline=name) for name in ("real-esrgan", "photo", "haze", "low-light", "grey")},
    **{name: Degradation(mask=name) for name in ("boxes", "strokes", "scratches", "text")},
}


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


def batch(n: int = 3, size: tuple[int, int] = (38, 45), mode: str = "RGB") -> jax.Array:
    """Return n pictures, [n h w c]."""
    rows = [np.asarray(picture(i, size[::-1], mode), np.float32).reshape(*size, -1) for i in range(n)]
    return jnp.asarray(np.stack(rows) / 127.5 - 1, jnp.float32)


def floats(*numbers: float) -> jax.Array:
    return jnp.asarray(numbers, jnp.float32)


def psnr(a, b) -> float:
    return 10 * math.log10(255**2 / max(np.mean(np.square(np.asarray(a, float) - b)), 1e-9))


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", DAMAGES)
def test_a_row_depends_on_its_own_key(name):
    degrade = jax.jit(DAMAGES[name], static_argnums=2)
    x, k = batch(), keys(3)
    three, again, one = degrade(x, k, 1), degrade(x, k, 1), degrade(x[1:2], k[1:2], 1)
    for part, rows in three.items():
        assert np.array_equal(rows, again[part])
        assert np.mean(np.abs(rows[1] - one[part][0])) < 1e-4, part  # a rounded level may fall the other way
        assert rows.dtype == jnp.float32 and np.isfinite(rows).all()
    same = degrade(jnp.stack([x[0]] * 3), k, 1)
    changed = [part for part, rows in same.items() if not np.array_equal(rows[0], rows[1])]
    assert bool(changed) != (name == "grey")
    if name not in ("noise", "poisson", "camera"):
        assert np.abs(three["degraded"]).max() <= 1 + 1e-5


@pytest.mark.parametrize("name", ["blur", "shake", "noise", "poisson", "jpeg", "low-light", "strokes"])
def test_compiled_or_not_it_is_the_same(name):
    x, k = batch(2, (17, 20)), keys(2)
    for part, rows in jax.jit(DAMAGES[name])(x, k).items():
        assert np.mean(np.abs(rows - DAMAGES[name](x, k)[part])) < 1e-4


@pytest.mark.parametrize("size, mode, scale", [((37, 50), "RGB", 3), ((24, 16), "L", 1)])
@pytest.mark.parametrize("pipeline", ["plain", "real-esrgan", "photo"])
def test_sizes_and_ranges(pipeline, size, mode, scale):
    degradation = Degradation(blur=(1, 1), jpeg=(50, 50), pipeline=pipeline)
    scale = 4 if pipeline == "real-esrgan" else scale
    made = jax.jit(degradation, static_argnums=2)(batch(2, size, mode), keys(2), scale)
    small = [math.ceil(n / scale) for n in size]
    assert made["degraded"].shape == (2, *small, len(mode) if mode == "RGB" else 1)
    assert np.abs(made["degraded"]).max() <= 1 and made["sigma"].shape == (2,)
    assert ("mask" in made) == (pipeline == "photo")
    if pipeline == "photo":
        assert made["mask"].shape == (2, *small, 1) and set(np.unique(made["mask"])) <= {0, 1}


def test_sigma_is_told_and_nothing_is_done_unless_asked():
    x, k = batch(), keys(3)
    made = Degradation()(x, k)
    assert np.array_equal(made["degraded"], x) and not made["sigma"].any() and len(made) == 2
    made = jax.jit(Degradation(noise=(10, 30)))(jnp.zeros((64, 32, 32, 3)), keys(64))
    assert (made["sigma"] >= 10).all() and (made["sigma"] <= 30).all() and made["sigma"].std() > 4
    np.testing.assert_allclose(made["degraded"].std((1, 2, 3)) * 127.5, made["sigma"], rtol=0.1)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"noise": (-1, 5)}, ["noise", "-1"]),
        ({"blur": (3, 2)}, ["blur", "3 2"]),
        ({"motion": (0, math.inf)}, ["motion"]),
        ({"poisson": (math.nan, 1)}, ["poisson"]),
        ({"jpeg": (50, 101)}, ["jpeg", "100", "101"]),
        ({"jpeg": (0, 50)}, ["jpeg", "from 1"]),
        ({"pipeline": "foto"}, ["pipeline", "photo"]),
        ({"mask": "box"}, ["mask", "boxes"]),
    ],
)
def test_what_cannot_be_is_refused(wrong, words):
    message(Degradation(**wrong).check, *words)


def test_other_channels_are_refused_where_they_mean_nothing():
    x = jnp.zeros((1, 16, 16, 2))
    message(lambda: Degradation(jpeg=(50, 50))(x, keys(1)), "1 or 3 channels", "2")
    made = jax.jit(Degradation(noise=(1, 1), blur=(1, 1), mask="boxes"))(x, keys(1))
    assert made["degraded"].shape == x.shape
    for degradation in DAMAGES.values():
        degradation.check()


# ---------------------------------------------------------------- blur


def test_gaussian_blur_is_scipys():
    x, sigma = batch(3, (31, 44)), floats(0, 0.8, 4)
    ours = jax.jit(blur.gaussian_blur)(x, sigma)
    for row, one, s in zip(ours, x, sigma, strict=True):
        theirs = ndimage.gaussian_filter(np.asarray(one, float), (float(s), float(s), 0), truncate=7, mode="reflect")
        np.testing.assert_allclose(row, theirs, atol=2e-6)


@pytest.mark.parametrize("size", [(31, 44), (8, 9)])
@pytest.mark.parametrize("side", [1, 7, 21])
def test_filtering_is_scipys_correlation(size, side):
    x, kernels = batch(2, size), jax.random.uniform(jax.random.key(1), (2, side, side)) - 0.3
    ours = jax.jit(blur.filtered)(x, kernels)
    for row, one, kernel in zip(ours, x, kernels, strict=True):
        for c in range(3):
            theirs = ndimage.correlate(np.asarray(one[..., c], float), np.asarray(kernel, float), mode="reflect")
            np.testing.assert_allclose(row[..., c], theirs, atol=3e-5)


def pieces_of(mask: np.ndarray) -> int:
    """In how many pieces a mask lies, corners joined."""
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    return found[1]


def test_gaussian_kernels_are_scipys_densities():
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


def test_sinc_kernels_are_scipys_bessel_function():
    x = np.linspace(0, 60, 500)[1:]
    np.testing.assert_allclose(blur.jinc(jnp.asarray(x, jnp.float32)), special.j1(x) / x, atol=2e-7)
    radius = np.hypot(*np.mgrid[-10:11, -10:11])
    for cutoff in (math.pi / 5, 2.9):
        r = np.where(radius > 0, radius, 1)
        theirs = np.where(radius > 0, cutoff * special.j1(cutoff * r) / (2 * np.pi * r), cutoff**2 / (4 * np.pi))
        np.testing.assert_allclose(blur.sinc_kernels(floats(cutoff), 21)[0], theirs / theirs.sum(), atol=3e-6)


def test_cut_kernels_have_their_side():
    kernels = blur.cut(jnp.ones((3, 21, 21)), jnp.asarray([7, 13, 21]))
    assert [int((k > 0).sum()) for k in kernels] == [49, 169, 441]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-5)


def test_a_line_has_the_moments_of_a_line():
    length, angle = floats(0, 9, 20, 20), floats(1, 0, math.pi / 2, math.pi / 4)
    kernels = np.asarray(blur.line_kernels(length, angle, 25), float)
    y, x = np.mgrid[-12:13, -12:13]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-5)
    for kernel, n, turn in zip(kernels, length, angle, strict=True):
        assert abs((kernel * x).sum()) < 1e-4 and abs((kernel * y).sum()) < 1e-4
        # The variance of a uniform density; sharing a point among its pixels adds at most 1/4 to each.
        for place, part in ((x, math.cos(turn)), (y, math.sin(turn))):
            assert 0 <= (kernel * place**2).sum() - (float(n) * part) ** 2 / 12 + 1e-3 < 0.26
        assert abs((kernel * x * y).sum() - float(n) ** 2 / 12 * math.sin(turn) * math.cos(turn)) < 0.05
    assert np.argmax(kernels[0]) == 12 * 25 + 12 and kernels[0].max() > 0.999


def test_a_shaking_hand_wanders_about_the_middle_in_one_piece():
    kernels = np.asarray(jax.jit(blur.shake_kernels, static_argnums=2)(jnp.linspace(5, 40, 32), keys(32), 43), float)
    y, x = np.mgrid[-21:22, -21:22]
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-4)  # nothing falls off
    assert max(abs((kernels * place).sum((1, 2))).max() for place in (x, y)) < 1e-3
    pieces = [pieces_of(kernel > 1e-6) for kernel in kernels]
    assert pieces == [1] * 32
    spread = np.sqrt((kernels * (x * x + y * y)).sum((1, 2)))
    straight = np.linspace(5, 40, 32) / math.sqrt(12)
    assert (spread < straight + 0.5).all() and (spread[8:] < 0.9 * straight[8:]).any()  # some of them bend


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("rate", [0.0, 0.3, 2.0, 3.9, 4.1, 12.0, 100.0, 255.0])
def test_poisson_is_scipys(rate):
    u = (np.arange(100_000) + 0.5) / 100_000
    ours = np.asarray(jax.jit(damage.poisson)(jnp.asarray(u, jnp.float32), jnp.full(100_000, rate)), float)
    theirs = stats.poisson.ppf(u, rate) if rate else np.zeros_like(u)
    assert np.abs(ours - theirs).max() <= 1 and (ours == theirs).mean() > 0.994
    assert abs(ours.mean() - rate) < 1e-3 * max(rate, 1) and abs(ours.var() - rate) < 4e-3 * max(rate, 1)


def test_noises_have_their_moments():
    value = np.array([0.0, 0.2, 0.5, 0.9])
    x = jnp.broadcast_to(jnp.asarray(2 * value - 1, jnp.float32).reshape(4, 1, 1, 1), (4, 200, 200, 3))
    level = np.round(value * 255) / 255
    made = {
        "photons": (damage.poisson_noise(x, floats(1, 1, 2, 2), keys(4)), np.array([1, 1, 4, 4]) * level / 255),
        "camera": (damage.camera_noise(x, jnp.full(4, 0.01), jnp.full(4, 1e-4), keys(4)), 0.01 * value + 1e-4),
        "gaussian": (damage.gaussian_noise(x, floats(5, 10, 20, 40), keys(4)), (2.0 ** np.arange(4) / 51) ** 2),
    }
    for name, (rows, variance) in made.items():
        rows = (np.asarray(rows, float) + 1) / 2
        np.testing.assert_allclose(rows.mean((1, 2, 3)), value, atol=3e-3, err_msg=name)
        np.testing.assert_allclose(rows.var((1, 2, 3)), variance, rtol=0.02, atol=1e-9, err_msg=name)
    flat = np.asarray(made["gaussian"][0][1] - x[1]).ravel() * 12.75
    assert stats.kstest(flat, "norm").pvalue > 1e-3


def test_grey_noise_is_the_same_in_all_channels():
    x, grey = batch(2), jnp.asarray([True, False])
    for rows in (
        damage.gaussian_noise(x, floats(20, 20), keys(2), grey),
        damage.poisson_noise(x, floats(2, 2), keys(2), grey),
    ):
        noise = np.asarray(rows - x)
        apart = np.abs(noise - noise[..., :1]).mean((1, 2, 3))
        assert apart[0] < 1e-6 and apart[1] > 0.01


def test_reading_noise_is_brooks_et_als():
    read = np.log(np.asarray(damage.read_noise(jnp.full(2000, 0.01), keys(2000)), float))
    assert abs(read.mean() - (2.18 * math.log(0.01) + 1.2)) < 0.02 and abs(read.std() - 0.26) < 0.015


# ---------------------------------------------------------------- JPEG


@pytest.mark.parametrize("quality", [5, 10, 30, 50, 75, 95])
@pytest.mark.parametrize("mode, part", [("RGB", (301, 203)), ("RGB", (96, 64)), ("RGB", (35, 41)), ("L", (61, 150))])
def test_jpeg_is_pillows(real_data, quality, mode, part):
    for name in ("astronaut.png", "china.jpg"):
        clean = np.asarray(Image.open(real_data / "photos" / name).convert(mode))[
            100 : 100 + part[0], 200 : 200 + part[1]
        ]
        file = io.BytesIO()
        Image.fromarray(clean).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file))
        x = jnp.asarray(clean.reshape(1, *part, -1), jnp.float32) / 127.5 - 1
        ours = (np.asarray(jax.jit(damage.jpeg)(x, floats(quality))[0]) + 1) * 127.5
        ours = ours.reshape(clean.shape)
        assert np.abs(ours - np.round(ours)).max() < 1e-3  # whole levels
        # Where they differ, a coefficient lay between two multiples: of few blocks, one such weighs much.
        assert psnr(ours, theirs) > (42 if min(part) > 50 else 38)
        assert abs(psnr(ours, clean) - psnr(theirs, clean)) < 0.1


# ---------------------------------------------------------------- air, light, colour


def test_haze_is_koschmieders():
    x, depth, light = batch(2), jnp.full((2, 38, 45, 1), 0.7), floats(0.8, 1.0)
    made = damage.haze(x, keys(2), depth, light)
    for row, one, air in zip(made, x, light, strict=True):
        clean, t = (np.asarray(one, float) + 1) / 2, math.exp(-0.7)
        np.testing.assert_allclose((row + 1) / 2, clean * t + float(air) * (1 - t), atol=1e-6)
    far = np.asarray(damage.distance(keys(32), (160, 200)))
    assert far.min() >= 0 and far.max() <= 1 and far[:, :30].mean() > far[:, -30:].mean() + 0.2
    assert np.abs(np.diff(far, axis=1)).max() < 0.08  # smooth
    hazy = np.asarray(jax.jit(Degradation(pipeline="haze"))(x, keys(2))["degraded"])
    assert hazy.std() < 0.9 * x.std()


def test_low_light_is_a_power_and_a_factor():
    x = batch(2)
    made = damage.low_light(x, floats(0.5, 1), floats(2, 1))
    np.testing.assert_allclose((made[0] + 1) / 2, 0.5 * ((x[0] + 1) / 2) ** 2, atol=1e-6)
    np.testing.assert_allclose(made[1], x[1], atol=1e-6)


def test_grey_is_pillows():
    x = batch(1)
    theirs = np.asarray(picture(0, (45, 38)).convert("L"), float)[..., None]
    assert np.abs((np.asarray(damage.grey(x)[0]) + 1) * 127.5 - theirs).max() < 0.51


# ---------------------------------------------------------------- Real-ESRGAN


def test_resizing_by_a_picture_of_its_own_is_pytorchs():
    """Numbers from torch 2.13's interpolate(mode="bicubic"); scipy's linear interpolation; the area's own mean."""
    row = np.array([0.0, 1, 0, 2, 5, 3])
    wide = [-0.07177734375, 0.74951171875, 0.61767578125, 0.1064453125, 1.5654296875, 4.2705078125, 4.60888671875]
    wide, narrow = [*wide, 2.8564453125], [0.26171875, 0.05078125, 2.9609375, 3.55859375]
    mode, old, new = jnp.asarray([2, 2, 1, 0, 0]), jnp.full(5, 6), jnp.asarray([8, 4, 8, 2, 3])
    taps = jax.jit(real_esrgan.taps, static_argnums=(2, 3))
    made = np.asarray(taps(old, new, 9, 10, mode, old / new)) @ np.append(row, [50, 60, 70])
    np.testing.assert_allclose(made[0, :8], wide, atol=1e-5)
    np.testing.assert_allclose(made[1, :4], narrow, atol=1e-5)
    linear = ndimage.map_coordinates(row, [(np.arange(8) + 0.5) * 0.75 - 0.5], order=1, mode="nearest")
    np.testing.assert_allclose(made[2, :8], linear, atol=1e-5)
    np.testing.assert_allclose(made[3, :2], row.reshape(2, 3).mean(1), atol=1e-5)
    np.testing.assert_allclose(made[4, :3], row.reshape(3, 2).mean(1), atol=1e-5)
    for line, n in zip(made, new, strict=True):
        np.testing.assert_allclose(line[n:], line[n - 1], atol=1e-5)  # beyond it, the last pixel


def test_on_a_canvas_a_picture_is_treated_as_alone():
    x, n = batch(2, (40, 44)), [[33, 40], [29, 31]]
    size = [jnp.asarray(a) for a in n]
    kernels = jax.random.uniform(jax.random.key(0), (2, 21, 21)) / 441
    beyond = jax.jit(real_esrgan.beyond, static_argnums=(2, 3))
    made = blur.filtered(beyond(x, size, (50, 54), "mirror"), kernels)
    wide = np.asarray(beyond(x, size, (50, 54), "edge"))
    for i, (h, w) in enumerate(zip(*n, strict=True)):
        alone = blur.filtered(x[i : i + 1, :h, :w], kernels[i : i + 1])[0]
        np.testing.assert_allclose(made[i, :h, :w], alone, atol=2e-5)
        theirs = np.pad(np.asarray(x[i, :h, :w]), ((0, 50 - h), (0, 54 - w), (0, 0)), "edge")
        assert np.array_equal(wide[i], theirs)


def test_what_is_drawn_follows_the_published_configuration():
    """train_realesrnet_x4plus.yml of xinntao/Real-ESRGAN."""
    published = {
        "kernel": ([0.45, 0.25, 0.12, 0.03, 0.12, 0.03], tuple(real_esrgan.KINDS.values())),
        "resize": ([0.2, 0.7, 0.1], real_esrgan.FIRST.resize),
        "resize2": ([0.3, 0.4, 0.3], real_esrgan.SECOND.resize),
    }
    n = 4000
    for name, (odds, ours) in published.items():
        counts = np.bincount(real_esrgan.chosen(keys(n, len(name)), ours), minlength=len(odds))
        assert stats.chisquare(counts, n * np.array(odds)).pvalue > 1e-3, name
    sides = np.asarray(real_esrgan.sides(keys(n)))
    assert stats.chisquare(np.unique(sides, return_counts=True)[1]).pvalue > 1e-3
    assert set(sides) == set(range(7, 22, 2))
    for stage, odds, low, high in (
        (real_esrgan.FIRST, published["resize"][0], 0.15, 1.5),
        (real_esrgan.SECOND, published["resize2"][0], 0.3, 1.2),
    ):
        by = np.asarray(real_esrgan.factors(keys(n), stage))
        counts = [(by > 1).sum(), (by < 1).sum(), (by == 1).sum()]
        assert stats.chisquare(counts, n * np.array(odds)).pvalue > 1e-3
        assert stats.kstest(by[by > 1], stats.uniform(1, high - 1).cdf).pvalue > 1e-3
        assert stats.kstest(by[by < 1], stats.uniform(low, 1 - low).cdf).pvalue > 1e-3
    first, second = real_esrgan.FIRST, real_esrgan.SECOND
    assert (first.sigma, first.noise, first.poisson, first.blurred) == ((0.2, 3), (1, 30), (0.05, 3), 1)
    assert (second.sigma, second.noise, second.poisson, second.blurred) == ((0.2, 1.5), (1, 25), (0.05, 2.5), 0.8)
    assert real_esrgan.JPEG == (30, 95) and real_esrgan.GREY_NOISE == 0.4 and real_esrgan.GAUSSIAN == 0.5


def test_kernels_are_of_all_kinds_in_their_shares():
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


def test_real_esrgans_noises_are_as_likely_as_published():
    n = 600
    x = jnp.broadcast_to(jnp.linspace(-0.6, 0.6, 12).reshape(1, 12, 1, 1), (n, 12, 12, 3)) * jnp.asarray(
        [1, 0.7, 0.4]
    ).reshape(1, 1, 1, 3)
    made = jax.jit(lambda x, k: real_esrgan.noisy(x, k, real_esrgan.FIRST))(x, keys(n))
    noise = np.asarray(made - x)
    grey = np.median(np.abs(noise[..., 2] - noise[..., 0]), (1, 2)) < 1e-5  # a few are clipped
    assert abs(grey.mean() - 0.4) < 4 * math.sqrt(0.24 / n)
    full = np.asarray(real_esrgan.whites(jnp.linspace(-1, 1, 3 * 100).reshape(1, 10, 10, 3), jnp.zeros(1, bool)))
    assert full == [256] and np.asarray(real_esrgan.whites(x[:1], jnp.ones(1, bool))) == [16]


# ---------------------------------------------------------------- old photographs


def test_old_photographs_are_faded_stained_and_torn():
    x, k = batch(8, (64, 48)), keys(8)
    made, holes = jax.jit(ageing.old_photo)(x, k)
    assert 0.002 < float(masks.hidden(holes).mean()) < 0.3
    paper = np.asarray(made).mean(-1, keepdims=True)[np.asarray(holes) > 0]
    assert paper.mean() > np.asarray(made).mean() + 0.1  # what is destroyed is bright, on the whole
    faded = np.asarray(jax.jit(ageing.faded)(x, k, jnp.ones(8)))
    assert (faded.std((1, 2)).mean(-1) < np.asarray(x).std((1, 2)).mean(-1)).all()
    sepia = faded[..., 0] - faded[..., 2]
    assert np.median(sepia) > 0.02  # red above blue
    grain = np.asarray(jax.jit(ageing.grained)(jnp.zeros((2, 200, 200, 3)), floats(5, 20), keys(2)), float) * 127.5
    np.testing.assert_allclose(grain.std((1, 2, 3)), [5, 20], rtol=0.05)
    assert (grain[..., 0] == grain[..., 2]).all()


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "name, low, high", [("boxes", 0.01, 0.75), ("strokes", 0.01, 0.7), ("scratches", 0.001, 0.35), ("text", 0.01, 0.4)]
)
@pytest.mark.parametrize("size", [(64, 80), (97, 33)])
def test_masks_hide_a_sensible_share(name, low, high, size):
    made = np.asarray(jax.jit(masks.MASKS[name], static_argnums=1)(keys(40), size))
    assert made.shape == (40, *size, 1) and set(np.unique(made)) == {0, 1}
    share = np.asarray(masks.hidden(jnp.asarray(made)))
    np.testing.assert_allclose(share, made.mean((1, 2, 3)), rtol=1e-5)
    assert share.min() > 0 and low < np.median(share) and share.max() < high
    assert len(np.unique(share)) > 20
    if name in ("boxes", "strokes"):
        most = {"boxes": 4, "strokes": 3}[name]
        assert {pieces_of(mask[..., 0]) for mask in made} <= set(range(1, most + 1))


def test_strokes_are_as_many_and_as_long_as_deepfills():
    """The shares hidden, beside Pillow's drawing of algorithm 1 of Yu et al. 2019 with its code's constants."""
    rng, n = np.random.default_rng(0), 256
    shares = []
    for _ in range(300):
        canvas = Image.new("1", (n, n))
        pen = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(1, 4)):
            low, high = 2 * math.pi / 5 + np.array([-1, 1]) * rng.uniform(0, 2 * math.pi / 15, 2)
            place, width, radius = rng.uniform(0, n, 2), rng.uniform(12, 40), math.hypot(n, n) / 8
            for i in range(rng.integers(4, 12)):
                angle = rng.uniform(low, high) * (-1) ** (i + 1)
                step = np.clip(rng.normal(radius, radius / 2), 0, 2 * radius)
                end = np.clip(place + step * np.array([math.cos(angle), math.sin(angle)]), 0, n)
                pen.line([*place, *end], 1, round(width))
                for x, y in (place, end):
                    pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], 1)
                place = end
        shares.append(np.asarray(canvas).mean())
    ours = np.asarray(masks.hidden(jax.jit(masks.strokes, static_argnums=1)(keys(300), (64, 64))))
    same: Any = stats.ks_2samp(ours, shares)
    assert same.pvalue > 1e-3
    assert abs(ours.mean() - np.mean(shares)) < 0.025


def test_letters_are_pillows():
    font = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()
    for letter in "Ag8~":
        canvas = Image.new("1", (6, 11))
        ImageDraw.Draw(canvas).text((0, 0), letter, 1, font)
        assert np.array_equal(masks.glyphs()[ord(letter) - 33], np.asarray(canvas)) and np.asarray(canvas).any()
