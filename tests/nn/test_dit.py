"""DiT and U-ViT: initial outputs, dependence on inputs, shapes of images, errors, one scanned program."""

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.nn.backbones import dit, uvit
from jaxgen.nn.backbones.dit import DiT
from jaxgen.nn.backbones.uvit import UViT
from jaxgen.nn.transformer import Layer, scan_layers, stack_layers

NETS = {
    "dit": DiT(5, 2, 16, 2, 4, classes=3),
    "dit-plain": DiT(5, 2, 16, 2, 4),
    "uvit": UViT(5, 2, 16, 5, 4, classes=3),
    "uvit-plain": UViT(5, 2, 16, 3, 4, conv=False),
}
EACH = pytest.mark.parametrize("name", NETS)
FIRST = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "plain" in n else n for n in NETS])
LABELLED = pytest.mark.parametrize("name", ["dit", "uvit"])
T = jnp.array([3, 500], jnp.float32)


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


X = draw(2, 4, 6, 3)


def drawn(net: nn.Module, *inputs: Any, **more: Any) -> Any:
    """Return parameters that depend on their names and shapes, and all differ from their initial values."""

    def of(path: Any, x: Any) -> jax.Array:
        random = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        size = x.shape[-2] ** -0.5 if path[-1].key == "kernel" else 0.1
        return jnp.asarray(random.normal(path[-1].key == "scale", size, x.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(of, jax.eval_shape(net.init, jax.random.key(0), *inputs, **more))


@cache
def params_of(name: str, second: bool = False) -> Any:
    return drawn(NETS[name], X, T, second=T if second else None)


@cache
def jitted(name: str):
    return jax.jit(NETS[name].apply)


def output(name: str, *inputs: Any, params: Any = None, **more: Any) -> np.ndarray:
    return np.asarray(jitted(name)(params or params_of(name), *inputs, **more))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the largest difference of each image."""
    return np.abs(a - b).max((1, 2, 3))


class Rolled(nn.Module):
    """A module that applies `body` to a layer and x."""

    body: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> Any:
        return self.body(Layer(2, name="blocks"), x)


# ---- outputs


@pytest.mark.slow
@EACH
def test_initial_output_of_a_dit_is_0_and_of_a_uvit_is_not(name):
    out, _ = jax.jit(NETS[name].init_with_output)(jax.random.key(0), X, T)
    assert out.shape == (2, 4, 6, 5) and out.dtype == jnp.float32
    assert (np.abs(out).max() == 0) == ("dit" in name)


@FIRST
def test_an_output_depends_on_its_own_inputs_only(name):
    both = output(name, X, T)
    np.testing.assert_allclose(both[1], output(name, X.at[0].set(1.0), T.at[0].set(40.0))[1], atol=1e-5)
    assert apart(both, output(name, X, T[::-1])).min() > 1e-3  # the time matters
    moved = output(name, X.at[0, 0, 0].add(1.0), T)
    assert np.array_equal(moved[1], both[1])
    assert np.abs(moved[0] - both[0])[2:, 2:].max() > 1e-4  # attention covers the whole image


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), pytest.param((2, 12), marks=pytest.mark.slow)])
def test_a_dit_takes_images_of_any_shape_and_encodes_positions(shape):
    x = jnp.ones((2, *shape, 3))
    out = output("dit", x, T)
    assert out.shape == (2, *shape, 5)
    patches = out.reshape(2, shape[0] // 2, 2, shape[1] // 2, 2, 5).swapaxes(2, 3)
    first = np.abs(patches - patches[:, :1, :1]).max((0, 3, 4, 5))  # distance of each patch from the first
    assert (first.ravel()[1:] > 1e-4).all()


@LABELLED
def test_labels_matter_and_a_missing_label_is_the_null_label(name):
    out = [output(name, X, T, jnp.full(2, label)) for label in range(4)]
    for i in range(4):
        assert all(apart(out[i], out[j]).min() > 1e-3 for j in range(i))
    assert np.array_equal(output(name, X, T), out[3])


@LABELLED
def test_the_second_scalar_matters_if_given_at_init(name):
    plain, more = params_of(name), params_of(name, second=True)
    surplus = set(more["params"]) - set(plain["params"])
    assert surplus == {"second_embedder"}
    out = [output(name, X, T, params=more, second=s) for s in (T, T + 7)]
    assert apart(*out).min() > 1e-3
    jax.tree.map(
        np.testing.assert_array_equal,
        {**more["params"], "second_embedder": 0},
        {**plain["params"], "second_embedder": 0},
    )
    assert apart(out[0], output(name, X, T)).min() > 1e-3


@FIRST
@pytest.mark.parametrize(
    "spared", [pytest.param((), marks=pytest.mark.slow), ("bias", "scale")], ids=["all", "kernels"]
)
def test_half_precision(name, spared):
    cast = lambda path, x: x if path[-1].key in spared else x.astype(jnp.bfloat16)  # noqa: E731
    half = jax.tree_util.tree_map_with_path(cast, params_of(name))
    out, want = output(name, X, T, params=half), output(name, X, T)
    assert out.dtype == np.float32
    assert 0 < np.abs(out - want).max() < 0.05 * np.abs(want).max()
    program = equations(jax.make_jaxpr(jitted(name))(half, X, T).jaxpr)
    products = [v for e in program if e.primitive.name in ("dot_general", "conv") for v in e.invars]
    between = [v for e in program if e.primitive.name == "scan" for v in e.outvars]  # values passed between layers
    assert {v.aval.dtype for v in products} == {v.aval.dtype for v in between} == {jnp.dtype("bfloat16")}


# ---- errors


@EACH
@pytest.mark.parametrize(
    "shape, change, words",
    [
        ((5, 4), {}, "Patches of 2x2 don't tile a 5x4 image."),
        ((4, 5), {}, "Patches of 2x2 don't tile a 4x5 image."),
        ((4, 4), {"width": 18, "heads": 3}, "multiple of 4 and of its 3 heads, not 18"),
        ((4, 4), {"heads": 3}, "multiple of 4 and of its 3 heads, not 16"),
        ((4, 4), {"depth": 0}, "depth must be at least 1, not 0"),
        ((4, 4), {"patch": 0}, "patch must be at least 1, not 0"),
    ],
)
def test_invalid_sizes_are_refused(name, shape, change, words):
    with pytest.raises(InputError, match=words):
        jax.eval_shape(NETS[name].clone(**change).init, jax.random.key(0), jnp.zeros((1, *shape, 3)), T[:1])


@pytest.mark.parametrize("depth", [1, 4])
def test_a_uvit_has_an_odd_number_of_layers(depth):
    with pytest.raises(InputError, match=f"odd number of layers, at least 3, not {depth}"):
        jax.eval_shape(UViT(3, 2, 16, depth, 4).init, jax.random.key(0), X, T)


@pytest.mark.parametrize("name", ["dit-plain", "uvit-plain"])
def test_labels_without_classes_are_refused(name):
    with pytest.raises(InputError, match="takes no labels"):
        NETS[name].apply(params_of(name), X, T, jnp.zeros(2, jnp.int32))


# ---- programs and parameters


def equations(jaxpr: Any) -> list[Any]:
    """Return all equations of a program and of its inner programs."""
    found = list(jaxpr.eqns)
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                part = getattr(part, "jaxpr", part)
                found += equations(part) if hasattr(part, "eqns") else []
    return found


@pytest.mark.parametrize("make, few, many", [(DiT, 2, 12), (UViT, 5, 13)])
def test_program_size_does_not_grow_with_depth(make, few, many):
    def count(depth: int) -> int:
        net = make(3, 2, 16, depth, 4, classes=3)
        params = jax.eval_shape(net.init, jax.random.key(0), X, T)
        return len(equations(jax.make_jaxpr(jax.grad(lambda p: net.apply(p, X, T).sum()))(params).jaxpr))

    assert count(few) == count(many) > 100


def test_scanned_layers_get_their_own_row_and_the_shared_inputs():
    x, skips = draw(2, 3, 8), draw(3, 2, 3, 8)
    net = Rolled(lambda layer, x: scan_layers(layer, 3, x, each=(skips,), keep=True))
    params = drawn(net, x)
    out, kept = jax.jit(net.apply)(params, x)
    one, want = jax.jit(Layer(2).apply), x
    for i, skip in enumerate(skips):
        weights = jax.tree.map(lambda p, i=i: p[i], params["params"]["blocks"])
        want: Any = one({"params": weights}, want, skip)
        np.testing.assert_allclose(kept[i], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out, kept[-1])
    shared = Rolled(lambda layer, x: stack_layers(layer, 3, x, skips[0]))
    same = Rolled(lambda layer, x: scan_layers(layer, 3, x, each=(skips[jnp.zeros(3, int)],))[0])
    both = jax.jit(lambda: (shared.apply(params, x), same.apply(params, x)))()
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5)


def number_of_parameters(net: Any, side: int, channels: int) -> int:
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, side, side, channels)), T[:1])
    return sum(p.size for p in jax.tree.leaves(params))


def test_published_sizes():
    found = [number_of_parameters(DiT(8, 2, classes=1000, **sizes), 32, 4) for sizes in dit.SIZES.values()]
    assert found == [32_865_056, 130_315_808, 457_840_672, 674_834_720]
    make = lambda size, *args, **more: UViT(*args, **uvit.SIZES[size], **more)  # noqa: E731
    assert number_of_parameters(make("S", 3, 2), 32, 3) == 44_255_328
    assert (
        number_of_parameters(make("M", 3, 4, classes=1000), 64, 3) == 130_940_292 + 768
    )  # the reference has no null label
    assert number_of_parameters(make("L", 4, 2, classes=1000), 32, 4) == 286_763_172
    assert number_of_parameters(make("H", 4, 2, classes=1000, conv=False), 32, 4) == 500_832_016


@pytest.mark.parametrize(
    "net, want",
    [
        (
            DiT(3, 2, 64, 2, 4, classes=200),
            {
                ("x_embedder", "kernel"): (6 / (12 + 64) / 3) ** 0.5,
                ("t_embedder", "fc1", "kernel"): 0.02,
                ("t_embedder", "fc2", "kernel"): 0.02,
                ("y_embedder", "embedding"): 0.02,
                ("blocks", "attn", "qkv", "kernel"): (6 / (64 + 192) / 3) ** 0.5,
                ("blocks", "mlp", "fc1", "kernel"): (6 / (64 + 256) / 3) ** 0.5,
                ("blocks", "adaLN_modulation_1", "kernel"): 0.0,
                ("final_layer", "adaLN_modulation_1", "kernel"): 0.0,
                ("final_layer", "linear", "kernel"): 0.0,
            },
        ),
        (
            UViT(16, 2, 64, 5, 4, classes=200),
            {
                ("patch_embed", "kernel"): (1 / 12 / 3) ** 0.5,
                ("label_emb", "embedding"): 1.0,
                ("pos_embed",): 0.02,
                ("in_blocks", "attn", "qkv", "kernel"): 0.02,
                ("out_blocks", "skip_linear", "kernel"): 0.02,
                ("decoder_pred", "kernel"): 0.02,
                ("final_layer", "kernel"): (1 / 144 / 3) ** 0.5,
            },
        ),
    ],
    ids=["dit", "uvit"],
)
def test_initial_parameters_and_output(net, want):
    found: Any = jax.jit(net.init_with_output)(jax.random.key(0), X, T)
    out, params = found[0], found[1]["params"]
    assert out.shape == (2, 4, 6, net.features_out) and (np.abs(out).max() == 0) == isinstance(net, DiT)
    for path, deviation in want.items():
        x = params
        for name in path:
            x = x[name]
        np.testing.assert_allclose(np.asarray(x).std(), deviation, rtol=0.1, err_msg=str(path))
    biases = [x for path, x in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "bias"]
    assert biases and not any(np.any(x) for x in biases)
    for name in ("blocks", "in_blocks", "out_blocks"):  # layers are initialised independently
        if name in params:
            first, second = params[name]["attn"]["qkv"]["kernel"]
            assert np.abs(first - second).max() > 0.01
