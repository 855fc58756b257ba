"""Metrics of videos: sums over the pixels of a frame, each frame for itself, SSIM under a uniform window."""

import jax
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.metrics.pairs import is_pair_metric, pair_metric
from jaxgen.metrics.pixels import MEASURES
from tests.helpers.data_samples import message

SPEC = ArraySpec("video", (3, 9, 8, 2))


def pairs(count: int = 4, shape=SPEC.shape):
    rng = np.random.default_rng(0)
    true = rng.uniform(-1, 1, (count, *shape)).astype(np.float32)
    return true, np.clip(true + rng.normal(0, 0.3, true.shape), -1.5, 1.5).astype(np.float32)


def value(name: str, true: np.ndarray, made: np.ndarray, spec: ArraySpec = SPEC) -> dict[str, float]:
    """Return a metric over all rows but the last, which does not count."""
    metric, valid = pair_metric(name, spec), np.arange(len(true)) < len(true) - 1
    return metric.result(jax.jit(metric.update)(metric.empty(), true, made, valid))


def test_errors_are_summed_over_pixels_and_averaged_over_frames_and_clips():
    true, made = pairs()
    error = (made[:-1].astype(np.float64) - true[:-1]) / 2  # in [0, 1]; OpenSTL does not clip before
    for name, summed in (("mse_pixel_sum", error**2), ("mae_pixel_sum", np.abs(error))):
        frames = summed.mean(0).sum((1, 2, 3))  # [t]
        assert value(name, true, made) == {name: pytest.approx(frames.mean(), rel=1e-5)}
        found = value(f"{name}_by_frame", true, made)
        assert found == {f"{name}_frame{t + 1}": pytest.approx(frames[t], rel=1e-5) for t in range(3)}
    psnr = -10 * np.log10(((np.clip(made[:-1], -1, 1) - true[:-1]) ** 2 / 4).mean((2, 3, 4)))  # [b t]
    found = value("psnr_rgb_by_frame", true, made)
    assert found == {f"psnr_rgb_frame{t + 1}": pytest.approx(psnr[:, t].mean(), rel=1e-5) for t in range(3)}
    assert value("psnr_rgb", true, made)["psnr_rgb"] == pytest.approx(psnr.mean(), rel=1e-5)


def test_ssim_under_a_uniform_window_equals_its_formula():
    true, made = (np.clip(x, -1, 1) for x in pairs(2))
    a, b = ((x.astype(np.float64) + 1) / 2 for x in (true, made))
    for limit in (1, 2):
        c1, c2 = (0.01 * limit) ** 2, (0.03 * limit) ** 2
        values = []
        for y in range(3):
            for x in range(2):
                p, q = (w[:, :, y : y + 7, x : x + 7] for w in (a, b))
                axes = (2, 3)
                p0, q0 = p.mean(axes), q.mean(axes)
                pq = ((p - p0[:, :, None, None]) * (q - q0[:, :, None, None])).sum(axes) / 48
                spread = p.var(axes, ddof=1) + q.var(axes, ddof=1)
                values.append((2 * p0 * q0 + c1) * (2 * pq + c2) / ((p0**2 + q0**2 + c1) * (spread + c2)))
        found = jax.jit(MEASURES[f"ssim_uniform7_range{limit}"])(true, made)  # [b t]
        np.testing.assert_allclose(found, np.mean(values, (0, 3)), rtol=1e-4)


@pytest.mark.parity
def test_ssim_under_a_uniform_window_equals_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    true, made = (np.clip(x, -1, 1) for x in pairs(1, (2, 20, 17, 3)))
    a, b = ((x.astype(np.float64) + 1) / 2 for x in (true, made))
    for limit in (1, 2):
        found = MEASURES[f"ssim_uniform7_range{limit}"](true, made)
        theirs = [
            skimage.structural_similarity(p, q, channel_axis=2, data_range=limit)
            for p, q in zip(a[0], b[0], strict=True)
        ]
        np.testing.assert_allclose(found[0], theirs, rtol=1e-5)


def test_names_of_metrics_of_frames():
    for name in ("mse_pixel_sum", "mae_pixel_sum_by_frame", "psnr_y_border2_by_frame", "ssim_uniform7_range2"):
        assert is_pair_metric(name)
    assert not is_pair_metric("mpjpe_by_frame") and not is_pair_metric("mse_by_frame")
    image = ArraySpec("image", (8, 8, 1))
    message(lambda: pair_metric("psnr_rgb_by_frame", image), "not of image: ask for psnr_rgb")
    with pytest.raises(InputError, match="at least 7x7"):
        pair_metric("ssim_uniform7_range1", ArraySpec("video", (2, 6, 6, 1)))
