"""EDM2: magnitudes of layers and blocks, weight normalisation, sizes, the net's inputs, loss, learning rate."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.edm2 import EDM2
from jaxgen.models.diffusion.flow import Flow
from jaxgen.nn import magnitude
from jaxgen.nn.backbones.mp_unet import MPUNet
from jaxgen.nn.magnitude import Conv, Dense, forced_weight_normalisation, fourier, mp_cat, mp_silu, mp_sum, normalise
from tests.helpers.quick_keys import quick_key

NET = MPUNet(5, 32, (1, 2), 1, (8,), head_width=16, classes=3, dropout=0.5)
X = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)  # [b h w c]
T = np.asarray([-0.4, 0.7], np.float32)
LABEL = jnp.asarray([0, 2])
CONTEXT = Context({}, {}, {}, jnp.zeros((), jnp.int32))


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def size(x: Any, axis: Any = None) -> Any:
    """Return the root mean square, which should be 1."""
    return np.sqrt(np.mean(np.square(np.asarray(x, np.float64)), axis=axis))


def sizes_of_kernels(params: Any) -> np.ndarray:
    """Return the root mean square of the weights of every output of every layer."""
    found = []
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel":
            rolled = any(getattr(part, "key", "").endswith("_rest") for part in path)
            found += [size(layer, tuple(range(layer.ndim - 1))) for layer in (x if rolled else [x])]
    return np.concatenate(found)


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("layer", [Conv(400), Conv(400, 1), Dense(400)], ids=["conv 3", "conv 1", "dense"])
def test_a_layer_keeps_magnitudes(layer):
    x = normal(4, 12, 12, 48)
    gained = layer.clone(gain=True)

    @jax.jit
    def outputs(key):
        none, params = gained.init_with_output(key, x)
        kernel = params["params"]["kernel"]
        plain, larger = (layer.apply({"params": {"kernel": k}}, x) for k in (kernel, 7 * kernel))
        return none, plain, larger, gained.apply({"params": {"kernel": kernel, "gain": 0.3}}, x)

    none, *others = outputs(jax.random.key(0))
    y, larger, with_gain = (np.asarray(x)[:, 1:-1, 1:-1] for x in others)  # where no zeros were padded
    assert size(y) == pytest.approx(1, rel=0.02)
    np.testing.assert_allclose(size(y, (0, 1, 2)), 1, atol=0.25)  # each of its features
    np.testing.assert_allclose(larger, y, atol=1e-3)
    np.testing.assert_allclose(with_gain, 0.3 * y, atol=1e-5)
    assert not np.asarray(none).any()


@pytest.mark.parametrize("t", [0.3, 0.5])
def test_sums_and_concatenations_keep_magnitudes(t):
    a, b, c = (np.asarray(normal(2000, n, seed=i)) for i, n in enumerate((30, 30, 90), 1))
    total, both = map(np.asarray, jax.jit(lambda: (mp_sum(a, b, t), mp_cat(a, c, t)))())  # pyright: ignore
    assert size(total) == pytest.approx(1, rel=0.02)
    assert float((total * b).mean() / (total * a).mean()) == pytest.approx(t / (1 - t), rel=0.1)
    assert both.shape == (2000, 120) and size(both) == pytest.approx(1, rel=0.02)
    parts = [float((both[:, where] ** 2).sum()) for where in (slice(30), slice(30, None))]
    assert math.sqrt(parts[1] / parts[0]) == pytest.approx(t / (1 - t), rel=0.02)  # for any numbers of channels


def test_functions_of_magnitude_one():
    t = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    found = jax.jit(lambda x, t: (mp_silu(x), fourier(t, 128), fourier(1000 * t, 128, 0.001)))(normal(100_000), t)
    silu, features, slow = map(np.asarray, found)
    assert size(silu) == pytest.approx(1, rel=0.01)
    np.testing.assert_allclose(size(features, 1), 1, atol=0.1)  # at every time
    np.testing.assert_allclose(slow, features, atol=1e-3)
    near = features @ features.T / 128
    # Times that differ by a bandwidth have different features.
    assert near[150, 155] > 0.8 and np.abs(near[150, :100]).max() < 0.35


def test_normalise():
    x = 5 * np.asarray(normal(3, 4, 50))
    slope = jax.grad(lambda x: normalise(x).sum())
    found = jax.jit(lambda: (normalise(x), normalise(x.astype(jnp.bfloat16)), slope(jnp.zeros((2, 5)))))()  # pyright: ignore
    np.testing.assert_allclose(size(found[0], 2), 1, atol=1e-3)
    assert found[1].dtype == jnp.bfloat16 and np.isfinite(found[2]).all()


def test_blocks_keep_magnitudes():
    """Outputs of an untrained net's layers and blocks. Exceptions: attention (a mean of vectors) and gains of 0."""
    x = normal(2, 32, 32, 3)  # large enough for the zero padding to have little effect
    params = jax.jit(NET.init)(jax.random.key(0), x, T)
    run = jax.jit(lambda params: NET.apply(params, x, T, LABEL, capture_intermediates=True, mutable=["intermediates"]))
    _, seen = run(params)
    found = {jax.tree_util.keystr(p): size(x) for p, x in jax.tree_util.tree_leaves_with_path(seen["intermediates"])}
    apart = ("attention", "embed", "out", "Dropout")
    inner = {k: v for k, v in found.items() if k != "['__call__'][0]" and not any(word in k for word in apart)}
    blocks = [name for name in inner if name.count("[") == 3]
    assert len(blocks) == 3 + 3 + 2 + 5, sorted(blocks)  # stem, time and label; blocks down, in the middle, and up
    for name, value in inner.items():
        assert 0.7 < value < 1.3, f"{name}: {value}"
    assert np.mean(list(inner.values())) == pytest.approx(1, abs=0.05)


def test_scores_of_attention_are_cosines():
    """Queries and keys have magnitude 1 for any input magnitude."""
    from jaxgen.nn.backbones.mp_unet import Attention

    x = normal(2, 4, 4, 32)
    layer: Any = Attention(2)

    @jax.jit
    def outputs(key):
        y, params = layer.init_with_output(key, x)
        return y, layer.apply(params, 10 * x)

    y, larger = outputs(jax.random.key(0))
    assert size(y) < 1
    np.testing.assert_allclose(larger, y, atol=1e-3)


# ---------------------------------------------------------------- weights


def test_gradients_are_orthogonal_to_the_weights():
    x = normal(2, 6, 6, 8)
    layer: Any = Conv(5)
    kernel = 1.7 * normal(3, 3, 8, 5, seed=1)
    weight = normal(2, 6, 6, 5, seed=2)
    slope = jax.jit(jax.grad(lambda kernel: (layer.apply({"params": {"kernel": kernel}}, x) * weight).sum()))(kernel)
    flat = lambda a: np.asarray(a, np.float64).reshape(-1, 5)  # noqa: E731
    cosine = (flat(slope) * flat(kernel)).sum(0) / np.linalg.norm(flat(slope), axis=0)
    np.testing.assert_allclose(cosine / np.linalg.norm(flat(kernel), axis=0), 0, atol=1e-3)


def test_an_update_rotates_weights_and_keeps_their_norm():
    """For single and stacked layers, also where the optimizer scales the update later. Gains are not normalised."""
    params = {
        "conv": {"kernel": normal(3, 3, 4, 6), "gain": jnp.ones(())},
        "a_rest": {"kernel": normal(2, 7, 5, seed=1), "gain": jnp.ones(2)},
    }
    params = jax.tree.map(lambda p: magnitude.normalise_kernel(p) if p.ndim > 1 else p, params)
    slopes = jax.tree.map(lambda p: normal(*p.shape, seed=3), params)
    for factor in (1.0, 0.5):
        link = optax.chain(optax.adam(0.05), forced_weight_normalisation(), optax.scale(factor))

        def step(carry: Any, _: Any, link: Any = link) -> Any:
            now, state = carry
            updates, state = link.update(slopes, state, now)
            return (optax.apply_updates(now, updates), state), None

        start = params, link.init(params)
        now: Any = jax.jit(lambda start, step=step: jax.lax.scan(step, start, length=20)[0][0])(start)
        np.testing.assert_allclose(sizes_of_kernels(now), 1, atol=2e-4 if factor == 1 else 1e-3)
        np.testing.assert_allclose(np.abs(now["a_rest"]["gain"] - 1), factor * 1.0, rtol=1e-3)
        turned = (np.asarray(now["conv"]["kernel"]) * np.asarray(params["conv"]["kernel"])).mean((0, 1, 2))
        assert (turned < 0.95).all()


def test_weights_keep_their_norm_in_training():
    task = EDM2(IMAGE, 4, SMALL, learning_rate=0.01, ramp=0).task(4)
    draw = np.random.default_rng(0)
    batch = {"image": draw.uniform(-1, 1, (4, *IMAGE)).astype(np.float32), "label": np.arange(4)}
    first = state = jax.jit(lambda: init_state(task, quick_key(0), batch))()
    step = jax.jit(make_step(task))
    for _ in range(4):
        state, metrics = step(state, batch, {})
    np.testing.assert_allclose(sizes_of_kernels(first.params), 1, atol=2e-3)  # normalised from smaller initial values
    np.testing.assert_allclose(sizes_of_kernels(state.params), 1, atol=2e-4)
    away = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), first.params, state.params)
    assert min(jax.tree.leaves(away)) > 1e-3, "every array was trained"
    assert set(metrics) >= {"denoiser/weighted_error", "denoiser/squared_error"}


# ---------------------------------------------------------------- net


FLAT = NET.clone(multipliers=(1,))


@pytest.fixture(scope="module")
def params() -> Any:
    """Random parameters, including the gains."""
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(FLAT.init, jax.random.key(0), X, T)
    return jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape) if p.ndim else 0.8, jnp.float32), shapes)


@pytest.fixture(scope="module")
def apply() -> Any:
    return jax.jit(FLAT.apply, static_argnames="train")


def test_a_sample_depends_on_its_own_image_time_and_label(params, apply):
    y = apply(params, X, T, LABEL)
    assert y.shape == (2, 8, 8, 5) and y.dtype == jnp.float32
    for other in (
        apply(params, X * [[[[1]]], [[[2]]]], T, LABEL),
        apply(params, X, T * [1, 2], LABEL),
        apply(params, X, T, jnp.asarray([0, 1])),
    ):
        np.testing.assert_allclose(other[0], y[0], rtol=1e-4, atol=1e-5)
        assert np.abs(other[1] - y[1]).max() > 1e-2


def test_no_label_equals_the_null_label_and_dropout_is_for_training(params, apply):
    still = apply(params, X, T, jnp.full(2, NET.classes))
    np.testing.assert_allclose(apply(params, X, T), still, rtol=1e-4, atol=1e-5)
    one, other = (apply(params, X, T, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    assert np.abs(one - other).max() > 1e-2 and np.abs(one - still).max() > 1e-2


def test_bf16_parameters_give_f32_images(params, apply):
    halved = jax.tree.map(lambda p: p.astype(jnp.bfloat16) if p.ndim > 1 else p, params)
    y, want = apply(halved, X, T, LABEL), apply(params, X, T, LABEL)
    assert y.dtype == jnp.float32
    error = float(np.abs(y - want).max() / np.abs(want).max())
    assert 1e-4 < error < 0.1  # computed in bf16, with a small error


PUBLISHED = {  # counted in NVlabs/edm2; the paper says 125M, 280M, 498M, 777M, 1.1B and 1.5B
    "XS": (128, 124_713_125),
    "S": (192, 280_212_709),
    "M": (256, 497_807_653),
    "L": (320, 777_497_957),
    "XL": (384, 1_119_283_621),
    "XXL": (448, 1_523_164_645),
}


@pytest.mark.parametrize("name", ["XS", *(pytest.param(n, marks=pytest.mark.slow) for n in list(PUBLISHED)[1:])])
def test_the_number_of_parameters_is_the_published_one(name):
    width, want = PUBLISHED[name]
    net = MPUNet(4, width, classes=1000)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 4)), jnp.zeros(1))
    assert sum(p.size for p in jax.tree.leaves(shapes)) == want


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        ({}, (7, 8), "multiples of 2, not 7x8"),
        ({"multipliers": (1, 1, 1)}, (8, 6), "multiples of 4, not 8x6"),
        ({"head_width": 3}, (8, 8), "32 channels can't be split into heads of 3"),
        ({"head_width": 0, "heads": 3}, (16, 16), "64 channels can't be split into 3 heads"),
        ({"head_width": 0}, (8, 8), "heads must be at least 1"),
        ({"depth": 0}, (8, 8), "depth must be at least 1"),
        ({"classes": 0}, (8, 8), "takes no labels"),
    ],
)
def test_impossible_sizes_are_refused(changes, shape, words):
    with pytest.raises(InputError, match=words):
        jax.eval_shape(NET.clone(**changes).init, jax.random.key(0), jnp.zeros((2, *shape, 3)), T, LABEL)


# ---------------------------------------------------------------- method

IMAGE = (4, 4, 1)
SMALL = BackboneConfig("edm2", 8, 1, 2, (1,), ())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (EDM2((5, 4, 1), net=BackboneConfig("edm2", 8, 1, 2, (1, 2), ())), "must be multiples of 2, not 5x4"),
        (EDM2(IMAGE, net=SMALL, ramp=-1), "model.ramp must be at least 0"),
        (EDM2(IMAGE, net=SMALL, decay=-1), "model.decay must be at least 0"),
        (EDM2(IMAGE, net=SMALL, p_std=0.0), "model.p_std must be above 0"),
        (EDM2(IMAGE, net=BackboneConfig("edm2", 8, bandwidth=0.0)), "model.net.bandwidth must be above 0"),
    ],
)
def test_invalid_settings_are_refused(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


def test_the_learning_rate_rises_and_falls():
    model = EDM2(IMAGE, net=SMALL, learning_rate=0.02, ramp=10, decay=100)
    rates = jax.jit(jax.vmap(model.rate))(jnp.asarray([0, 5, 10, 100, 400, 10_000]))
    np.testing.assert_allclose(rates, [0, 0.01, 0.02, 0.02, 0.01, 0.002], rtol=1e-5)
    assert float(EDM2(IMAGE, net=SMALL, learning_rate=0.02, ramp=0, decay=0).rate(jnp.asarray(9))) == np.float32(0.02)


def test_the_loss_is_edms_divided_by_its_learned_size(monkeypatch):
    """At one noise level, equation 21 with the learned u(sigma)."""
    monkeypatch.setattr(_nets, "call", lambda module, params, x, *rest, **more: 0.3 * x)
    model = EDM2(IMAGE, net=SMALL)
    params: Any = {"denoiser": {}, "uncertainty": {"linear": {"kernel": normal(128, 1)}}}
    batch, key = {"image": normal(1, *IMAGE)}, jax.random.key(5)
    plain = EDM(IMAGE, net=SMALL, p_mean=-0.4, p_std=1.0, drop=0.0)
    found = jax.jit(lambda: (model.loss(params, CONTEXT, batch, key), plain.loss(params, CONTEXT, batch, key)[0]))()
    (value, aux), weighted = found[0], float(found[1])
    assert float(aux.metrics["weighted_error"]) == pytest.approx(weighted, rel=1e-5)
    sigma = math.exp(-0.4 + float(jax.random.normal(rng.fold(key, "sigma"), (1,))[0]))
    kernel = np.asarray(params["uncertainty"]["linear"]["kernel"], np.float64)[:, 0]
    i = np.arange(128)
    angles = stats.norm.ppf((i + 0.5) / 128) * math.log(sigma) / 4 + i * (math.sqrt(5) - 1) / 2
    u = math.sqrt(2) * np.cos(2 * np.pi * angles) @ kernel / np.linalg.norm(kernel)
    assert float(value) == pytest.approx(weighted / math.exp(u) + u, rel=1e-3)


def test_other_methods_can_use_the_net():
    """Their optimizer keeps the norm of its weights for any gradient."""
    task = Flow(IMAGE, net=BackboneConfig("edm2", 8, 2, 2, (1,), (), bandwidth=0.001)).task(1)
    spec = {"image": jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32)}
    state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec))
    after, _ = jax.eval_shape(make_step(task), state, spec, {})
    assert jax.tree.map(jnp.shape, after.params) == jax.tree.map(jnp.shape, state.params)
    optimizer, longer = task.learners["denoiser"].optimizer, jax.tree.map(lambda p: 3 * normal(*p.shape), state.params)
    updated = jax.jit(lambda p: optax.apply_updates(p, optimizer.update(p, optimizer.init(p), p)[0]))(longer)
    np.testing.assert_allclose(sizes_of_kernels(updated), 1, atol=1e-3)
