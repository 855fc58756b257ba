"""Zero-DCE, the deep image prior and photo repair, compared with formulas and the authors' parameter counts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.inference import restoration
from jaxgen.models.restoration import deep_image_prior, photo_repair, zero_dce
from jaxgen.models.restoration.deep_image_prior import Prior
from jaxgen.models.restoration.photo_repair import PhotoRepair, focal
from jaxgen.models.restoration.zero_dce import ZeroDCE


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


# ---------------------------------------------------------------- Zero-DCE


def test_curves_brighten_and_keep_the_range():
    model = ZeroDCE((32, 32, 3), width=4, curves=3)
    params, _ = model.init(jax.random.key(0))
    x = jnp.asarray(images(2, 32, 32, 3))
    y, a = model.brighten(params, x)
    expected = np.asarray(x)
    for one in np.split(np.asarray(a), 3, -1):
        expected = expected + one * expected * (1 - expected)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert float(y.min()) >= 0 and float(y.max()) <= 1


def test_spatial_loss_is_the_formula():
    y, x = images(2, 16, 24, 3), images(2, 16, 24, 3, seed=1)
    expected = []
    for one, other in zip(y, x, strict=True):
        regions = [p.mean(-1).reshape(4, 4, 6, 4).mean((1, 3)) for p in (one, other)]
        total = 0.0
        for i in range(4):
            for j in range(6):
                for k, l in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                    near = [r[k, l] if 0 <= k < 4 and 0 <= l < 6 else 0.0 for r in regions]
                    total += ((regions[0][i, j] - near[0]) - (regions[1][i, j] - near[1])) ** 2
        expected.append(total / 24)
    np.testing.assert_allclose(zero_dce.spatial(jnp.asarray(y), jnp.asarray(x)), expected, rtol=1e-4)


def test_colour_and_smoothness_are_the_formulas():
    x, a = images(2, 8, 8, 3), images(2, 8, 9, 6)
    r, g, b = x.mean((1, 2)).T
    np.testing.assert_allclose(
        zero_dce.colour(jnp.asarray(x)), np.sqrt((r - g) ** 4 + (r - b) ** 4 + (g - b) ** 4 + 1e-12), rtol=1e-5
    )
    down, across = ((a[:, 1:] - a[:, :-1]) ** 2).sum((1, 2, 3)), ((a[:, :, 1:] - a[:, :, :-1]) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(zero_dce.smooth(jnp.asarray(a)), 2 * (down / (7 * 9) + across / (8 * 8)), rtol=1e-5)


def test_zero_dce_refuses_sizes_that_it_cannot_pool():
    with pytest.raises(InputError, match="multiples of 16"):
        ZeroDCE((40, 40, 3)).task(1)
    with pytest.raises(InputError, match="needs colour images"):
        ZeroDCE((32, 32, 1)).task(1)


# ---------------------------------------------------------------- the deep image prior


def test_the_prior_has_the_authors_number_of_parameters():
    """The authors' denoising notebook prints 2,217,831."""
    net = deep_image_prior.DeepImagePriorNet(128, 4, 5, 3)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 64, 32))))
    assert sum(x.size for x in jax.tree.leaves(params)) == 2_217_831


def test_the_prior_s_kernels_are_initialised_as_pytorch_s():
    params = jax.jit(deep_image_prior.DeepImagePriorNet(8, 2, 2, 3).init)(jax.random.key(0), jnp.zeros((1, 16, 16, 4)))
    kernels = [np.asarray(x) for x in jax.tree.leaves(params) if x.ndim == 4]
    ratios = [np.abs(x).max() * np.sqrt(np.prod(x.shape[:3])) for x in kernels]  # to 1 / sqrt(fan in)
    assert min(ratios) > 0.5 and max(ratios) <= 1 + 1e-6


SHORT = Prior(steps=200, width=8, depth=2, noise=8, average=0.9)


def test_the_prior_fills_holes_and_keeps_known_pixels():
    ramp = np.linspace(-0.8, 0.8, 24, dtype=np.float32)
    image = np.broadcast_to(ramp[:, None, None], (24, 24, 3))
    mask = (images(24, 24, 1) < 0.3).astype(np.float32)
    steps: list[int] = []
    given = jnp.asarray(np.where(mask > 0, 0, image))
    answer = SHORT.restore(given, jnp.asarray(mask), 1.0, jax.random.key(0), steps.append)
    hidden = np.broadcast_to(mask > 0, image.shape)
    assert np.array_equal(answer[~hidden], image[~hidden])
    error = np.square(answer - image)[hidden].mean()
    assert error < 0.2 * np.square(image)[hidden].mean(), "better than the grey of hidden pixels"
    assert steps == list(range(20, 201, 20))


def test_the_prior_can_be_stopped_after_any_step_of_a_large_image(monkeypatch):
    monkeypatch.setattr(deep_image_prior, "PIXELS", 1)
    seen: list[int] = []
    prior = Prior(steps=40, width=2, depth=1, noise=2)
    stop = lambda at: bool(seen.append(at)) or at == 3  # noqa: E731
    answer = prior.restore(jnp.zeros((8, 8, 1)), None, 1.0, jax.random.key(0), stop)
    assert seen == [1, 2, 3] and np.isfinite(answer).all()


@pytest.mark.slow
def test_the_prior_stops_at_the_noise_level():
    ramp = np.linspace(-0.8, 0.8, 24, dtype=np.float32)
    clean = np.broadcast_to(ramp[:, None, None], (24, 24, 3))
    noisy = jnp.asarray(clean + 2 * 40 / 255 * np.random.default_rng(0).normal(size=clean.shape), jnp.float32)
    steps: list[int] = []
    answer = SHORT.restore(noisy, None, 1.0, jax.random.key(0), steps.append, sigma=40.0)
    assert steps and steps[-1] < 200, "the image is fitted before its noise"
    assert np.square(answer - clean).mean() < 0.1 * np.square(noisy - clean).mean()


def test_the_command_restores_one_image(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(deep_image_prior, "Prior", lambda: SHORT)
    values = (255 * images(20, 24, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    cli(0, "restore", str(path), "--with", "deep-image-prior")
    with Image.open(tmp_path / "a-restored.png") as made:
        assert made.size == (24, 20)
        whole = np.asarray(made)
    cli(0, "restore", str(path), "--with", "deep-image-prior", "--sigma", "255", "--overwrite")
    with Image.open(tmp_path / "a-restored.png") as made:
        assert (np.asarray(made) != whole).any(), "it stops sooner at a higher noise level"
    Image.fromarray(values[:6, :6]).save(path)
    out = cli(2, "restore", str(path), "--with", restoration.PRIOR, "--overwrite")
    assert "needs images of 8x8 at least, not 6x6" in out


# ---------------------------------------------------------------- photographs


def test_the_focal_loss_without_weights_is_half_the_cross_entropy():
    logits, there = np.float32(6 * images(3, 5, 5, 1) - 3), (images(3, 5, 5, 1, seed=2) < 0.3).astype(np.float32)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(there * np.log(p) + (1 - there) * np.log(1 - p)).mean((1, 2, 3))
    np.testing.assert_allclose(focal(jnp.asarray(logits), jnp.asarray(there), 0, 0.5), entropy / 2, rtol=1e-4)
    right = np.where(there > 0, p, 1 - p)
    weighted = -(np.where(there > 0, 0.75, 0.25) * (1 - right) ** 2 * np.log(right)).mean((1, 2, 3))
    np.testing.assert_allclose(focal(jnp.asarray(logits), jnp.asarray(there), 2, 0.75), weighted, rtol=1e-3)


def test_the_restoration_net_does_not_get_damaged_pixels():
    model = photo_repair.SMALL
    params, _ = model.init(jax.random.key(0))
    x, damage = jnp.asarray(images(1, 16, 16, 3)), jnp.zeros((1, 16, 16, 1)).at[:, 4:8, 4:8].set(1)
    other = x.at[:, 4:8, 4:8].set(0.5)
    made = [model.repair(params, v, damage) for v in (x, other)]
    np.testing.assert_array_equal(made[0], made[1], "damaged pixels have no influence")


def test_photo_repair_needs_a_degradation_with_a_mask():
    from jaxgen.data.degradations import Degradation

    with pytest.raises(InputError, match="a degradation with a mask"):
        PhotoRepair((32, 32, 3), depth=2, degradation=Degradation(noise=(10, 10))).task(1)
    with pytest.raises(InputError, match="multiples of 4"):
        PhotoRepair((30, 32, 3), depth=2).task(1)


def test_old_photographs_are_available(real_data: Path):
    from jaxgen.media import photo

    found = photo.find(real_data / "old_photos")
    assert len(found) == 7 and all(photo.read(file).bits == 8 for file in found)
