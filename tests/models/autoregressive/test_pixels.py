"""Models of pixels: what each pixel depends on, cached steps beside the whole net, published weights, mistakes."""

import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core import rng
from jaxgen.core.capabilities import Autoregressive, Density, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.data.idx import read as read_idx
from jaxgen.interop.read import read
from jaxgen.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from jaxgen.models.autoregressive.made import MADE
from jaxgen.models.autoregressive.pixelcnn import PixelCNN
from jaxgen.models.autoregressive.pixelcnn_plus import PixelCNNPlus
from tests.helpers.untrained import drawn_state

NOTHING = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))
COLOUR = (4, 5, 3)
MODELS: dict[str, Any] = {
    "pixelcnn": PixelCNN(COLOUR, levels=4, width=12, blocks=2, head=12),
    "gated": GatedPixelCNN(COLOUR, levels=4, width=12, first=3, kernel=3, dilations=(1, 2), head=12, classes=3),
    "dilated": GatedPixelCNN((8, 8, 1), levels=4, width=8, first=3, kernel=3, dilations=(1, 2, 4), head=0),
    "plus": PixelCNNPlus((4, 4, 3), width=4, blocks=1, scales=2, components=2),
    "made": MADE((4, 4, 1), hidden=(90, 90)),
}
LARGE = pytest.param("plus", marks=pytest.mark.slow)


def given(model, count: int) -> dict[str, Any]:
    return {"label": jnp.arange(count) % model.classes} if model.classes else {}


@pytest.mark.parametrize("name", ["pixelcnn", "gated", "dilated", LARGE, "made"])
def test_steps_equal_the_whole_net(name):
    """Pixel by pixel, under jit: the logits of images that the steps drew, and the draws themselves."""
    model = MODELS[name]
    task = model.task(1)
    params, steps, keys = variables(model), task.get(Autoregressive), jax.random.split(jax.random.key(0), 3)
    draw = jax.jit(lambda keys, label: task.get(Transform).apply(params, NOTHING, label, keys)["image"])
    images = draw(keys, given(model, 3))
    tokens = model.tokens(images).reshape(3, -1)  # [b n]

    @jax.jit
    def stepped():
        def one(cache, inputs):
            logits, cache = steps.step(params, NOTHING, cache, *inputs)
            return cache, logits

        before = jnp.concatenate([jnp.full((1, 3), -1), tokens.T[:-1]])
        start = steps.init_cache(params, NOTHING, given(model, 3), 3)
        return jax.lax.scan(one, start, (before, jnp.arange(steps.length)))[1].swapaxes(0, 1)

    @jax.jit
    def whole():
        logits = model.logits(params, images, given(model, 3).get("label")).reshape(3, steps.length, -1)
        own = lambda key, i: rng.fold(jax.random.fold_in(key, i), "token")  # noqa: E731
        all_keys = jax.vmap(jax.vmap(own, (None, 0)), (0, None))(keys, jnp.arange(steps.length))
        return logits, jax.vmap(jax.vmap(jax.random.categorical))(all_keys, logits)

    logits, drawn = whole()
    assert float(jnp.abs(logits).max()) > 0.05
    np.testing.assert_allclose(stepped(), logits, atol=2e-6)
    np.testing.assert_array_equal(drawn, tokens)
    np.testing.assert_array_equal(draw(keys[1:2], {k: v[1:2] for k, v in given(model, 3).items()}), images[1:2])


def variables(model):
    """Return parameters of which none is 0."""
    draw = np.random.default_rng(1)
    params = drawn_state(model.task(1), 2).params
    return jax.tree.map(lambda x: x + 0.1 * draw.normal(size=x.shape).astype(np.float32), params)


def dependencies(model) -> np.ndarray:
    """Return whether each level's logits depend on each value of the image, bool[n n], by gradients at eight images."""
    params, draw = variables(model), np.random.default_rng(0)
    images = draw.uniform(-1, 1, (8, *model.image)).astype(np.float32)
    weights = draw.normal(size=model.levels).astype(np.float32)

    def outputs(x):
        label = jnp.zeros(1, jnp.int32) if model.classes else None
        return (model.logits(params, x[None], label) @ weights).reshape(-1)

    jacobians = jax.jit(jax.vmap(jax.jacfwd(outputs)))(images)
    return np.asarray(jnp.abs(jacobians).max(0) > 0).reshape(-1, images[0].size)


@pytest.mark.parametrize("name", ["gated", "dilated", LARGE, "made"])
def test_a_level_depends_on_exactly_the_levels_before_it(name):
    found = dependencies(MODELS[name])
    np.testing.assert_array_equal(found, np.tri(len(found), k=-1, dtype=bool))


def test_the_masked_net_has_its_blind_spot():
    """By hand: paths of one step of the 7x7 kernel, then of steps of the 3x3 kernels, inside the image."""
    model = PixelCNN((8, 8, 1), levels=4, width=8, blocks=2, head=8)

    def sees(half: int, own: bool) -> np.ndarray:
        rows, columns = np.divmod(np.arange(64), 8)
        down, right = rows[None] - rows[:, None], columns[None] - columns[:, None]  # [pixel, pixel that it sees]
        before = (down < 0) | ((down == 0) & ((right < 0) | (own & (right == 0))))
        return (np.abs(down) <= half) & (np.abs(right) <= half) & before

    block = sees(1, True)
    reached = block.astype(int) @ block @ sees(3, False) > 0
    np.testing.assert_array_equal(dependencies(model), reached)
    assert reached.sum() < 64 * 63 // 2, "some pixels before a pixel are never seen"


def test_made_sums_to_one():
    """Over all black and white images of 2x4 pixels."""
    model = MADE((2, 4, 1), hidden=(9, 9))
    images = 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1).reshape(-1, 2, 4, 1) - 1.0
    task = model.task(1)
    log_p = task.get(Density).log_prob(drawn_state(task, 2).params, NOTHING, {"image": images}, None)
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1, abs=1e-5)


def test_mistakes():
    gated = zoo.load("pixelcnn-gated").run
    for changes, sentence in (
        ({"kernel": 4}, "model.kernel=4 must be odd"),
        ({"dilations": ()}, "model.dilations is empty"),
        ({"image": (8, 8, 3), "width": 16}, "model.width=16 must be a multiple of the image's 3 channels"),
        ({"levels": 257}, "model.levels must be from 2 to 256, not 257"),
    ):
        with pytest.raises(InputError, match=sentence):
            replace(gated.model, **changes).task(1)
    black = replace(gated, data=replace(gated.data, binarise="fixed"))
    for run, sentence in ((black, "give --model.levels 2"), (zoo.load("made").run, "give --data.binarise fixed")):
        with pytest.raises(InputError, match=sentence):
            run.model.check_run(replace(run, data=replace(run.data, binarise="none")) if run is not black else run)
    assert replace(gated.model, levels=16).task(1).find(Density) is None


def second_computation(path, images: np.ndarray) -> np.ndarray:
    """Return log2 P of u8[b h w], by the published net written a second time, with XLA's own convolution."""
    weights = {name.removeprefix("params."): x for name, x in read(path).items()}

    def conv(name, x, mask=None, dilation=1):
        kernel = jnp.asarray(weights[f"{name}.kernel"])
        kernel = kernel if mask is None else kernel * jnp.asarray(mask, jnp.float32)[..., None, None]
        layout = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", rhs_dilation=(dilation,) * 2, dimension_numbers=layout
        )
        return y + weights[f"{name}.bias"][None, None, None]

    gate = lambda x: jnp.tanh(x[..., :64]) * jax.nn.sigmoid(x[..., 64:])  # noqa: E731
    x = jnp.asarray(images[..., None], jnp.float32) / 255 * 2 - 1
    v = conv("conv_vstack.conv.Conv_0", x, [[1, 1, 1], [0, 0, 0], [0, 0, 0]])
    h = conv("conv_hstack.conv.Conv_0", x, [[1, 0, 0]])
    for i, dilation in enumerate((1, 2, 1, 4, 1, 2, 1)):
        layer = f"conv_layers_{i}"
        found = conv(f"{layer}.VerticalStackConvolution_0.conv.Conv_0", v, [[1, 1, 1], [1, 1, 1], [0, 0, 0]], dilation)
        left = conv(f"{layer}.HorizontalStackConvolution_0.conv.Conv_0", h, [[1, 1, 0]], dilation)
        h = h + conv(f"{layer}.Conv_1", gate(left + conv(f"{layer}.Conv_0", found)))
        v = gate(found)
    log_p = jax.nn.log_softmax(conv("conv_out", jax.nn.elu(h)))
    return jnp.take_along_axis(log_p, jnp.int32(images)[..., None], -1).sum((1, 2, 3)) / np.log(2)


@pytest.mark.slow
def test_the_published_weights(real_data, tmp_path, cli):
    """Imported and scored by the commands, on the first 64 test digits, beside the net written a second time."""
    file, digits = real_data / "weights" / "pixelcnn_mnist" / "PixelCNN.ckpt", tmp_path / "digits.npz"
    images = read_idx(real_data / "mnist" / "t10k-images-idx3-ubyte.gz", 3)[:64]
    np.savez(digits, images=images)
    source = "--data.source", f"npz:{digits}", "--batch", "32"
    run = tmp_path / "run"
    assert "852,160" in cli(0, "import", file, "--model", "pixelcnn-dilated", "--out", run, *source)
    cli(0, "evaluate", run, "--metrics", "bpd_1", "--split", "train")
    found = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    expected = -np.asarray(jax.jit(lambda x: second_computation(file, x))(images)).mean() / 784
    assert found["value"] == pytest.approx(expected, rel=1e-5)
    assert 0.75 < expected < 0.9, "published: 0.820 bits per dimension on all 10,000"
