"""The U-Net of diffusion models: sizes, conditioning, initialisation, precision, GroupNorm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.nn.backbones.adm_unet import GroupNorm, Stage, UNet, scan_stages
from jaxgen.nn.embedding import sinusoid
from tests.helpers.quick_keys import quick_key

NET = UNet(5, 8, (1, 2), 1, (4,), head_width=8, classes=3, dropout=0.5)
FLAT = NET.clone(multipliers=(1,), attention=(8,))
X = np.random.default_rng(0).normal(size=(2, 8, 6, 7)).astype(np.float32)  # [b h w c]
T = np.asarray([0.25, 40.0], np.float32)


def drawn(net: Any, *inputs: Any) -> Any:
    """Return random parameters, also for those initialised with 0."""
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape) * 0.2, p.dtype), shapes)


@pytest.fixture(scope="module")
def params() -> Any:
    return drawn(FLAT, X, T)


@pytest.fixture(scope="module")
def apply() -> Any:
    return jax.jit(FLAT.apply, static_argnames="train")


@pytest.fixture(scope="module")
def unlabelled(params, apply) -> np.ndarray:
    return np.asarray(apply(params, X, T, rngs={"dropout": jax.random.key(0)}))


def test_a_sample_depends_on_its_own_image_time_and_label(params, apply):
    y = apply(params, X, T, jnp.asarray([0, 2]))
    assert y.shape == (2, 8, 6, 5) and y.dtype == jnp.float32
    for other in (
        apply(params, X * [[[[1]]], [[[2]]]], T, jnp.asarray([0, 2])),
        apply(params, X, T * [1, 2], jnp.asarray([0, 2])),
        apply(params, X, T, jnp.asarray([0, 1])),
    ):
        np.testing.assert_allclose(other[0], y[0], rtol=1e-4, atol=1e-5)
        assert np.abs(other[1] - y[1]).max() > 1e-2


def test_a_missing_label_is_the_null_label(params, apply, unlabelled):
    want = apply(params, X, T, jnp.full(2, NET.classes))
    np.testing.assert_allclose(unlabelled, want, rtol=1e-4, atol=1e-5)
    assert params["params"]["label"]["embedding"].shape == (NET.classes + 1, 4 * NET.width)


def test_initial_output_is_0_and_initial_blocks_are_identities():
    fresh, y = jax.jit(lambda key: NET.init_with_output(key, X, T)[::-1])(quick_key(0))
    assert not np.asarray(y).any()
    ends = [v for path, v in jax.tree_util.tree_leaves_with_path(fresh) if path[-2].key in ("conv2", "proj", "out")]
    assert len(ends) == 2 * (10 + 4 + 1) and not any(np.asarray(v).any() for v in ends)  # kernels and biases


def test_the_second_scalar_has_parameters_only_if_given_at_init(params):
    both = drawn(FLAT, X, T, None, T)
    assert both["params"].keys() - params["params"].keys() == {"second"}
    call = jax.jit(lambda second: FLAT.apply(both, X, T, None, second))
    assert np.abs(call(T) - call(T + 3)).max() > 1e-2


def test_bf16_parameters_give_f32_output(params, apply, unlabelled):
    halved = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    y = apply(halved, X, T)
    assert y.dtype == jnp.float32
    error = float(np.abs(y - unlabelled).max() / np.abs(unlabelled).max())
    assert 1e-4 < error < 0.1  # computed in bf16, accurately


def test_dropout_is_active_in_training_only(params, apply, unlabelled):
    np.testing.assert_array_equal(apply(params, X, T, rngs={"dropout": jax.random.key(1)}), unlabelled)
    one, other = (apply(params, X, T, train=True, rngs={"dropout": jax.random.key(i)}) for i in (1, 2))
    assert np.abs(one - other).max() > 1e-2 and np.abs(one - unlabelled).max() > 1e-2


class Rolled(nn.Module):
    """Two identical stages, and the residual of each."""

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        _, (first, second) = scan_stages(Stage(7, 0, 0.5, True, name="stage"), 2, x, [], jnp.ones((len(x), 3)), True)
        return [first - x, second - first]


def test_scanned_layers_have_independent_dropout():
    """Both run the same program: with a shared key, their residuals would be equal."""
    params = jax.tree.map(jnp.zeros_like, drawn(Rolled(), X))
    block = params["params"]["stage"]["block"]
    block["norm2"]["bias"], block["conv2"]["kernel"] = jnp.ones((2, 7)), jnp.ones((2, 3, 3, 7, 7))
    first, second = jax.jit(Rolled().apply)(params, X, rngs={"dropout": jax.random.key(0)})
    assert min(np.abs(first).max(), np.abs(first - second).max()) > 1


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        ({}, (7, 8), "multiples of 2, not 7x8"),
        ({"multipliers": (1, 1, 1)}, (8, 6), "multiples of 4, not 8x6"),
        ({"head_width": 3}, (8, 8), "16 channels can't be split into heads of 3"),
        ({"head_width": 0, "heads": 3}, (8, 8), "16 channels can't be split into 3 heads"),
        ({"head_width": 0}, (8, 8), "heads must be at least 1"),
        ({"depth": 0}, (8, 8), "depth must be at least 1"),
        ({"classes": 0}, (8, 8), "takes no labels"),
    ],
)
def test_invalid_settings_are_refused(changes, shape, words):
    with pytest.raises(InputError, match=words):
        jax.eval_shape(NET.clone(**changes).init, jax.random.key(0), jnp.zeros((2, *shape, 3)), T, jnp.zeros(2, int))


ADM = {"features_out": 6, "attention": (32, 16, 8)}
DDPM = {"features_out": 3, "width": 128, "multipliers": (1, 2, 2, 2), "depth": 2, "attention": (16,), "head_width": 0}
DDPM |= {"heads": 1, "scale_shift": False, "resblock_updown": False}
PUBLISHED = {  # counted in openai/guided-diffusion: 296M, 422M and 554M; and 35.7M in Ho et al. 2020
    "adm 64": (295_904_454, 64, {"width": 192, "multipliers": (1, 2, 3, 4), "depth": 3, "classes": 1000} | ADM),
    "adm 128": (421_529_606, 128, {"width": 256, "multipliers": (1, 1, 2, 3, 4), "depth": 2, "classes": 1000} | ADM),
    "adm 256": (553_838_086, 256, {"width": 256, "multipliers": (1, 1, 2, 2, 4, 4), "depth": 2, "classes": 1000} | ADM),
    "adm 256, no labels": (552_814_086, 256, {"width": 256, "multipliers": (1, 1, 2, 2, 4, 4), "depth": 2} | ADM),
    "ddpm": (35_746_307, 32, DDPM),
}


@pytest.mark.parametrize(
    "name",
    ["adm 64", "ddpm", *(pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED if "adm" in n and "64" not in n)],
)
def test_number_of_parameters_is_the_published_one(name):
    want, side, fields = PUBLISHED[name]
    net: Any = UNet(**fields)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, side, side, 3)), jnp.zeros(1))
    null = 4 * net.width if net.classes else 0  # the reference has no null label
    assert sum(p.size for p in jax.tree.leaves(shapes)) == want + null


@pytest.mark.parametrize(("channels", "groups"), [(7, 7), (35, 7), (48, 24), (64, 32), (37, 1)])
def test_group_norm_near_a_large_mean(channels, groups):
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(2, 5, 3, channels)) + 1e3).astype(np.float32)
    x[:, 0] += 500  # the first row is far from the rest
    scale, bias = draw.normal(size=(2, channels)).astype(np.float32)
    factor, shift = draw.normal(size=(2, 2, channels)).astype(np.float32)
    parts = np.float64(x).reshape(2, 15, groups, -1)  # [b h*w groups c/groups]
    mean, var = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    want = ((parts - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias
    params = {"params": {"scale": scale, "bias": bias}}
    norm: Any = GroupNorm()
    plain, moved = jax.jit(lambda x: (norm.apply(params, x), norm.apply(params, x, factor, shift)))(x)
    np.testing.assert_allclose(plain, want, atol=2e-5)
    want = want * (1 + factor[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(moved, want, atol=1e-4)
    assert jax.eval_shape(norm.apply, params, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_group_norm_derivatives_are_exact():
    """First and second derivatives equal those of the plain formula, despite the stop_gradient."""
    draw = np.random.default_rng(0)
    x, v, w = draw.normal(size=(3, 2, 3, 2, 34)).astype(np.float32)

    def plain(x: jax.Array) -> jax.Array:
        parts = x.reshape(2, 6, 17, 2)
        y = parts - parts.mean((1, 3), keepdims=True)
        return (y / jnp.sqrt((y**2).mean((1, 3), keepdims=True) + 1e-5)).reshape(x.shape)

    def ours(x: jax.Array) -> jax.Array:
        found: Any = GroupNorm().apply({"params": {"scale": jnp.ones(34), "bias": jnp.zeros(34)}}, x)
        return found

    def slopes(f: Any) -> Any:
        slope = lambda x: jax.grad(lambda x: (f(x) ** 3 * w).sum())(x)  # noqa: E731
        return jax.jit(lambda x: (slope(x), *jax.jvp(slope, (x,), (v,)), jax.jvp(f, (x,), (v,))[1]))(x)

    for found, want in zip(slopes(ours), slopes(plain), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoid(width):
    t = np.asarray([0, 1, 999.5])
    angles = t[:, None] * 10_000.0 ** (-np.arange(width // 2)[None] / (width // 2))
    want = np.concatenate([np.cos(angles), np.sin(angles), np.zeros((3, width % 2))], 1)
    np.testing.assert_allclose(sinusoid(jnp.asarray(t, jnp.float32), width), want, atol=1e-4)  # f32 angles up to 1000
