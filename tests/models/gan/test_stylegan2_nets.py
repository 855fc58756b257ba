"""StyleGAN2's networks: parameters, initialisation, noise, style mixing, the mean of w, minibatch groups."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.models.gan._stylegan2_nets import StyleGAN2Discriminator, StyleGAN2Generator, add_minibatch_deviation
from jaxgen.training.dry_run import count
from tests.nn.test_modulated import normal

SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 8}
LATENT = 6
ARCHITECTURES = ("skip", "resnet", "orig")
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES[1:]]


# ---- parameters and initialisation


def variables_of(net: Any, *args: Any) -> Any:
    return jax.jit(lambda key, *args: net.init(key, *args, train=False))(jax.random.key(0), *args)


def shapes_of(net: Any, *shapes: tuple[int, ...]) -> Any:
    return cached_shapes_of(net, *shapes)


@cache
def cached_shapes_of(net: Any, *shapes: tuple[int, ...]) -> Any:
    args = [jax.ShapeDtypeStruct(s, jnp.int32 if len(s) == 1 else jnp.float32) for s in shapes]
    return jax.eval_shape(lambda *a: variables_of(net, *a), *args)


# Counted in NVIDIA's stylegan2-ada-pytorch, sum(p.numel() for p in net.parameters()), 3 channels, 256x256.
COUNTS = {  # channel_base, classes: generator, discriminator
    (16384, 0): (24_767_458, 24_001_089),  # "paper256"
    (16384, 10): (25_035_234, 26_370_112),
    (32768, 0): (30_034_338, 28_864_129),  # "stylegan2"
    (32768, 10): (30_302_114, 31_233_152),
}
BY_ARCHITECTURE = {  # channel_base 16384, no classes
    "skip": (24_767_458, 23_052_353),
    "resnet": (24_470_992, 24_001_089),
    "orig": (23_512_528, 23_042_625),
}


def counts(base: int, classes: int, **options: Any) -> tuple[int, int]:
    options |= {"classes": classes, "channel_base": base}
    generator = shapes_of(StyleGAN2Generator(256, **options), (2, 512), (2,))
    assert count(generator["noise"]) == 174_736, "theirs"
    discriminator = shapes_of(StyleGAN2Discriminator(**options), (2, 256, 256, 3), (2,))
    return count(generator["params"]), count(discriminator["params"])


@pytest.mark.parametrize(
    ("base", "classes"),
    [
        (16384, 0),
        pytest.param(16384, 10, marks=pytest.mark.slow),
        pytest.param(32768, 0, marks=pytest.mark.slow),
        (32768, 10),
    ],
)
def test_parameters_of_nvidias_networks(base, classes):
    assert counts(base, classes) == COUNTS[base, classes]


@pytest.mark.parametrize("architecture", ["skip", "resnet", pytest.param("orig", marks=pytest.mark.slow)])
def test_parameters_of_the_architectures(architecture):
    assert counts(16384, 0, architecture=architecture) == BY_ARCHITECTURE[architecture]


def test_parameters_have_nvidias_names():
    found = shapes_of(StyleGAN2Generator(8, classes=3, w_dim=12, **SMALL), (2, 512), (2,))
    synthesis, mapping = found["params"]["synthesis"], found["params"]["mapping"]
    assert set(mapping) == {"embed", *(f"fc{i}" for i in range(8))} and set(synthesis) == {"b4", "b8"}
    assert set(synthesis["b4"]) == {"const", "conv1", "torgb"} and set(synthesis["b8"]) == {"conv0", "conv1", "torgb"}
    assert set(synthesis["b8"]["conv0"]) == {"affine", "kernel", "bias", "noise_strength"}
    assert synthesis["b8"]["conv0"]["affine"]["kernel"].shape == (12, 8)
    assert found["batch_stats"]["mapping"]["w_avg"].shape == (12,)
    assert found["noise"]["synthesis"]["b8"]["conv0"]["noise_const"].shape == (8, 8)
    discriminator = shapes_of(StyleGAN2Discriminator(classes=3, **SMALL), (2, 16, 16, 1), (2,))["params"]
    assert set(discriminator) == {"b16", "b8", "b4", "mapping"} and set(discriminator["b4"]) == {"conv", "fc", "out"}
    assert set(discriminator["b16"]) == {"fromrgb", "conv0", "conv1", "skip"} and set(discriminator["b8"]) == set(
        discriminator["b16"]
    ) - {"fromrgb"}


def test_parameters_are_initialised_as_nvidias():
    nets = [
        variables_of(StyleGAN2Generator(8, 3, 40, 50, 4, 2, **SMALL), jnp.zeros((2, 40)), jnp.zeros(2, int)),
        variables_of(StyleGAN2Discriminator(4, mapping_layers=2, **SMALL), jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int)),
    ]
    for path, x in jax.tree_util.tree_leaves_with_path([net["params"] for net in nets] + [nets[0]["noise"]]):
        name, x = jax.tree_util.keystr(path), np.asarray(x, np.float64)
        if name.endswith(("'bias']", "'noise_strength']")):
            assert (x == (1 if "affine" in name else 0)).all(), name
            continue
        scale = 100 if "'fc" in name and "mapping" in name else 1
        assert abs(x.mean()) < 5 * scale / np.sqrt(x.size), name
        assert abs(x.std() / scale - 1) < 5 / np.sqrt(2 * x.size), name
    assert (nets[0]["batch_stats"]["mapping"]["w_avg"] == 0).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("side", "channels"),
    [(8, 1), *(pytest.param(*size, marks=pytest.mark.slow) for size in [(16, 4), (64, 3), (1024, 2)])],
)
def test_any_power_of_two(side, channels, architecture):
    options: Any = {"architecture": architecture, "channel_base": 1024, "channel_max": 8}
    generator = StyleGAN2Generator(side, channels, LATENT, **options)
    key = jax.eval_shape(lambda: jax.random.key(0))
    z, keys = (
        jax.ShapeDtypeStruct((3, LATENT), jnp.float32),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3)),
    )
    variables = jax.eval_shape(lambda k, z: generator.init(k, z, train=False), key, z)
    image, _ = jax.eval_shape(
        lambda v, z, k: generator.apply(v, z, None, k, train=True, mutable=["batch_stats"]), variables, z, keys
    )
    assert (image.shape, image.dtype) == ((3, side, side, channels), jnp.float32)
    assert generator.num_ws == 2 * np.log2(side) - 2
    discriminator = StyleGAN2Discriminator(**options)
    logits, _ = jax.eval_shape(lambda k, x: discriminator.init_with_output(k, x, train=True), key, image)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_a_base_without_channels_at_the_image_raises():
    with pytest.raises(InputError, match="channel_base must be at least 128, not 64"):
        shapes_of(StyleGAN2Generator(128, **SMALL), (2, 512))


def test_missing_labels_raise():
    with pytest.raises(ValueError, match="4 classes needs labels"):
        variables_of(StyleGAN2Generator(8, 3, LATENT, classes=4, **SMALL), jnp.zeros((2, LATENT)))


# ---- the generator


def drawn(net: Any, *shapes: tuple[int, ...]) -> Any:
    """Return variables that are distributed as the initial ones, but with noise strengths that are not 0."""
    random = np.random.default_rng(0)

    def draw(path: Any, x: Any) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if name.endswith("'bias']"):
            value = np.full(x.shape, "affine" in name)
        elif name.endswith("'noise_strength']"):
            value = np.full(x.shape, 0.5)
        else:
            value = random.normal(0, 100 if "'fc" in name and "mapping" in name else 1, x.shape)
        return jnp.asarray(value, x.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(net, *shapes))


@cache
def start(architecture: str = "skip", mixing: float = 0.9, classes: int = 0) -> tuple[Any, Any]:
    """Return a small generator and its variables."""
    options: Any = {"architecture": architecture, "mixing": mixing, **SMALL}
    net = StyleGAN2Generator(16, 2, LATENT, 10, classes, 2, **options)
    return net, drawn(net, (2, LATENT), (2,))


def keys_of(n: int, seed: int = 7) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


@cache
def jitted(net: Any, **options: Any) -> Any:
    return jax.jit(partial(net.apply, **options))


def generate(net: Any, v: Any, *args: Any, **options: Any) -> Any:
    return jitted(net, **options)(v, *args)


@pytest.mark.parametrize("architecture", ["skip", *LATER])
def test_every_layer_uses_its_own_w(architecture):
    net, v = start(architecture)
    ws = jnp.asarray(normal(2, net.num_ws, 10), jnp.float32)
    total = lambda ws, v: net.apply(v, ws, method="synthesise")[0].sum()  # noqa: E731
    first = jax.jit(jax.grad(total))(ws, v)  # [b num_ws w_dim]
    assert (np.abs(first[0]).max(1) > 1e-3).all()
    assert (first[1] == 0).all(), "of its own image only"


def test_a_sample_depends_on_its_own_key_only():
    net, v = start()
    z, keys = jnp.asarray(normal(4, LATENT), jnp.float32), keys_of(4)
    draw = lambda z, keys: generate(net, v, z, None, keys, train=True, mutable="batch_stats")[0]  # noqa: E731
    together = draw(z, keys)
    for i in range(4):
        rows = np.where(np.arange(4) == i, i, 3 - np.arange(4))
        np.testing.assert_allclose(draw(z[rows], keys[rows])[i], together[i], atol=1e-5)
    assert np.abs(together[0] - draw(z, keys[::-1])[0]).max() > 0.1


def test_noise_is_random_with_keys_and_constant_without():
    net, v = start()
    ws, keys = jnp.broadcast_to(jnp.asarray(normal(1, net.num_ws, 10), jnp.float32), (3, net.num_ws, 10)), keys_of(3)
    constant, fresh = generate(net, v, ws, method="synthesise"), generate(net, v, ws, keys, method="synthesise")
    assert (constant[0] == constant[1]).all()
    assert min(np.abs(fresh[i] - fresh[i - 1]).max() for i in range(3)) > 0.1
    other = {**v, "noise": jax.tree.map(lambda x: x + 1, v["noise"])}
    assert np.abs(generate(net, other, ws, method="synthesise") - constant).max() > 0.1
    np.testing.assert_array_equal(generate(net, other, ws, keys, method="synthesise"), fresh)
    # Constant noise equal to a key's noise gives that key's image.
    name = lambda path: f"{path[1].key}.{path[2].key}"  # noqa: E731
    noise = jax.jit(
        lambda key: jax.tree_util.tree_map_with_path(
            lambda path, x: rng.normal(rng.fold(key, name(path))[None], x.shape)[0], v["noise"]
        )
    )(keys[1])
    np.testing.assert_allclose(generate(net, {**v, "noise": noise}, ws, method="synthesise")[1], fresh[1], atol=1e-5)
    silent = jax.tree_util.tree_map_with_path(
        lambda path, x: 0 * x if "noise_strength" in jax.tree_util.keystr(path) else x, v["params"]
    )
    images = [generate(net, {**v, "params": silent}, ws, k, method="synthesise") for k in (keys, None)]
    np.testing.assert_array_equal(*images)


def mixed(mixing: float, n: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Return a generator, n first w [n w_dim], second w, and the ws [n num_ws w_dim] of training."""
    net, v = start(mixing=mixing)
    z, keys = jnp.asarray(normal(n, LATENT), jnp.float32), keys_of(n)

    @jax.jit
    def run(v, z, keys):
        seconds = rng.normal(jax.vmap(lambda key: rng.fold(key, "mixing"))(keys), (LATENT,))
        ws, _ = net.apply(v, z, None, keys, train=True, method="latents", mutable="batch_stats")
        return *(net.apply(v, z, method="map") for z in (z, seconds)), ws

    first, second, ws = map(np.asarray, run(v, z, keys))
    return net, first, second, ws


def test_style_mixing():
    n = 4000
    net, first, second, ws = mixed(0.9, n)
    is_first = np.isclose(ws, first[:, None], atol=1e-5).all(-1)  # [b num_ws]
    is_second = np.isclose(ws, second[:, None], atol=1e-5).all(-1)
    assert (is_first ^ is_second).all()
    assert (np.diff(is_first.astype(int), axis=1) <= 0).all(), "the first w, then the second"
    cuts = np.bincount(is_first.sum(1), minlength=net.num_ws + 1) / n
    expected = np.array([0, *[0.9 / (net.num_ws - 1)] * (net.num_ws - 1), 0.1])
    assert cuts[0] == 0, "the first layer is never mixed"
    np.testing.assert_allclose(cuts, expected, atol=5 * np.sqrt(0.2 * 0.8 / n))


def test_without_mixing_all_layers_have_the_first_w():
    _, first, _, ws = mixed(0.0, 4)
    np.testing.assert_allclose(ws, np.broadcast_to(first[:, None], ws.shape), atol=1e-6)
    net, v = start()
    z = jnp.asarray(normal(4, LATENT), jnp.float32)
    latents, _ = generate(net, v, z, None, keys_of(4), train=False, method="latents", mutable="batch_stats")
    np.testing.assert_allclose(latents, ws, atol=1e-6)
    with pytest.raises(ValueError, match="needs keys"):
        net.apply(v, z, train=True, mutable=["batch_stats"])


def test_the_mean_of_w_is_updated_by_the_first_z_in_training_only():
    net, v = start()
    z, keys = jnp.asarray(normal(4, LATENT), jnp.float32), keys_of(4)
    w, old = generate(net, v, z, method="map"), np.asarray(v["batch_stats"]["mapping"]["w_avg"])
    for expected, how in (
        (0.995 * old + 0.005 * np.asarray(w).mean(0), {"train": True}),
        (old, {"train": False, "method": "latents"}),
    ):
        _, seen = generate(net, v, z, None, keys, mutable="batch_stats", **how)
        np.testing.assert_allclose(seen["batch_stats"]["mapping"]["w_avg"], expected, rtol=1e-6, atol=1e-7)


def test_truncation():
    net, v = start()
    w, mean = jnp.asarray(normal(3, 10), jnp.float32), v["batch_stats"]["mapping"]["w_avg"]
    found = generate(net, v, w, jnp.array([0.0, 1.0, 0.5]), method="truncate")
    np.testing.assert_allclose(found, np.stack([mean, w[1], (mean + w[2]) / 2]), atol=1e-6)


def test_z_is_normalised_and_labels_matter():
    net, v = start(classes=3)
    z, label = jnp.asarray(normal(3, LATENT), jnp.float32), jnp.array([0, 1, 2])
    w = generate(net, v, z, label, method="map")
    np.testing.assert_allclose(generate(net, v, 3 * z, label, method="map"), w, rtol=1e-4, atol=1e-5)
    same = generate(net, v, jnp.broadcast_to(z[:1], z.shape), label, method="map")
    assert np.abs(same[0] - same[1]).max() > 0.01 and np.abs(same[0] - same[2]).max() > 0.01


# ---- the discriminator


@pytest.mark.parametrize(("batch", "group", "size"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (2, 4, 2), (9, 9, 9)])
def test_standard_deviation_of_groups(batch, group, size):
    x, n = normal(batch, 4, 4, 5), batch // size
    with jax.enable_x64(True):
        y = np.asarray(jax.jit(add_minibatch_deviation, static_argnums=1)(jnp.asarray(x), group))
    np.testing.assert_array_equal(y[..., :5], x)
    for i in range(batch):
        expected = np.sqrt(x[i % n :: n].var(0) + 1e-8).mean()
        np.testing.assert_allclose(y[i, :, :, 5], expected, rtol=1e-10)


@cache
def start_discriminator(architecture: str = "resnet", classes: int = 0) -> tuple[Any, Any]:
    options: Any = {"architecture": architecture, "mapping_layers": 2, **SMALL}
    net = StyleGAN2Discriminator(classes, **options)
    return net, drawn(net, (8, 16, 16, 2), (8,))


def test_groups_do_not_depend_on_devices():
    net, v = start_discriminator()
    x = normal(8, 16, 16, 2).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()), "batch")
    apart = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    np.testing.assert_allclose(generate(net, v, apart, train=True), generate(net, v, x, train=True), rtol=1e-5)


def test_logits_are_an_inner_product_with_the_labels_embedding():
    net, v = start_discriminator(classes=4)
    x = np.broadcast_to(normal(1, 16, 16, 2), (4, 16, 16, 2)).astype(np.float32)
    logits = generate(net, v, x, jnp.arange(4), train=True)
    assert np.unique(np.round(logits, 4)).size == 4
    twice = {"params": {**v["params"], "b4": {**v["params"]["b4"]}}}
    twice["params"]["b4"]["out"] = jax.tree.map(lambda p: 2 * p, v["params"]["b4"]["out"])
    np.testing.assert_allclose(generate(net, twice, x, jnp.arange(4), train=True), 2 * logits, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES[:2])
def test_half_precision_is_near(architecture):
    def halved(v):
        return {**v, "params": jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.ndim > 1 else x, v["params"])}

    (g, gv), (d, dv) = start(architecture), start_discriminator(architecture)
    z = jnp.asarray(normal(8, LATENT), jnp.float32)
    images = [generate(g, v, z, train=False) for v in (gv, halved(gv))]
    logits = [generate(d, v, images[0], train=True) for v in (dv, halved(dv))]
    for full, half in (images, logits):
        assert half.dtype == jnp.float32
        off = np.sqrt(np.square(half - full).mean() / np.square(full).mean())
        assert 1e-4 < off < 0.05  # each rounding has a relative error of 2**-9, and there are some dozens
