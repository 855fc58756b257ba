"""Style transfer: statistics and colours against closed forms, losses and training, mistakes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import Context
from jaxgen.inference import stylization
from jaxgen.media.photo import read
from jaxgen.models.translation import gatys
from jaxgen.models.translation.adain import AdaIN, repeat_to
from jaxgen.models.translation.fast_style import FastStyle
from jaxgen.models.translation.wct import WCT
from jaxgen.nn import style
from jaxgen.pretrained import backbones
from jaxgen.tasks import style_transfer
from tests.commands.test_restore import smooth
from tests.helpers.capabilities import translate

SCALE = np.float32(127.5)
STEP = jnp.zeros((), jnp.int32)


def maps(seed: int, shape: tuple[int, ...] = (2, 9, 7, 5)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=shape) @ rng.normal(size=(shape[-1], shape[-1])) + rng.normal(size=shape[-1])
    return mixed.astype(np.float32)


# ---------------------------------------------------------------- statistics


def test_adain_gives_a_map_the_others_mean_and_deviation():
    x, y = maps(0), maps(1, (2, 5, 6, 5))
    made = style.adain(jnp.asarray(x), style.moments(jnp.asarray(y), 0), style.moments(jnp.asarray(x), 0))
    np.testing.assert_allclose(made.mean((1, 2)), y.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(made.std((1, 2)), y.std((1, 2)), rtol=1e-5)
    expected = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    expected = expected * y.std((1, 2), keepdims=True) + y.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_whitened_maps_have_unit_covariance_and_coloured_ones_the_styles():
    """f32 has an error of eps cond(C) in C^(-1/2) C C^(-1/2), so that x is of a condition which leaves it small."""
    rng, y = np.random.default_rng(0), maps(1, (2, 8, 9, 5))
    x = (rng.normal(size=(2, 9, 7, 5)) @ (np.eye(5) + 0.4 * rng.normal(size=(5, 5))) + 1).astype(np.float32)
    assert all(np.linalg.cond(np.cov(one.reshape(-1, 5).T)) < 300 for one in x.astype(np.float64))
    white = style.whiten(jnp.asarray(x))
    for one in np.asarray(white):
        np.testing.assert_allclose(np.cov(one.reshape(-1, 5).T, bias=True), np.eye(5), atol=5e-5)
    made = np.asarray(style.colour(white, style.mean_covariance(jnp.asarray(y))))
    for one, other in zip(made, y, strict=True):
        expected = np.cov(other.reshape(-1, 5).T, bias=True)
        np.testing.assert_allclose(
            np.cov(one.reshape(-1, 5).T, bias=True), expected, atol=2e-4 * np.abs(expected).max()
        )
        np.testing.assert_allclose(one.mean((0, 1)), other.mean((0, 1)), atol=1e-4)


def test_whitened_maps_of_a_photograph_have_unit_covariance(real_data):
    """Their own has a condition of 1e5 and more."""
    x = jnp.asarray(read(real_data / "photos/chelsea.png").pixels)[None]
    [code] = jax.jit(lambda backbone, x: backbone.features(x, ("relu4_1",)))(backbones.load("vgg16"), x)
    white = np.asarray(jax.jit(style.whiten)(code), np.float64).reshape(-1, code.shape[3])
    values = np.linalg.eigvalsh(np.cov(white.T, bias=True))
    kept = values > 0.5
    assert kept.mean() > 0.5
    np.testing.assert_allclose(values, kept, atol=1e-2)


def test_whitening_leaves_out_what_has_no_spread():
    x = maps(0, (1, 4, 4, 3)) @ np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], np.float32)  # of rank 2
    white = np.asarray(style.whiten(jnp.asarray(x))).reshape(-1, 3)
    values = np.linalg.eigvalsh(np.cov(white.T, bias=True))
    np.testing.assert_allclose(values, [0, 1, 1], atol=1e-3)


def test_whitening_keeps_every_axis_that_f32_resolves():
    """Axes of 3e-6 and more of the largest's variance come back as they were; of none, they stay without spread."""
    rng, variances = np.random.default_rng(0), np.append(np.logspace(0, -5.5, 20), np.zeros(12))
    turn = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    x = (2 + (rng.normal(size=(1, 20, 20, 32)) * np.sqrt(variances)) @ turn.T).astype(np.float32)
    white = jax.jit(style.whiten)(x)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(white.reshape(-1, 32).T))[12:], 1, atol=0.01)
    made = np.asarray(jax.jit(lambda white, x: style.colour(white, style.mean_covariance(x)))(white, x), np.float64)
    before, after = ((v.reshape(-1, 32) @ turn).std(0) for v in (x.astype(np.float64), made))
    np.testing.assert_allclose(after[:20], before[:20], rtol=0.1)
    assert after[20:].max() < 0.2 * before[19]


@pytest.mark.parametrize("how", ["adain", "wct"])
def test_a_maps_own_style_changes_nothing(how):
    x = jnp.asarray(maps(0))
    np.testing.assert_allclose(AdaIN(how=how).styled(x, x, x), x, atol=2e-4)


@pytest.mark.parametrize("how", ["adain", "wct"])
def test_a_region_gets_the_others_moments(how):
    x, y, share = maps(0), maps(1, (2, 5, 6, 5)), np.zeros((2, 9, 7, 1), np.float32)
    share[:, 2:7, 1:6] = 1 / 25
    model = AdaIN(how=how)
    made = np.asarray(model.styled(*map(jnp.asarray, (x, y, x, share))))[:, 2:7, 1:6]
    np.testing.assert_allclose(made.mean((1, 2)), y.mean((1, 2)), atol=1e-3)
    np.testing.assert_allclose(made.std((1, 2)), y.std((1, 2)), rtol=2e-3)
    alone = model.styled(*map(jnp.asarray, (x[:, 2:7, 1:6], y, x[:, 2:7, 1:6])))
    np.testing.assert_allclose(made, alone, atol=1e-3)


def test_a_norm_blends_scales_and_takes_the_wholes_statistics():
    x, net = jnp.asarray(maps(0)), style.StyleNorm(3, 1e-3)
    params = net.init(jax.random.key(0), x, jnp.ones((2, 3)) / 3)
    assert set(params) == {"params"}
    rng = np.random.default_rng(0)
    own = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params["params"])
    mix = np.array([[0, 1, 0], [0.5, 0, 0.5]], np.float32)
    made, kept = net.apply({"params": own}, x, mix, mutable=["whole"])
    normal = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-3)
    for i in range(2):
        expected = normal[i] * (mix @ own["scale"])[i][None, None] + (mix @ own["bias"])[i][None, None]
        np.testing.assert_allclose(made[i], expected, atol=1e-5)
    part: Any = net.apply({"params": own, **kept}, x[:, 2:6], mix)
    np.testing.assert_allclose(part, made[:, 2:6], atol=1e-6)


# ---------------------------------------------------------------- backbones and tasks


def test_grams_are_sums_of_products():
    f = maps(0, (1, 6, 4, 3))
    rows = f.reshape(-1, 3)
    np.testing.assert_allclose(gatys._grams([jnp.asarray(f)])[0][0], rows.T @ rows / len(rows), rtol=1e-5)
    mask = np.zeros((2, 6, 4, 1), np.float32)
    mask[0, :3], mask[1, 3:] = 1, 1
    parts = gatys._grams([jnp.asarray(f)], jnp.asarray(mask))[0]
    for part, some in zip(parts, (rows[:12], rows[12:]), strict=True):
        np.testing.assert_allclose(part, some.T @ some / 12, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def random_backbone() -> backbones.Backbone:
    return backbones.load("random")


def random_image(size: int = 32, seed: int = 0) -> np.ndarray:
    return smooth(size, size, seed=seed).astype(np.float32) / SCALE - 1


@pytest.fixture(scope="module")
def easel() -> tuple[gatys.Gatys, gatys.Easel]:
    model = replace(gatys.TINY, smooth_weight=0.0)
    return model, gatys.Easel(model.task(1))


def test_a_canvas_takes_the_style_and_keeps_the_content(easel, random_backbone):
    model, work = easel
    content, style_image = random_image(), style_transfer.style_image("waves", 32)
    targets = model.targets(random_backbone, [jnp.asarray(style_image)], content=jnp.asarray(content)[None])
    history = []
    frozen = {"backbone": random_backbone, "styles": targets}
    work.paint(content[None], content, frozen, 41, lambda at, canvas, found: history.append(found))
    assert len(history) == 5 and history[-1]["style"] < 0.3 * history[0]["style"]
    assert history[-1]["loss"] == pytest.approx(
        model.content_weight * history[-1]["content"] + model.style_weight * history[-1]["style"], rel=1e-4
    )
    # From noise it is the content that is found, where that is all there is.
    alone = {**targets, "weights": jnp.zeros(1)}
    history.clear()
    noise = 0.3 * np.random.default_rng(0).normal(size=content.shape).astype(np.float32)
    work.paint(content[None], noise, {**frozen, "styles": alone}, 41, lambda at, canvas, found: history.append(found))
    assert history[-1]["content"] < 0.5 * history[0]["content"]


@pytest.fixture(scope="module")
def painted() -> Callable[..., tuple[np.ndarray, list[dict[str, float]]]]:
    """Return (content, style, start, steps) -> what the default Gatys makes of it, and the loss and its parts."""
    model, backbone = gatys.Gatys(image=(64, 64, 3)), backbones.load("vgg16")
    work, targets = gatys.Easel(model.task(1)), jax.jit(lambda *known: model.targets(*known[:2], content=known[2]))

    def paint(content, style_image, start, steps):
        history = []
        frozen = {"backbone": backbone, "styles": targets(backbone, [style_image], content[None])}
        made = work.paint(content[None], start, frozen, steps, lambda at, canvas, found: history.append(found))
        return made, history

    return paint


@pytest.mark.slow
def test_the_contents_own_style_gives_back_the_content(painted, real_data):
    photo = style_transfer.fitted(read(real_data / "photos/chelsea.png").pixels, 96)
    content = np.ascontiguousarray(photo[:64, :64])
    made, _ = painted(content, content, content, 30)
    assert np.square(made - content).mean() < 4 / 10**3.5, "35 dB"
    noise = 0.3 * np.random.default_rng(0).normal(size=content.shape).astype(np.float32)
    _, history = painted(content, content, noise, 80)
    assert history[-1]["loss"] < 0.05 * history[0]["loss"]


@pytest.mark.slow
def test_from_noise_content_and_style_come_together(painted):
    content, style_image = random_image(64), random_image(64, seed=1)
    noise = 0.3 * np.random.default_rng(0).normal(size=content.shape).astype(np.float32)
    _, history = painted(content, style_image, noise, 40)
    for part, most in (("content", 0.7), ("style", 0.5)):
        assert history[-1][part] < most * history[0][part], part


def test_wct_asks_for_the_styles_covariance(random_backbone):
    content, style_image = (jnp.asarray(random_image(seed=i)) for i in range(2))
    model = WCT((32, 32, 3), "random", layers=("relu2_1", "relu3_1"))
    found = model.targets(random_backbone, [style_image], content=content[None])["maps"]
    for made, other in zip(found, random_backbone.features(style_image[None], model.layers), strict=True):
        a, b = (style.mean_covariance(x).covariance[0] for x in (made, other))
        # As far as the content's maps have a direction at all: a random net's are of low rank.
        assert float(jnp.abs(a - b).max()) < 0.15 * float(jnp.abs(b).max())
    same = model.targets(random_backbone, [style_image], content=content[None], strength=0.0)["maps"]
    for made, own in zip(same, random_backbone.features(content[None], model.layers), strict=True):
        np.testing.assert_array_equal(made, own)


def test_a_place_of_a_blurred_map_lies_on_its_pixels():
    x = jnp.asarray(np.arange(17, dtype=np.float32).repeat(17).reshape(1, 17, 17, 1))
    assert repeat_to(x, (32, 32))[0, :, 0, 0].tolist() == [i // 2 for i in range(1, 33)]
    assert repeat_to(x[:, :16, :16], (32, 32))[0, :5, 0, 0].tolist() == [0, 0, 1, 1, 2]


def test_adain_decodes_nothing_but_the_content_at_strength_0(random_backbone):
    model = zoo.load("adain").tiny.model
    task = model.task(1)
    params, extra = task.init(jax.random.key(0), {})
    context = Context(extra, {}, {"backbone": random_backbone}, STEP)
    paint = jax.jit(translate(task))
    x, styles = jnp.asarray(random_image(32))[None], [jnp.asarray(random_image(32, seed))[None] for seed in (1, 2)]

    def made(styles, mix, strength: float) -> np.ndarray:
        given = {"source": x, "style": styles, "mix": jnp.float32([mix]), "strength": jnp.full(1, strength)}
        return np.asarray(paint(params, context, given, None, jnp.zeros(1, jnp.int32)))

    first, second = made(styles, [1, 0], 1.0), made(styles, [0, 1], 1.0)
    plain = made(styles[::-1], [0.3, 0.7], 0.0)
    assert plain.shape == x.shape and np.abs(first - second).max() > 0.01 < np.abs(first - plain).max()
    np.testing.assert_allclose(made(styles, [1, 0], 0.0), plain, atol=1e-5)
    np.testing.assert_allclose(made(styles[::-1], [0, 1], 1.0), first, atol=1e-5)


def test_adains_rate_falls_as_the_authors():
    """AdaIN-style's train.lua: learningRate / (1 + iterations * learningRateDecay), a half of it after 20,000."""
    optimizer = zoo.load("adain").run.model.task(1).learners["decoder"].optimizer
    params = {"w": jnp.zeros(1)}
    for count, move in ((0, 1e-4), (20_000, 5e-5 * 0.1 / 0.001**0.5)):  # Adam's of the first gradient, a 1
        state = optax.tree.set(optimizer.init(params), count=jnp.int32(count))
        update: Any = optimizer.update({"w": jnp.ones(1)}, state, params)[0]
        assert float(update["w"][0]) == pytest.approx(-move, rel=1e-4)


@pytest.mark.slow
def test_a_fresh_net_finds_the_content_soon():
    """From a last norm of scale 1, noise of full contrast, it is 0.12 that is lost after as many steps."""
    model = FastStyle((32, 32, 3), width=16, depth=1, backbone="random", style=("relu1_1",), style_weight=0.0)
    task = replace(model, smooth_weight=0.0).task(1)
    batch = {"image": jnp.stack([jnp.asarray(random_image(seed=seed)) for seed in range(4)])}
    frozen = {name: load() for name, load in task.frozen.items()}
    state, step = init_state(task, jax.random.key(0), spec_of(task, 4)), jax.jit(make_step(task))
    for _ in range(30):
        state, metrics = step(state, batch, frozen)
    assert float(metrics["painter/content"]) < 0.09


def test_a_painters_maps_are_directions():
    """Unit length at each place of an image, bright or faint: no spot of it has more of a style than another."""
    backbone, layers, x = backbones.load("random"), ("relu1_2", "relu2_2"), jnp.asarray(random_image())[None]
    for own, made in zip(backbone.features(x, layers), style_transfer.unit_features(backbone, x, layers), strict=True):
        length = np.linalg.norm(own, axis=-1, keepdims=True)
        assert length.max() > 3 * length[length > 0].min(), "the image has bright and faint places"
        np.testing.assert_allclose(made * length, own, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(made, axis=-1)[length[..., 0] > 0], 1, rtol=1e-5)


def test_full_features_are_compared_as_gatys_does(random_backbone):
    """With one style the losses of a painter's image are those of a canvas with these pixels."""
    layers: Any = {"content": ("relu2_1",), "style": ("relu1_1", "relu2_1"), "backbone": "random", "style_size": 24}
    model = FastStyle((20, 20, 3), ("checks",), width=4, depth=1, features="full", **layers)
    other = gatys.Gatys((20, 20, 3), ("checks",), **layers)
    task, x = model.task(1), random_image(20)[None]

    @jax.jit
    def parts(backbone, x):
        params, _ = task.init(jax.random.key(0), {})
        targets = style_transfer.grams(backbone, model.styles, 24, model.style, backbones.Backbone.features)
        context = Context({}, {}, {"backbone": backbone, "styles": targets}, jnp.zeros((), jnp.int32))
        ours = task.phases[0].loss(params, context, {"image": x}, jax.random.key(1))[1].metrics
        made = translate(task)(params, context, {"source": x}, None, jnp.zeros(1, jnp.int32))
        aims = other.targets(backbone, [jnp.asarray(style_transfer.style_image("checks", 24))])
        return ours, other.loss(made, {"image": x}, backbone, aims)[1]

    ours, theirs = parts(random_backbone, x)
    for name in ("content", "style"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)


def test_bad_settings_give_one_sentence():
    for model, words in [
        (FastStyle(styles=("nothing.png",), backbone="random"), "There is no style image nothing.png"),
        (FastStyle(styles=(), backbone="random"), "model.styles must be at least 1"),
        (FastStyle(image=(30, 30, 3), backbone="random"), "must be multiples of 4"),
        (FastStyle(backbone="rndom"), "Unknown backbone .* 'rndom': did you mean 'random'"),
        (FastStyle(backbone="random", content=("relu9",)), "Unknown layer of the backbone random 'relu9'"),
        (AdaIN(image=(32, 32, 1), backbone="random"), "3 channels"),
        (AdaIN(backbone="random", between=(1,)), "model.between must have one number less"),
        (gatys.Gatys(image=(8, 8, 3), backbone="random"), "at least, not 8x8"),
    ]:
        with pytest.raises(InputError, match=words):
            model.task(1)
            model.check_run(None)  # pyright: ignore


def test_any_classifier_is_a_backbone(tmp_path):
    from jaxgen.runs.config_io import to_json

    run = replace(zoo.load("resnet20").tiny, preset="resnet20")
    (tmp_path / "config.json").write_text(to_json(run))
    chosen = stylization.own_layers(str(tmp_path), "gatys")
    shapes = backbones.layers(str(tmp_path))
    sizes = [shapes[layer][1:3] for layer in chosen["style"]]
    assert len(set(sizes)) == len(sizes) > 1 and chosen["content"] == chosen["style"][-2:-1]

    @jax.jit
    def maps_of(x):
        params, extra = run.model.task(1).init(jax.random.key(0), {})
        return backbones.Backbone({"params": params["classifier"], **extra["classifier"]}, run.model).features(
            x, chosen["style"]
        )

    found = maps_of(jnp.asarray(random_image(run.model.image[0]))[None])
    assert [x.shape for x in found] == [shapes[layer] for layer in chosen["style"]]
    (tmp_path / "config.json").write_text(to_json(replace(zoo.load("dncnn").tiny, preset="dncnn")))
    with pytest.raises(InputError, match="is no classifier's run"):
        backbones.layers(str(tmp_path))
