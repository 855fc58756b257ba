"""The hierarchical VAE: its bound for a known log p(x), its latents, thirty layers, skipped updates."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from jaxgen.commands.parse import parse
from jaxgen.core.config import validate
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context, Params
from jaxgen.losses.elbo import kl_normal, kl_standard
from jaxgen.models.vae.hierarchical import HierarchicalVAE, SkipState

SMALL = HierarchicalVAE((4, 6, 1), (1, 2), width=6, bottleneck=4, latent=1, skip=7 / 24)
SKIPPED = SkipState((), jnp.float32(3))
CONTEXT = Context({}, {}, {}, jnp.int32(0), {"vae": SKIPPED})


def digits(count: int) -> np.ndarray:
    found: Any = load_digits()
    return (found.images[:count] / 8 - 1).astype(np.float32)[..., None]  # [n 8 8 1]


def random_images(count: int) -> dict[str, jax.Array]:
    draw = np.random.default_rng(0)
    return {"image": jnp.asarray(draw.choice([-1.0, 1.0], (count, *SMALL.image)), jnp.float32)}


@jax.jit
def moved() -> Params:
    """Return parameters that differ from their initial values: no prior is N(0, 1), no bias is 0."""
    params, _ = SMALL.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        tree, [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def rows(drawn, name: str) -> jax.Array:
    """Return the named field of all layers, concatenated, f32[b n]."""
    parts = [jnp.moveaxis(getattr(d, name), 0, 1) for d in drawn]
    return jnp.concatenate([part.reshape(len(part), -1) for part in parts], 1)


# ---- the KL of two normals


def test_kl_of_two_normals_is_the_integral_and_the_standard_one():
    draw = np.random.default_rng(0)
    mean_q, log_q, mean_p, log_p = (jnp.float32(x) for x in draw.normal(size=(4, 5)) * 0.7)
    kl, zero = kl_normal(mean_q, log_q, mean_p, log_p), jnp.zeros(5)
    np.testing.assert_array_equal(kl_normal(mean_q, log_q, mean_q, log_q), 0)
    np.testing.assert_allclose(kl_normal(mean_q, log_q, zero, zero), kl_standard(mean_q, 2 * log_q), atol=1e-6)
    for i in range(5):
        q, p = (stats.norm(float(m[i]), float(np.exp(s[i]))) for m, s in ((mean_q, log_q), (mean_p, log_p)))
        exact = q.expect(lambda z, p=p, q=q: q.logpdf(z) - p.logpdf(z))  # pyright: ignore
        assert float(kl[i]) == pytest.approx(exact, rel=1e-4)


# ---- the bound


@jax.jit
def terms(params, batch, seeds):
    """Return for each seed the loss, its metrics, log_prob of one sample, each layer's KL and -log p / q, f32[n]."""
    count = len(batch["image"])

    def one(seed):
        loss, aux = SMALL.loss(params, CONTEXT, batch, jax.random.key(seed))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), count)
        _, drawn = SMALL.posterior(params, batch, SMALL.noise(keys))
        ratio = rows(drawn, "kl").mean(0), -rows(drawn, "log_weight").mean(0)
        return loss, aux.metrics, SMALL.log_prob(params, CONTEXT, batch, keys).mean(), ratio

    return jax.lax.map(one, seeds)


@pytest.mark.slow
def test_with_images_independent_of_z_the_bound_grows_to_the_known_log_p():
    params: Any = moved()
    params["decoder"]["out"] = {"kernel": jnp.zeros((1, 1, 6, 1)), "bias": jnp.full(1, 0.7)}
    batch = random_images(8)
    p = 1 / (1 + np.exp(-0.7))
    exact = float(stats.bernoulli.logpmf(np.asarray(batch["image"] > 0).astype(int), p).sum((1, 2, 3)).mean())
    _, metrics, ones, _ = terms(params, batch, jnp.arange(300))
    kl = float(metrics["kl"].mean())
    assert kl > 1.5, "the posteriors differ from the priors"
    np.testing.assert_allclose(metrics["elbo"], exact - metrics["kl"], rtol=1e-4)
    assert float(ones.mean()) == pytest.approx(exact - kl, abs=4 * float(ones.std()) / 300**0.5)
    many = jax.jit(lambda keys: SMALL.log_prob(params, CONTEXT, batch, keys, 1000))
    found = float(many(jax.random.split(jax.random.key(0), 8)).mean())
    assert exact - kl / 4 < found < exact + 0.1


@pytest.mark.slow
def test_the_loss_is_minus_the_bound_of_one_sample():
    loss, metrics, ones, (closed, sampled) = terms(moved(), random_images(8), jnp.arange(300))
    error = 4 * float(ones.std() + loss.std()) / 300**0.5
    assert error < 0.05 * float(loss.mean())
    assert -float(loss.mean()) == pytest.approx(float(ones.mean()), abs=error)
    error = 4 * (closed.std(0) + sampled.std(0)) / 300**0.5
    assert (np.abs(closed.mean(0) - sampled.mean(0)) < error).all() and (error < 0.7 * closed.mean(0)).all()
    np.testing.assert_allclose(metrics["kl"], metrics["kl_2x3"] + metrics["kl_4x6"], rtol=1e-5)
    np.testing.assert_allclose(-loss, -metrics["reconstruction"] - metrics["kl"], rtol=1e-5)
    assert (metrics["active_layers"] == 3).all() and (metrics["skipped"] == 3).all()


# ---- latents and samples


@pytest.mark.slow
def test_latents_decode_and_a_sample_is_decoded_from_its_own_z():
    params, batch, keys = moved(), random_images(5), jax.random.split(jax.random.key(7), 5)
    decode = jax.jit(lambda latents: SMALL.decode(params, CONTEXT, latents, {}))

    @jax.jit
    def encoded():
        out, drawn = SMALL.posterior(params, batch, SMALL.zero_noise(5))
        return SMALL.encode(params, CONTEXT, batch), drawn, jnp.clip(SMALL.p.mean(out), -1, 1)

    latents, drawn, images = encoded()
    assert latents.shape == (5, 1 * 2 * 3 + 2 * 4 * 6)
    np.testing.assert_allclose(latents, rows(drawn, "z"))
    np.testing.assert_array_equal(latents[2, -24:], drawn[1].z[1, 2].reshape(-1))  # the last layer of the third image
    np.testing.assert_allclose(decode(latents), images, atol=1e-5)

    @jax.jit
    def decoded():
        _, drawn = SMALL.decoder.apply({"params": params["decoder"]}, SMALL.noise(keys))  # pyright: ignore
        return SMALL.generate(params, CONTEXT, keys, {})["image"], drawn

    images, drawn = decoded()
    np.testing.assert_allclose(decode(rows(drawn, "z")), images, atol=1e-5)
    noise = np.concatenate([np.asarray(n).ravel() for n in SMALL.noise(keys)])
    assert len(np.unique(noise)) == latents.size, "all numbers have different noise"


# ---- depth

THIRTY = HierarchicalVAE((8, 8, 1), (12, 18), width=8, bottleneck=4, latent=2, learning_rate=3e-3, skip=0)


@pytest.fixture(scope="module")
def thirty():
    """Return a state of thirty layers, and a function of 25 steps: state -> new state, metrics f32[25] each."""
    images, task = jnp.asarray(digits(1024)), THIRTY.task(1)
    step = make_step(task)

    def one(state, _):
        some = jax.random.randint(jax.random.fold_in(jax.random.key(1), state.step), (4,), 0, 1024)
        return step(state, {"image": images[some]}, {})

    state = jax.jit(lambda: init_state(task, jax.random.key(0), {"image": images[:4]}))()
    return state, jax.jit(lambda state: jax.lax.scan(one, state, length=25))


def unscaled(path, x):
    """Return initial values without the smaller scale of layers that add to the residual streams."""
    names = [key.key for key in path]
    layers = sum(THIRTY.layers) if names[0] == "decoder" else sum(THIRTY.encoder.blocks)
    adds = names[-1] == "kernel" and ("enter" in names or names[-3:-1] == ["block", "conv_3"])
    return x * layers**0.5 if adds else x


@pytest.mark.slow
def test_thirty_layers_train_stably_because_of_their_initial_scale(thirty):
    state, train = thirty
    assert sum(THIRTY.layers) == 30
    wild = state.replace(params=jax.tree_util.tree_map_with_path(unscaled, state.params))
    _, bare = train(wild)
    history = []
    for _ in range(3):
        state, metrics = train(state)
        history.append(metrics)
    metrics = {name: np.concatenate([h[name] for h in history]) for name in history[0]}
    assert all(np.isfinite(x).all() for x in metrics.values())
    loss, norm = metrics["vae/loss"], metrics["vae/grad_norm"]
    assert loss[-20:].mean() < 0.7 * loss[0]
    assert norm[20:].max() < 10 * np.median(norm)
    assert not bare["vae/grad_norm"][0] < 10 * norm[0], "without the scale it overflows at once"


@pytest.mark.slow
def test_the_program_of_thirty_layers_is_as_long_as_that_of_four():
    def lines(layers) -> int:
        task = HierarchicalVAE((8, 8, 1), layers, width=4, bottleneck=2, latent=1).task(1)
        batch = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
        state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), batch))
        return len(jax.jit(make_step(task)).lower(state, batch, {}).as_text().splitlines())

    assert lines((15, 15)) == lines((2, 2)) > 1000


def test_updates_with_large_gradients_are_skipped():
    optimizer: Any = SMALL.task(1).learners["vae"].optimizer  # skips norms above 7
    params = {"w": jnp.ones(4), "b": jnp.zeros(())}
    adam, state = optax.adam(SMALL.learning_rate, b2=SMALL.beta2), optimizer.init(params)
    moments = adam.init(params)  # pyright: ignore
    update = jax.jit(optimizer.update)
    for size, skipped in ((3.0, 0), (3.6, 1), (np.nan, 2), (np.inf, 3), (-3.0, 3)):  # norms are twice these
        slope = {"w": jnp.full(4, size), "b": jnp.zeros(())}
        before = state.inner
        moves, state = update(slope, state, params, step=jnp.int32(0))
        assert float(state.skipped) == skipped
        if abs(size) == 3:
            want, moments = adam.update(slope, moments)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), (moves, state.inner), (want, moments))
        else:
            jax.tree.map(np.testing.assert_array_equal, state.inner, before)
            assert all(not x.any() for x in jax.tree.leaves(moves))


# ---- errors


@pytest.mark.parametrize(
    "model, words",
    [
        (HierarchicalVAE(layers=()), "at least one layer for each resolution"),
        (HierarchicalVAE(layers=(2, 0)), "at least one layer for each resolution"),
        (HierarchicalVAE((28, 28, 1)), "4 resolutions, .* must be multiples of 8"),
        (HierarchicalVAE((32, 30, 1), (1, 1, 1)), "multiples of 4, not 32x30"),
        (HierarchicalVAE(width=0), "model.width must be at least 1"),
        (HierarchicalVAE(latent=0), "model.latent must be at least 1"),
        (HierarchicalVAE(bottleneck=0), "model.bottleneck must be at least 1"),
        (HierarchicalVAE(skip=-1), "model.skip must be at least 0"),
        (HierarchicalVAE(ema=1.0), "model.ema must be below 1"),
    ],
)
def test_wrong_settings_raise(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


@pytest.mark.parametrize(
    "image, layers",
    [
        ((6, 4, 2), (2, 1)),
        pytest.param((8, 8, 1), (1, 1, 1, 1), marks=pytest.mark.slow),
        pytest.param((256, 256, 3), (1,) * 9, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_resolutions(image, layers):
    model = HierarchicalVAE(image, layers, width=8, bottleneck=4, latent=2, likelihood="logistic")
    task = model.task(1)
    state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), {"image": jnp.zeros((2, *image))}))
    batch = {"image": jax.ShapeDtypeStruct((2, *image), jnp.float32)}
    _, metrics = jax.eval_shape(make_step(task), state, batch, {})
    assert {f"vae/kl_{image[0] >> i}x{image[1] >> i}" for i in range(len(layers))} < set(metrics)
    assert "vae/bits_per_dimension" in metrics


def test_binarised_images_need_the_bernoulli_likelihood():
    settings = ["--preset", "hierarchical-30", "--data.binarise", "dynamic"]
    with pytest.raises(InputError, match=r"give --model\.likelihood bernoulli"):
        validate(parse("vae", settings).run)
