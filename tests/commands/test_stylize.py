"""python -m jaxgen stylize: its outputs and refusals, and the published wave."""

import json
import zipfile
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.commands import stylize
from jaxgen.core.errors import InputError
from jaxgen.inference import stylization
from jaxgen.interop.convert import import_weights
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.media import photo
from jaxgen.models.translation.fast_style import painter
from jaxgen.models.translation.wct import WCT
from jaxgen.nn import colour_transport
from jaxgen.pretrained import backbones
from jaxgen.runs.config_io import to_json
from tests.commands.test_restore import bad_files
from tests.helpers.photo_samples import pixels_of, save, smooth
from tests.helpers.untrained import drawn
from tests.media.test_photo import deep_png
from tests.models.translation.test_style import maps, random_image


@pytest.fixture(scope="module")
def random_backbone() -> backbones.Backbone:
    return backbones.load("random")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small net for one style, as a zip of raw arrays."""
    path = tmp_path_factory.mktemp("style") / "small.zip"
    model = zoo.load("fast-style").run.model
    net, _ = painter(model)
    params = drawn(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))))
    tensors = to_theirs(rule_of("fast-style"), model, "painter", params)
    return zipped(path, tensors)


def zipped(path: Path, tensors: dict[str, np.ndarray], **changes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        listed = {name: {"filename": name, "shape": list(x.shape)} for name, x in tensors.items()}
        archive.writestr("manifest.json", json.dumps(listed | changes))
        for name, x in tensors.items():
            archive.writestr(name, x.astype("<f4").tobytes())
    return path


def test_a_zip_of_arrays_is_read_and_false_shapes_are_reported(tmp_path):
    tensors = {"a": maps(0), "b": np.array([1, 2], np.float32)}
    found = read(zipped(tmp_path / "x.zip", tensors))
    assert list(found) == ["a", "b"] and all(np.array_equal(found[k], tensors[k]) for k in tensors)
    for change in ({"a": {"filename": "a", "shape": [10**9]}}, {"c": {"filename": "../c", "shape": [1]}}):
        with pytest.raises(InputError, match=r"x\.zip says that [ac] is of shape"):
            read(zipped(tmp_path / "x.zip", tensors, **change))
    with pytest.raises(InputError, match=r"x\.zip is damaged"):
        read(zipped(tmp_path / "x.zip", tensors, d=3))


def test_one_command_stylizes_and_keeps_alpha_and_depth(weights, tmp_path, cli):
    values = np.random.default_rng(0).integers(0, 65536, (30, 41, 4)).astype(np.uint16)
    source = deep_png(tmp_path / "a.png", values)
    out = cli(0, "stylize", source, "--with", weights)
    assert str(tmp_path / "a-stylized.png") in out
    made = photo.read(tmp_path / "a-stylized.png")
    assert made.bits == 16 and made.alpha is not None and np.array_equal(made.alpha, values[..., 3:])
    assert np.abs(made.pixels - photo.read(source).pixels).mean() > 0.05
    assert "exists already: name another file" in cli(2, "stylize", source, "--with", weights)
    cli(0, "stylize", source, "--with", weights, "--strength", "0", "--overwrite")
    assert np.array_equal(photo.read(tmp_path / "a-stylized.png").pixels, photo.read(source).pixels)


@cache
def opened(weights: Path) -> stylization.Trained:
    stylist = stylization.open_stylist(str(weights), stylization.StyleRequest())
    assert isinstance(stylist, stylization.Trained)
    return stylist


def worker(weights: Path, colours: str = "style", tile: int = 0, **request) -> stylize.ImageStylizer:
    """Return a worker of this request; all share one compiled net."""
    stylist = copy(opened(weights))
    stylist.request = stylization.StyleRequest(**request)
    return stylize.ImageStylizer(stylist, (), colours, tile, 16, 4.0)


def test_colours_of_the_content_are_kept(weights):
    content = random_image(40)
    made = worker(weights, colours="content").stylized(content, None)
    a, b = (colour_transport.colour_statistics(x) for x in (made, content))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-4)
    np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-3)
    from jaxgen.nn.colour import ycbcr

    made = worker(weights, colours="luma").stylized(content, None)
    np.testing.assert_allclose(ycbcr(jnp.asarray(made))[..., 1:], ycbcr(jnp.asarray(content))[..., 1:], atol=1e-4)


def test_strength_and_masks_leave_the_content(weights):
    content = random_image(40)
    whole, half = worker(weights).stylized(content, None), worker(weights, strength=0.5).stylized(content, None)
    np.testing.assert_allclose(half, (content + whole) / 2, atol=1e-5)
    mask = np.zeros((1, 40, 40, 1), np.float32)
    mask[:, :, :20] = 1
    made = worker(weights).stylized(content, mask)
    np.testing.assert_allclose(made[:, 20:], content[:, 20:], atol=1e-6)
    np.testing.assert_allclose(made[:, :20], whole[:, :20], atol=1e-6)


def test_tiles_are_of_one_style(weights):
    """With its own statistics a dark corner is painted as if it were bright; with the whole image's it is not."""
    content = random_image(80)
    content[:40, :40] = 0.1 * content[:40, :40] - 0.7
    whole = worker(weights).stylized(content, None)
    tiled = worker(weights, tile=40).stylized(content, None)
    part = worker(weights).stylized(content[:40, :40], None)
    assert stylization.thumbnail(np.zeros((40, 4000, 3), np.float32), 48).shape[:2] == (40, 4000)
    assert stylization.thumbnail(np.zeros((200, 4000, 3), np.float32), 48).shape[:2] == (64, 1280)
    assert stylization.thumbnail(content, 72).shape[:2] == (72, 72)
    inside = slice(8, 32), slice(8, 32)
    assert tiled.shape == whole.shape
    apart = [np.abs(x[inside] - whole[inside]).mean() for x in (tiled, part)]
    assert apart[0] < 0.5 * apart[1], apart


@pytest.mark.slow
def test_gatys_stylizes_with_progress_masks_and_tiles(tmp_path, cli):
    source = save(tmp_path / "a.png", smooth(40, 64, 1))
    style = save(tmp_path / "s.png", smooth(32, 32, seed=3))
    mask = np.zeros((40, 64, 1), np.uint8)
    mask[:, :20] = 255
    masked = save(tmp_path / "m.png", mask)
    how = ["--backbone", "random", "--steps", "3", "--tile", "40", "--overlap", "16"]
    out = tmp_path / "out.png"
    cli(0, "stylize", source, "--style", style, "--masks", masked, *how, "--progress", "--out", out)
    made, before = pixels_of(out), pixels_of(source)
    assert made.shape == (40, 64, 3) and (tmp_path / "out-progress.png").is_file()
    assert np.array_equal(made[:, 20:], np.repeat(before[:, 20:, None], 3, 2)), "black: the content stays"
    assert np.abs(made[:, :20].astype(int) - before[:, :20, None]).max() > 5


@pytest.mark.slow
def test_wct_combines_styles_by_weights(random_backbone):
    model, content = WCT(backbone="random", layers=("relu1_1", "relu1_2")), random_image()
    request = stylization.StyleRequest(("a", "b"), (1, 3))
    work = stylization.IterativeStylist(
        "wct", request, model, random_backbone, [random_image(seed=1), random_image(24, seed=2)], 20
    )
    made = stylize.ImageStylizer(work, (), "style", 0, 0, 4.0).stylized(content, None)
    _, targets = work.easels[content.shape]
    wanted = targets(random_backbone, work.images, None, jnp.asarray(content)[None], 1.0)
    apart = [
        float(model.loss(jnp.asarray(x)[None], {"image": x[None]}, random_backbone, wanted)[1]["maps"])
        for x in (content, made)
    ]
    assert apart[1] < 0.5 * apart[0]


def test_a_run_stylizes(weights, tmp_path, cli):
    from jaxgen.commands.parse import parse

    options = ["--preset", "fast-style-many", "--tiny", "--mesh.data", "1", "--out", str(tmp_path / "run")]
    run = parse("translation", options).run
    net, _ = painter(run.model)
    params = drawn(jax.eval_shape(net.init, jax.random.key(1), jnp.zeros((1, 20, 20, 3)), jnp.ones((1, 3))))
    file = zipped(tmp_path / "w.zip", to_theirs(rule_of("fast-style-many"), run.model, "painter", params))
    import_weights(file, run, None)
    config = tmp_path / "run/config.json"  # the style image was deleted after training
    config.write_text(config.read_text().replace('"waves"', '"gone/waves.png"'))
    source, folder = save(tmp_path / "a.png", smooth(40, 40)), str(tmp_path / "run")
    assert "name some with --style, of waves, checks, dots" in cli(2, "stylize", source, "--with", folder)
    assert "did you mean 'waves'" in cli(2, "stylize", source, "--with", folder, "--style", "wave")
    cli(0, "stylize", source, "--with", folder, "--style", "waves", "dots", "--weights", "1", "2")


@pytest.mark.parametrize("mirror", [pytest.param(True, marks=pytest.mark.slow), False])
def test_files_of_either_net_are_recognised(mirror, tmp_path):
    model = replace(zoo.load("fast-style").run.model, mirror=mirror)
    x = jnp.asarray(smooth(16, 16), jnp.float32)[None] / 127.5 - 1
    net, _ = painter(model)
    params: Any = drawn(jax.eval_shape(net.init, jax.random.key(2), x))
    path = zipped(tmp_path / "w.zip", to_theirs(rule_of("fast-style"), model, "painter", params))
    found = stylization.of_weights(path, stylization.StyleRequest())
    nothing = jax.random.split(jax.random.key(0), 1)
    apply = lambda params: found.transform.apply(params, found.context, {"source": x}, nothing)["image"]  # noqa: E731
    made, wanted = jax.jit(lambda ours, theirs: (apply(ours), net.apply(theirs, x)))(found.params, params)
    np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_a_folder_with_bad_files(weights, tmp_path, cli):
    folder = tmp_path / "in"
    folder.mkdir()
    bad_files(folder)
    (folder / "long.png").unlink()
    count = len(list(folder.iterdir()))
    out = cli(1, "stylize", folder, "--with", weights)
    assert f"{count - 1} of {count} could not be stylized" in out and "pages.tif has 3 pages" in out
    assert [p.name for p in (tmp_path / "in-stylized").iterdir()] == ["good.png"]
    assert "1 existed already and were kept" in cli(1, "stylize", folder, "--with", weights)


def test_mistakes_in_settings_give_one_sentence(weights, tmp_path, cli):
    source = save(tmp_path / "a.png", smooth(40, 40))
    small, style = save(tmp_path / "small.png", smooth(8, 8)), save(tmp_path / "style.png", smooth(40, 40))
    other, named, translator = zipped(tmp_path / "other.zip", {"a": maps(0)}), tmp_path / "named.png", tmp_path / "run"
    named.symlink_to(weights)
    translator.mkdir()
    (translator / "config.json").write_text(to_json(replace(zoo.load("pix2pix").tiny, preset="pix2pix")))
    quick = ["--backbone", "random", "--style", source]
    for args, words in [
        ([], "takes its style from images: name one or several with --style"),
        (["--style", "nothing.png"], "There is no style image nothing.png"),
        (["--with", "nothing"], "There is no run folder or file nothing"),
        (["--with", source], "is no weights file: read are safetensors, .zip of arrays"),
        (["--with", other], "other.zip is of no net of fast-style: missing: Variable"),
        (["--with", translator], "use python -m jaxgen translate"),
        (["--style", style, "--out", style, "--overwrite"], "style.png would be replaced by its own output"),
        ([*quick, "--masks", style, "--out", style, "--overwrite"], "style.png would be replaced by its own output"),
        (["--with", weights, "--out", named, "--overwrite"], "small.zip would be replaced by its own output"),
        (["--with", tmp_path], "is no run: it has no config.json"),
        (["--with", weights, "--style", source], "takes no other --style"),
        (["--with", weights, "--progress"], "works in one pass: leave out --progress"),
        (["--with", weights, "--steps", "5"], "takes no --steps"),
        (["--with", weights, "--backbone", "random"], "takes no --backbone"),
        (["--with", weights, "--how", "wct"], "--how is for a run of adain"),
        (["--with", weights, "--style-weight", "3"], "has no --style-weight"),
        (["--with", weights, "--memory", "0.00001"], "more than --memory"),
        (["--with", weights, "--masks", small], "they must have the same size"),
        (["--with", weights, "--out", source, "--overwrite"], "would be replaced by its own output"),
        ([*quick, "--weights", "1", "2"], "There are 2 --weights for 1 styles"),
        ([*quick, "--weights", "0"], "don't add up to 0"),
        ([*quick, "--masks", source, source], "There are 2 --masks for 1 styles"),
        ([*quick, "--style-weight", "-1"], "--style-weight must be at least 0"),
        ([*quick, "--strength", "1.5"], "--strength must be from 0 to 1"),
        ([*quick, "--steps", "0"], "--steps must be at least 1"),
        (["--backbone", "nothing", "--style", source], "Unknown backbone"),
        (["--backbone", "random", "--style", small], "at least, not 8x8"),
    ]:
        out = cli(2, "stylize", source, *args)
        assert words in out and "Traceback" not in out, (words, out)
    assert not (tmp_path / "a-stylized.png").exists()


def test_without_the_backbones_weights_one_sentence(tmp_path, cli, monkeypatch):
    import importlib.metadata

    def missing(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    source = save(tmp_path / "a.png", smooth(40, 40))
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert "pip install jaxgen[perceptual]" in cli(2, "stylize", source, "--style", source)


@pytest.mark.slow
def test_the_published_wave(real_data, tmp_path, cli):
    source = real_data / "style/content/hoovertowernight.jpg"
    weights = real_data / "weights/fast_style_wave.zip"
    cli(0, "stylize", source, "--with", weights, "--out", tmp_path / "wave.png")
    with Image.open(tmp_path / "wave.png") as made, Image.open(source) as before:
        assert made.size == before.size
    colours = pixels_of(tmp_path / "wave.png").reshape(-1, 3).mean(0)
    assert colours[0] > colours[2], "the paper of the print is yellow"


def test_the_shipped_styles_have_their_paintings_colours(tmp_path, cli, monkeypatch):
    """Without network, by name alone. Munch's sky is orange, and the sea of van Gogh's night blue."""
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    source = save(tmp_path / "a.png", smooth(64, 64))
    warmth = {}
    for name in ("scream", "starry-night"):
        cli(0, "stylize", source, "--style", name, "--out", tmp_path / f"{name}.png")
        made = pixels_of(tmp_path / f"{name}.png").astype(float)
        warmth[name] = (made[..., 0] - made[..., 2]).mean()
    assert warmth["scream"] > 20 > 0 > warmth["starry-night"]
    assert "wave" in cli(2, "stylize", source, "--style", "monet")
