"""WaveNets: what each sample depends on, queues beside the whole net, likelihoods, spectrograms as conditioning."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core import rng
from jaxgen.core.capabilities import Autoregressive, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.models.audio.vocoder import WaveNetVocoder
from jaxgen.models.audio.wavenet import BLOCK, WaveNet
from jaxgen.nn import mu_law
from jaxgen.nn.spectrogram import Mel
from tests.helpers.untrained import drawn_state

NOTHING = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))
SIZES: dict[str, Any] = {"length": 24, "dilations": (1, 2, 4), "width": 6, "gates": 5, "skip": 7}
MODELS: dict[str, Any] = {
    "levels": WaveNet(**SIZES, classes=3),
    "logistics": WaveNetVocoder(**SIZES, kernel=3, output="logistics", components=2, mel=Mel(8, 4, 2)),
}


def variables(model):
    """Return parameters of which none is 0."""
    draw = np.random.default_rng(1)
    params = drawn_state(model.task(1), 2).params
    return jax.tree.map(lambda x: x + 0.2 * draw.normal(size=x.shape).astype(np.float32), params)


def given(model, count: int) -> dict[str, Any]:
    draw = np.random.default_rng(2)
    label = {"label": jnp.arange(count) % model.classes} if model.classes else {}
    sound = draw.uniform(-0.5, 0.5, (count, model.length, 1)).astype(np.float32)
    return label | ({"audio": jnp.asarray(sound)} if model.hop else {})


@pytest.mark.parametrize("name", MODELS)
def test_steps_with_queues_equal_the_whole_net(name):
    """Sample by sample, under jit: the logits of sounds that the steps drew, and the draws themselves."""
    model = MODELS[name]
    task, count = model.task(1), 3
    params, steps, keys = variables(model), task.get(Autoregressive), jax.random.split(jax.random.key(0), count)
    conditions = given(model, count)
    draw = jax.jit(lambda keys, inputs: task.get(Transform).apply(params, NOTHING, inputs, keys)["audio"])
    sounds = draw(keys, conditions)
    levels = mu_law.to_levels(sounds[..., 0])

    @jax.jit
    def stepped():
        def one(cache, inputs):
            logits, cache = steps.step(params, NOTHING, cache, *inputs)
            return cache, logits

        before = jnp.concatenate([jnp.full((1, count), -1), levels.T[:-1]])
        start = steps.init_cache(params, NOTHING, conditions, count)
        return jax.lax.scan(one, start, (before, jnp.arange(steps.length)))[1].swapaxes(0, 1)

    @jax.jit
    def whole():
        logits = model.logits(params, levels, conditions)
        own = lambda key, i: rng.fold(jax.random.fold_in(key, i), "token")  # noqa: E731
        all_keys = jax.vmap(jax.vmap(own, (None, 0)), (0, None))(keys, jnp.arange(steps.length))
        drawn = jax.vmap(jax.vmap(jax.random.categorical))(all_keys, logits)
        batch = conditions | {"audio": sounds}
        by_logits = jax.nn.log_softmax(model.logits(params, levels, batch))
        return logits, drawn, model.log_prob(params, NOTHING, batch), by_logits

    logits, drawn, log_p, by_logits = whole()
    assert float(jnp.abs(logits).max()) > 0.05
    np.testing.assert_allclose(stepped(), logits, atol=1e-5)
    np.testing.assert_array_equal(drawn, levels)
    own = np.take_along_axis(np.asarray(by_logits), np.asarray(levels)[..., None], -1)
    np.testing.assert_allclose(log_p, own.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(by_logits).sum(-1), 1, rtol=1e-5)
    one = {name: x[1:2] for name, x in conditions.items()}
    np.testing.assert_array_equal(draw(keys[1:2], one), sounds[1:2])


def test_the_receptive_field_is_that_of_the_paper():
    """A block of dilations 1 to 512 has 1,024 (section 2.1); the first convolution adds a sample."""
    assert WaveNet(dilations=BLOCK).receptive_field == 1024 + 1
    model = replace(MODELS["levels"], length=14, classes=0)
    assert model.receptive_field == 1 + 2 + 4 + 2
    params = variables(model)
    levels = np.full((15, 14), 128)
    levels[np.arange(14), np.arange(14)] = 7  # sound i differs from the last one at sample i
    logits = jax.jit(lambda levels: model.logits(params, levels, {}))(levels)
    seen = (
        np.abs(np.asarray(logits)[:14] - np.asarray(logits)[14]).max(-1) > 0
    )  # [sample that differs, sample that sees it]
    before = np.arange(14)[:, None], np.arange(14)[None]
    np.testing.assert_array_equal(seen, (before[1] > before[0]) & (before[1] - before[0] <= 9))


def test_queues_and_the_cost_of_a_sample_do_not_grow_with_the_length():
    costs, sizes = [], []
    for length in (24, 2400):
        model = replace(MODELS["levels"], length=length)
        steps, params = model.task(1).get(Autoregressive), variables(model)
        cache = steps.init_cache(params, NOTHING, given(model, 2), 2)
        sizes.append(jax.tree.map(lambda x: x.shape, cache))
        step = jax.jit(lambda cache, token, i, p=params, s=steps: s.step(p, NOTHING, cache, token, i))
        found: Any = step.lower(cache, jnp.zeros(2, jnp.int32), jnp.int32(0)).compile().cost_analysis()
        costs.append(found["flops"])
    assert sizes[0] == sizes[1] and costs[0] == costs[1]


def test_the_number_of_parameters_is_that_of_the_layers():
    """Of the paper's set-up, three blocks of 1 to 512 with kernels of 2, counted layer by layer."""
    layers, width, gates, skip, levels = 30, 64, 64, 256, 256
    first = 2 * levels * width + width
    gated = layers * (2 * width * 2 * gates + 2 * gates)
    residual = (layers - 1) * (gates * width + width)
    last = layers * gates * skip + skip + skip * skip + skip + skip * levels + levels
    assert zoo.load("wavenet").parameters == first + gated + residual + last


def test_mu_law_levels_are_those_of_the_formula():
    sounds = np.linspace(-1, 1, 2001)
    levels = np.asarray(mu_law.to_levels(jnp.asarray(sounds, jnp.float32)))
    formula = np.sign(sounds) * np.log(1 + 255 * np.abs(sounds)) / np.log(256)
    assert levels.min() == 0 and levels.max() == 255 and np.abs(levels - (formula + 1) * 127.5).max() <= 0.501
    np.testing.assert_array_equal(mu_law.to_levels(mu_law.from_levels(jnp.arange(256))), np.arange(256))
    assert float(mu_law.values(jnp.int32(-1))) == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dilations": ()}, "model.dilations is empty"),
        ({"kernel": 1}, "model.kernel"),
        ({"length": 25}, "must be a multiple of model.mel.hop=4"),
        ({"mel": Mel(8, 5, 2)}, "at most half"),
        ({"mel": Mel(8, 4, 3)}, "more than a window of 8 samples resolves"),
    ],
)
def test_a_mistake_gives_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(MODELS["logistics"], **settings).task(1)
