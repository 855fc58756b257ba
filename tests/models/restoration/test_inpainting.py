"""Inpainting models: their layers compared with formulas, unchanged known pixels, several completions, mistakes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.commands.parse import parse
from jaxgen.core.capabilities import Degradation, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.step import init_state, make_step
from jaxgen.core.task import Task
from jaxgen.core.types import Context, Params
from jaxgen.losses import perceptual
from jaxgen.losses.elbo import kl_normal
from jaxgen.losses.regularisation import spectral_normalise
from jaxgen.models.restoration import context_encoder, gated_conv, partial_conv
from jaxgen.models.restoration.completion_vae import Normal, scale_of
from jaxgen.nn.conv import conv
from jaxgen.tasks.hole_filling import Holes, masked
from jaxgen.training import loop
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import restore

NAMES = ("partial-conv", "gated-conv", "context-encoder", "completion-vae")


def random_normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---------------------------------------------------------------- layers and their formulas


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (7, 2)])
def test_partial_convolution_is_the_paper_s_formula(kernel, stride):
    x, skip = random_normal(2, 9, 8, 3), random_normal(2, 9, 8, 2, seed=1)
    known = [(np.random.default_rng(i).random((2, 9, 8, 1)) < 0.2).astype(np.float32) for i in (2, 3)]
    known[0][0, :6, :6] = known[1][0, :6, :6] = 0  # a region without known pixels
    layer = partial_conv.PartialConv(4, kernel, stride)
    parts = list(zip((x, skip), known, strict=True))
    params: Any = layer.init(jax.random.key(0), *parts)["params"]
    params = {**params, "bias": jnp.arange(4.0)}
    y, valid = map(np.asarray, layer.apply({"params": params}, *parts))

    weights, pad = np.asarray(params["conv"]["kernel"]), kernel // 2
    whole = np.concatenate([x, skip], -1)
    m = np.concatenate([np.broadcast_to(k, v.shape) for v, k in parts], -1)
    whole, m = (np.pad(v, ((0, 0), (pad, pad), (pad, pad), (0, 0))) for v in (whole, m))
    for b, i, j in np.ndindex(*y.shape[:3]):
        at = b, slice(i * stride, i * stride + kernel), slice(j * stride, j * stride + kernel)
        total = m[at].sum()
        expected = np.zeros(4)
        if total > 0:
            sums = np.einsum("hwi,hwio->o", whole[at] * m[at], weights)
            expected = sums * kernel * kernel * 5 / total + np.arange(4)
        np.testing.assert_allclose(y[b, i, j], expected, rtol=1e-4, atol=1e-4)
        assert valid[b, i, j, 0] == (total > 0)
    assert 0 < valid.mean() < 1 or kernel == 7


def test_without_a_hole_a_partial_convolution_is_a_convolution():
    x = random_normal(2, 8, 8, 3)
    layer = partial_conv.PartialConv(4, 3)
    found: Any = layer.init(jax.random.key(0), (x, jnp.ones((2, 8, 8, 1))))
    y, known = map(np.asarray, layer.apply(found, (x, jnp.ones((2, 8, 8, 1)))))
    plain = conv(jnp.asarray(x), found["params"]["conv"]["kernel"], padding=((1, 1), (1, 1)))
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], plain[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y[:, 0, 1:-1], 1.5 * plain[:, 0, 1:-1], rtol=1e-5, atol=1e-6)  # outside is unknown
    assert (known == 1).all()


def test_holes_close_from_the_rim_inwards():
    known = jnp.ones((1, 16, 16, 1)).at[:, 4:12, 4:12].set(0)
    layer, x = partial_conv.PartialConv(1, 3), jnp.ones((1, 16, 16, 1))
    found = layer.init(jax.random.key(0), (x, known))
    for left in (36, 16, 4, 0, 0):
        x, known = map(jnp.asarray, layer.apply(found, (x, known)))
        assert (known == 0).sum() == left


def attended(x: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """Contextual attention of one image [h w c], patch by patch, in f64."""
    h, w, c = x.shape
    rows, columns = h // 2, w // 2
    small, hidden = (np.pad(v[::2, ::2], ((1, 1), (1, 1), (0, 0))) for v in (x.astype(float), mask))
    places = [(i, j) for i in range(rows) for j in range(columns)]
    patch = {(i, j): small[i : i + 3, j : j + 3] for i, j in places}
    known = {(i, j): not hidden[i : i + 3, j : j + 3].any() for i, j in places}
    unit = {p: x / max(np.linalg.norm(x), 1e-4) for p, x in patch.items()}
    similarity = {(p, q): (patch[p] * unit[q]).sum() for p in places for q in places}

    def fused(scores: dict, order: list) -> dict:
        """Add the scores of the previous and the next pair, in this order of positions."""
        at = {p: n for n, p in enumerate(order)}
        found = {}
        for p, q in scores:
            total = 0.0
            for step in (-1, 0, 1):
                m, n = at[p] + step, at[q] + step
                if 0 <= m < len(order) and 0 <= n < len(order):
                    total += scores[order[m], order[n]]
            found[p, q] = total
        return found

    scores = fused(similarity, places)
    scores = fused(scores, sorted(places, key=lambda p: (p[1], p[0])))
    wide = np.pad(x.astype(float), ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((h + 2, w + 2, c))
    for p in places:
        logits = np.array([scale * scores[p, q] * known[q] for q in places])
        weights = np.exp(logits - logits.max())
        weights = weights / weights.sum() * np.array([known[q] for q in places])
        i, j = p
        for weight, (k, m) in zip(weights, places, strict=True):
            out[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += weight * wide[2 * k : 2 * k + 4, 2 * m : 2 * m + 4] / 4
    return out[1:-1, 1:-1]


def test_contextual_attention_is_brute_force_matching_of_patches():
    x = random_normal(2, 12, 8, 3)
    mask = np.zeros((2, 12, 8, 1), np.float32)
    mask[0, 2:6, 2:5], mask[1, 9:, 6:] = 1, 1
    made = gated_conv.contextual_attention(jnp.asarray(x), jnp.asarray(mask), 3.0)
    for ours, one, hidden in zip(made, x, mask, strict=True):
        np.testing.assert_allclose(ours, attended(one, hidden, 3.0), rtol=1e-4, atol=1e-5)


def test_contextual_attention_copies_an_equal_patch():
    """In an image that repeats itself, a hidden region is filled from the other copy."""
    tile = random_normal(1, 8, 16, 6)
    x = np.concatenate([tile, tile], 1)
    mask = np.zeros((1, 16, 16, 1), np.float32)
    mask[:, 10:14, 6:10] = 1
    made = gated_conv.contextual_attention(jnp.asarray(x), jnp.asarray(mask), 50.0)
    np.testing.assert_allclose(made[:, 10:14, 6:10], tile[:, 2:6, 6:10], atol=1e-3)


def test_the_local_branch_gets_the_region_around_the_hole():
    x = jnp.arange(2 * 16 * 16.0).reshape(2, 16, 16, 1)
    mask = jnp.zeros((2, 16, 16, 1)).at[0, 6:10, 1:3].set(1)
    found = context_encoder.around(x, mask, 8)
    np.testing.assert_array_equal(found[0], x[0, 4:12, 0:8])
    np.testing.assert_array_equal(found[1], x[1, 4:12, 4:12])  # no hole: the image's middle


def test_features_are_compared_by_distance_and_gram_matrix():
    a, b = (jnp.asarray(random_normal(2, 5, 4, 3, seed=seed)) for seed in (0, 1))
    expected = np.abs(np.asarray(a - b)).mean((1, 2, 3))
    np.testing.assert_allclose(perceptual.feature_loss([a, a], [b, b]), 2 * expected, rtol=1e-5)
    np.testing.assert_allclose(perceptual.feature_loss([a], [b], 2), ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-5)
    flat = np.asarray(a[0]).reshape(-1, 3)
    np.testing.assert_allclose(perceptual.gram(a)[0], flat.T @ flat / 60, rtol=1e-4)
    assert float(perceptual.style_loss([a], [a[:, ::-1]]).max()) < 1e-6, "positions do not change the style"
    assert float(perceptual.style_loss([a], [b]).min()) > 1e-3


def test_total_variation_is_that_of_the_hole_dilated_by_one_pixel():
    mask = jnp.zeros((1, 8, 8, 1)).at[:, 4, 4].set(1)
    x = jnp.zeros((1, 8, 8, 1)).at[:, 4, 4].set(1.0).at[:, 0].set(9.0)
    assert float(partial_conv.variation(x, mask)[0]) == pytest.approx(4 / 64)


def test_the_distance_in_a_hole_is_of_pixels_from_0_to_1():
    mask = jnp.zeros((1, 8, 8, 1)).at[:, 2:5, 2:4].set(1)
    clean = jnp.ones((1, 8, 8, 3))
    assert float(context_encoder.distance(clean - 2 * mask, clean, mask)[0]) == pytest.approx(1), (
        "black instead of white"
    )


def test_the_divergence_is_that_of_gaussians():
    rng = np.random.default_rng(0)
    m, n, s, t = (rng.normal(size=5) for _ in range(4))
    s, t = np.exp(s), np.exp(t)
    expected = np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
    np.testing.assert_allclose(kl_normal(m, np.log(s), n, np.log(t)), expected, rtol=1e-5)  # pyright: ignore
    drawn = Normal(jnp.full((4000, 1, 1, 1), 3.0), jnp.log(jnp.full((4000, 1, 1, 1), 0.5)))
    z = np.asarray(drawn.draw(jax.random.split(jax.random.key(0), 4000)))
    assert abs(z.mean() - 3) < 0.03 and abs(z.std() - 0.5) < 0.02
    hidden = scale_of(jnp.stack([jnp.full((4, 4, 1), share) for share in (0.1, 0.2, 0.6)]))
    assert hidden[0] < hidden[1] < hidden[2] < 1 and float(hidden[1]) == pytest.approx(0.5)


# ---------------------------------------------------------------- holes


@pytest.mark.slow
def test_holes_are_drawn_by_their_shares_and_never_empty():
    keys = jax.random.split(jax.random.key(0), 64)
    boxes = Holes(boxes=1, side=(0.25, 0.25))(keys, (32, 16))
    assert boxes.shape == (64, 32, 16, 1) and set(np.unique(boxes)) == {0, 1}
    assert (boxes.sum((1, 2, 3)) == 8 * 4).all()
    both = Holes(boxes=1, strokes=1, side=(0.25, 0.25))(keys, (32, 16))
    assert (both >= boxes).all() and (both.sum((1, 2, 3)) > 32).any()
    some = Holes(boxes=0.5, scratches=0.5)(keys, (32, 32))
    assert float(some.mean((1, 2, 3)).min()) > 0
    alone = Holes(boxes=0.5, scratches=0.5)(keys[3:4], (32, 32))
    np.testing.assert_array_equal(alone[0], some[3])
    for bad in (Holes(), Holes(boxes=2), Holes(boxes=1, side=(0.5, 0.2)), Holes(boxes=1, side=(0, 0.2))):
        with pytest.raises(InputError, match=r"model\.holes"):
            bad.check()


def test_any_mask_value_above_0_hides_a_pixel():
    given = masked(jnp.ones((1, 2, 2, 3)), jnp.asarray([0, 0.5, 1, 0]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(given["mask"][..., 0], [[[0, 1], [1, 0]]])
    np.testing.assert_array_equal(given["degraded"][..., 0], [[[1, 0], [0, 1]]])


# ---------------------------------------------------------------- models


@pytest.fixture(scope="module")
def fresh():
    """Return name -> an untrained tiny model's task, parameters, context, and its restorer, jitted."""
    made: dict[str, tuple[Task, Params, Context, Any]] = {}

    def get(name: str) -> tuple[Task, Params, Context, Any]:
        if name not in made:
            task = zoo.load(name).tiny.model.task(1)
            params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
            context = Context(extra, {}, {}, jnp.zeros((), jnp.int32))
            made[name] = task, params, context, jax.jit(restore(task), static_argnums=4)
        return made[name]

    return get


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_known_pixels_stay_and_hidden_pixels_have_no_influence(name, fresh):
    task, params, context, restore = fresh(name)
    height, width = 2 * task.example["image"].shape[0], task.example["image"].shape[1]
    x = np.tanh(random_normal(2, height, width, 3))
    mask = np.asarray(Holes(boxes=1)(jax.random.split(jax.random.key(0), 2), (height, width)))
    keys = jax.random.split(jax.random.key(1), 2)
    answer = np.asarray(restore(params, context, {"degraded": x, "mask": mask}, keys, 1.0))
    hidden = np.broadcast_to(mask > 0, x.shape)
    np.testing.assert_array_equal(answer[~hidden], x[~hidden])
    assert (answer[hidden] != x[hidden]).mean() > 0.9 and np.isfinite(answer).all()
    other = np.where(hidden, 7.0, x).astype(np.float32)
    again = np.asarray(restore(params, context, {"degraded": other, "mask": mask}, keys, 1.0))
    np.testing.assert_array_equal(answer, again)
    transform = task.get(Transform)
    assert transform.conditions == ("mask",) and transform.stochastic == (name == "completion-vae")
    given: Any = task.get(Degradation).degrade(jnp.asarray(x), keys, 1)
    assert (np.asarray(given["degraded"])[np.broadcast_to(given["mask"] > 0, x.shape)] == 0).all()


def test_a_partial_u_net_takes_any_size(fresh):
    _, params, context, restore = fresh("partial-conv")
    x = np.tanh(random_normal(1, 13, 22, 3))
    mask = np.zeros((1, 13, 22, 1), np.float32)
    mask[:, 3:9, 4:9] = 1
    answer = restore(params, context, {"degraded": x, "mask": mask}, jax.random.split(jax.random.key(0), 1), 1.0)
    assert answer.shape == x.shape and np.isfinite(answer).all()


def test_other_keys_give_other_completions(fresh):
    _, params, context, restore = fresh("completion-vae")
    x = np.repeat(np.tanh(random_normal(1, 16, 16, 3)), 4, 0)
    mask = np.zeros((4, 16, 16, 1), np.float32)
    mask[:, 4:12, 4:12] = 1
    keys = jax.random.split(jax.random.key(0), 4)
    given = {"degraded": x, "mask": mask}
    one, two, three, four = np.asarray(restore(params, context, given, keys, 1.0))[:, 4:12, 4:12]
    distances = [np.abs(a - b).mean() for a, b in ((one, two), (one, three), (three, four))]
    assert min(distances) > 1e-3
    np.testing.assert_array_equal(restore(params, context, given, keys, 1.0)[:, 4:12, 4:12], [one, two, three, four])


def test_deepfills_generator_has_the_authors_layers():
    """The input channels, output channels and kernel size of each convolution in their inpaint_model.py."""
    n, kernels = 48, {}

    def chain(name: str, before: int, *layers: tuple[int, int]):
        for number, after in layers:
            kernels[f"{name}{number}"] = (before, after, 5 if number == 1 else 3)
            before = after // 2  # the other half of the channels are gates

    dilated = [(i, 4 * n) for i in range(7, 11)]
    last = [(11, 4 * n), (12, 4 * n), (13, 2 * n), (14, 2 * n), (15, n), (16, n // 2), (17, 3)]
    down = lambda *widths: list(enumerate(widths, 1))  # noqa: E731
    chain("conv", 5, *down(n, 2 * n, 2 * n, 4 * n, 4 * n, 4 * n), *dilated, *last)
    chain("xconv", 3, *down(n, n, 2 * n, 2 * n, 4 * n, 4 * n), *dilated)
    chain("pmconv", 3, *down(n, n, 2 * n, 4 * n, 4 * n, 4 * n), (9, 4 * n), (10, 4 * n))
    chain("allconv", 4 * n, *last)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    net = gated_conv.DeepFillNet(24, 3)
    params = jax.eval_shape(net.init, jax.random.key(0), x, jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32))["params"]
    found = {}
    for name, layer in params.items():
        shape = layer.get("conv", layer)["kernel"].shape
        found[name] = (shape[2], shape[3], shape[0])
    assert found == kernels
    assert count(params) == 4_052_478  # 4.1M in the paper


def test_nets_have_the_papers_numbers_of_parameters():
    def convs(*layers: tuple[int, int, int]) -> int:
        return sum(before * after * side**2 for before, after, side in layers)

    # Iizuka et al. 2017, tables 1 and 2 (discriminator); each norm has two parameters for each channel.
    middle = [(256, 256, 3)] * 8
    first = [(4, 64, 5), (64, 128, 3), (128, 128, 3), (128, 256, 3), *middle]
    last = [(256, 128, 4), (128, 128, 3), (128, 64, 4), (64, 32, 3)]
    norms = sum(after for _, after, _ in first + last)
    completion = convs(*first, *last, (32, 3, 3)) + 3 + 2 * norms
    halves = [(3, 64, 5), (64, 128, 5), (128, 256, 5), (256, 512, 5), (512, 512, 5)]
    discriminator = 2 * (convs(*halves) + 2 * 1472 + (4 * 4 * 512 + 1) * 1024) + convs((512, 512, 5)) + 2 * 512 + 2049
    assert zoo.load("context-encoder").parameters == completion + discriminator
    # Liu et al. 2018, appendix, table 3; the first and the last layer have a bias.
    down = [(3, 64, 7), (64, 128, 5), (128, 256, 5), (256, 512, 3), *[(512, 512, 3)] * 4]
    up = [*[(1024, 512, 3)] * 4, (768, 256, 3), (384, 128, 3), (192, 64, 3)]
    norms = sum(after for _, after, _ in down[1:] + up)
    assert zoo.load("partial-conv").parameters == convs(*down, *up, (67, 3, 3)) + 2 * norms + 64 + 3


@pytest.mark.slow
def test_the_discriminator_s_weights_have_spectral_norm_one():
    model = zoo.load("gated-conv").tiny.model
    task = model.task(1)
    params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
    weights, _ = jax.jit(lambda p, v: spectral_normalise(p, v, 50))(params["critic"], extra["critic"]["spectral"])
    for layer in range(model.discriminator_layers):
        kernel = np.asarray(weights[f"conv{layer + 1}"]["kernel"])
        assert np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2) == pytest.approx(1, rel=0.02)


def test_bad_settings_are_refused():
    bad = [
        ("gated-conv", {"image": (30, 32, 3)}, "multiples of 8"),
        ("context-encoder", {"image": (18, 16, 3)}, "multiples of 4"),
        ("context-encoder", {"local": 17}, "model.local must be from 1"),
        ("completion-vae", {"image": (18, 16, 3)}, "multiples of 4"),
        ("partial-conv", {"holes": Holes()}, "not all of them 0"),
    ]
    for name, changes, words in bad:
        with pytest.raises(InputError, match=words):
            dataclasses.replace(zoo.load(name).tiny.model, **changes).task(1)


@pytest.mark.slow
def test_features_of_a_frozen_net_are_compared_if_their_weights_are_above_0():
    tiny = zoo.load("partial-conv").tiny.model
    model = dataclasses.replace(tiny, image=(24, 24, 3), perceptual=0.05, style=120.0, backbone="random")
    task = model.task(1)
    batch = {"image": jnp.tanh(jnp.asarray(random_normal(2, 24, 24, 3)))}
    state = init_state(task, jax.random.key(0), batch)
    frozen = {net: load() for net, load in task.frozen.items()}
    _, metrics = jax.jit(make_step(task))(state, batch, frozen)
    assert metrics["restorer/perceptual"] > 0 and metrics["restorer/style"] > 0 and metrics["restorer/finite"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--model.backbone", "random"], "needs images of 18x18 at least, not 16x16"),
        (["--model.backbone", "random", "--model.image", "32", "32", "1"], "sees colour, not images of 1"),
        (["--model.backbone", "vgg17"], "did you mean 'vgg16'"),
    ],
)
def test_unsuitable_frozen_nets_are_refused(tmp_path, changes, words):
    options = [
        "--preset",
        "partial-conv",
        "--tiny",
        "--model.perceptual",
        "1",
        "--out",
        str(tmp_path / "run"),
        *changes,
    ]
    with pytest.raises(InputError, match=words):
        loop.fit(parse("restoration", [*options, "--out", str(tmp_path / "run")]).run)
