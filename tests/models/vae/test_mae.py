"""The masked autoencoder: layers, masking, inputs of the encoder, loss and predictions."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats
from sklearn.datasets import load_digits

from jaxgen import zoo
from jaxgen.commands.generate import generate
from jaxgen.commands.parse import parse
from jaxgen.commands.reconstruct import reconstruct
from jaxgen.commands.traverse import traverse
from jaxgen.core.config import Compute, Optim
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context
from jaxgen.models.vae.mae import MAE, decay_mask
from jaxgen.nn.transformer import Layer, from_patches, sin_cos_positions, stack_layers, to_patches
from jaxgen.runs.task_transforms import tune
from jaxgen.training import loop
from tests.helpers.untrained import drawn, untrained

SMALL: MAE = zoo.load("mae").tiny.model  # 8x8x1 in patches of 2x2: 16, of which 4 are visible
WIDE = MAE((6, 8, 3), 2, 16, 2, 2, 8, 1, 2, mask=0.5)  # 12 patches, of which 6 are visible
NORMALISED = pytest.param(replace(WIDE, norm_pixels=True), marks=pytest.mark.slow)
BOTH = pytest.mark.parametrize("model", [WIDE, NORMALISED], ids=["pixels", "normalised"])
CONTEXT = Context({}, {}, {}, jnp.int32(0))


@cache
def jitted(model: MAE, name: str):
    return jax.jit(getattr(model, name))


def random_images(model: MAE, count: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, *model.image)), jnp.float32)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


@cache
def params_of(model: MAE) -> Any:
    """Return parameters that differ from their initial values."""
    params = drawn(jax.eval_shape(model.init, jax.random.key(0))[0])
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + jnp.asarray(draw.normal(0, 0.1, x.shape), jnp.float32), params)


def cut(x: Any, p: int) -> np.ndarray:
    """Return the patches, each by its own slice."""
    x, starts = np.asarray(x), range(0, 100, p)
    places = [(i, j) for i in starts[: x.shape[1] // p] for j in starts[: x.shape[2] // p]]
    return np.stack([x[:, i : i + p, j : j + p].reshape(len(x), -1) for i, j in places], 1)  # [b n p*p*c]


# ---- the layers


def test_patches_are_in_row_order_and_can_be_inverted():
    x = random_images(WIDE, 3)
    np.testing.assert_array_equal(to_patches(x, 2), cut(x, 2))
    np.testing.assert_array_equal(from_patches(to_patches(x, 2), 2, 3), x)


@pytest.mark.parametrize("rows, columns, width", [(3, 5, 16), (1, 4, 4), (14, 14, 768)])
def test_positions_are_sines_and_cosines(rows, columns, width):
    found = sin_cos_positions(rows, columns, width)
    assert found.shape == (rows * columns, width) and found.dtype == np.float32
    for place in {0, columns - 1, rows * columns // 2, rows * columns - 1}:
        y, x = place // columns, place % columns
        for i in {0, width // 8, width // 4 - 1}:
            slow = 10000 ** (-4 * i / width)
            want = [np.sin(x * slow), np.cos(x * slow), np.sin(y * slow), np.cos(y * slow)]
            np.testing.assert_allclose(found[place, i :: width // 4], want, atol=1e-6)
    assert len(np.unique(found, axis=0)) == rows * columns, "all positions are different"


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        return stack_layers(Layer(2, name="blocks"), 3, x)


def test_a_stack_equals_its_layers_in_sequence():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 32)), jnp.float32)
    params: Any = jax.jit(Stack().init)(jax.random.key(0), x)["params"]["blocks"]
    one, y = jax.jit(Layer(2).apply), x
    for i in range(3):
        y: Any = one({"params": jax.tree.map(lambda v, i=i: v[i], params)}, y)
    np.testing.assert_allclose(np.asarray(jax.jit(Stack().apply)({"params": {"blocks": params}}, x)), y, atol=1e-5)
    kernel = np.asarray(params["attn"]["qkv"]["kernel"])
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1, "each layer has its own parameters"
    assert kernel.var() == pytest.approx(2 / (32 + 96), rel=0.05)  # Glorot's scale for one layer, not for the stack


def test_the_program_does_not_grow_with_depth():
    def lines(depth: int) -> int:
        model = replace(SMALL, depth=depth, decoder_depth=depth)
        params = jax.eval_shape(model.init, jax.random.key(0))[0]
        loss = lambda params: model.loss(params, CONTEXT, {"image": random_images(model, 4)}, keys(1)[0])[0]  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("\n")

    assert lines(2) == lines(8) > 100


def test_in_bf16_stacked_norms_and_biases_stay_f32():
    seen = {}

    def loss(params, *rest):
        seen.update(params)
        return SMALL.loss(params, *rest)

    task = SMALL.task(1)
    task = replace(task, phases=(replace(task.phases[0], loss=loss),))
    task = tune(task, Optim(), Compute("bf16"), 1)
    shape = jax.eval_shape(
        task.phases[0].loss, params_of(SMALL), CONTEXT, {"image": random_images(SMALL, 2)}, keys(1)[0]
    )
    for path, x in jax.tree_util.tree_leaves_with_path(seen):
        assert x.dtype == (jnp.float32 if path[-1].key in ("bias", "scale") else jnp.bfloat16)
    assert shape[0].dtype == jnp.float32


# ---- masking


@pytest.mark.parametrize("side, mask, visible", [(32, 0.75, 16), (28, 0.75, 12), (8, 0.6, 1), (40, 0.9, 10)])
def test_the_right_number_of_patches_is_masked(side, mask, visible):
    model = MAE((side, side, 1), 4, mask=mask)
    shown, hidden = jitted(model, "split_patches")(keys(20))
    assert shown.shape == (20, visible) and hidden.shape == (20, (side // 4) ** 2 - visible)
    both = np.sort(np.concatenate([shown, hidden], 1), 1)
    np.testing.assert_array_equal(both, np.broadcast_to(np.arange(model.patch_count), both.shape))


def test_ten_patches_with_mask_0_9_leave_one():
    assert MAE((4, 40, 1), 4, mask=0.9).visible == 1  # although 10 * (1 - 0.9) < 1 in floating point


def test_the_mask_is_uniform_and_different_for_each_sample():
    split = jitted(SMALL, "split_patches")
    shown = np.asarray(split(keys(8000))[0])  # [8000 4] of 16
    assert stats.chisquare(np.bincount(shown.ravel(), minlength=16)).pvalue > 1e-3
    pairs = np.zeros((16, 16))
    np.add.at(pairs, (shown[:, 0], shown[:, 1]), 1)
    assert stats.chisquare(pairs[~np.eye(16, dtype=bool)]).pvalue > 1e-3 and not pairs.diagonal().any()
    np.testing.assert_array_equal(shown[:5], np.asarray(split(keys(8000)[:5])[0]))


@BOTH
def test_the_encoder_does_not_see_masked_pixels(model):
    params, x = params_of(model), random_images(model, 4)
    shown, hidden = jitted(model, "split_patches")(keys(4))
    tokens = jitted(model, "tokens")
    other = random_images(model, 8)[4:]
    rows, patches = np.arange(4)[:, None], to_patches(x, 2)
    mixed = patches.at[rows, hidden].set(to_patches(other, 2)[rows, hidden])
    np.testing.assert_array_equal(tokens(params, patches, shown), tokens(params, mixed, shown))
    slope = np.asarray(jax.jit(jax.grad(lambda patches: (tokens(params, patches, shown) ** 3).sum()))(patches))
    assert not slope[rows, hidden].any() and slope[rows, shown].all()


def test_tokens_do_not_depend_on_the_order_of_the_patches():
    params, patches = params_of(WIDE), to_patches(random_images(WIDE, 4), 2)
    shown, _ = jitted(WIDE, "split_patches")(keys(4))
    there, back = (jitted(WIDE, "tokens")(params, patches, places) for places in (shown, shown[:, ::-1]))
    np.testing.assert_allclose(there[:, 0], back[:, 0], atol=1e-5)
    np.testing.assert_allclose(there[:, 1:], back[:, :0:-1], atol=1e-5)
    predicted = [jitted(WIDE, "decode_patches")(params, *both) for both in ((there, shown), (back, shown[:, ::-1]))]
    np.testing.assert_allclose(*predicted, atol=1e-5)


# ---- loss and predictions


def predicted(model: MAE, x: jax.Array, keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the decoder's prediction of every patch, and which patches are masked, bool[b n]."""
    params, (shown, hidden) = params_of(model), jitted(model, "split_patches")(keys)
    mask = np.zeros((len(x), model.patch_count), bool)
    for row, places in zip(mask, np.asarray(hidden), strict=True):
        row[places] = True
    tokens = jitted(model, "tokens")(params, to_patches(x, model.patch), shown)
    return np.asarray(jitted(model, "decode_patches")(params, tokens, shown)), mask


def moments(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return patches.mean(-1, keepdims=True), np.sqrt(patches.var(-1, keepdims=True, ddof=1) + 1e-6)


@BOTH
def test_the_loss_is_the_error_of_the_masked_patches(model):
    x = random_images(model, 4).at[0, :4].set(0.3)  # some patches are flat
    out, hidden = predicted(model, x, keys(4))
    true = cut(x, 2).astype(np.float64)
    mean, deviation = moments(true)
    wanted, shown, name = true, out, "masked_squared_error"
    if model.norm_pixels:
        wanted, shown, name = (true - mean) / deviation, out * deviation + mean, "masked_squared_error_rescaled"
    value, aux = jitted(model, "loss")(params_of(model), CONTEXT, {"image": x}, jax.random.key(0))
    assert float(value) == pytest.approx(((out - wanted)[hidden] ** 2).mean(), rel=1e-4)
    assert list(aux.metrics) == [name]
    assert float(aux.metrics[name]) == pytest.approx(((shown - true)[hidden] ** 2).mean(), rel=1e-4)


@BOTH
def test_generate_predicts_the_masked_patches_and_keeps_the_others(model):
    params, x = params_of(model), random_images(model, 4)
    out, hidden = predicted(model, x, keys(4))
    image = jitted(model, "generate")(params, CONTEXT, keys(4), {"image": x})["image"]
    true = cut(x, 2)
    mean, deviation = moments(true)
    want = out * deviation + mean if model.norm_pixels else out
    np.testing.assert_array_equal(cut(image, 2)[~hidden], true[~hidden])
    np.testing.assert_allclose(cut(image, 2)[hidden], np.clip(want, -1, 1)[hidden], atol=1e-5)


def test_predictions_do_not_depend_on_the_masked_pixels():
    params, x = params_of(WIDE), random_images(WIDE, 4)
    shown, _ = jitted(WIDE, "split_patches")(keys(4))
    first = jitted(WIDE, "generate")(params, CONTEXT, keys(4), {"image": x})["image"]
    kept = np.zeros((4, 12, 12), np.float32)
    np.put_along_axis(
        kept, np.asarray(shown)[..., None], np.take_along_axis(cut(x, 2), np.asarray(shown)[..., None], 1), 1
    )
    again = jitted(WIDE, "generate")(params, CONTEXT, keys(4), {"image": from_patches(jnp.asarray(kept), 2, 3)})[
        "image"
    ]
    np.testing.assert_array_equal(first, again)


@BOTH
def test_encode_returns_the_tokens_of_all_patches(model):
    params, x = params_of(model), random_images(model, 3)
    code = jitted(model, "encode")(params, CONTEXT, {"image": x})
    assert code.shape == (3, 13, 16) and code.dtype == jnp.float32
    backwards = jnp.broadcast_to(jnp.arange(12)[None, ::-1], (3, 12))
    tokens = jitted(model, "tokens")(params, to_patches(x, 2), backwards)
    np.testing.assert_allclose(code[:, 0], tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(code[:, 1:], tokens[:, :0:-1], atol=1e-5)


@pytest.mark.parametrize(
    "image, patch",
    [((9, 12, 2), 3), *(pytest.param(*size, marks=pytest.mark.slow) for size in [((8, 4, 4), 4), ((10, 10, 1), 1)])],
)
def test_it_runs_at_other_sizes(image, patch):
    model = replace(SMALL, image=image, patch=patch, mask=0.5)
    model.check()
    params, x = params_of(model), random_images(model, 3)

    @jax.jit
    def run(keys):
        loss, _ = model.loss(params, CONTEXT, {"image": x}, keys[0])
        return loss, model.generate(params, CONTEXT, keys, {"image": x})["image"]

    loss, made = run(keys(3))
    assert np.isfinite(loss) and made.shape == x.shape


# ---- training


def test_weight_decay_and_the_decays_of_the_moments():
    names = {
        str(path[-1].key): bool(x) for path, x in jax.tree_util.tree_leaves_with_path(decay_mask(params_of(SMALL)))
    }
    assert names == {"kernel": True, "cls_token": True, "mask_token": True, "scale": False, "bias": False}
    params: Any = params_of(SMALL)
    adamw = SMALL.task(1).learners["mae"].optimizer
    gradient = jax.tree.map(jnp.ones_like, params)
    found: Any = jax.jit(adamw.update)(gradient, adamw.init(params), params)
    updates, moments = found
    assert float(moments[0].nu["decoder"]["mask_token"][0, 0, 0]) == pytest.approx(0.05, rel=1e-4)
    for net, decay in (("mask_token", 0.05), ("decoder_pred", 0.05)):
        x = params["decoder"][net]
        x, update = (
            (x["kernel"], updates["decoder"][net]["kernel"]) if net == "decoder_pred" else (x, updates["decoder"][net])
        )
        np.testing.assert_allclose(update, -1e-3 * (1 + decay * x), rtol=1e-4)


@pytest.mark.slow
def test_it_predicts_digits_better_than_their_mean():
    found: Any = load_digits()
    images = (found.images / 8 - 1).astype(np.float32)[..., None]  # [1797 8 8 1]
    train, test = jnp.asarray(images[:1500]), jnp.asarray(images[1500:])
    small = {"width": 32, "depth": 1, "heads": 4, "decoder_width": 32, "decoder_heads": 4}
    model = replace(SMALL, mask=0.5, learning_rate=6e-3, **small)
    task = model.task(1)
    step = make_step(task)

    @jax.jit
    def run(state):
        def body(state, i):
            rows = jax.random.randint(jax.random.fold_in(jax.random.key(1), i), (64,), 0, len(train))
            return step(state, {"image": train[rows]}, {})[0], None

        return jax.lax.scan(body, state, jnp.arange(800))[0]

    state = run(jax.jit(lambda: init_state(task, jax.random.key(0), {"image": train}))())
    key = jax.random.key(2)
    error = float(jitted(model, "loss")(state.params, CONTEXT, {"image": test}, key)[0])
    _, hidden = model.split_patches(jax.random.split(key, len(test)))
    mean = np.broadcast_to(train.mean(0), test.shape)  # the mean digit, not one grey value
    difference = (cut(test, 2) - cut(mean, 2)) ** 2
    baseline = np.take_along_axis(difference, np.asarray(hidden)[..., None], 1).mean()
    assert error < 0.9 * baseline, (error, baseline)


# ---- errors


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"patch": 3}, "model.patch=3 must divide both sides of a 8x8 image"),
        ({"mask": 0.95}, "model.mask=0.95 must mask at least one of the 16 patches, but not all of them"),
        ({"mask": 0.0}, "model.mask=0.0 must mask"),
        ({"mask": 1.5}, "model.mask=1.5 must mask"),
        ({"mask": float("nan")}, "model.mask=nan"),
        ({"heads": 3}, "model.width=16 must be a multiple of 4 and of model.heads=3"),
        ({"decoder_heads": 3}, "model.decoder_width=8 must be a multiple of 4 and of model.decoder_heads=3"),
        ({"width": 18}, "model.width=18 must be a multiple of 4"),
        ({"depth": 0}, "model.depth must be at least 1"),
        ({"patch": 1, "norm_pixels": True}, "patches of more than one number"),
    ],
)
def test_wrong_settings_raise(changes, words):
    with pytest.raises(InputError, match=words):
        replace(SMALL, **changes).task(1)


# ---- previews


@pytest.mark.slow
def test_training_writes_the_predictions(tmp_path: Path):
    folder = tmp_path / "run"
    loop.fit(parse("vae", ["--preset", "mae", "--tiny", "--mesh.data", "1", "--out", str(folder)]).run)
    assert (folder / "samples" / "000020.png").exists()


def test_commands_predict_and_refuse(tmp_path: Path):
    folder = untrained(tmp_path / "run", "vae", "mae")
    generate(str(folder), count=5, out=tmp_path / "g.npz")
    assert np.load(tmp_path / "g.npz")["image"].shape == (5, 8, 8, 1)
    with pytest.raises(InputError, match="can't reconstruct"):
        reconstruct(folder, tmp_path / "r.png")
    with pytest.raises(InputError, match="no latent vector"):
        traverse(folder, tmp_path / "t.png")
