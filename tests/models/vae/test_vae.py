"""The autoencoders: bounds against an exact marginal, gradients, PCA, published weights, previews."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxgen.commands.generate import generate
from jaxgen.commands.parse import parse
from jaxgen.commands.reconstruct import reconstruct
from jaxgen.commands.traverse import traverse as traverse_command
from jaxgen.core.config import validate
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context, averaged
from jaxgen.data import RandomSubset, batches, open_source
from jaxgen.evaluation import held_out
from jaxgen.inference.latent_space import Entry, conditions, traverse
from jaxgen.inference.previews import comparison
from jaxgen.interop.convert import import_weights
from jaxgen.losses.elbo import (
    HALF_LEVEL,
)
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.autoencoder import Autoencoder
from jaxgen.models.vae.iwae import IWAE
from jaxgen.models.vae.iwae import PRESETS as IWAE_PRESETS
from jaxgen.models.vae.vae import VAE
from jaxgen.runs.load import open_run
from jaxgen.training import loop
from tests.helpers.capabilities import decode, encode

LEVELS = np.arange(256, dtype=np.float32) / 127.5 - 1


def digits(count: int) -> np.ndarray:
    found: Any = load_digits()
    return (found.images[:count] / 8 - 1).astype(np.float32)[..., None]  # [n 8 8 1]


def context_of(step: int = 0) -> Context:
    return Context({}, {}, {}, jnp.int32(step))


def test_the_weight_of_the_kl_increases_to_beta():
    model = VAE(beta=4.0, anneal=100)
    assert [float(model.kl_weight(jnp.int32(s))) for s in (0, 25, 100, 1000)] == [0, 1, 4, 4]
    assert float(VAE(beta=4.0).kl_weight(jnp.int32(0))) == 4


# ---- the bounds against a known log p(x)


IMAGE, LATENT, SIGMA = (2, 3, 1), 2, 0.4


def linear_gaussian(model: VAE, off: float = 0.0):
    """Return x, log p(x) and parameters for p(x | z) = N(W z + b, sigma^2) with orthogonal W.

    Then q can be the exact posterior. off: the error of q's log variance and of its mean.
    """
    draw = np.random.default_rng(3)
    size = int(np.prod(IMAGE))
    w = np.linalg.qr(draw.normal(size=(size, LATENT)))[0] * [1.5, 0.6]  # [size latent]
    b = draw.normal(size=size) * 0.1
    x = draw.normal(size=(16, LATENT)) @ w.T + b + SIGMA * draw.normal(size=(16, size))
    exact = stats.multivariate_normal.logpdf(x, b, w @ w.T + SIGMA**2 * np.eye(size))  # pyright: ignore
    precision = 1 + (w**2).sum(0) / SIGMA**2  # of the posterior; its latents are independent
    gain = w / SIGMA**2 / precision  # [size latent]
    raw = np.log(HALF_LEVEL) + np.log(np.expm1(np.log(SIGMA) - np.log(HALF_LEVEL)))  # the decoder's value of log sigma
    params, _ = model.init(jax.random.key(0))
    flat = lambda v: jnp.float32(v)  # noqa: E731
    params["encoder"] = {
        "mean": {"kernel": flat(gain), "bias": flat(-b @ gain + off)},
        "log_var": {"kernel": jnp.zeros((size, LATENT)), "bias": flat(-np.log(precision) + off)},
    }
    # The decoder's output channels: first the means, then the scales.
    params["decoder"] = {
        "out": {
            "kernel": flat(np.concatenate([w.T, np.zeros((LATENT, size))], 1)),
            "bias": flat(np.concatenate([b, np.full(size, raw)])),
        }
    }
    return flat(x).reshape(-1, *IMAGE), exact, params


LINEAR = VAE(IMAGE, LATENT, NetConfig(depth=0), "gaussian")


@partial(jax.jit, static_argnames="samples")
def bound(params, x, keys, samples: int):
    return LINEAR.log_prob(params, context_of(), {"image": x}, keys, samples)


def bounds(params, x, samples: int, seed: int = 0) -> np.ndarray:
    return np.asarray(bound(params, x, jax.random.split(jax.random.key(seed), len(x)), samples))


def test_with_the_exact_posterior_one_sample_gives_the_exact_marginal():
    x, exact, params = linear_gaussian(LINEAR)
    np.testing.assert_allclose(bounds(params, x, 1), exact, atol=2e-3)
    _, aux = LINEAR.loss(params, context_of(), {"image": x}, jax.random.key(0))
    assert aux.metrics["kl"] > 0.5


def test_the_bound_grows_with_k_to_the_marginal():
    x, exact, params = linear_gaussian(LINEAR, off=0.7)
    means = [np.mean([bounds(params, x, k, seed).mean() for seed in range(n)]) for k, n in ((1, 40), (5, 20), (50, 10))]
    assert means[0] + 0.05 < means[1] < means[2] < exact.mean()
    np.testing.assert_allclose(bounds(params, x, 5000).mean(), exact.mean(), atol=0.02)


def test_the_loss_is_minus_the_bound_of_log_prob():
    x, _, params = linear_gaussian(LINEAR, off=0.3)
    seeds = [jax.random.key(i) for i in range(300)]
    losses = jax.jit(jax.vmap(lambda key: LINEAR.loss(params, context_of(), {"image": x}, key)[0]))(jnp.stack(seeds))
    ones = [bounds(params, x, 1, seed).mean() for seed in range(60)]
    error = float(4 * (np.std(ones) / 60**0.5 + losses.std() / 300**0.5))
    assert -float(losses.mean()) == pytest.approx(float(np.mean(ones)), abs=error)


def gradients(kind: str, params, x, count: int, samples: int = 8):
    """Return the gradient of the mean loss for each of `count` keys."""
    model = IWAE(IMAGE, LATENT, NetConfig(depth=0), "gaussian", samples=samples, gradient=kind)  # pyright: ignore
    loss = lambda params, key: model.loss(params, context_of(), {"image": x}, key)[0]  # noqa: E731
    keys = jax.random.split(jax.random.key(5), count)
    return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, keys), jax.jit(jax.vmap(loss, (None, 0))), keys


def test_iwaes_layers_are_as_wide_as_the_authors():
    """Their `experiments.py`, one stochastic layer: 50 latents, two hidden layers of 200 on either side."""
    widths = [(784, 200), (200, 200), (200, 50), (200, 50), (50, 200), (200, 200), (200, 784)]
    assert IWAE_PRESETS["iwae"].parameters == sum((n + 1) * m for n, m in widths)


def test_iwaes_gradient_equals_finite_differences():
    x, _, params = linear_gaussian(LINEAR, off=0.5)
    found, losses, keys = gradients("iwae", params, x, 64)
    for net, path in (("encoder", ("mean", "bias")), ("encoder", ("log_var", "bias")), ("decoder", ("out", "bias"))):

        def at(step, net=net, path=path):
            layer: Any = params[net][path[0]]
            moved = {**layer, path[1]: layer[path[1]].at[1].add(step)}
            return losses({**params, net: {**params[net], path[0]: moved}}, keys).mean()

        slope = (at(1e-2) - at(-1e-2)) / 2e-2
        assert float(found[net][path[0]][path[1]][:, 1].mean()) == pytest.approx(float(slope), rel=2e-2, abs=2e-3)


@pytest.mark.slow
def test_dreg_has_iwaes_gradient_and_less_noise():
    x, _, params = linear_gaussian(LINEAR, off=0.5)
    plain, losses, keys = gradients("iwae", params, x, 4000)
    doubly, dreg_losses, _ = gradients("dreg", params, x, 4000)
    np.testing.assert_allclose(dreg_losses(params, keys[:8]), losses(params, keys[:8]), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain["decoder"], doubly["decoder"]
    )
    for name in ("mean", "log_var"):
        a, b = (np.asarray(g["encoder"][name]["bias"]) for g in (plain, doubly))  # [count latent]
        error = 5 * np.sqrt((a.var(0) + b.var(0)) / len(a))
        assert (np.abs(a.mean(0) - b.mean(0)) < error).all()
        assert (b.var(0) < a.var(0)).all()


def test_bits_per_dimension_of_evenly_spread_levels():
    model = VAE((4, 4, 1), 2, NetConfig(width=8), "logistic")
    x = jnp.asarray(np.random.default_rng(0).choice(LEVELS, (5, 4, 4, 1)))
    measured = jax.jit(
        lambda x: model.loss(model.init(jax.random.key(0))[0], context_of(), {"image": x}, jax.random.key(1))
    )
    metrics = measured(x)[1].metrics
    assert float(metrics["bits_per_dimension"]) == pytest.approx(-float(metrics["elbo"]) / 16 / np.log(2))
    assert 7 < float(metrics["bits_per_dimension"]) < 20  # evenly spread levels have 8 bits


# ---- autoencoders


def test_an_autoencoder_without_hidden_layers_finds_the_principal_components():
    images = digits(500)
    model = Autoencoder((8, 8, 1), 6, NetConfig(depth=0))
    pca = PCA(6).fit(images.reshape(500, -1))
    best = ((pca.inverse_transform(pca.transform(images.reshape(500, -1))) - images.reshape(500, -1)) ** 2).mean()
    params, _ = model.init(jax.random.key(0))
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, 4000))
    loss = lambda params: model.loss(params, context_of(), {"image": images}, jax.random.key(0))[0]  # noqa: E731

    @jax.jit
    def train(params):
        def step(carry, _):
            params, moments = carry
            updates, moments = adam.update(jax.grad(loss)(params), moments, params)
            return (optax.apply_updates(params, updates), moments), None

        return jax.lax.scan(step, (params, adam.init(params)), length=4000)[0][0]

    error = float(loss(train(params))) / 64
    assert best * (1 - 1e-4) < error < best * 1.01


def test_the_input_is_corrupted_and_the_target_is_clean():
    model = Autoencoder((8, 8, 3), 4, noise=0.5, mask=0.25)
    x = jnp.full((64, 8, 8, 3), 0.5)
    seen = np.asarray(model.corrupt(x, jax.random.key(0)))
    black = (seen == -1).all(-1)
    assert black.mean() == pytest.approx(0.25, abs=0.03) and ((seen == -1).any(-1) == black).all()
    assert (seen[~black] - 0.5).std() == pytest.approx(0.5, rel=0.05)
    params, _ = model.init(jax.random.key(1))
    value, _ = model.loss(params, context_of(), {"image": x}, jax.random.key(0))
    code = model.latents(params, jnp.asarray(seen))
    assert float(value) == pytest.approx(
        float(((model.decode_unclipped(params, code) - x) ** 2).sum((1, 2, 3)).mean()), rel=1e-5
    )


def test_sparsity_is_the_kl_of_two_bernoullis():
    model = Autoencoder((8, 8, 1), 5, sparsity=3.0, rho=0.1)
    bare = Autoencoder((8, 8, 1), 5, sparsity=1e-30, rho=0.1)
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (7, 8, 8, 1)), jnp.float32)
    params, _ = model.init(jax.random.key(0))
    mean = np.asarray(model.latents(params, x)).mean(0)
    want = 3 * sum(stats.entropy([0.1, 0.9], [m, 1 - m]) for m in mean)
    losses = [float(m.loss(params, context_of(), {"image": x}, jax.random.key(0))[0]) for m in (model, bare)]
    assert losses[0] - losses[1] == pytest.approx(want, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("beta, low, high", [(1.0, 3, 8), (500.0, 0, 0)])
def test_posterior_collapse_shows_in_the_metrics(beta, low, high):
    images = digits(512)
    task = VAE((8, 8, 1), 8, NetConfig(width=64), beta=beta).task(1)
    batch = {"image": images}
    state = init_state(task, jax.random.key(0), batch)
    step = jax.jit(make_step(task))
    run = jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s, batch, {}), state, length=300))
    _, metrics = run(state)
    units = np.asarray(metrics["vae/active_units"])[-20:]
    assert low <= units.min() and units.max() <= high
    assert np.asarray(metrics["vae/elbo"])[-1] > np.asarray(metrics["vae/elbo"])[0]


# ---- published weights


@pytest.fixture(scope="module")
def imported(real_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vae") / "run"
    settings = ["--data.source", "tfds:mnist", "--data.dir", str(real_data / "tfds"), "--out", str(folder)]
    run = parse("vae", ["--preset", "vae", "--batch", "1000", *settings]).run
    _, nets, count, _ = import_weights(real_data / "weights" / "mnist_vae_epoch_25.pth", run, None)
    assert set(nets.split(" and ")) == {"encoder", "decoder"} and count == 652_824
    return folder


def test_importing_another_models_weights_raises(real_data, tmp_path):
    run = parse("vae", ["--preset", "cvae", "--out", str(tmp_path / "run")]).run
    with pytest.raises(InputError, match="doesn't fit cvae"):
        import_weights(real_data / "weights" / "mnist_vae_epoch_25.pth", run, None)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_imported_vae_has_its_known_bound(imported):
    run, _, task, state, frozen, _ = open_run(imported)
    params, context = averaged(state, frozen)
    loss = jax.jit(task.phases[0].loss)
    terms = []
    source = open_source(run.data.at("test"), (28, 28, 1))
    for i, batch in enumerate(batches(source, run.data, (28, 28, 1), batch=1000, seed=0, train=False)):
        value, aux = loss(params, context, {"image": batch["image"]}, jax.random.fold_in(jax.random.key(0), i))
        terms.append([value, aux.metrics["reconstruction"], aux.metrics["kl"]])
    assert len(terms) == 10
    loss_, cross_entropy, kl = np.mean(terms, 0)
    # SOURCES: computed with torch and one sample, 103.2 = 77.5 + 25.8
    assert (loss_, cross_entropy, kl) == pytest.approx((103.2, 77.5, 25.8), abs=0.1)


# ---- errors


@pytest.mark.parametrize(
    "model, words",
    [
        (VAE(latent=0), "model.latent must be at least 1"),
        (VAE(beta=-1.0), "model.beta must be at least 0"),
        (VAE((30, 30, 1), nets=NetConfig("conv", 8)), "multiples of"),
        (VAE(nets=NetConfig(width=0)), "model.nets.width must be at least 1"),
        (IWAE(samples=0), "model.samples must be at least 1"),
        (IWAE(beta=2.0), "no KL term"),
        (Autoencoder(mask=1.0), "model.mask is a share"),
        (Autoencoder(rho=0.0), "model.rho must be between 0 and 1"),
    ],
)
def test_wrong_settings_raise(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


def test_missing_labels_and_likelihoods_raise():
    with pytest.raises(InputError, match="give labels"):
        VAE(classes=10).synthesise({}, context_of(), jnp.zeros((1, 20)), {})
    with pytest.raises(InputError, match="takes no labels"):
        VAE().synthesise({}, context_of(), jnp.zeros((1, 20)), {"label": jnp.zeros(1, jnp.int32)})
    with pytest.raises(InputError, match="has no likelihood"):
        held_out.likelihood(Autoencoder().task(1), 1)
    with pytest.raises(InputError, match="by K samples for each image, such as nll_5000"):
        held_out.known(("nll_0",))
    assert held_out.known(("nll_10", "loss", "fid_lenet")) == (["nll_10", "loss"], ["fid_lenet"])


def test_binarised_images_need_the_bernoulli_likelihood():
    settings = ["--preset", "vae-residual", "--data.binarise", "dynamic"]
    with pytest.raises(InputError, match=r"give --model\.likelihood bernoulli"):
        validate(parse("vae", settings).run)
    validate(parse("vae", [*settings, "--model.likelihood", "bernoulli"]).run)


def test_a_state_larger_than_the_memory_raises_early(tmp_path):
    run = parse(
        "vae", ["--preset", "vae", "--batch", "8", "--model.latent", "1000000000", "--out", str(tmp_path / "run")]
    ).run
    with pytest.raises(InputError, match=r"state takes .* GB, this machine has"):
        loop.fit(run)
    assert not (tmp_path / "run").exists()


# ---- previews and evaluation


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("look") / "run"
    loop.fit(parse("vae", ["--preset", "cvae", "--tiny", "--mesh.data", "1", "--out", str(folder)]).run)
    return folder


def test_training_writes_samples_and_reconstructions(tiny_run):
    assert (tiny_run / "samples" / "000020.png").exists()
    run, mesh, task, state, frozen, _ = open_run(tiny_run)
    source = open_source(run.data, (8, 8, 1))
    pairs = comparison(task, run, mesh, source, 6)
    assert pairs is not None
    images = pairs.make(state, frozen)
    assert images.shape == (6, 8, 8, 1)
    nets = averaged(state, frozen)
    batch = next(batches(RandomSubset(source, 3), run.data, (8, 8, 1), batch=3, seed=0, train=False))
    again = decode(task)(*nets, encode(task)(*nets, batch), {"label": batch["label"]})
    np.testing.assert_array_equal(images[::2], batch["image"])
    np.testing.assert_allclose(images[1::2], again, atol=1e-6)
    with Image.open(tiny_run / "reconstructions" / "000020.png") as image:
        assert image.size == (4 * 66 + 2, 4 * 66 + 2)


def test_evaluation_of_reconstructions(tiny_run):
    run, mesh, task, state, frozen, _ = open_run(tiny_run)
    names = ["reconstruction_psnr", "active_units", "rfid_pixels"]
    found = held_out.HeldOut(replace(run, eval=replace(run.eval, batches=0)), task, mesh, names)(state, frozen)
    nets, source = averaged(state, frozen), open_source(run.data.at("test"), (8, 8, 1))
    batch = next(batches(source, run.data, (8, 8, 1), batch=len(source), seed=0, train=False))
    code = np.asarray(encode(task)(*nets, batch))
    made = np.asarray(decode(task)(*nets, code, {"label": batch["label"]}))
    error = ((made - batch["image"]) ** 2).mean((1, 2, 3))
    assert found["reconstruction_psnr"] == pytest.approx((10 * np.log10(4 / error)).mean(), rel=1e-4)
    assert found["active_units"] == (code.var(0) > 0.01).sum()
    a, b = (np.rint((x.reshape(len(x), -1) + 1) * 127.5) / 127.5 - 1 for x in (batch["image"], made))
    want = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert found["rfid_pixels"] == pytest.approx(want, rel=1e-3) and want > 0.1


def test_a_traversal_changes_one_latent_in_each_row(tiny_run, tmp_path, capsys):
    opened = open_run(tiny_run)
    entry = Entry(opened, 28)
    images = traverse(entry, 3, 4, 2.0, (7,), 1.0).reshape(4, 7, 8, 8, 1)
    z = entry.draw(3, [0], conditions(1, (7,)))
    for i in range(4):
        for j, value in enumerate(np.linspace(-2, 2, 7)):
            moved = z.copy()
            moved[0, i] = value
            np.testing.assert_allclose(images[i, j], entry.paint(moved, conditions(1, (7,)))[0], atol=1e-6)
    traverse_command(tiny_run, tmp_path / "t.png", latents=2, label="7")
    reconstruct(tiny_run, tmp_path / "r.png", count=5)
    assert "2 latents of step 20" in (printed := capsys.readouterr().out) and "5 images of test" in printed
    assert (tmp_path / "t.png").exists() and (tmp_path / "r.png").exists()
    with pytest.raises(InputError, match="more than the 4 numbers of z"):
        traverse_command(tiny_run, tmp_path / "u.png", latents=5, label="7")
    with pytest.raises(InputError, match="must end in"):
        reconstruct(tiny_run, tmp_path / "r.gif")


def test_the_directions_come_from_the_decoders_first_layer(tiny_run):
    opened = open_run(tiny_run)
    [factor] = Entry(opened, 4).factors()
    np.testing.assert_array_equal(factor, np.asarray(opened.state.params["decoder"]["hidden_0"]["kernel"])[:4])


@pytest.mark.slow
def test_an_autoencoder_reconstructs_and_cannot_sample(tmp_path):
    run = parse("vae", ["--preset", "autoencoder", "--tiny", "--mesh.data", "1", "--out", str(tmp_path / "run")]).run
    loop.fit(run)
    assert (tmp_path / "run" / "reconstructions" / "000020.png").exists()
    assert not list((tmp_path / "run" / "samples").glob("*"))
    with pytest.raises(InputError, match="no latent vector"):
        traverse_command(tmp_path / "run", tmp_path / "u.png")
    with pytest.raises(InputError, match="no prior to draw samples from"):
        generate(tmp_path / "run", out=tmp_path / "g.png")
