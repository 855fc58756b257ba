"""Flows: inversion both ways, log-determinants beside Jacobians, bounds in closed form, published weights."""

import json
import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from jaxgen import zoo
from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.data.idx import read as read_idx
from jaxgen.interop.read import read
from jaxgen.models.normalising_flow.glow import Glow
from jaxgen.models.normalising_flow.realnvp import RealNVP
from jaxgen.models.normalising_flow.realnvp_mnist import RealNVPMNIST

pytestmark = pytest.mark.usefixtures("plain_convolutions")
MODELS: dict[str, Any] = {
    "realnvp": RealNVP((2, 4, 1), scales=2, width=4, depth=1),
    "realnvp-mnist": RealNVPMNIST((2, 4, 1), couplings=2, width=4, noise_couplings=2, noise_width=4),
    "glow": Glow((4, 4, 2), scales=2, depth=2, width=8),
}


def context(extra: Any = {}, train: bool = False) -> Context:  # noqa: B006
    return Context(extra=extra, ema={}, frozen={}, step=jnp.int32(0), train=train)


def variables(model) -> tuple[Any, Any]:
    """Return parameters moved away from where they start, and the other variables."""
    params, extra = jax.jit(lambda: model.init(jax.random.key(0)))()
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + 0.1 * draw.normal(size=x.shape).astype(np.float32), params), extra


def log_dets(jacobians) -> np.ndarray:
    """Return log |det| of matrices [b n n], taken in f64."""
    return np.linalg.slogdet(np.asarray(jacobians, np.float64))[1]


@pytest.mark.parametrize("name", [pytest.param("realnvp", marks=pytest.mark.slow), "realnvp-mnist", "glow"])
def test_inversion_both_ways_and_log_determinants(name):
    model = MODELS[name]
    params, extra = variables(model)
    start = jax.random.normal(jax.random.key(1), (3, math.prod(model.image)))

    @jax.jit
    def run(x):
        there = lambda x: model.apply(params, extra, x.reshape(-1, *model.image))  # noqa: E731
        back = lambda z: model.apply(params, extra, z, inverse=True)  # noqa: E731
        jacobians = jax.vmap(jax.jacfwd(lambda x: there(x[None])[0][0]))(x)
        return there(x), back(x), jacobians

    (z, forward), (x, backward), jacobians = run(start)
    np.testing.assert_allclose(run(x.reshape(3, -1))[0][0], start, atol=1e-4)
    np.testing.assert_allclose(run(z)[1][0].reshape(3, -1), start, atol=1e-4)
    np.testing.assert_allclose(forward, log_dets(jacobians), atol=1e-4)
    np.testing.assert_allclose(backward, -log_dets(run(x.reshape(3, -1))[2]), atol=1e-4)
    assert float(jnp.abs(z - start).max()) > 0.1 and float(jnp.abs(forward).min()) > 0.01


def test_the_density_of_learned_noise():
    """Of the noise that a flow makes of uniform noise: the inverse of the Jacobian's determinant."""
    model = MODELS["realnvp-mnist"]
    params, extra = variables(model)
    image = jax.random.uniform(jax.random.key(1), (1, *model.image), minval=-1)
    u = jax.random.uniform(jax.random.key(2), (3, 8), minval=0.1, maxval=0.9)

    @jax.jit
    def run(u):
        noise = lambda u: model.apply(params, extra, image, u.reshape(1, *model.image), method="noise")  # noqa: E731
        return jax.vmap(noise)(u), jax.vmap(jax.jacfwd(lambda u: noise(u)[0].reshape(-1)))(u)

    (made, log_q), jacobians = run(u)
    np.testing.assert_allclose(log_q[:, 0], -log_dets(jacobians), atol=1e-4)
    assert float(made.min()) >= 0 and float(made.max()) <= 1 and float(jnp.abs(log_q).min()) > 0.01


@pytest.mark.parametrize("alpha", [0.05, 0.0])
def test_the_bound_in_closed_form(alpha):
    """A flow starts as the identity: then P of a level is a difference of the normal distribution function."""
    model = RealNVPMNIST((1, 2, 1), alpha=alpha, couplings=1, width=2)
    params, extra = model.init(jax.random.key(0))
    levels = np.array([[40, 90], [128, 200]])
    x = lambda y: logit(alpha / 2 + (1 - alpha) * y) if alpha else y - 0.5  # noqa: E731
    expected = np.log(norm.cdf(x((levels + 1) / 256)) - norm.cdf(x(levels / 256))).sum(1)
    batch = {"image": jnp.asarray(levels / 127.5 - 1, jnp.float32).reshape(2, 1, 2, 1)}
    keys = jax.random.split(jax.random.key(0), 2)
    found = jax.jit(lambda: model.log_prob(params, context(extra), batch, keys, 200))()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    z = jax.jit(lambda: model.encode(params, context(extra), batch))()
    np.testing.assert_allclose(model.decode(params, context(extra), z, {}), batch["image"], atol=1e-5)


def test_the_first_batch_initialises_glow_and_the_second_does_not():
    model = MODELS["glow"]
    params, extra = jax.jit(lambda: model.init(jax.random.key(0)))()
    batches = jax.random.uniform(jax.random.key(1), (2, 64, *model.image), minval=-1)
    loss = jax.jit(lambda extra, x: model.loss(params, context(extra, True), {"image": x}, jax.random.key(2)))
    bits, aux = loss(extra, batches[0])
    start = aux.extra["flow"]["start"]
    assert jax.tree.structure(aux.extra) == jax.tree.structure(extra)
    levels = np.round((np.asarray(batches[0]) + 1) * 127.5)
    u = jax.random.uniform(rng.fold(jax.random.key(2), "u"), levels.shape)
    inputs = np.asarray((levels + u) / 256 - 0.5).reshape(64, 2, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4)  # 2x2 pixels
    inputs = inputs.reshape(-1, 8)  # their channels
    np.testing.assert_allclose(start["level_0"]["norm"]["mean"][0], inputs.mean(0), atol=1e-5)
    np.testing.assert_allclose(start["level_0"]["norm"]["scale"][0], 1 / inputs.std(0), rtol=1e-3)
    assert float(loss(aux.extra, batches[0])[0]) == pytest.approx(float(bits), rel=1e-5)
    later = loss(aux.extra, batches[1])[1].extra["flow"]["start"]
    jax.tree.map(np.testing.assert_array_equal, later, start)


def test_glow_has_the_papers_size_and_bad_sizes_are_refused():
    assert zoo.load("glow").parameters == pytest.approx(44e6, rel=0.01), "44 million, as the authors' code makes them"
    for model, times in ((replace(zoo.load("glow").run.model, image=(36, 36, 3)), 3), (RealNVP((9, 8, 1)), 1)):
        with pytest.raises(InputError, match=f"can't be divided by two {times} times: see model.scales"):
            model.task(1)


def second_computation(path, images: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return log2 of the bound of P of u8[b h w] with uniform noise u, by the net written a second time."""
    weights = {name: jnp.asarray(x) for name, x in read(path).items()}

    def conv(name, x):
        layout = jax.lax.conv_dimension_numbers(x.shape, weights[f"{name}.kernel"].shape, ("NHWC", "HWIO", "NHWC"))
        y = jax.lax.conv_general_dilated(x, weights[f"{name}.kernel"], (1, 1), "SAME", dimension_numbers=layout)
        return y + weights[f"{name}.bias"][None, None, None]

    both = lambda x: jnp.concatenate([jax.nn.elu(x), jax.nn.elu(-x)], -1)  # noqa: E731

    def net(name, x):
        h = conv(f"{name}.layers_0", x)
        for i in (1, 3, 5):
            inner = conv(f"{name}.layers_{i}.Conv_1", both(conv(f"{name}.layers_{i}.Conv_0", both(h))))
            value, gate = jnp.split(inner, 2, -1)
            h = h + value * jax.nn.sigmoid(gate)
            scale, bias = (weights[f"{name}.layers_{i + 1}.{leaf}"][None, None, None] for leaf in ("scale", "bias"))
            middle = h.mean(-1, keepdims=True)
            h = (h - middle) / jnp.sqrt(((h - middle) ** 2).mean(-1, keepdims=True) + 1e-6) * scale + bias
        return conv(f"{name}.layers_8", both(h))

    def couple(name, x, odd, given=None):
        mask = ((np.indices(x.shape[1:3]).sum(0) % 2 == 1) == odd)[None, ..., None]
        seen = jnp.where(mask, x, 0)
        size = jnp.exp(weights[f"{name}.scaling_factor"])[None, None, None]
        s, t = jnp.split(
            net(f"{name}.network.nn", seen if given is None else jnp.concatenate([seen, given], -1)), 2, -1
        )
        s = jnp.where(mask, 0, jnp.tanh(s / size) * size)
        return jnp.where(mask, x, (x + t) * jnp.exp(s)), s.sum((1, 2, 3))

    alpha, total = 1e-5, 0.0
    levels = images[..., None].astype(np.float32)
    if any(name.startswith("flows_0") for name in weights):
        v = np.float64(u) * (1 - alpha) + alpha / 2
        total = total - np.log(v / (1 - alpha) * (1 - v)).sum((1, 2, 3))
        v = jnp.asarray(logit(v), jnp.float32)
        for i in range(4):
            v, more = couple(f"flows_0.var_flows_{i}", v, i % 2 == 0, levels / 127.5 - 1)
            total = total + more
        s = expit(np.float64(v))
        total = total + np.log(s * (1 - s) / (1 - alpha)).sum((1, 2, 3))
        u = (s - alpha / 2) / (1 - alpha)
    y = (levels + np.float64(u)) / 256 * (1 - alpha) + alpha / 2
    total = total + (math.log((1 - alpha) / 256) - np.log(y) - np.log(1 - y)).sum((1, 2, 3))
    x = jnp.asarray(logit(y), jnp.float32)
    for i in range(8):
        x, more = couple(f"flows_{i + 1}", x, i % 2 == 0)
        total = total + more
    return np.asarray(total + norm.logpdf(np.asarray(x)).sum((1, 2, 3))) / np.log(2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simple", "vardeq"])
def test_the_published_weights(kind, real_data, tmp_path, cli):
    """Imported and scored by the commands, on the first 8 test digits, beside the net written a second time."""
    file, digits = real_data / "weights" / "flow_mnist" / f"MNISTFlow_{kind}.ckpt", tmp_path / "digits.npz"
    images = read_idx(real_data / "mnist" / "t10k-images-idx3-ubyte.gz", 3)[:8]
    np.savez(digits, images=images)
    preset = "realnvp-mnist" if kind == "simple" else "realnvp-mnist-vardeq"
    run = tmp_path / "run"
    source = "--data.source", f"npz:{digits}", "--batch", "8"
    assert f"{zoo.load(preset).parameters:,}" in cli(0, "import", file, "--model", preset, "--out", run, *source)
    cli(0, "evaluate", run, "--metrics", "bpd_1", "--split", "train")
    found = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "likelihood"), jnp.arange(8))  # as the command draws them
    keys = jax.vmap(lambda key: rng.fold(jax.random.fold_in(key, 0), "u"))(keys)
    u = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (28, 28, 1)))(keys))
    expected = -second_computation(file, images, u).mean() / 784
    assert found["value"] == pytest.approx(expected, rel=1e-4)
    assert 0.9 < expected < 1.2, "published, of 8 draws: 1.078 and 1.041 bits per dimension on all 10,000"
