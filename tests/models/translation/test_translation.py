"""Translators: what they are trained for, and the command that uses them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.commands import translate
from jaxgen.commands.parse import parse
from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import label_spec
from jaxgen.core.types import Context
from jaxgen.data import derived_sources
from jaxgen.inference.image_translation import Translator, number_of
from jaxgen.media.photo import read as read_photo
from jaxgen.models.translation._autoencoders import adaptive_norm
from jaxgen.models.translation._image_pool import empty, exchange
from jaxgen.models.translation.bicyclegan import SMALL as BICYCLE
from jaxgen.models.translation.cut import info_nce
from jaxgen.models.translation.cyclegan import SMALL as CYCLE
from jaxgen.models.translation.munit import MUNIT
from jaxgen.models.translation.pix2pix import Pix2Pix
from jaxgen.models.translation.pix2pixhd import SMALL as HD
from jaxgen.models.translation.stargan import FEW
from jaxgen.models.translation.stargan import SMALL as STAR
from jaxgen.models.translation.unit import SMALL as UNIT
from jaxgen.tasks.paired_translation import PairedTranslation
from jaxgen.tasks.patch_discriminators import PatchGANConfig
from jaxgen.tasks.transforms import translation
from jaxgen.training import loop
from tests.helpers.untrained import drawn, untrained


def smooth(height, width, channels=3, seed=0):
    """A smooth image u8[h w c]."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    grid = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    small = Image.fromarray(grid[..., 0] if channels == 1 else grid, mode=None)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)).reshape(height, width, -1)


def save(path, values):
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path)
    return path


def trained(folder, preset, *settings):
    options = [
        "--preset",
        preset,
        "--tiny",
        "--steps",
        "2",
        "--log.samples",
        "2",
        "--log.every",
        "2",
        "--log.count",
        "6",
    ]
    loop.fit(parse("translation", [*options, "--mesh.data", "1", "--out", str(folder), *settings]).run)
    return folder


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for split, count in (("train", 9), ("test", 8)):
        for i in range(count):
            for side in "AB":
                (root / "set" / split / side).mkdir(parents=True, exist_ok=True)
                save(root / "set" / split / side / f"{i}.png", smooth(20, 18, seed=ord(side) + i))
    settings = ["--data.source", f"paired:{root / 'set'}", "--data.flip"]
    return trained(root / "pix2pix", "pix2pix", *settings)


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("runs") / "cyclegan", "translation", "cyclegan")


def check_sheet(run):
    with Image.open(run / "translations" / "000002.png") as sheet:
        assert sheet.size[0] > 3 * 16


def test_training_saves_sheets_of_sources_translations_and_targets(paired):
    check_sheet(paired)


@pytest.mark.slow
def test_training_without_pairs_saves_sheets(tmp_path):
    check_sheet(trained(tmp_path / "cyclegan", "cyclegan"))


def test_images_of_any_size_mode_and_alpha(paired, tmp_path, cli):
    from jaxgen.media import photo

    sizes = {3: (20, 33), 1: (24, 40), 4: (22, 33)}  # one program: all are padded to 24x40
    files = [save(tmp_path / f"{channels}.png", smooth(*size, channels)) for channels, size in sizes.items()]
    out = cli(0, "translate", str(paired), *files)
    for channels, size in sizes.items():
        made = photo.read(tmp_path / f"{channels}-translated.png")
        assert f"{channels}-translated.png" in out and made.pixels.shape == (*size, 3) and made.alpha is None
    file = files[-1]
    assert "exists already: name another file" in cli(2, "translate", str(paired), str(file))
    cli(0, "translate", str(paired), str(file), "--overwrite", "--answers", "2", "--side", "24")
    a, b = (photo.read(tmp_path / f"4-translated{name}.png").pixels for name in ("", "-2"))
    assert a.shape == (24, 36, 3) and not np.array_equal(a, b), "dropout is the noise"
    again = tmp_path / "again.png"
    cli(0, "translate", str(paired), str(file), "--side", "24", "--out", str(again))
    assert np.array_equal(photo.read(again).pixels, a)


def test_a_folder_and_both_directions(unpaired, tmp_path, cli):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", smooth(20, 20))
    save(folder / "b.png", smooth(16, 24, seed=1))
    (folder / "c.png").write_text("no image")
    assert "1 of 3 could not be translated" in cli(1, "translate", str(unpaired), str(folder))
    assert "2 existed already" in cli(1, "translate", str(unpaired), str(folder))
    some = [str(folder / name) for name in ("a.png", "c.png")]
    cli(1, "translate", str(unpaired), *some, "--to", "source", "--out", str(tmp_path / "back"))
    made = [np.asarray(Image.open(tmp_path / name / "a.png")) for name in ("in-translated", "back")]
    assert (made[0] != made[1]).any(), "two nets"


def test_images_are_prepared_as_in_training(tmp_path):
    seen = []
    net = translation(lambda params, context, inputs, keys, to: inputs["source"] * 0.5, multiple=8)
    translator = Translator(net, ({}, None), 0)
    work = translate.ImageTranslator(translator, None, make=lambda x: seen.append(x) or derived_sources.grey(x))
    x = smooth(13, 19)
    values = work.prepared(read_photo(save(tmp_path / "a.png", x)), tmp_path / "a.png")
    assert np.array_equal(seen[0][0], x)
    np.testing.assert_allclose(values, derived_sources.grey(x[None])[0] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(translator.translated(values), values / 2, atol=1e-6)


def test_bad_arguments_give_one_sentence(paired, unpaired, tmp_path, cli):
    file = str(save(tmp_path / "a.png", smooth(40, 40)))
    dot = str(save(tmp_path / "dot.png", smooth(6, 30)))
    for run, args, words in [
        (unpaired, [file, "--to", "sauce"], "Unknown domain 'sauce': did you mean 'source'?"),
        (unpaired, [file, "--answers", "2"], "cyclegan is deterministic: leave out --answers"),
        (paired, [file, "--to", "source"], "Unknown domain 'source'"),
        (paired, [dot], "dot.png is 6x30: this model has stride-2 stages and needs at least 8x8. Write --side 8"),
        (paired, [file, "--memory", "0.00001"], "more than --memory 1e-05"),
        (paired, [file, "--pair"], "not on edges or the like: leave out --pair"),
        (paired, [file, "--side", "0"], "side must be at least 1"),
        (paired, [file, "--out", file, "--overwrite"], "would be replaced by its own output"),
        (paired, [file, "--out", str(tmp_path / "x.txt")], "--out must end in .png, .jpg"),
        (paired, [str(tmp_path / "none.png")], "There is no image or folder"),
        (tmp_path, [file], "is no run: it has no config.json"),
    ]:
        out = cli(2, "translate", str(run), *args)
        assert words in out and "Traceback" not in out, out


def test_evaluation_compares_pairs(paired, cli):
    out = cli(0, "evaluate", str(paired), "--metrics", "psnr_rgb", "--split", "test", "--count", "16")
    assert "psnr_rgb" in out


def test_bad_settings_and_sets_give_one_sentence(tmp_path):
    for name, changes, words in [
        ("pix2pix", ["--model.image", "12", "16", "3"], "is 12x16: both sides must be multiples of 8"),
        ("pix2pix", ["--model.depth", "5"], "is 16x16: both sides must be multiples of 32"),
        ("pix2pix", ["--model.game.layers", "3"], "needs images of at least 32x32, not 16x16"),
        ("pix2pix", ["--model.game.form.around", "0"], "model.game.form.around must be at least 1"),
        ("munit", ["--model.game.form.no-pointwise", "--model.game.layers", "3"], "at least 32x32, not 16x16"),
        ("pix2pix", ["--data.source", "unpaired:shapes,shapes"], "pix2pix learns from pairs"),
        ("pix2pix", ["--data.pair", "none"], "translates images between two domains"),
        ("pix2pix", ["--model.pixel", "0", "--model.game.adversarial", "0"], "There is no loss"),
        ("cyclegan", ["--model.image", "2", "16", "3"], "at least 4"),
        ("pix2pixhd", ["--model.perceptual", "1"], "needs images of 18x18 at least, not 16x16"),
        ("munit", ["--model.perceptual", "1", "--model.image", "32", "32", "1"], "sees colour, not images of 1"),
        ("munit", ["--model.perceptual", "1", "--model.backbone", "vgg17"], "did you mean 'vgg16'"),
        ("munit", ["--model.perceptual", "-1"], "model.perceptual must be at least 0"),
        ("stargan-celeba", ["--model.attributes", "cold", "cold"], "must be different names"),
        (
            "stargan-celeba",
            ["--model.attributes", "cold", "--model.exclusive", "2"],
            "model.exclusive must be from 0 to 1, not 2",
        ),
        ("stargan-celeba", ["--model.attributes", "cold", "lagre"], "needs 'lagre' in every example"),
        ("stargan-celeba", ["--model.attributes", "factors"], "needs a single number 'factors'"),
        ("pix2pixhd-local", ["--model.width", "5"], "model.width must be even for model.enhanced, not 5"),
        ("pix2pixhd-local", ["--model.image", "18", "16", "3"], "both sides must be multiples of 4"),
    ]:
        run = parse("translation", ["--preset", name, "--tiny", "--out", str(tmp_path / "run"), *changes]).run
        with pytest.raises(InputError, match=words):
            loop.fit(run)
        assert not (tmp_path / "run").exists()


def test_the_pool_is_equal_to_the_authors_list():
    state, kept = empty(3, (1, 1, 1)), []
    step = jax.jit(exchange)
    for number in range(6):
        key = jax.random.key(number)
        new = jnp.arange(4.0).reshape(4, 1, 1, 1) + 4 * number
        returned, state = step(state, new, key)
        for i, k in enumerate(jax.random.split(key, 4)):
            x = float(new[i, 0, 0, 0])
            if len(kept) < 3:
                kept.append(x)
            elif bool(jax.random.bernoulli(rng.fold(k, "swap"))):
                place = int(jax.random.randint(rng.fold(k, "place"), (), 0, 3))
                kept[place], x = x, kept[place]
            assert float(returned[i, 0, 0, 0]) == x
        np.testing.assert_array_equal(state["images"].ravel(), kept)


def test_half_of_the_returned_images_are_from_the_pool():
    state = {"images": jnp.full((50, 1, 1, 1), -1.0), "count": jnp.asarray(50)}
    returned, after = jax.jit(exchange)(state, jnp.arange(400.0).reshape(400, 1, 1, 1), jax.random.key(0))
    older = returned.ravel() != jnp.arange(400)
    assert 0.4 < float(older.mean()) < 0.6
    assert sorted([*returned.ravel().tolist(), *after["images"].ravel().tolist()]) == sorted(
        [*range(400), *[-1.0] * 50]
    )


def test_cyclegans_loss_by_value():
    """With nets that add a constant (G adds 1, F subtracts 0.25), and no adversarial loss."""
    model = dataclasses.replace(CYCLE, cycle=2.0, identity=3.0, game=dataclasses.replace(CYCLE.game, adversarial=0.0))
    object.__setattr__(model, "apply", lambda params, net, x: x + {"generator": 1.0, "inverse": -0.25}[net])
    batch = {"source": jnp.zeros((2, 16, 16, 3)), "image": jnp.full((2, 16, 16, 3), 0.5)}
    params = drawn(jax.eval_shape(model.init, jax.random.key(0))[0])
    value, aux = jax.jit(lambda: model.loss(params, None, batch, None))()  # pyright: ignore
    assert float(aux.metrics["cycle"]) == pytest.approx(0.75 + 0.75)
    assert float(aux.metrics["identity"]) == pytest.approx(1.25)
    assert float(value) == pytest.approx(2 * 1.5 + 2 * 3 * 1.25)
    made = model.translate_both(params, batch)
    assert float(made["image"].mean()) == 1.0 and float(made["source"].mean()) == 0.25


def test_without_an_adversarial_loss_only_the_generator_is_trained():
    small = Pix2Pix((16, 16, 3), 3, 4)
    task = dataclasses.replace(small, game=dataclasses.replace(small.game, adversarial=0)).task(1)
    assert list(task.learners) == ["generator"] and [p.name for p in task.phases] == ["generator"]


# ---- parts of the other models' losses, compared by value


def moved(tree, by=0.1):
    """A net's parameters plus a constant."""
    return jax.tree.map(lambda x: x + by, tree)


def test_units_encoders_share_their_last_blocks():
    params = drawn(jax.eval_shape(UNIT.init, jax.random.key(0))[0])
    x: Any = np.tanh(np.random.default_rng(0).normal(size=(2, 16, 16, 3))).astype(np.float32)
    encode = jax.jit(lambda params: [UNIT.encoded(params, d, x) for d in ("source", "image")])
    own = encode(params)
    assert not np.allclose(own[0], own[1]), "each domain has its own encoder"
    equal = encode({**params, "encoder_source": params["encoder_image"]})
    np.testing.assert_array_equal(equal[0], equal[1], "the last blocks are shared")
    both = encode({**params, "shared_encoder": moved(params["shared_encoder"])})
    assert not any(np.allclose(a, b) for a, b in zip(both, own, strict=True))


def test_the_contrastive_loss_by_value():
    v = jnp.eye(6)[None, :4]  # four orthogonal unit vectors
    matched = float(info_nce(v, v, 0.5)[0])
    assert matched == pytest.approx(np.log(1 + 3 * np.exp(-2)), rel=1e-5)
    assert float(info_nce(v[:, ::-1], v, 0.5)[0]) == pytest.approx(matched + 2, rel=1e-5)


@pytest.mark.slow
def test_the_loss_of_a_random_code_trains_the_generator_only():
    game = dataclasses.replace(BICYCLE.game, adversarial=1e-9)
    model = dataclasses.replace(BICYCLE, pixel=0, kl=0, code=1.0, game=game)
    params, extra = jax.jit(model.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)
    batch = {n: jnp.tanh(jax.random.normal(k, (2, 16, 16, 3))) for n, k in zip(("source", "image"), keys, strict=True)}
    context = Context(extra, {}, {}, jnp.zeros((), jnp.int32))
    gradient = jax.jit(jax.grad(lambda p: model.loss(p, context, batch, keys[0])[0]))(params)
    size = {
        net: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient[net])) for net in ("encoder", "generator")
    }
    assert size["generator"] > 1e-5 and size["encoder"] < 1e-3 * size["generator"], size


def test_a_style_sets_mean_and_deviation():
    draw = np.random.default_rng(0)
    x, moments = (draw.normal(size=shape).astype(np.float32) for shape in ((2, 8, 8, 3), (2, 2, 2, 3)))
    made = jax.jit(lambda x: [adaptive_norm(jnp.asarray(moments))(f"norm_{i}")(x) for i in range(2)])(4 * x + 7)
    for i, y in enumerate(map(np.asarray, made)):
        np.testing.assert_allclose(y.mean((1, 2)), moments[:, i, 0], atol=1e-4)
        np.testing.assert_allclose(y.std((1, 2)), np.abs(moments[:, i, 1]), rtol=1e-3)


def test_stargans_target_domains_are_those_of_the_batch():
    label = jnp.asarray([0, 3, 3, 5])
    kind = STAR.kind({"label": label})
    goals = STAR.goals(kind, jax.random.key(0))
    to = STAR.task(1).get(Transform).inputs["to"]
    assert sorted(goals.argmax(1).tolist()) == label.tolist()
    assert (to.count, to.names) == (8, ()), "the names are those of the data's classes"
    planes = STAR.with_domain(jnp.zeros((4, 16, 16, 3)), kind)[..., 3:]
    assert (planes.argmax(-1) == label[:, None, None]).all() and (planes.sum(-1) == 1).all()
    run = zoo.load("stargan").run
    assert run.steps * run.model.critics == 200_000, "the authors' iterations are the critic's"


def test_stargan_changes_one_attribute():
    """The results of the authors' create_labels: hair has one colour, other attributes are inverted."""
    faces = zoo.load("stargan-celeba").run.model
    black, young = [1.0, 0, 0, 1, 0], [0.0, 0, 0, 0, 1]
    wanted = {
        0: ([1, 0, 0, 1, 0], [1, 0, 0, 0, 1]),
        1: ([0, 1, 0, 1, 0], [0, 1, 0, 0, 1]),
        3: ([1, 0, 0, 0, 0], [0, 0, 0, 1, 1]),
        4: ([1, 0, 0, 1, 1], [0, 0, 0, 0, 0]),
    }
    for to, target in wanted.items():
        found = faces.changed(jnp.asarray([black, young]), jnp.full(2, to))
        assert found.tolist() == [[float(x) for x in row] for row in target], to


def test_stargan_of_attributes_by_value():
    """Logits of 0 cost log 2 for each attribute; target attributes are rows of the batch's."""
    model = dataclasses.replace(FEW, cycle=2.0, classify=3.0)
    seen = []
    object.__setattr__(
        model, "critic_outputs", lambda params, x: (jnp.full((len(x), 2, 2), 0.25), jnp.zeros((len(x), 3)))
    )
    object.__setattr__(model, "generated", lambda params, x, kind: seen.append(kind) or jnp.full_like(x, 0.5))
    rows = jnp.asarray([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]])
    batch = {"image": jnp.zeros((4, 16, 16, 3)), **dict(zip(model.attributes, rows.T, strict=True))}
    value, aux = model.loss({}, None, batch, jax.random.key(0))  # pyright: ignore
    goals, back = seen
    assert back.tolist() == rows.tolist(), "the translation back is to the original attributes"
    assert sorted(goals.tolist()) == sorted(rows.tolist()) and goals.tolist() != rows.tolist()
    assert float(aux.metrics["classify"]) == pytest.approx(3 * np.log(2))
    assert float(value) == pytest.approx(-0.25 + 3 * 3 * np.log(2) + 2 * 0.5, rel=1e-5)
    sure = model.classification_loss(jnp.asarray([[40.0, -40, 40]]), jnp.asarray([[1.0, 0, 0]]))
    assert float(sure[0]) == pytest.approx(40), "one of three is wrong"


def test_at_inference_the_critic_predicts_the_source_s_attributes():
    """Predicted: large and not right, at any image size. Changing the third gives large and right."""
    targets = []
    model = dataclasses.replace(FEW)

    def critic_outputs(params, x):
        assert x.shape == (1, 16, 16, 3)
        return jnp.zeros((1, 2, 2)), jnp.asarray([[-1.0, 2, -3]])

    object.__setattr__(model, "critic_outputs", critic_outputs)
    object.__setattr__(model, "generated", lambda params, x, kind: targets.append((x.shape, kind.tolist())) or x)
    assert model.task(1).get(Transform).inputs["to"].names == ("cold", "large", "right")
    for to, wanted in ((2, [0, 1, 1]), (1, [0, 0, 0])):
        model.translate({}, None, {"source": jnp.zeros((1, 20, 24, 3))}, None, jnp.asarray([to]))  # pyright: ignore
        assert targets.pop() == ((1, 20, 24, 3), [[float(x) for x in wanted]])


@pytest.mark.slow
def test_attributes_are_trained_and_are_names_of_domains(tmp_path, cli):
    run = trained(tmp_path / "run", "stargan-celeba")
    file = save(tmp_path / "a.png", smooth(20, 24))
    cli(0, "translate", str(run), str(file), "--to", "large")
    assert np.asarray(Image.open(tmp_path / "a-translated.png")).shape == (20, 24, 3)
    assert "did you mean 'large'" in cli(2, "translate", str(run), str(file), "--to", "larg", "--overwrite")
    assert (run / "translations" / "000002.png").exists()


def test_stargans_penalty_is_of_the_sum_over_patches():
    """The critic's four patch scores are one pixel each, times 1/2: the gradient of their sum has norm 1."""
    model = dataclasses.replace(STAR, cycle=1.0)
    object.__setattr__(model, "critic_outputs", lambda params, x: (x[:, :2, :2, 0] / 2, jnp.zeros((len(x), 8))))
    object.__setattr__(model, "generated", lambda params, x, label: jnp.full_like(x, 0.5))
    batch = {"image": jnp.zeros((2, 16, 16, 3)), "label": jnp.asarray([0, 1])}
    value, aux = jax.jit(lambda: model.discriminator_loss({}, None, batch, jax.random.key(0)))()  # pyright: ignore
    assert float(aux.metrics["penalty"]) == pytest.approx(0, abs=1e-6)
    assert float(aux.metrics["fake"]) == pytest.approx(0.25), "the score itself is a mean"
    assert float(value) == pytest.approx(0.25 + np.log(8), rel=1e-5)


def test_discriminator_losses_and_feature_matching_by_value():
    game = PatchGANConfig(scales=2, layers=1, width=4, features=1.0)
    x: Any = np.tanh(np.random.default_rng(0).normal(size=(2, 16, 16, 3))).astype(np.float32)
    params = drawn(jax.eval_shape(lambda key: game.init(key, (16, 16, 3), 3), jax.random.key(0)))
    layers = [[jnp.full((2, side, side, 3), value) for side in (4, 3, 2)] for value in (0.0, 0.5)]
    logits = [jnp.full((2, 3, 3), 0.25)]

    @jax.jit
    def found():
        outputs, (one, two) = game.outputs(params, x), game.outputs_of_both(params, x[:1], x[1:])
        return (
            outputs,
            [jnp.concatenate([a[-1], b[-1]]) for a, b in zip(one, two, strict=True)],
            game.feature_distance(outputs, outputs),
            game.feature_distance([layers[0], layers[0]], [layers[1], layers[0]]),  # the last map is logits
            game.generator_loss([logits, logits]),
            [g.discriminator_loss([logits], [logits]) for g in (game, MUNIT().game)],
        )

    outputs, apart, none, distance, of_generator, (half, whole) = found()
    assert [s[-1].shape for s in outputs] == [(2, 6, 6), (2, 2, 2)]
    assert float(none.max()) == 0
    for together, separate in zip(outputs, apart, strict=True):
        np.testing.assert_allclose(separate, together[-1], atol=1e-5)
    np.testing.assert_allclose(distance, (0.5 + 0.5) / 2, err_msg="a sum over layers, a mean over scales")
    np.testing.assert_allclose(of_generator, 2 * 0.75**2)
    np.testing.assert_allclose(half, (0.75**2 + 0.25**2) / 2)
    np.testing.assert_allclose(whole, 0.75**2 + 0.25**2)


class LinearBackbone:
    """A backbone with layers (1 + i) * image + 1."""

    def features(self, image, layers):
        return [image * (1 + i) + 1 for i in range(len(layers))]


def test_the_perceptual_loss_by_value():
    """Pixels differ by 0.25, so layer i differs by 0.25 (1 + i); the last layer has the largest weight."""
    game = dataclasses.replace(HD.game, adversarial=0)
    model = PairedTranslation(HD.image, HD.net, game, 1.0, 2, perceptual=3.0)
    object.__setattr__(model, "generated", lambda params, source, keys: source)
    batch = {"source": jnp.full((2, 16, 16, 3), 0.5), "image": jnp.full((2, 16, 16, 3), 0.25)}
    context = Context({}, {}, {"backbone": LinearBackbone()}, jnp.zeros((), jnp.int32))
    value, aux = jax.jit(lambda: model.loss({}, context, batch, jax.random.key(0)))()
    wanted = 0.25 * (1 / 32 + 2 / 16 + 3 / 8 + 4 / 4 + 5)
    assert float(aux.metrics["perceptual"]) == pytest.approx(wanted)
    assert float(value) == pytest.approx(0.25 + 3 * wanted)


@pytest.mark.slow
def test_munits_perceptual_loss_ignores_brightness_and_contrast():
    model = dataclasses.replace(zoo.load("munit").tiny.model, perceptual=2.0)
    params = jax.jit(model.init)(jax.random.key(0))[0]
    keys = jax.random.split(jax.random.key(1), 2)
    batch = {n: jnp.tanh(jax.random.normal(k, (2, 16, 16, 3))) for n, k in zip(("source", "image"), keys, strict=True)}
    context = Context({}, {}, {"backbone": LinearBackbone()}, jnp.zeros((), jnp.int32))
    none = {name: jnp.zeros((2, 8)) for name in ("source", "image")}
    swapped = {"source": batch["image"], "image": batch["source"]}

    def loss_of(fake):
        made = lambda *_: (swapped, none, batch, fake)  # noqa: E731
        for name, answer in (
            ("translations", made),
            ("content_of", lambda params, d, x: x),
            ("style_of", lambda *_: 0.0),
        ):
            object.__setattr__(model, name, answer)
        value, aux = model.loss(params, context, batch, keys[0])
        return value, aux.metrics

    value, metrics = loss_of({name: x * jnp.asarray([[[[0.5, 0.25, 0.125]]]]) - 0.25 for name, x in swapped.items()})
    assert float(metrics["perceptual"]) == pytest.approx(0, abs=1e-4), "each channel's mean and contrast do not count"
    value, metrics = loss_of({name: -x for name, x in swapped.items()})
    # For x with mean 0 and variance 1, the mean of (x - (-x))^2 is 4. There are two domains.
    assert float(metrics["perceptual"]) == pytest.approx(8, rel=1e-3)
    parts = {"adversarial": 1, "pixel": 10, "content": 1, "code": 1, "perceptual": 2}
    assert float(value) == pytest.approx(sum(w * float(metrics[name]) for name, w in parts.items()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pix2pixhd", "munit"])
def test_the_perceptual_loss_trains_the_generators(name):
    """With almost no other loss, the gradient through a backbone of random weights reaches the generators."""
    model: Any = dataclasses.replace(zoo.load(name).tiny.model, image=(32, 32, 3), backbone="random", perceptual=1.0)
    model = dataclasses.replace(model, pixel=0.0, game=dataclasses.replace(model.game, adversarial=1e-9, features=0.0))
    task = model.task(1)
    params, extra = jax.jit(task.init)(jax.random.key(0))
    context = Context(extra, {}, {name: load() for name, load in task.frozen.items()}, jnp.zeros((), jnp.int32))
    batch = {n: jnp.full((1, 32, 32, 3), x).at[:, 8:24].set(-x) for n, x in (("source", 0.5), ("image", -0.5))}
    gradient = jax.jit(jax.grad(lambda p: task.phases[-1].loss(p, context, batch, jax.random.key(1))[0]))(params)
    size = {net: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient[net])) for net in gradient}
    generators = [net for net in gradient if net.startswith(("generator", "decoder"))]
    assert generators and min(size[net] for net in generators) > 1e-4, size


def test_the_initialisation_of_discriminators():
    """N(0, 0.02^2), or 0.02 times Xavier's sqrt(2 / (fan_in + fan_out))."""
    spreads = {"cyclegan": 0.02, "pix2pixhd": 0.02, "munit": 0.02, "bicyclegan": None, "cut": None}

    @jax.jit
    def kernels(key):
        nets = {name: zoo.load(name).run.model.game.net.clone(scales=1, layers=1) for name in spreads}
        params = {name: net.init(key, jnp.zeros((1, 16, 16, 3)))["params"] for name, net in nets.items()}
        return {name: x["scale_0"]["layer_0"]["kernel"] for name, x in params.items()}

    for name, kernel in kernels(jax.random.key(0)).items():
        wanted = spreads[name] or 0.02 * (2 / (16 * (3 + 64))) ** 0.5
        assert float(kernel.std()) == pytest.approx(wanted, rel=0.05), name


def test_munits_rate_is_halved_and_its_weights_decay():
    """One step of Adam has the size of the rate, against the gradient's sign: here that of the weight decay."""
    game = MUNIT().game
    assert (game.learning_rate, game.beta1, game.decay, game.halve_every) == (1e-4, 0.5, 1e-4, 100_000)
    optimizer = PatchGANConfig(learning_rate=0.1, decay=0.01, halve_every=2).learner("generator").optimizer
    params = jnp.asarray([3.0, -3.0])
    state = optimizer.init(params)
    for rate in (0.1, 0.1, 0.05):
        update, state = optimizer.update(jnp.zeros(2), state, params)
        np.testing.assert_allclose(np.asarray(update), [-rate, rate], rtol=1e-4)


def test_one_of_many_domains_must_be_named():
    domains = label_spec(3)
    both = label_spec(names=("source", "image"))
    assert number_of(domains, "2") == 2 and number_of(both, None) == 1
    for to, words in ((None, "translates into 3 domains: write --to 0 or 1 or 2"), ("3", "--to must be from 0 to 2")):
        with pytest.raises(InputError, match=words):
            number_of(domains, to)
