"""DCGAN: parameters, initialisation, image sizes, batch norm, losses and the shared forward pass."""

import dataclasses
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import TrainState, averaged
from jaxgen.losses.gan import LOSSES
from jaxgen.models.gan.dcgan import DCGAN, DCGANGenerator
from jaxgen.tasks.adversarial_config import AdversarialConfig
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import generate

BATCH = 8
SMALL = DCGAN(image=(16, 16, 2), latent=5, width=4)


def shapes_of(model: DCGAN):
    task = model.task(1)
    return jax.eval_shape(task.init, jax.random.key(0), spec_of(task, BATCH))[0]


@cache
def start(model: DCGAN):
    """Return the task, its initial state and a batch of noise."""
    task = model.task(1)
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, *model.image)).astype(np.float32)
    batch = {"image": images}
    return task, jax.jit(lambda: init_state(task, jax.random.key(0), batch))(), batch


@cache
def compiled() -> Any:
    """Return one compiled step of SMALL."""
    task, state, batch = start(SMALL)
    return jax.jit(make_step(task)).lower(state, batch, {}).compile()


def noise_of(state: TrainState, latent: int):
    """Return the z that a step samples from this state."""
    key = rng.fold(jax.random.fold_in(state.key, state.step), "z")
    return rng.uniform(jax.random.split(key, BATCH), (latent,))


# ---- parameters and initialisation


def test_parameters_of_the_pytorch_tutorials_networks():
    params = shapes_of(DCGAN(image=(64, 64, 3), latent=100, width=64, kernel=4))
    assert {net: count(p) for net, p in params.items()} == {"generator": 3_576_704, "discriminator": 2_765_568}


def test_parameters_of_the_papers_figure_1():
    params = shapes_of(DCGAN(image=(64, 64, 3), latent=100, width=128, kernel=5))
    between = 128 * 256 + 256 * 512 + 512 * 1024
    generator = 100 * 4 * 4 * 1024 + 5 * 5 * (between + 128 * 3) + 2 * (1024 + 512 + 256 + 128)
    discriminator = 5 * 5 * (3 * 128 + between) + 4 * 4 * 1024 + 2 * (256 + 512 + 1024)
    assert {net: count(p) for net, p in params.items()} == {"generator": generator, "discriminator": discriminator}


def test_parameters_are_initialised_as_in_the_paper():
    _, state, _ = start(DCGAN(image=(32, 32, 3), width=32))
    seen = set()
    for path, x in jax.tree_util.tree_leaves_with_path(state.params):
        name, x = jax.tree_util.keystr(path), np.asarray(x, np.float64)
        seen.add(name.split("'")[-2])
        if "bias" in name:
            assert (x == 0).all(), name
            continue
        mean, error = (1 if "scale" in name else 0), 5 * 0.02 / np.sqrt(x.size)  # 5 standard errors
        assert abs(x.mean() - mean) < error, name
        assert abs(x.std() - 0.02) < error, name
    assert seen == {"kernel", "scale", "bias"}


# ---- sizes


SIZES = [(32, 32, 1), (64, 64, 3), (128, 128, 3), (28, 28, 1), (48, 32, 2), (32, 64, 4), (8, 8, 1)]


@pytest.mark.parametrize(("image", "kernel"), [*((size, 4) for size in SIZES), ((28, 28, 1), 5), ((48, 32, 2), 5)])
def test_any_size_that_fits_strides_of_two(image, kernel):
    task = DCGAN(image=image, width=2, latent=3, kernel=kernel).task(1)
    spec = spec_of(task, BATCH)
    state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec))
    after, _ = jax.eval_shape(make_step(task), state, spec, {})
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    assert jax.eval_shape(generate(task), *averaged(state, {}), keys, {})["image"].shape == (3, *image)


@pytest.mark.parametrize("size", [(30, 30), (7, 7), (4, 4), (33, 32), (64, 36)])
def test_the_error_for_a_size_that_does_not_fit_is_one_sentence(size):
    with pytest.raises(InputError) as error:
        DCGAN(image=(*size, 3)).task(1)
    words = str(error.value)
    assert f"{size[0]}x{size[1]}" in words and words.endswith(".") and words.count(". ") == 0


@pytest.mark.parametrize("change", [{"image": (0, 32, 3)}, {"image": (32, 32, 0)}, {"width": 0}, {"latent": 0}])
def test_a_size_of_zero_raises(change):
    name = f"model.{next(iter(change))}"
    with pytest.raises(InputError, match=f"{name} must be at least 1, not 0"):
        DCGAN(**change).task(1)


# ---- batch norm


def normalised(x, mean, var, norm):
    """Return x after batch norm (Ioffe and Szegedy 2015, algorithm 1)."""
    return (x - mean) / np.sqrt(var + 1e-5) * np.asarray(norm["scale"]) + np.asarray(norm["bias"])


def test_a_step_updates_the_running_statistics_with_momentum_0_9():
    _, state, batch = start(SMALL)
    dense = np.asarray(noise_of(state, SMALL.latent) @ state.params["generator"]["Dense_0"]["kernel"], np.float64)
    dense = dense.reshape(-1, 8)  # [b*4*4 c]
    after, _ = compiled()(state, batch, {})
    old, new = (s.extra["generator"]["batch_stats"]["BatchNorm_0"] for s in (state, after))
    assert (old["mean"] == 0).all() and (old["var"] == 1).all()
    np.testing.assert_allclose(new["mean"], 0.1 * dense.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(new["var"], 0.9 + 0.1 * dense.var(0), rtol=1e-5)


def test_training_uses_batch_statistics_and_generation_running_statistics():
    _, state, _ = start(SMALL)
    net = DCGANGenerator((4, 4), (4, 8), 2, 4)
    params = state.params["generator"]
    draw = np.random.default_rng(0)
    running = jax.tree.map(lambda x: draw.uniform(0.5, 1.5, x.shape).astype(np.float32), state.extra["generator"])
    z = noise_of(state, SMALL.latent)
    dense = np.asarray(z @ params["Dense_0"]["kernel"], np.float64).reshape(-1, 4, 4, 8)
    stats = running["batch_stats"]["BatchNorm_0"]
    batchs = {"mean": dense.mean((0, 1, 2)), "var": dense.var((0, 1, 2))}
    for train, want in ((True, batchs), (False, stats)):
        seen: Any
        _, seen = net.apply(
            {"params": params, **running}, z, train=train, mutable=["batch_stats"], capture_intermediates=True
        )
        got = seen["intermediates"]["BatchNorm_0"]["__call__"][0]
        expected = normalised(dense, want["mean"], want["var"], params["BatchNorm_0"])
        np.testing.assert_allclose(got, expected, atol=1e-4)
        if not train:
            assert jax.tree.all(jax.tree.map(np.array_equal, seen["batch_stats"], running["batch_stats"]))


def test_samples_use_the_running_statistics():
    task, state, _ = start(SMALL)
    params, context = averaged(state, {})
    # Larger weights than the initial ones, with which all images are nearly grey.
    params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params)
    other = jax.tree.map(lambda x: x + 1, context.extra)
    keys = jax.random.split(jax.random.key(1), 2)
    images = generate(task)(params, context, keys, {})["image"]
    assert np.abs(images - generate(task)(params, context.replace(extra=other), keys, {})["image"]).max() > 0.01
    np.testing.assert_allclose(images[1:], generate(task)(params, context, keys[1:], {})["image"], atol=1e-6)


# ---- losses

LOGITS = np.array([-60.0, -3, -1, -0.5, 0, 0.5, 1, 3, 60])
REAL, FAKE = (x.ravel() for x in np.meshgrid(LOGITS, LOGITS))
CLOSED = {  # name: discriminator(real, fake), generator(real, fake), and their derivatives by real, fake, fake
    "non-saturating": (
        lambda r, f: np.log1p(np.exp(-r)) + np.log1p(np.exp(f)),
        lambda r, f: np.log1p(np.exp(-f)),
        lambda r: -1 / (1 + np.exp(r)),
        lambda f: 1 / (1 + np.exp(-f)),
        lambda f: -1 / (1 + np.exp(f)),
    ),
    "minimax": (
        lambda r, f: np.log1p(np.exp(-r)) + np.log1p(np.exp(f)),
        lambda r, f: -np.log1p(np.exp(-r)) - np.log1p(np.exp(f)),
        lambda r: -1 / (1 + np.exp(r)),
        lambda f: 1 / (1 + np.exp(-f)),
        lambda f: -1 / (1 + np.exp(-f)),
    ),
    "hinge": (
        lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
        lambda r, f: -f,
        lambda r: np.where(r < 1, -1.0, 0.0),
        lambda f: np.where(f > -1, 1.0, 0.0),
        lambda f: -np.ones_like(f),
    ),
    "wasserstein": (
        lambda r, f: f - r,
        lambda r, f: -f,
        lambda r: -np.ones_like(r),
        lambda f: np.ones_like(f),
        lambda f: -np.ones_like(f),
    ),
    "least-squares": (
        lambda r, f: ((r - 1) ** 2 + f**2) / 2,
        lambda r, f: (f - 1) ** 2 / 2,
        lambda r: r - 1,
        lambda f: f,
        lambda f: f - 1,
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_losses_and_their_gradients_are_the_papers(name):
    loss, (discriminator, generator, by_real, by_fake, by_generator) = LOSSES[name], CLOSED[name]
    real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    value = loss.discriminator(real, fake)
    assert value.shape == real.shape and value.dtype == jnp.float32, "one number per example"
    np.testing.assert_allclose(value, discriminator(REAL, FAKE), rtol=1e-6)
    np.testing.assert_allclose(loss.generator(real, fake), generator(REAL, FAKE), rtol=1e-6)
    slopes = jax.grad(lambda r, f: loss.discriminator(r, f).sum(), (0, 1))(real, fake)
    np.testing.assert_allclose(slopes[0], by_real(REAL), rtol=1e-6)
    np.testing.assert_allclose(slopes[1], by_fake(FAKE), rtol=1e-6)
    slope = jax.grad(lambda f: loss.generator(real, f).sum())(fake)
    np.testing.assert_allclose(slope, by_generator(FAKE), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradients_have_opposite_signs_at_an_undecided_discriminator(name):
    loss, undecided = LOSSES[name], jnp.full(1, 0.5 if name == "least-squares" else 0.0)
    real, fake = jax.grad(lambda r, f: loss.discriminator(r, f).sum(), (0, 1))(undecided, undecided)
    assert real < 0 < fake and real == -fake
    assert jax.grad(lambda f: loss.generator(undecided, f).sum())(undecided) < 0


def test_the_losses_at_their_optima():
    one, zero = jnp.ones(1), jnp.zeros(1)
    squares, hinge, saturating = LOSSES["least-squares"], LOSSES["hinge"], LOSSES["non-saturating"]
    assert squares.discriminator(one, zero) == 0 and squares.generator(one, one) == 0
    assert hinge.discriminator(one, -one) == 0 and hinge.discriminator(2 * one, -3 * one) == 0
    assert saturating.discriminator(zero, zero) == pytest.approx(2 * np.log(2))
    assert saturating.generator(one, -20 * one) == pytest.approx(20), "no saturation for a confident discriminator"


@pytest.mark.parametrize("name", CLOSED)
def test_the_phases_use_the_configured_loss(name):
    task, state, batch = start(dataclasses.replace(SMALL, game=AdversarialConfig(loss=name)))
    discriminator, generator = CLOSED[name][:2]
    _, context = averaged(state, {})
    zero = {**state.params, "discriminator": jax.tree.map(jnp.zeros_like, state.params["discriminator"])}
    found = [float(phase.loss(zero, context, batch, state.key)[0]) for phase in task.phases]
    nothing = np.zeros(1)  # the logits of a discriminator with all parameters 0
    assert found == pytest.approx([discriminator(nothing, nothing).item(), generator(nothing, nothing).item()])


# ---- the shared forward pass


def test_both_losses_share_one_forward_pass_of_the_generator():
    """With different noise in the two phases a step costs one more forward pass, which XLA saves with equal noise."""
    task, state, batch = start(SMALL)
    apart = dataclasses.replace(task, phases=tuple(dataclasses.replace(p, stream=p.name) for p in task.phases))
    twice = jax.jit(make_step(apart)).lower(state, batch, {}).compile()
    height, width, channels = SMALL.image
    last = 2 * BATCH * height * width * channels * SMALL.width * SMALL.kernel**2 / 4  # FLOPs of the last layer alone
    flops = [dict(step.cost_analysis() or {})["flops"] for step in (twice, compiled())]
    assert flops[0] - flops[1] > last
