"""Resampling, the pixel metrics and NIQE against torch-fidelity, scikit-image, pytorch_msssim and scikit-video."""

import importlib.util
import runpy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.metrics.niqe import GREY, PATCH, REPEATED, features, load_pristine, niqe
from jaxgen.metrics.pixels import ms_ssim, psnr, ssim
from jaxgen.nn.resample import resize_tf1

pytestmark = pytest.mark.parity

PHOTOS = ("astronaut.png", "camera.png", "chelsea.png")


def levels(folder, name: str) -> np.ndarray:
    """Return a photograph f64[h w c] in 0..255."""
    x = np.asarray(Image.open(folder / "photos" / name), np.float64)
    return x[..., None] if x.ndim == 2 else x[..., :3]


def pair(folder, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a photograph and a degraded version, f64[h w c] of integer grey levels."""
    a = levels(folder, name)
    b = 0.9 * a + np.random.default_rng(0).normal(5, 10, a.shape)
    return a, np.clip(b, 0, 255).round()


def ours(x: np.ndarray) -> np.ndarray:
    return x[None] / 127.5 - 1


@pytest.mark.parametrize("name", PHOTOS)
def test_psnr_and_ssim_equal_scikit_image(real_data, name):
    theirs: Any = pytest.importorskip("skimage.metrics")
    a, b = pair(real_data, name)
    wang: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    similar = theirs.structural_similarity(a, b, data_range=255, channel_axis=-1, **wang)
    ratio = theirs.peak_signal_noise_ratio(a, b, data_range=255)
    single = [ours(x).astype(np.float32) for x in (a, b)]
    np.testing.assert_allclose(jax.jit(ssim)(*single), similar, atol=1e-6)
    np.testing.assert_allclose(jax.jit(psnr)(*single), ratio, atol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(ssim)(ours(a), ours(b)), similar, atol=1e-12)
        np.testing.assert_allclose(jax.jit(psnr)(ours(a), ours(b)), ratio, atol=1e-10)


@pytest.mark.parametrize("size", [(161, 200), (300, 231), (512, 512)])
def test_ms_ssim_equals_pytorch_msssim(real_data, size):
    torch: Any = pytest.importorskip("torch")
    module: Any = pytest.importorskip("pytorch_msssim")
    a, b = (x[: size[0], : size[1]] for x in pair(real_data, "astronaut.png"))
    theirs = module.ms_ssim(*(torch.tensor(x.transpose(2, 0, 1))[None] for x in (a, b)), data_range=255)
    got = jax.jit(ms_ssim)(*(ours(x).astype(np.float32) for x in (a, b)))
    np.testing.assert_allclose(got, float(theirs), atol=5e-6)


@pytest.mark.parametrize("size", [(299, 299), (77, 401), (256, 64)])
def test_tensorflow_1_bilinear_equals_torch_fidelity(real_data, size):
    torch: Any = pytest.importorskip("torch")
    package = importlib.util.find_spec("torch_fidelity")
    if package is None or not package.submodule_search_locations:
        pytest.skip("torch-fidelity isn't installed")
    # Loaded from its file, since the package imports torchvision, which is not needed here.
    file = Path(package.submodule_search_locations[0]) / "interpolate_compat_tensorflow.py"
    module = runpy.run_path(str(file))
    x = levels(real_data, "chelsea.png").astype(np.float32)
    theirs = module["interpolate_bilinear_2d_like_tensorflow1x"](
        torch.tensor(x.transpose(2, 0, 1))[None], size=size, align_corners=False
    )
    np.testing.assert_allclose(resize_tf1(jnp.asarray(x), size), theirs[0].numpy().transpose(1, 2, 0), atol=1e-4)


@pytest.fixture(scope="module")
def reference():
    """skvideo.measure.niqe, with the names that NumPy and SciPy had when it was written."""
    scipy: Any = pytest.importorskip("scipy")

    def imresize(x, share, interp, mode):  # as in SciPy 1.2, for its only call
        assert interp == "bicubic" and mode == "F"
        size = int(x.shape[1] * share), int(x.shape[0] * share)
        return np.array(Image.fromarray(x.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))

    misc: Any = types.ModuleType("scipy.misc")
    misc.imresize = imresize
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "scipy.misc", misc)
        patch.setattr(scipy, "misc", misc, raising=False)
        for name, kind in (("int", int), ("float", float)):
            patch.setattr(np, name, kind, raising=False)
        pytest.importorskip("skvideo.measure")
        yield importlib.import_module("skvideo.measure.niqe")  # the attribute of the package is the function


@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")  # scikit-video does
@pytest.mark.parametrize("name", [*PHOTOS, "coffee.png", "china.jpg", "grass.png", "brick.png", "rocket.jpg"])
def test_niqe_equals_scikit_video(real_data, reference, name):
    """Rounding can move an alpha to the next table row, by 0.001; in a flat sky their variances move it further."""
    x = levels(real_data, name)
    grey = x @ np.array(GREY if x.shape[2] == 3 else (1.0,))  # [h w]
    if name != "astronaut.png":  # this one keeps its size and colours; the others share one size
        grey = grey[:300, :400]
        x = grey[..., None]
    score, wanted = niqe(jnp.asarray(ours(x), jnp.float32), load_pristine())[0], reference.niqe(grey)[0]
    assert score == pytest.approx(wanted, rel=1e-3)
    found = np.array(features(jnp.asarray(ours(x), jnp.float32))[0][0])  # [patches 36]
    found[:, REPEATED] = found[:, np.array(REPEATED) - 1]
    theirs = reference.get_patches_test_features(grey, PATCH)
    assert found.shape == theirs.shape
    difference = np.abs(found - theirs)
    assert difference.max() < 0.03 and np.quantile(difference, 0.9) < 1.1e-3
