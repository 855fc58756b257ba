"""Networks of SNGAN, BigGAN and R3GAN: parameters, shapes, initialisation; conditional norm, attention, projection."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.models.gan import _biggan_nets, _r3gan_nets, _sngan_nets
from jaxgen.nn.attention import PixelAttention
from jaxgen.nn.conditional import ConditionalBatchNorm

LABEL = np.array([0, 4, 2], np.int32)
draw = np.random.default_rng(0)


def start(net: Any, x: Any, *names: str) -> Any:
    """Return the initial parameters of some of a network's layers: only these are compiled."""

    def init(key):
        params = net.init(key, x, None, train=False)["params"]
        return {name: params[name] for name in names}

    return jax.jit(init)(jax.random.key(0))


def normal(*shape: int) -> np.ndarray:
    return draw.normal(size=shape).astype(np.float32)


def filled(tree: Any) -> Any:
    """Return random parameters, none at its initial value: kernels scaled by fan-in, all others with deviation 0.3."""
    return jax.tree.map(lambda x: normal(*x.shape) * (0.3 if x.ndim < 2 else math.prod(x.shape[:-1]) ** -0.5), tree)


def given(net: Any, x: Any, label: Any = None) -> tuple[Any, Any]:
    """Return a network's random parameters, and the statistics of its batch norms: mean 0, variance 1."""
    like: Any = jax.eval_shape(lambda: net.init(jax.random.key(0), x, label, train=False))
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: np.full(x.shape, path[-1].key == "var", np.float32), like.get("batch_stats", {})
    )
    return filled(like["params"]), stats


def shapes(net: Any, x: jax.ShapeDtypeStruct, label: Any = LABEL) -> tuple[int, Any]:
    """Return the number of parameters, and the output's shape and dtype."""

    def run(key, x):
        out, variables = net.init_with_output(key, x, label, train=True)
        return variables["params"], out

    params, out = jax.eval_shape(run, jax.random.key(0), x)
    return sum(math.prod(p.shape) for p in jax.tree.leaves(params)), out


def z(latent: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((3, latent), jnp.float32)


def random_image(*image: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((3, *image), jnp.float32)


CIFAR: Any = {"blocks": (2,) * 4, "cardinality": (96,) * 4}
FFHQ: Any = {"blocks": (2,) * 5, "cardinality": (96,) * 4 + (48,)}
WIDE = (64 * 16, 64 * 16, 64 * 8, 64 * 4, 64 * 2)


# ---- sizes


@pytest.mark.parametrize("classes", [0, 10])
def test_parameters_of_sngans_table_4(classes):
    g, d, rows = 256, 128, max(classes, 1)
    block = 2 * (9 * g * g + g) + (g * g + g) + 2 * 2 * rows * g  # two convolutions, shortcut, two batch norms
    generator = 128 * 16 * g + 16 * g + 3 * block + 2 * g + 9 * g * 3 + 3
    assert shapes(_sngan_nets.SNGANGenerator((4, 4), 3, g, 3, classes), z(128))[0] == generator
    plain, shortcut = 2 * (9 * d * d + d), d * d + d
    first = (9 * 3 * d + d) + (9 * d * d + d) + (3 * d + d)
    discriminator = first + (plain + shortcut) + 2 * plain + d + classes * d
    assert shapes(_sngan_nets.SNGANDiscriminator(d, classes), random_image(32, 32, 3))[0] == discriminator


# Counted by instantiating ajbrock/BigGAN-PyTorch's BigGAN.py with the options of scripts/launch_cifar_ema.sh; with
# G_shared, hier, shared_dim=128 and attention at 16; and at resolution 64 with G_ch = D_ch = 64, dim_z = 120, G_shared,
# hier, shared_dim = 128 and attention at 32. brownvc/R3GAN's Networks.py with train.py's presets CIFAR10, without and
# with --cond, and FFHQ-64.
COUNTS = {
    "BigGAN G": (_biggan_nets.BigGANGenerator((4, 4), (256,) * 4, 3, 10, 0, 0, False), z(128), 4_304_387),
    "BigGAN D": (_biggan_nets.BigGANDiscriminator((256,) * 4, 2, 10), random_image(32, 32, 3), 4_207_361),
    "BigGAN G, shared": (_biggan_nets.BigGANGenerator((4, 4), (256,) * 4, 3, 10, 16), z(128), 4_455_172),
    "BigGAN G, 64": (_biggan_nets.BigGANGenerator((4, 4), WIDE, 3, 10, 32), z(120), 31_842_820),
    "BigGAN D, 64": (
        _biggan_nets.BigGANDiscriminator((64, *WIDE[:0:-1]), 4, 10, 32),
        random_image(64, 64, 3),
        19_558_082,
    ),
    "R3GAN G": (_r3gan_nets.R3GANGenerator((4, 4), (768,) * 4, 3, **CIFAR), z(64), 20_732_160),
    "R3GAN D": (_r3gan_nets.R3GANDiscriminator((768,) * 4, **CIFAR), random_image(32, 32, 3), 20_683_776),
    "R3GAN G, classes": (_r3gan_nets.R3GANGenerator((4, 4), (768,) * 4, 3, classes=10, **CIFAR), z(64), 20_781_952),
    "R3GAN D, classes": (
        _r3gan_nets.R3GANDiscriminator((768,) * 4, classes=10, **CIFAR),
        random_image(32, 32, 3),
        21_280_512,
    ),
    "R3GAN G, 64": (_r3gan_nets.R3GANGenerator((4, 4), (768,) * 4 + (384,), 3, **FFHQ), z(64), 22_429_824),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_the_references(name):
    net, x, expected = COUNTS[name]
    found, out = shapes(net, x)
    side = 64 if "64" in name else 32
    assert found == expected
    assert out.dtype == jnp.float32
    assert out.shape == ((3, side, side, 3) if " G" in name else (3,))


def tiny(paper: str, base: tuple[int, int], stages: int, channels: int, classes: int) -> tuple[Any, Any]:
    sides = stages + 1
    if paper == "sngan":
        return _sngan_nets.SNGANGenerator(base, stages, 8, channels, classes), _sngan_nets.SNGANDiscriminator(
            8, classes
        )
    if paper == "biggan":
        generator = _biggan_nets.BigGANGenerator(base, (8,) * sides, channels, classes, 2 * base[0], 6)
        return generator, _biggan_nets.BigGANDiscriminator((8,) * 4, 2, classes, 2 * base[0])
    more: Any = {"blocks": (1,) * sides, "cardinality": (2,) * sides, "classes": classes, "embedding": 5}
    generator = _r3gan_nets.R3GANGenerator(base, (8,) * sides, channels, **more)
    return generator, _r3gan_nets.R3GANDiscriminator((8,) * sides, **more)


PAPERS = pytest.mark.parametrize("paper", ["sngan", "biggan", "r3gan"])


@PAPERS
@pytest.mark.parametrize(
    ("image", "stages"),
    [
        ((32, 32, 3), 3),
        ((16, 24, 2), 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (((28, 28, 1), 2), ((64, 64, 3), 4))),
    ],
)
def test_shapes_of_images_and_logits(paper, image, stages):
    for classes in (0, 5):
        base = image[0] >> stages, image[1] >> stages
        generator, discriminator = tiny(paper, base, stages, image[2], classes)
        out = shapes(generator, z(4 * (stages + 1)))[1]
        assert out.shape == (3, *image) and out.dtype == jnp.float32
        logits = shapes(discriminator, random_image(*image), LABEL if classes else None)[1]
        assert logits.shape == (3,) and logits.dtype == jnp.float32


@pytest.mark.slow
@PAPERS
def test_bf16_kernels_give_bf16_convolutions_and_near_outputs(paper):
    generator, discriminator = tiny(paper, (4, 4), 1, 3, 5)
    noise, x = normal(3, 8), normal(3, 8, 8, 3)
    for net, put in ((generator, noise), (discriminator, x)):
        params, stats = given(net, put, LABEL)
        exact_variables = {"params": params, "batch_stats": stats}
        narrow = {
            **exact_variables,
            "params": jax.tree.map(lambda p: p.astype(jnp.bfloat16) if p.ndim > 1 else p, exact_variables["params"]),
        }
        run = jax.jit(lambda v, net=net, put=put: net.apply(v, put, LABEL, train=False))
        found, exact = (np.asarray(run(v)) for v in (narrow, exact_variables))
        assert found.dtype == np.float32
        error = np.abs(found - exact).max() / np.abs(exact).max()
        assert 1e-5 < error < 0.1


# ---- initialisation


def test_r3gans_blocks_start_as_identities_and_their_scale_falls_with_depth():
    generator = _r3gan_nets.R3GANGenerator((4, 4), (64, 64), 3, blocks=(2, 2), cardinality=(4, 4))
    blocks = [f"block{i}_{j}" for i in (1, 2) for j in (1, 2)]
    params: Any = start(generator, normal(1, 64), "basis", "mix", *blocks)
    deviation = math.sqrt(2 / 1.04) * 4**-0.25  # L = 4 blocks of 3 layers
    params = jax.tree.map(np.asarray, params)
    for name in blocks:
        assert (params[name]["conv3"]["kernel"] == 0).all()
        assert params[name]["conv1"]["kernel"].std() == pytest.approx(deviation / math.sqrt(64), rel=0.03)
        assert params[name]["conv2"]["kernel"].std() == pytest.approx(deviation / math.sqrt(32 * 9), rel=0.03)
    assert params["basis"].std() == pytest.approx(1, rel=0.1)
    assert params["mix"]["kernel"].std() == pytest.approx(1 / 8, rel=0.05)


def test_sngan_has_glorot_kernels_and_biggan_orthogonal_ones():
    params: Any = start(_sngan_nets.SNGANDiscriminator(32), normal(1, 8, 8, 3), "block2")
    for name, fan, gain in (("conv1", 9 * 32, 2), ("conv2", 9 * 32, 2), ("shortcut", 32, 1)):
        kernel = np.asarray(params["block2"][name]["kernel"])
        bound = math.sqrt(gain * 3 / fan)
        assert 0.95 * bound < np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    params = start(_biggan_nets.BigGANDiscriminator((16,) * 2, 1), normal(1, 8, 8, 3), "block2")
    kernel = np.asarray(params["block2"]["conv1"]["kernel"]).reshape(-1, 16)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(16), atol=1e-5)


# ---- conditional batch norm


def closed(x, mean, var, scale, bias):
    """Return (x - mean) / sqrt(var + epsilon) * (1 + scale) + bias in float64, for scale and bias [b c]."""
    y = (x.astype(np.float64) - mean) / np.sqrt(var.astype(np.float64) + 1e-5)
    return y * (1 + scale.astype(np.float64))[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("classes", [0, 5])
def test_conditional_batch_norm_against_its_closed_form(classes):
    norm: Any = ConditionalBatchNorm(classes)
    x = 2 * normal(3, 4, 5, 6) + 1
    y = LABEL if classes else normal(3, 7)
    params, _ = given(norm, x, y)
    stats = {"mean": normal(6), "var": np.exp(normal(6))}
    name = "embedding" if classes else "kernel"
    scale, bias = (params[part][name] for part in ("scale", "bias"))
    scale, bias = (table[np.asarray(y)] if classes else y.astype(np.float64) @ table for table in (scale, bias))
    apply = jax.jit(partial(norm.apply, mutable=["batch_stats"]), static_argnames="train")
    for train in (False, True):
        found, moved = apply({"params": params, "batch_stats": stats}, x, y, train=train)
        exact64 = x.astype(np.float64)
        batch = {"mean": exact64.mean((0, 1, 2)), "var": exact64.var((0, 1, 2))}
        used = batch if train else stats
        np.testing.assert_allclose(found, closed(x, used["mean"], used["var"], scale, bias), atol=2e-5)
        for part, value in moved["batch_stats"].items():
            expected = 0.9 * stats[part] + 0.1 * batch[part] if train else stats[part]
            np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_conditional_batch_norm_starts_as_batch_norm_without_scale_and_bias():
    x = normal(3, 4, 5, 6)
    norm: Any = ConditionalBatchNorm(5)
    out, _ = norm.init_with_output(jax.random.key(0), x, LABEL, train=True)
    expected = (x - x.mean((0, 1, 2))[None, None, None]) / np.sqrt(x.var((0, 1, 2)) + 1e-5)[None, None, None]
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("paper", ["sngan", "biggan"])
@pytest.mark.parametrize("classes", [0, 5])
def test_at_inference_an_image_depends_on_running_statistics_and_not_on_its_batch(paper, classes):
    generator, _ = tiny(paper, (4, 4), 1, 3, classes)
    noise = normal(3, 8)
    params, stats = given(generator, noise, LABEL)

    @partial(jax.jit, static_argnums=3)
    def images(stats, noise, label, train):
        return generator.apply({"params": params, "batch_stats": stats}, noise, label, train=train, mutable=True)

    others = np.array([0, 2, 2])
    whole, after = images(stats, noise, LABEL, False)
    among, _ = images(stats, noise[others], LABEL[others], False)
    np.testing.assert_allclose(np.asarray(whole)[:1], np.asarray(among)[:1], atol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, after["batch_stats"], stats))
    shifted, _ = images(jax.tree.map(lambda s: s + 0.5, stats), noise, LABEL, False)
    assert np.abs(np.asarray(shifted) - np.asarray(whole)).max() > 1e-2
    together, moved = images(stats, noise, LABEL, True)
    among, _ = images(stats, noise[others], LABEL[others], True)
    assert np.abs(np.asarray(together)[:1] - np.asarray(among)[:1]).max() > 1e-2
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, moved["batch_stats"], stats)))


# ---- attention


@pytest.mark.parametrize(("h", "w"), [(4, 6), (7, 7)])
def test_attention_against_numpy(h, w):
    x = normal(2, h, w, 16)
    layer: Any = PixelAttention()
    params: Any = filled(jax.eval_shape(lambda: layer.init(jax.random.key(0), x))["params"])
    params["gamma"] = np.float32(0.7)
    found = jax.jit(layer.apply)({"params": params}, x)
    exact64 = x.astype(np.float64)
    query, key, value = (exact64 @ params[name]["kernel"][0, 0] for name in ("query", "key", "value"))
    assert (query.shape[-1], value.shape[-1]) == (2, 8)
    expected = np.zeros_like(exact64)
    for b in range(2):
        cells = [(slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)) for i in range(h // 2) for j in range(w // 2)]
        keys = np.stack([key[b][cell].max((0, 1)) for cell in cells])  # [m c/8]
        values = np.stack([value[b][cell].max((0, 1)) for cell in cells])  # [m c/2]
        for i in range(h):
            for j in range(w):
                weights = np.exp(keys @ query[b, i, j])
                mixed = weights @ values / weights.sum()
                expected[b, i, j] = exact64[b, i, j] + 0.7 * mixed @ params["out"]["kernel"][0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_attention_starts_as_the_identity_and_learns():
    x = normal(2, 4, 4, 16)
    layer: Any = PixelAttention()
    out, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert np.array_equal(out, x)
    slope: Any = jax.jit(jax.grad(lambda p: (layer.apply({"params": p}, x) ** 2).sum()))(variables["params"])
    assert slope["gamma"] != 0


@pytest.mark.parametrize("attention", [8, 16])
def test_each_biggan_network_has_attention_once(attention):
    generator = _biggan_nets.BigGANGenerator((4, 4), (16,) * 4, 3, 0, attention)
    discriminator = _biggan_nets.BigGANDiscriminator((16,) * 4, 2, 0, attention)
    for net, x in ((generator, z(8)), (discriminator, random_image(32, 32, 3))):
        key = jax.random.key(0)
        params: Any = jax.eval_shape(lambda x, net=net, key=key: net.init(key, x, train=True), x)["params"]
        assert [name for name in params if "attention" in name] == ["attention"]


# ---- projection


@pytest.mark.parametrize("paper", ["sngan", "biggan"])
def test_two_labels_differ_by_the_product_of_their_embeddings_with_phi(paper):
    _, discriminator = tiny(paper, (4, 4), 1, 3, 5)
    x = normal(3, 16, 16, 3)
    params, _ = given(discriminator, x, LABEL)
    seen: Any

    @jax.jit
    def look(label):
        return discriminator.apply({"params": params}, x, label, train=True, capture_intermediates=True)

    logits, seen = look(LABEL)
    other, _ = look((LABEL + 1) % 5)
    last = np.asarray(seen["intermediates"]["block4"]["__call__"][0], np.float64)
    phi = np.maximum(last, 0).sum((1, 2))  # [b c]
    table = params["head"]["embed"]["embedding"]
    expected = ((table[np.asarray(LABEL)] - table[(np.asarray(LABEL) + 1) % 5]) * phi).sum(-1)
    np.testing.assert_allclose(logits - other, expected, atol=1e-4 * np.abs(expected).max())
    psi = phi @ params["head"]["psi"]["kernel"][:, 0] + params["head"]["psi"].get("bias", 0)
    projected = (table[np.asarray(LABEL)] * phi).sum(-1)
    np.testing.assert_allclose(logits, psi + projected, atol=1e-5 * np.abs(phi).max())


# ---- R3GAN's filter


def test_r3gans_filter_keeps_the_inside_of_a_flat_image_and_darkens_its_border():
    flat = jnp.ones((1, 8, 6, 2))
    point = jnp.asarray(np.eye(1, 16, 5).reshape(1, 4, 4, 1), jnp.float32)
    upsample, downsample = _r3gan_nets.upsample, _r3gan_nets.downsample
    up, down, spread = map(np.asarray, jax.jit(lambda: (upsample(flat), downsample(flat), upsample(point)))())
    for filtered, shape in ((up, (1, 16, 12, 2)), (down, (1, 4, 3, 2))):
        assert filtered.shape == shape
        np.testing.assert_allclose(filtered[:, 1:-1, 1:-1], 1, atol=1e-6)
    np.testing.assert_allclose(up[0, 0, 1:-1], 0.75, atol=1e-6)  # 3/4 of the filter is inside
    np.testing.assert_allclose(down[0, 0, 1:-1], 7 / 8, atol=1e-6)
    row = np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 4
    np.testing.assert_allclose(spread[0, :, :, 0], np.outer(row, row), atol=1e-6)


# ---- bad input


BAD = {
    "label": (_sngan_nets.SNGANDiscriminator(8, 5), random_image(8, 8, 3), None, "give label"),
    "pieces": (_biggan_nets.BigGANGenerator((4, 4), (8, 8), 3), z(7), None, "multiple of its 2 parts"),
    "no embedding": (_biggan_nets.BigGANGenerator((4, 4), (8, 8), 3, 5, embedding=0), z(8), LABEL, "class embedding"),
    "groups": (_r3gan_nets.R3GANGenerator((4, 4), (8,), 3, (1,), (3,)), z(7), None, "into 3 groups"),
    "odd": (
        _r3gan_nets.R3GANDiscriminator((8, 8), (1, 1), (1, 1)),
        random_image(7, 8, 3),
        None,
        "7x8 pixels can't be halved",
    ),
    "one pixel": (
        _biggan_nets.BigGANDiscriminator((8, 8), 1, 0, 1),
        random_image(2, 2, 3),
        None,
        "at least 2x2 pixels",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises(name):
    net, x, label, message = BAD[name]
    with pytest.raises(InputError, match=message):
        shapes(net, x, label)
