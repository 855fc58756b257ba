"""Adversarial training: penalties, spectral norm, unrolling, priors, optimizers, and wrong settings."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from jaxgen import zoo
from jaxgen.core.config import Optim, Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context, averaged
from jaxgen.losses import regularisation
from jaxgen.losses.gan import LOSSES
from jaxgen.models.gan.dcgan import DCGAN
from jaxgen.models.gan.unrolled import UnrolledGAN
from jaxgen.nn import priors
from jaxgen.runs.config_io import from_json, to_json
from jaxgen.runs.task_transforms import tune
from jaxgen.tasks.adversarial_config import AdversarialConfig
from tests.helpers.capabilities import generate
from tests.helpers.quick_keys import quick_key
from tests.helpers.untrained import drawn_state

BATCH = 6
SMALL = DCGAN(image=(8, 8, 1), latent=3, width=2, norm="none")


def random_images(model, batch: int = BATCH, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(0).uniform(-1, 1, (batch, *model.image)).astype(dtype)}


def start(model, batch: int = BATCH, make_key=quick_key):
    """Return a task and its initial state."""
    task = model.task(1)
    return task, jax.jit(lambda: init_state(task, make_key(0), spec_of(task, batch)))()


def drawn_start(model, batch: int = BATCH):
    """Return a task and a state with larger weights, which compiles nothing."""
    task = model.task(1)
    return task, drawn_state(task, batch)


def doubled(tree):
    return jax.tree.map(lambda x: jnp.float64(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def slope(f, x, direction, step: float = 1e-5) -> float:
    """Return the derivative of f at a tree along a direction, from five points."""
    at = lambda t: float(f(jax.tree.map(lambda a, d: np.asarray(a) + t * step * d, x, direction)))  # noqa: E731
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def direction_in(tree, seed: int = 1):
    leaves, shape = jax.tree.flatten(tree)
    draw = np.random.default_rng(seed)
    return jax.tree.unflatten(shape, [draw.normal(size=x.shape) for x in leaves])


# ---- penalties


def test_penalties_of_a_linear_critic_are_known():
    draw = np.random.default_rng(0)
    a = draw.normal(size=(4, 4, 2))
    real, fake = draw.normal(size=(2, 5, 4, 4, 2)).astype(np.float32)
    critic = lambda x: (x * jnp.asarray(a, jnp.float32)[None]).sum((1, 2, 3))  # noqa: E731
    key, norm = jax.random.key(0), np.linalg.norm(a)

    @jax.jit
    def penalties():
        return (
            regularisation.zero_centred(critic, real),
            regularisation.wasserstein_penalty(critic, real, fake, key),
            regularisation.dragan_penalty(critic, real, key),
        )

    zero, *ones = penalties()
    np.testing.assert_allclose(zero, np.full(5, norm**2 / 2), rtol=1e-5)
    for found in ones:
        np.testing.assert_allclose(found, np.full(5, (norm - 1) ** 2), rtol=1e-5)


def test_the_points_at_which_the_penalties_are_taken():
    """D = |x|^2 / 2 has the gradient x, so the penalty shows the point."""
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(2, 500, 3, 3, 1)).astype(np.float32)
    critic = lambda x: (x**2).sum((1, 2, 3)) / 2  # noqa: E731
    key = jax.random.key(0)
    norm = lambda x: np.sqrt((x**2).sum((1, 2, 3)))  # noqa: E731

    @jax.jit
    def run():
        between = regularisation.wasserstein_penalty(critic, 10 * real, 10 * fake, key)
        return between, jax.random.uniform(key, (500, 1, 1, 1)), regularisation.dragan_penalty(critic, 10 * real, key)

    between, t, around = map(np.asarray, run())
    between, around = 1 + np.sqrt(between), 1 + np.sqrt(around)  # all norms are above 1
    np.testing.assert_allclose(between, norm(10 * np.asarray(t * real + (1 - t) * fake)), rtol=1e-4)
    assert 0 <= float(t.min()) < 0.05 and 0.95 < float(t.max()) <= 1, "from one image to the other"
    far = np.abs(around - norm(10 * real))
    assert 0 < far.max() <= 10 * real.std() / 2 * 3, "at most half a standard deviation for each pixel"


@pytest.mark.parametrize(
    "name", ["r1", "gradient_penalty", *(pytest.param(name, marks=pytest.mark.slow) for name in ("r2", "dragan"))]
)
def test_gradients_of_the_penalties_equal_finite_differences(name):
    with jax.enable_x64(True):
        model = dataclasses.replace(SMALL, game=dataclasses.replace(AdversarialConfig(lazy=2), **{name: 10.0}))
        task, state = drawn_start(model)
        params, batch = doubled(state.params), random_images(model, dtype=np.float64)
        _, context = averaged(state, {})
        penalty = next(phase for phase in task.phases if phase.name == "penalty")

        @jax.jit
        @jax.value_and_grad
        def loss(own):
            return penalty.loss({**params, "discriminator": own}, context, batch, jax.random.key(1))[0]

        own = params["discriminator"]
        gradient, along = loss(own)[1], direction_in(own)
        found = sum((np.asarray(g) * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True))
        assert abs(found) > 1e-3
        assert float(found) == pytest.approx(slope(lambda own: loss(own)[0], own, along), rel=1e-6)


def test_a_lazy_penalty_has_the_same_mean_as_one_at_every_update():
    """Of any number of updates in a step; the optimizer is adjusted for the number of updates that this adds."""
    task, state = drawn_start(dataclasses.replace(SMALL, game=AdversarialConfig(r1=3.0, r2=2.0, lazy=4, critics=3)))
    whole = dataclasses.replace(SMALL, game=AdversarialConfig(r1=3.0, r2=2.0, critics=3)).task(1)
    bare = SMALL.task(1)
    params, context = averaged(state, {})
    args = (params, context, random_images(SMALL), jax.random.key(0))
    phases = {phase.name: phase for phase in task.phases}
    main, lazy = phases["discriminator"], phases["penalty"]
    assert lazy.every == 4 and lazy.learner == "discriminator"
    share = lazy.repeat / lazy.every  # penalties in a step
    assert main.repeat == whole.phases[0].repeat == 3 and main.repeat / (main.repeat + share) == 4 / (4 + 1)
    (value, aux), (with_it, _), (without, _) = jax.jit(
        lambda *args: [phase.loss(*args) for phase in (lazy, whole.phases[0], bare.phases[0])]
    )(*args)
    assert float(value) == pytest.approx(4 * (3 * float(aux.metrics["r1"]) + 2 * float(aux.metrics["r2"])), rel=1e-5)
    assert whole.phases[0].repeat * float(with_it - without) == pytest.approx(share * float(value), rel=1e-4)


# ---- spectral normalisation


def test_spectral_norm_finds_the_largest_singular_value_of_every_matrix():
    draw = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 4, 5), "dense": (7, 6), "bias": (5,)}
    params = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    vectors = regularisation.init_spectral(jax.random.key(0), params)
    normalise = jax.jit(regularisation.spectral_normalise)
    assert {name: u.shape for name, u in vectors.items()} == {"kernel": (5,), "dense": (6,)}
    once, moved = normalise(params, vectors)
    again, after = normalise(params, moved)
    for _ in range(198):
        normal, after = normalise(params, after)
    for name, w in params.items():
        sigma = np.linalg.svd(w.reshape(-1, w.shape[-1]), compute_uv=False)[0] if w.ndim > 1 else 1
        np.testing.assert_allclose(normal[name], w / sigma, rtol=1e-4)
    spared, _ = regularisation.spectral_normalise(
        params, regularisation.init_spectral(jax.random.key(0), params, spare="dense")
    )
    assert np.array_equal(spared["dense"], params["dense"]) and not np.array_equal(spared["kernel"], params["kernel"])
    error = lambda tree: max(float(abs(tree[n] - normal[n]).max()) for n in params)  # noqa: E731
    assert error(again) < error(once), "each call is one more power iteration"
    assert all(np.linalg.norm(after[n]) == pytest.approx(1, abs=1e-5) for n in ("kernel", "dense"))


def test_spectral_norms_gradient_is_the_papers():
    """Miyato et al. 2018, equation 12: (G - <G, W'> u v^T) / sigma, with u and v constant."""
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        w, g = draw.normal(size=(2, 6, 4))
        u: Any = {"w": draw.normal(size=4)}
        improve = jax.jit(lambda u: regularisation.spectral_normalise({"w": w}, u, iterations=5)[1])
        for _ in range(100):
            u = improve(u)
        found = jax.jit(jax.grad(lambda w: (regularisation.spectral_normalise({"w": w}, u)[0]["w"] * g).sum()))(w)
        left, values, right = np.linalg.svd(w)
        expected = (g - (g * w / values[0]).sum() * np.outer(left[:, 0], right[0])) / values[0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("which", ["discriminator", "both"])
def test_a_normalised_net_does_not_depend_on_the_scale_of_its_weights(which):
    task, state = start(dataclasses.replace(SMALL, game=AdversarialConfig(spectral=which)))
    _, context = averaged(state, {})
    batch = random_images(SMALL)
    larger = lambda tree: jax.tree.map(lambda x: 3 * np.asarray(x) if x.ndim > 1 else x, tree)  # noqa: E731
    loss = jax.jit(lambda params: task.phases[0].loss(params, context, batch, jax.random.key(0)))
    for net in ("generator", "discriminator"):
        changed = {**state.params, net: larger(state.params[net])}
        a, b = (float(loss(p)[0]) for p in (state.params, changed))
        assert (a == pytest.approx(b, rel=1e-5)) == (net in (which, "discriminator") or which == "both"), net
    aux = loss(state.params)[1]
    moved = aux.extra["discriminator_spectral"]
    before = state.extra["discriminator_spectral"]
    assert not jax.tree.all(jax.tree.map(np.array_equal, moved, before)), (
        "the power iteration continues from step to step"
    )


# ---- unrolling


@pytest.mark.slow
def test_the_unrolled_gradient_equals_finite_differences(k=2):
    with jax.enable_x64(True):
        game = AdversarialConfig(loss="minimax", unroll=k, learning_rate=1e-2)
        model = UnrolledGAN(image=(1, 1, 2), latent=3, hidden=4, layers=1, game=game)
        task, state = start(model, make_key=jax.random.key)  # quick keys have no numbers of 64 bits
        batch = random_images(model, dtype=np.float64)
        step = jax.jit(make_step(task))
        for _ in range(3):  # so that Adam's moments are not 0
            state, _ = step(state, jax.tree.map(np.float32, batch), {})
        params = doubled(state.params)
        learners = FrozenDict(task.learners)
        moments = doubled(state.optimizer_state)
        context = Context(state.extra, state.ema, {}, state.step, moments, learners)
        phase = task.phases[-1]

        @jax.jit
        def loss(own):
            return phase.loss({**params, "generator": own}, context, batch, jax.random.key(1))[0]

        own = params["generator"]
        along = direction_in(own)
        gradient = jax.grad(loss)(own)
        found = float(sum((g * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True)))
        assert found == pytest.approx(slope(loss, own, along), rel=1e-5)
        # It differs from the gradient with a constant updated discriminator.
        ahead = {**params, "discriminator": updated(task, params, context, batch, k)}
        plain = dataclasses.replace(model, game=dataclasses.replace(game, unroll=0)).task(1).phases[-1]

        def near(own):
            return plain.loss({**ahead, "generator": own}, context, batch, jax.random.key(1))[0]

        assert float(near(own)) == pytest.approx(float(loss(own)), rel=1e-9), "the same value"
        assert abs(found - slope(near, own, along)) > 1e-3 * abs(found), "another gradient"


def updated(task, params, context, batch, k: int):
    """Return the discriminator after k updates on one batch, by plain optax."""
    optimizer: Any = task.learners["discriminator"].optimizer
    own: Any = {"discriminator": params["discriminator"]}
    moments = context.moments["discriminator"]
    for _ in range(k):
        loss = lambda own: task.phases[0].loss({**params, **own}, context, batch, jax.random.key(1))[0]  # noqa: E731
        updates, moments = optimizer.update(jax.grad(loss)(own), moments, own)
        own = optax.apply_updates(own, updates)
    return own["discriminator"]


def test_unrolling_uses_the_runs_optimizer():
    model = UnrolledGAN(image=(1, 1, 2), latent=3, hidden=4, layers=1)
    run = Run(model, optim=Optim(clip=0.1, schedule="cosine", warmup=1))
    task = tune(model.task(10), run.optim, run.compute, 10)
    _, metrics = jax.jit(make_step(task))(drawn_state(task, BATCH), random_images(model), {})
    assert all(np.isfinite(float(x)) for x in metrics.values())


# ---- optimizers, losses, priors


def test_a_clipped_critic_stays_within_its_limit():
    game = AdversarialConfig(loss="wasserstein", critics=2, clip=0.01, optimizer="rmsprop", learning_rate=1e-2)
    task, state = start(dataclasses.replace(SMALL, game=game), 2 * BATCH)
    assert task.slices == 2
    state, _ = jax.jit(make_step(task))(state, random_images(SMALL, 2 * BATCH), {})
    sizes = [float(abs(x).max()) for x in jax.tree.leaves(state.params["discriminator"])]
    assert max(sizes) == pytest.approx(0.01, rel=1e-5) and max(sizes) < 0.010001
    assert max(float(abs(x).max()) for x in jax.tree.leaves(state.params["generator"])) > 0.011


def test_a_lazy_learner_has_adjusted_rate_and_decays():
    """Karras et al. 2020a, appendix B: rate and decays of k updates distributed over k + 1."""
    game = AdversarialConfig(learning_rate=0.1, beta1=0.5, beta2=0.9)
    params = {"w": jnp.zeros(1)}
    plain, lazy = game.make_optimizer(0.1), game.make_optimizer(0.1, every=4)
    a, b = plain.init(params), lazy.init(params)
    moves: list[Any] = []
    for optimizer, state in ((plain, a), (lazy, b)):
        update, after = optimizer.update({"w": jnp.ones(1)}, state, params)
        moves.append((update, after))
    (ua, _), (ub, b) = moves
    assert float(ub["w"][0] / ua["w"][0]) == pytest.approx(0.8, rel=1e-5)
    mu: Any = optax.tree.get(b, "mu")
    assert float(mu["w"][0]) == pytest.approx(1 - 0.5**0.8, rel=1e-5)


def test_rmsprops_epsilon_is_added_to_the_root():
    """As in PyTorch, which the authors of WGAN used: small gradients give updates as large as large ones."""
    optimizer = AdversarialConfig(optimizer="rmsprop").make_optimizer(1e-3)
    params = {"w": jnp.zeros(1)}
    update: Any = optimizer.update({"w": jnp.full(1, 1e-5)}, optimizer.init(params), params)[0]
    assert float(update["w"][0]) == pytest.approx(-1e-3 * 1e-5 / (0.01**0.5 * 1e-5 + 1e-8), rel=1e-4)


def test_stylegan2s_settings_for_cifar_are_the_authors():
    """stylegan2-ada-pytorch: `map` of train.py is for G only; training_loop.py always multiplies G's rate by 4/5."""
    model = dataclasses.replace(zoo.load("stylegan2-cifar").run.model, classes=10)
    task, params = model.task(1), {"w": jnp.zeros(1)}
    for net, ratio in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        optimizer = task.learners[net].optimizer
        update: Any = optimizer.update({"w": jnp.ones(1)}, optimizer.init(params), params)[0]
        assert float(update["w"][0]) == pytest.approx(-0.0025 * ratio, rel=1e-5)
    nets: Any = jax.eval_shape(lambda key: task.init(key, {}), jax.random.key(0))[0]
    layers = {net: [name for name in nets[net]["mapping"] if name.startswith("fc")] for net in nets}
    assert (len(layers["generator"]), len(layers["discriminator"])) == (2, 8)


def test_relativistic_losses_are_the_papers():
    draw = np.random.default_rng(0)
    r, f = draw.normal(size=(2, 7)).astype(np.float32)
    log_sigmoid = lambda t: -np.log1p(np.exp(-t))  # noqa: E731
    pairs, average = LOSSES["relativistic"], LOSSES["relativistic-average"]
    np.testing.assert_allclose(pairs.discriminator(r, f), -log_sigmoid(r - f), rtol=1e-5)
    np.testing.assert_allclose(pairs.generator(r, f), -log_sigmoid(f - r), rtol=1e-5)
    both = lambda r, f: -log_sigmoid(r - f.mean()) - log_sigmoid(-(f - r.mean()))  # noqa: E731
    np.testing.assert_allclose(average.discriminator(r, f), both(r, f), rtol=1e-5)
    np.testing.assert_allclose(average.generator(r, f), both(f, r), rtol=1e-5)


@pytest.mark.parametrize("name", [n if n == "minimax" else pytest.param(n, marks=pytest.mark.slow) for n in LOSSES])
def test_every_loss_trains(name):
    task, state = drawn_start(dataclasses.replace(SMALL, game=AdversarialConfig(loss=name)))
    _, context = averaged(state, {})
    batch = random_images(SMALL)
    for phase in task.phases:
        loss = lambda params, phase=phase: phase.loss(params, context, batch, state.key)[0]  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
        assert np.isfinite(float(value))
        assert float(optax.tree.norm(gradient[phase.learner])) > 0


def test_every_loss_depends_on_the_logits():
    real, fake = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)

    @jax.jit
    def gradients(real, fake):
        of = lambda f, wrt: jax.value_and_grad(lambda *logits: f(*logits).mean(), wrt)(real, fake)  # noqa: E731
        return {n: (of(l.discriminator, 0), of(l.discriminator, 1), of(l.generator, 1)) for n, l in LOSSES.items()}

    for name, found in gradients(real, fake).items():
        for value, gradient in found:
            assert np.isfinite(float(value)) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0, name


def test_truncated_priors():
    keys = jax.random.split(jax.random.key(0), 2000)
    normal, uniform = priors.normal(4), priors.uniform(4)
    psi = [jnp.full(2000, x, jnp.float32) for x in (1, 0.5, 0)]
    whole, ones, half, zeros, flat, smaller = map(
        np.asarray,
        jax.jit(
            lambda: (normal(keys, None), *(normal(keys, p) for p in psi), uniform(keys, None), uniform(keys, psi[1]))
        )(),
    )
    assert np.array_equal(whole, ones), "psi = 1 does not change z"
    assert np.abs(half).max() <= 1.0 and half.std() == pytest.approx(0.5 * 0.8796, abs=0.01)  # of N(0, 1) within 2
    assert np.abs(zeros).max() == 0
    np.testing.assert_array_equal(smaller, 0.5 * flat)


# ---- errors


@pytest.mark.parametrize(
    ("game", "words"),
    [
        (AdversarialConfig(critics=0), "critics must be at least 1"),
        (AdversarialConfig(r1=-1.0), "r1 must be at least 0"),
        (AdversarialConfig(lazy=16), "needs a penalty"),
        (AdversarialConfig(lazy=2, r1=1.0, unroll=2), "looks ahead without the penalties"),
        (AdversarialConfig(beta2=1.0), "beta2 must be at least 0 and below 1"),
        (AdversarialConfig(ema=1.0), "below 1"),
        (AdversarialConfig(augment="colour"), "Unknown"),
        (AdversarialConfig(augment="ada:everything"), "Unknown"),
        (AdversarialConfig(unroll=-1), "unroll must be at least 0"),
    ],
)
def test_wrong_settings_raise_one_sentence(game, words):
    with pytest.raises(InputError, match=words) as error:
        dataclasses.replace(SMALL, game=game).task(1)
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize("image", [(48, 48, 3), (4, 4, 3), (64, 32, 3)])
def test_stylegan2_needs_a_power_of_two(image):
    from jaxgen.models.gan.stylegan2 import StyleGAN2

    with pytest.raises(InputError, match="power of two"):
        StyleGAN2(image=image).task(1)


def test_only_conditional_models_take_labels():
    for name, given, words in (
        ("cgan", {}, "conditional: give labels, from 0 to 9"),
        ("dcgan", {"label": np.zeros(2, np.int32)}, "unconditional"),
        ("stylegan2", {"label": np.zeros(2, np.int32)}, "unconditional"),
    ):
        task = zoo.load(name).tiny.model.task(1)
        state = jax.eval_shape(lambda task=task: init_state(task, jax.random.key(0), spec_of(task, 2)))
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
        with pytest.raises(InputError, match=words):
            jax.eval_shape(lambda *a, g=given, t=task: generate(t)(*a, g), *averaged(state, {}), keys)


def test_a_batch_that_the_critic_updates_do_not_divide_raises():
    task, state = drawn_start(dataclasses.replace(SMALL, game=AdversarialConfig(critics=5)), 10)
    with pytest.raises(InputError, match="can't be cut into 5 parts"):
        make_step(task)(state, random_images(SMALL, 8), {})


def test_a_run_saved_with_ungrouped_settings_opens():
    run = dataclasses.replace(zoo.load("dcgan").run, preset="dcgan")
    values = json.loads(to_json(run))
    game = values["model"].pop("game")
    del values["model"]["norm"], values["model"]["prior"]
    values["model"] |= {name: game[name] for name in ("loss", "learning_rate", "beta1")}
    values["model"]["loss"] = "hinge"
    opened = from_json(json.dumps(values))
    assert opened.model == DCGAN(game=AdversarialConfig(loss="hinge", learning_rate=5e-4))
