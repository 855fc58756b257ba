"""Masked diffusion of three tokens with a known distribution, and of a trained VQ-VAE's tokens."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.core.capabilities import Density
from jaxgen.core.config import Mesh, Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.types import Context, averaged
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.masked import Masked, MaskedSampling, lowest, unmask
from jaxgen.models.vae._quantisers import Quantiser
from jaxgen.models.vae.vae import VAE
from jaxgen.runs.config_io import load_config, resampled, to_json
from jaxgen.runs.load import open_run
from jaxgen.tasks.frozen_autoencoder import autoencoder_of
from jaxgen.tasks.teacher import context_of, load
from jaxgen.training.loop import fit
from jaxgen.zoo import load as preset
from tests.helpers.capabilities import encode, generate
from tests.helpers.quick_keys import quick_key
from tests.helpers.running import assert_same
from tests.helpers.untrained import drawn, save_untrained

CONTEXT = Context({}, {}, {}, jnp.zeros((), jnp.int32))
NET = BackboneConfig("dit", 16, 1, 2, patch=1)
THREE = Masked((1, 3, 1), net=NET, embedding=4, levels=3)  # three tokens of three values, and the mask: 3
EVERY = np.asarray(list(np.ndindex(3, 3, 3)))
P = 0.8 * np.random.default_rng(0).dirichlet(np.full(27, 0.5)).reshape(3, 3, 3) + 0.2 / 27


def keys(count: int, seed: int = 0):
    return jax.random.split(jax.random.key(seed), count)


def to_images(tokens) -> jax.Array:
    return jnp.asarray(tokens, jnp.float32).reshape(-1, 1, 3, 1) - 1


def behind(p: np.ndarray) -> jax.Array:
    """Return log p(x_i | visible tokens) of a distribution [3 3 3], for each of the 4^3 masked maps: f[64 3 3]."""
    found = np.zeros((4, 4, 4, 3, 3))
    for seen in np.ndindex(4, 4, 4):
        rest = np.zeros_like(p)
        place = tuple(slice(None) if v == 3 else slice(v, v + 1) for v in seen)
        rest[place] = p[place]
        for i in range(3):
            found[*seen, i] = rest.sum(tuple(j for j in range(3) if j != i)) / rest.sum()
    return jnp.asarray(np.log(np.maximum(found, 1e-30)), jnp.float32).reshape(64, 3, 3)


def exact_net(monkeypatch, p: np.ndarray, null: np.ndarray | None = None):
    """Replace the net by the exact conditionals of p (of `null` for the null label, 1), plus params["wrong"]."""
    table, other = behind(p), behind(p if null is None else null)

    def log_probs(self, params, xt, label, dropout=None):
        number = (xt.reshape(-1, 3) * jnp.broadcast_to(jnp.asarray([16, 4, 1]), (len(xt), 3))).sum(1)
        log_p = table[number]
        if label is not None:
            log_p = jnp.where((label == 0)[:, None, None], log_p, other[number])
        return log_p.reshape(-1, 1, 3, 1, 3) + params.get("wrong", 0.0)

    monkeypatch.setattr(Masked, "log_probs", log_probs)


def sampler(model: Masked, count: int = 20_000, given: Any = None) -> Callable[..., np.ndarray]:
    """Return the compiled function (changes of numbers among the settings of sampling) -> tokens [n 3] of samples."""

    def run(keys: jax.Array, changes: dict[str, Any]) -> jax.Array:
        changed = replace(model, sampling=replace(model.sampling, **changes))
        return model.tokens(CONTEXT, changed.generate({}, CONTEXT, keys, given or {})["image"])

    compiled = jax.jit(run)
    return lambda **changes: np.asarray(compiled(keys(count), changes)).reshape(-1, 3)


def sampled(model: Masked, count: int = 20_000, given: Any = None) -> np.ndarray:
    """Tokens [n 3] of samples."""
    return sampler(model, count, given)()


def p_value(tokens: np.ndarray, p: np.ndarray) -> float:
    """The chance of tokens that differ as much from p."""
    counts = np.bincount(tokens @ [9, 3, 1], minlength=27)
    return stats.chisquare(counts, p.ravel() / p.sum() * len(tokens)).pvalue  # pyright: ignore[reportAttributeAccessIssue]


# ---------------------------------------------------------------- the bound


def test_the_bound_of_an_exact_net_is_the_log_probability(monkeypatch):
    exact_net(monkeypatch, P)
    batch = {"image": jnp.repeat(to_images(EVERY), 200, 0)}
    want, spreads = np.log(P).ravel(), []
    for samples in (1, 3):
        run = jax.jit(lambda k, n=samples: THREE.bound({}, CONTEXT, batch, k, n))
        found = np.asarray(run(keys(5400, samples)), np.float64).reshape(27, 200)
        error = 5 * found.std(1) / 200**0.5
        assert (np.abs(found.mean(1) - want) < error + 1e-4).all()
        spreads.append(found.std(1).mean())
    assert spreads[1] < 0.5 * spreads[0], "stratified samples have a lower variance than independent ones"


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_loss_is_the_entropy_for_every_schedule(schedule, monkeypatch):
    exact_net(monkeypatch, P)
    model = replace(THREE, schedule=schedule)
    tokens = EVERY[np.random.default_rng(1).choice(27, 4000, p=P.ravel())]
    want = -np.log(P[tuple(tokens.T)]).mean() / 3
    loss = jax.jit(jax.vmap(lambda key: model.loss({}, CONTEXT, {"image": to_images(tokens)}, key)))
    found, aux = loss(keys(50))
    error = 4 * float(found.std()) / 50**0.5
    assert error < 0.02 * want and float(found.mean()) == pytest.approx(want, abs=error + 2e-3 * want)
    np.testing.assert_allclose(aux.metrics["bits_per_token"], found / math.log(2), rtol=1e-5)


def test_a_wrong_net_has_a_worse_bound(monkeypatch):
    exact_net(monkeypatch, np.full((3, 3, 3), 1 / 27))
    found = jax.jit(lambda k: THREE.bound({}, CONTEXT, {"image": to_images(EVERY)}, k, 3))(keys(27))
    np.testing.assert_allclose(found, -3 * math.log(3), rtol=1e-5)
    assert float((P.ravel() * np.asarray(found)).sum()) < (P * np.log(P)).sum()


def test_visible_tokens_have_no_loss(monkeypatch):
    exact_net(monkeypatch, P)
    x = jnp.asarray(EVERY).reshape(-1, 1, 3, 1)
    masked = jnp.broadcast_to(jnp.asarray([True, False, True]).reshape(1, 1, 3, 1), x.shape)

    @jax.jit
    def run(wrong):
        nll = lambda wrong, masked: THREE.masked_nll({"wrong": wrong}, x, masked, None)  # noqa: E731
        slope = jax.grad(lambda wrong: nll(wrong, masked).sum())(wrong)
        return slope, nll(wrong, masked), nll(wrong, jnp.zeros_like(masked))

    slope, found, none = run(jnp.zeros((27, 1, 3, 1, 3)))
    assert not slope[:, 0, 1].any() and slope[:, 0, 0].any() and slope[:, 0, 2].any()
    seen = P.sum((0, 2), keepdims=True)
    want = -np.log(P.sum(2, keepdims=True) / seen) - np.log(P.sum(0, keepdims=True) / seen)
    np.testing.assert_allclose(found, np.broadcast_to(want, P.shape).ravel(), rtol=1e-4)
    assert not none.any()


def test_tokens_are_masked_as_often_as_the_schedule_says(monkeypatch):
    seen = []

    def log_probs(self, params, xt, label, dropout=None):
        seen.append((xt == 3).mean((1, 2, 3)))
        return jnp.zeros((*xt.shape, 3))

    monkeypatch.setattr(Masked, "log_probs", log_probs)
    for schedule in ("linear", "cosine"):
        model = replace(THREE, image=(1, 3000, 1), schedule=schedule)

        @jax.jit
        def share(key, model=model):
            model.loss({}, CONTEXT, {"image": jnp.zeros((40, 1, 3000, 1))}, key)
            return seen.pop()

        found = np.asarray(share(jax.random.key(0)))
        place = np.sort(found if schedule == "linear" else 2 / np.pi * np.arcsin(found))
        # Stratified times: one in each of 40 intervals.
        np.testing.assert_allclose(place, (np.arange(40) + 0.5) / 40, atol=0.04)


# ---------------------------------------------------------------- samples


def test_one_token_at_a_time_has_the_known_distribution(monkeypatch):
    exact_net(monkeypatch, P)
    linear, cosine = (MaskedSampling(3, schedule=schedule) for schedule in ("linear", "cosine"))
    assert list(linear.plan(3)[2]) == list(cosine.plan(3)[2]) == [2, 1, 0]
    assert p_value(sampled(replace(THREE, sampling=linear)), P) > 1e-3


def test_tokens_drawn_in_one_step_are_independent(monkeypatch):
    exact_net(monkeypatch, P)
    alone = np.einsum("i,j,k->ijk", P.sum((1, 2)), P.sum((0, 2)), P.sum((0, 1)))
    tokens = sampled(replace(THREE, sampling=MaskedSampling(1)))
    assert p_value(tokens, alone) > 1e-3 > p_value(tokens, P)


@pytest.mark.slow
def test_ancestral_sampling_converges_to_the_known_distribution(monkeypatch):
    exact_net(monkeypatch, P)
    for schedule in ("linear", "cosine"):
        tokens = sampled(replace(THREE, sampling=MaskedSampling(150, "ancestral", schedule)), 5000)
        assert p_value(tokens, P) > 1e-3
    few = sampled(replace(THREE, sampling=MaskedSampling(2, "ancestral")), 5000)
    assert p_value(few, P) < 1e-3, "tokens drawn in one step are independent"


def test_the_most_confident_tokens_are_kept_first(monkeypatch):
    """Without noise, every step keeps the token of the highest probability, as a greedy search does."""
    exact_net(monkeypatch, P)
    table, x = np.asarray(behind(P)), np.full(3, 3, int)
    for _ in range(3):
        log_p = np.where((x == 3)[:, None], table[int(x @ [16, 4, 1])], -np.inf)
        place, value = np.unravel_index(log_p.argmax(), (3, 3))
        x[place] = value
    run = sampler(replace(THREE, sampling=MaskedSampling(3, "confidence")))
    found = run(temperature=0.0, noise=0.0)
    np.testing.assert_array_equal(found, np.broadcast_to(x, found.shape))
    confident, noisy = (run(temperature=1.0, noise=noise) for noise in (0.0, 1e4))
    assert p_value(noisy, P) > 1e-3 > p_value(confident, P), "with much noise the order is random, without bias"


def test_a_temperature_sharpens(monkeypatch):
    exact_net(monkeypatch, P)
    run = sampler(replace(THREE, sampling=MaskedSampling(1)))
    for temperature in (0.5, 2.0):
        first = P.sum((1, 2)) ** (1 / temperature)
        tokens = run(temperature=temperature)
        counts = np.bincount(tokens[:, 0], minlength=3)
        np.testing.assert_allclose(counts / len(tokens), first / first.sum(), atol=0.02)


@pytest.mark.parametrize("w", [2.5, *(pytest.param(w, marks=pytest.mark.slow) for w in (1.0, 0.0))])
def test_guidance_scales_the_labels_effect(w, monkeypatch):
    """The distribution of one token is p(x | label)^w p(x)^(1 - w), normalised."""
    null = np.random.default_rng(5).dirichlet(np.full(27, 2.0)).reshape(3, 3, 3)
    exact_net(monkeypatch, P, null)
    given = {"label": jnp.zeros(20_000, jnp.int32)}
    how = MaskedSampling(1, guidance=w)
    tokens = sampled(replace(THREE, classes=1, sampling=how), given=given)
    want = P.sum((1, 2)) ** w * null.sum((1, 2)) ** (1 - w)
    np.testing.assert_allclose(np.bincount(tokens[:, 0], minlength=3) / 20_000, want / want.sum(), atol=0.02)
    assert how.nfe == (1 if w == 1 else 2)


def test_labels_change_the_output_and_guidance_of_one_has_no_effect():
    model = replace(THREE, image=(4, 4, 2), classes=3, levels=5)
    params: Any = drawn(jax.eval_shape(model.init, jax.random.key(0))[0])
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + jnp.asarray(draw.normal(0, 0.3, x.shape), jnp.float32), params)
    xt = jnp.full((4, 4, 4, 2), 5)
    said, unlabelled = jax.jit(lambda p: (model.log_probs(p, xt, jnp.arange(4)), model.log_probs(p, xt, None)))(params)
    assert said.shape == (4, 4, 4, 2, 5) and all(np.abs(said[i] - said[3]).max() > 1e-2 for i in range(3))
    np.testing.assert_allclose(unlabelled, np.broadcast_to(said[3], said.shape), atol=1e-6)

    @cache
    def program(guidance):
        task: Any = replace(model, sampling=MaskedSampling(4, "confidence", guidance=guidance)).task(1)
        return jax.jit(lambda k, label: generate(task)(params, CONTEXT, k, {"label": label})["image"])

    def made(guidance, rows):
        return np.asarray(program(guidance)(keys(5)[rows], jnp.asarray([0, 1, 2, 0, 1])[rows]))

    every = np.arange(5)
    plain = made(1.0, every)
    np.testing.assert_array_equal(plain, made(1 + 1e-7, every))  # both predictions are computed, weights of 1 and 0
    np.testing.assert_array_equal(plain[[0, 4, 3, 2, 1]], made(1.0, np.asarray([0, 4, 3, 2, 1])))
    assert (plain != made(3.0, every)).any() and set(np.round((plain.ravel() + 1) * 2, 4)) <= {0, 1, 2, 3, 4}
    with pytest.raises(InputError, match="conditional: give labels, from 0 to 2"):
        model.generate(params, CONTEXT, keys(2), {})


@pytest.mark.parametrize("order", ["random", "confidence", "ancestral"])
def test_visible_tokens_do_not_change_and_masks_only_disappear(order):
    """With a net that predicts other tokens in every step."""
    seen: list[np.ndarray] = []

    def log_probs(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        key = jax.random.fold_in(jax.random.key(0), (x == 6).sum())
        return jax.nn.log_softmax(jax.random.normal(key, (*x.shape, 6)))

    how = MaskedSampling(5, order)
    last = np.asarray(jax.jit(lambda keys: unmask(log_probs, keys, 12, 6, how))(keys(4)))
    jax.effects_barrier()
    assert len(seen) == 5
    assert (seen[0] == 6).all() and ((last >= 0) & (last < 6)).all()
    for before, after in zip(seen, [*seen[1:], last], strict=True):
        np.testing.assert_array_equal(after[before < 6], before[before < 6])
    if order != "ancestral":
        left = [(x == 6).sum(1) for x in [*seen[1:], last]]
        np.testing.assert_array_equal(left, np.broadcast_to(how.plan(12)[2][:, None], (5, 4)))


def test_the_number_of_masks_left():
    ratios: Any = {"linear": lambda r: 1 - r, "cosine": lambda r: math.cos(math.pi / 2 * r)}
    for schedule, ratio in ratios.items():
        left = MaskedSampling(8, schedule=schedule).plan(256)[2]
        assert list(left) == [math.floor(256 * ratio((i + 1) / 8) + 1e-6) for i in range(8)]
        assert list(MaskedSampling(5, schedule=schedule).plan(5)[2]) == [4, 3, 2, 1, 0]
        assert list(MaskedSampling(7, schedule=schedule).plan(5)[2])[-3:] == [0, 0, 0]
    score = jnp.asarray([[3.0, 1, 2], [1, 1, 1]])
    np.testing.assert_array_equal(lowest(score, jnp.asarray([[2], [1]])), [[False, True, True], [True, False, False]])


def test_grey_levels_and_tokens():
    model = Masked()
    x = jnp.arange(256).reshape(1, 16, 16, 1) / 127.5 - 1
    tokens = model.tokens(CONTEXT, x)
    np.testing.assert_array_equal(tokens.ravel(), np.arange(256))
    np.testing.assert_allclose(model.images(CONTEXT, tokens), x, atol=1e-6)
    few = replace(model, levels=5)
    np.testing.assert_array_equal(few.tokens(CONTEXT, jnp.asarray([-1, -0.3, 0.2, 0.3, 1.0])), [0, 1, 2, 3, 4])
    assert model.task(1).find(Density) and few.task(1).find(Density) is None


# ---------------------------------------------------------------- over an autoencoder


def small(name: str, out: Path, **model: Any) -> Run:
    tiny = preset(name).tiny
    log, save = replace(tiny.log, every=3, samples=0), replace(tiny.save, every=3)
    changed: Any = {"model": replace(tiny.model, **model), "log": log, "save": save}
    return replace(tiny, preset=name, steps=6, mesh=Mesh(data=1), out=str(out), **changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Configurations of runs of two kinds of VQ-VAEs with 4x4 tokens, and of a VAE."""
    folder = tmp_path_factory.mktemp("autoencoders")
    kinds = {
        "residual": Quantiser(codes=8, size=4, depth=3),
        "finite": Quantiser("finite", levels=(3, 4)),
    }
    runs = [small("vq-vae", folder / kind, quantiser=quantiser, prior=0) for kind, quantiser in kinds.items()]
    for run in (*runs, small("vae", folder / "vae")):
        run.folder.mkdir()
        (run.folder / "config.json").write_text(to_json(run))
    return folder


def with_weights(folder: Path, kind: str) -> str:
    """Return the folder of a VQ-VAE's run, which has weights by now."""
    run = load_config(folder / kind)
    shutil.rmtree(run.folder, ignore_errors=True)
    return str(save_untrained(run))


def over(folder: Path, kind: str, out: str = "masked", **more: Any) -> Run:
    return small("masked", folder / out, net=NET, autoencoder=str(folder / kind), **more)


@pytest.mark.parametrize(
    "kind, depth, vocabulary", [("residual", 3, 8), pytest.param("finite", 1, 12, marks=pytest.mark.slow)]
)
def test_tokens_of_a_quantiser_are_encoded_and_decoded(kind, depth, vocabulary, folder):
    model = over(folder, kind).model
    task: Any = model.task(1)
    assert task.find(Density) is None and (model.shape, model.vocabulary) == ((4, 4, depth), vocabulary)
    nets = jax.tree.map(jnp.asarray, load(with_weights(folder, kind)))
    now = CONTEXT.replace(frozen={"autoencoder": nets})
    x = jnp.asarray(np.tanh(np.random.default_rng(0).normal(size=(5, 8, 8, 1))), jnp.float32)
    autoencoder = autoencoder_of(model.autoencoder, model.image)
    apply = encode(autoencoder.task)

    @jax.jit
    def run(key):
        tokens, (params, _) = model.tokens(now, x), model.init(key)
        latents = apply(nets["params"], context_of(nets), {"image": x})
        made = generate(task)(params, now, keys(5), {})["image"]
        bound = model.bound(params, now, {"image": x}, keys(5), 4)
        return tokens, model.images(now, tokens), autoencoder.decode(nets, latents), made, bound

    tokens, images, decoded, made, bound = run(quick_key(0))
    assert tokens.shape == (5, 4, 4, depth) and set(np.unique(tokens)) <= set(range(vocabulary))
    np.testing.assert_allclose(images, decoded, atol=1e-5)
    assert made.shape == x.shape and float(jnp.abs(made).max()) <= 1
    # An untrained net predicts the uniform distribution.
    np.testing.assert_allclose(bound, -16 * depth * math.log(vocabulary), rtol=1e-4)


@pytest.mark.slow
def test_a_run_over_tokens_resumes_bit_identically(folder):
    with_weights(folder, "residual")
    whole = fit(over(folder, "residual"))
    half = over(folder, "residual", "half")
    fit(replace(half, steps=3))
    config = folder / "half" / "config.json"
    config.write_text(to_json(half))
    shutil.rmtree(folder / "half" / "samples")
    fit(half)
    assert_same(whole, folder / "half", 6)
    opened = open_run(whole, sampling="steps=2,order=confidence,temperature=0.9")
    assert set(opened.state.params) == {"denoiser"} and set(opened.frozen) == {"autoencoder"}
    assert opened.run.model.sampling == MaskedSampling(2, "confidence", temperature=0.9)
    apply = generate(opened.task)
    made = [np.asarray(apply(*averaged(opened.state, opened.frozen), keys(5)[:n], {})["image"]) for n in (5, 1)]
    np.testing.assert_allclose(made[0][:1], made[1], atol=1e-5)
    assert spec_of(opened.task, 2)["image"].shape == (2, 8, 8, 1)


@pytest.mark.parametrize(
    "model, words",
    [
        (replace(THREE, autoencoder="no/such/run"), "There is no run folder no/such/run"),
        (replace(THREE, levels=1), "model.levels must be from 2 to 256, not 1"),
        (replace(THREE, levels=300), "model.levels must be from 2 to 256, not 300"),
        (replace(THREE, embedding=0), "model.embedding must be at least 1"),
        (replace(THREE, sampling=MaskedSampling(0)), "model.sampling.steps must be at least 1"),
        (replace(THREE, sampling=MaskedSampling(temperature=-1)), "model.sampling.temperature must be at least 0"),
        (replace(THREE, sampling=MaskedSampling(guidance=2.0)), "needs a class-conditional model"),
        (replace(THREE, net=replace(NET, patch=2)), "Patches of 2x2 don't tile a 1x3 image"),
    ],
)
def test_invalid_settings_are_refused(model, words):
    with pytest.raises(InputError, match=words):
        model.task(1)


def test_an_autoencoder_that_does_not_fit(folder):
    with pytest.raises(InputError, match=r"must be the run of a vq-vae or a vqgan: .* has no tokens"):
        over(folder, "vae").model.task(1)
    with pytest.raises(InputError, match=r"takes 8x8x1 images: model.image must be 8 8 1, not 16 16 1"):
        replace(over(folder, "finite").model, image=(16, 16, 1)).task(1)
    assert isinstance(load_config(folder / "vae").model, VAE)
    run = over(folder, "finite")
    with pytest.raises(InputError, match="did you mean 'random'"):
        resampled(run, "order=randon").model.task(1)
