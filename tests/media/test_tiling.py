"""Tiles with blended seams: jaxgen/media/tiling.py."""

import itertools

import jax
import numpy as np
import pytest

from jaxgen.commands import restore
from jaxgen.inference import restoration
from jaxgen.media import tiling
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.resample import resize
from tests.helpers.photo_samples import smooth


@pytest.mark.parametrize(("size", "tile", "overlap"), [(100, 32, 8), (33, 32, 8), (1000, 96, 32), (97, 48, 24)])
def test_tiles_cover_and_overlap(size, tile, overlap):
    starts = tiling.starts(size, tile, overlap)
    assert starts[0] == 0 and starts[-1] == size - tile
    assert all(a + tile - b >= overlap for a, b in itertools.pairwise(starts))
    assert len(starts) == -(-(size - overlap) // (tile - overlap))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_tiles_equal_the_whole_for_a_receptive_field_below_a_quarter_of_the_overlap(scale):
    image = smooth(150, 131).astype(np.float32) / 127.5 - 1

    def enlarge(x, place):
        del place
        return np.asarray(resize(jax.numpy.asarray(x), (x.shape[0] * scale, x.shape[1] * scale), edges="reflect"))

    whole = np.concatenate(list(tiling.rows(image, enlarge, scale, 0, 0)))
    parts = np.concatenate(list(tiling.rows(image, enlarge, scale, 48, 16)))
    assert parts.shape == whole.shape == (150 * scale, 131 * scale, 3)
    np.testing.assert_allclose(parts, whole, atol=2e-5)


@pytest.mark.parametrize(("scale", "size"), [(1.3, (392, 392)), (1.7, (385, 390)), (2.5, (131, 97)), (1.25, (400, 50))])
def test_tiles_of_a_fractional_scale_fit_together(scale, size):
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / max(size)
    image = np.stack([y, x, y - x], 2)  # linear, so interpolation is exact except at the borders

    def enlarge(part, place):
        del place
        enlarged = round(part.shape[0] * scale), round(part.shape[1] * scale)
        return np.asarray(resize(jax.numpy.asarray(part), enlarged, "bilinear", edges="reflect"))

    whole = enlarge(image, None)
    parts = np.concatenate(list(tiling.rows(image, enlarge, scale, 64, 16)))
    assert parts.shape == whole.shape
    np.testing.assert_allclose(parts[4:-4, 4:-4], whole[4:-4, 4:-4], atol=4e-3)


@pytest.mark.parametrize("scale", [1.01, 1.37, 3.33, 1.1])
def test_tiles_touch_at_any_scale(scale):
    image = np.random.default_rng(0).random((1000, 1055, 1), np.float32)

    def nearest(part, place):
        """Return the nearest pixels, computed with integers: each output pixel depends on one input pixel."""
        del place
        y, x = (np.minimum(np.arange(round(n * scale)) * 100 // round(100 * scale), n - 1) for n in part.shape[:2])
        return part[y][:, x]

    parts = np.concatenate(list(tiling.rows(image, nearest, scale, 384, 32)))
    whole = nearest(image, None)
    assert parts.shape == whole.shape
    np.testing.assert_allclose(parts[:-1, :-1], whole[:-1, :-1], atol=1e-6)
    assert np.isfinite(parts).all()


@pytest.mark.parametrize(("preset", "least"), [("swinir", 120), ("unet-denoise", 60)])
def test_windows_and_pooling_are_aligned_in_tiles_as_in_the_whole_image(preset, least):
    from jaxgen import zoo
    from jaxgen.core.capabilities import Degradation, Transform
    from jaxgen.core.types import Context

    task = zoo.load(preset).tiny.model.task(1)
    params, extra = jax.jit(lambda key: task.init(key, {}))(jax.random.key(0))
    transform, degrade = task.get(Transform), task.get(Degradation).degrade
    scale, now = int(transform.scales[0]), Context(extra, {}, {}, jax.numpy.int32(0))
    model = restoration.Model(transform, degrade, params, now, scale, preset)
    image = smooth(203, 150).astype(np.float32) / 127.5 - 1
    whole, parts = (
        jax.numpy.asarray(
            np.concatenate(list(restore.ImageRestorer(model, tile, 32, False, 4.0, 0, None, False).restored(image, {})))
        )
        for tile in (0, 100)
    )
    inner = slice(16 * scale, -16 * scale)  # without the border, where padding affects the net
    assert float(psnr(whole[None, inner, inner], parts[None, inner, inner])[0]) > least


def test_a_function_of_a_tile_gets_the_tiles_position():
    image, mask = np.zeros((100, 90, 1), np.float32), np.random.default_rng(0).random((100, 90, 1)).astype(np.float32)
    answer = np.concatenate(list(tiling.rows(image, lambda x, place: x + mask[place], 1, 40, 16)))
    np.testing.assert_allclose(answer, mask, atol=1e-5)


def test_few_lines_are_in_memory_at_once():
    image = np.zeros((400, 40, 1), np.float32)
    assert max(len(lines) for lines in tiling.rows(image, lambda x, _: x, 1, 40, 8)) <= 40
