"""python -m jaxgen restore: outputs, ensembles, scores and refusals."""

import json
import math
import re
import signal
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jaxgen import zoo
from jaxgen.commands import restore
from jaxgen.commands.parse import parse
from jaxgen.core.errors import InputError
from jaxgen.data.degradations import Degradation
from jaxgen.inference import restoration
from jaxgen.media.batch_files import ImageJob
from jaxgen.media.photo import find, read
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.resample import imresize
from jaxgen.training import loop
from tests.helpers.capabilities import restoration_model
from tests.helpers.photo_samples import pixels_of, save, smooth


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A denoiser trained for a moment."""
    folder = tmp_path_factory.mktemp("restore") / "run"
    options = ["--preset", "dncnn", "--tiny", "--mesh.data", "1", "--data.source", "shapes", "--out", str(folder)]
    loop.fit(parse("restoration", options).run)
    return folder


def test_training_shows_degraded_restored_and_clean_images(run):
    with Image.open(run / "restorations" / "000020.png") as image:
        assert image.size[0] > 16 * 3


def scores_of(out: str) -> dict[str, float]:
    """Return the first score of each image that the command printed, by the image's name."""
    return {Path(a).stem: float(b) for a, b in re.findall(r"(\S+\.png), psnr_y_border\d ([0-9.]+)", out)}


# Bicubic by 2 and by 3: Dong et al. 2014. They score the levels of bridge, which is grey, as they are.
SET5 = {"baby": 37.07, "bird": 36.81, "butterfly": 27.43, "head": 34.86, "woman": 32.14}
SET14 = {
    "baboon": 23.21,
    "barbara": 26.25,
    "bridge": 24.40 + 20 * math.log10(255 / 219),
    "coastguard": 26.55,
    "comic": 23.12,
    "face": 32.82,
    "flowers": 27.23,
    "foreman": 31.18,
    "lenna": 31.68,
    "man": 27.01,
    "monarch": 29.43,
    "pepper": 32.39,
    "ppt3": 23.71,
    "zebra": 26.63,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale", "published"), [("Set5", 2, SET5), ("Set14", 3, SET14)])
def test_each_image_scores_as_published(cli, real_data, tmp_path, name, scale, published):
    args = ["--with", "bicubic", "--scale", str(scale), "--degrade", "--out", str(tmp_path / "x")]
    assert scores_of(cli(0, "restore", str(real_data / "sr" / name), *args)) == pytest.approx(published, abs=0.06)


@pytest.mark.slow
def test_published_imdn_on_set14(cli, real_data, tmp_path):
    """The mean is as published; ppt3 and zebra show whether inputs are clipped, bridge how often grey becomes luma."""
    args = ["--with", str(real_data / "weights/IMDN_x4.pth"), "--degrade", "--out", str(tmp_path / "x")]
    out = cli(0, "restore", str(real_data / "sr/Set14"), *args)
    mean = out.rpartition("mean of 14: psnr_y_border4 ")[2].partition(",")[0]
    assert float(mean) == pytest.approx(28.58, abs=0.01)
    found = scores_of(out)
    few = {"ppt3": 26.57, "zebra": 27.57, "bridge": 25.38}
    assert {name: found[name] for name in few} == pytest.approx(few, abs=0.02)


@pytest.mark.slow
def test_a_real_net_sees_no_colours_under_alpha_0(real_data, tmp_path, cli):
    y, x = np.mgrid[:40, :40] - 19.5
    made = []
    for hidden in (0, 255):
        image = np.full((40, 40, 4), hidden, np.uint8)
        image[..., 3] = 255 * (np.hypot(y, x) < 15)
        image[np.hypot(y, x) < 15] = 255  # a white disc
        source = save(tmp_path / f"{hidden}.png", image)
        cli(0, "restore", source, "--with", real_data / "weights/IMDN_x4.pth", "--out", tmp_path / f"{hidden}-x4.png")
        made.append(pixels_of(tmp_path / f"{hidden}-x4.png"))
    assert np.array_equal(*made)
    assert made[0][made[0][..., 3] > 0][:, :3].min() > 245, "the net paints no dark ring round the disc"


@pytest.mark.slow
def test_tiled_equals_untiled_for_a_real_net(real_data, tmp_path, cli):
    weights, image = real_data / "weights/dncnn_25.pth", real_data / "denoise/Set12/01.png"
    made = {}
    for tile in (0, 128):
        target = tmp_path / f"{tile}.png"
        args = ["--with", str(weights), "--tile", str(tile), "--overlap", "64", "--out", str(target)]
        cli(0, "restore", str(image), *args)
        made[tile] = read(target).pixels
    assert float(psnr(made[0][None], made[128][None])[0]) > 60


def test_one_command_restores_and_keeps_alpha(run, tmp_path, cli):
    image = save(tmp_path / "a.png", smooth(50, 60, 4))
    out = cli(0, "restore", str(image), "--with", str(run))
    assert str(tmp_path / "a-restored.png") in out
    made = read(tmp_path / "a-restored.png")
    before = read(image)
    assert made.alpha is not None and before.alpha is not None and np.array_equal(made.alpha, before.alpha)
    assert 0 < np.abs(made.pixels - before.pixels).mean() < 1
    out = cli(2, "restore", str(image), "--with", str(run))
    assert "exists already: name another file" in out
    cli(0, "restore", str(image), "--with", str(run), "--overwrite")


def test_enlarging_enlarges_alpha(tmp_path, cli):
    values = smooth(20, 30, 4)
    values[..., 3] = 77
    cli(0, "restore", str(save(tmp_path / "a.png", values)), "--with", "lanczos3", "--scale", "2.5")
    made = pixels_of(tmp_path / "a-restored.png")
    assert made.shape == (50, 75, 4) and (made[..., 3] == 77).all()


def test_scores_where_the_original_is_given(tmp_path, cli):
    clean = smooth(64, 48, 1)
    noisy = np.clip(clean + np.random.default_rng(1).normal(size=clean.shape) * 10, 0, 255).astype(np.uint8)
    a, b = save(tmp_path / "noisy.png", noisy), save(tmp_path / "clean.png", clean)
    args = ["--with", "nearest", "--scale", "1", "--original", str(b), "--sheet", "--out", str(tmp_path / "c.png")]
    out = cli(0, "restore", str(a), *args)
    expected = 10 * np.log10(255**2 / np.mean((clean.astype(float) - noisy) ** 2))
    assert f"psnr_y {expected:.4g}" in out
    from jaxgen.media.comparison_sheet import caption, measured

    shown = caption(measured(read(b).pixels, read(a).pixels, 1))
    assert shown == f"   psnr_y {expected:.2f} dB"
    with Image.open(tmp_path / "c-sheet.png") as sheet:
        assert sheet.size == (3 * 484 - 4, 18 + 640 + 4 + 480)


def test_the_original_of_a_small_image_may_lack_the_factor_in_its_name(tmp_path):
    for name in ("babyx4.bmp", "deep/birdx2.png", "x4.png", "cat.bmp", "cat.png"):
        save_deep(tmp_path / "small" / name)
    for name in ("baby.png", "deep/bird.png", "cat.png", "cat.tif"):
        save_deep(tmp_path / "large" / name)
    job = ImageJob([tmp_path / "small"], None, "restored", lambda target: [target], False)
    found = {file.name: path and path.name for file, path in restore.pairs_of(job, tmp_path / "large").items()}
    assert found == {"babyx4.bmp": "baby.png", "birdx2.png": "bird.png", "x4.png": None} | {
        "cat.bmp": "cat.png",
        "cat.png": "cat.png",
    }


def save_deep(path: Path, height: int = 8, width: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(path, smooth(height, width))


def test_originals_are_cropped_to_a_multiple_of_the_factor(tmp_path, cli):
    """Published sets have originals of any size, of which MATLAB's modcrop leaves a multiple."""
    clean = smooth(47, 50)
    save(tmp_path / "whole.png", clean)
    save(tmp_path / "cropped.png", clean[:45, :48])
    small = str(save(tmp_path / "small.png", clean[1:45:3, 1:48:3]))
    args = ["--with", "bicubic", "--scale", "3", "--overwrite", "--original"]
    first, second = (cli(0, "restore", small, *args, str(tmp_path / f"{name}.png")) for name in ("cropped", "whole"))
    assert "psnr_y_border3" in first and first == second
    save(tmp_path / "larger.png", smooth(48, 50))
    out = cli(2, "restore", small, *args, str(tmp_path / "larger.png"))
    assert "larger.png is 48x50, but the output for" in out and "is 45x48" in out


def test_sizes_are_compared_before_the_net_runs(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(restore.ImageRestorer, "restored", lambda *args: pytest.fail("the net ran"))
    small, large = (str(save(tmp_path / f"{side}.png", smooth(side, side))) for side in (16, 48))
    assert "the output for" in cli(2, "restore", small, "--with", "bicubic", "--original", large)
    assert "can't be read" in cli(2, "restore", small, "--with", "bicubic", "--original", __file__)


def test_an_image_that_cant_be_scored_is_restored(tmp_path, cli):
    for name in ("a", "b", "c"):
        save_deep(tmp_path / f"small/{name}.png", 16, 16)
    save_deep(tmp_path / "large/a.png", 32, 32)
    save_deep(tmp_path / "large/b.png", 40, 32)
    args = ["--with", "bicubic", "--original", str(tmp_path / "large"), "--out", str(tmp_path / "made")]
    out = cli(1, "restore", str(tmp_path / "small"), *args)
    assert len(find(tmp_path / "made")) == 3 and out.count("psnr_y_border2") == 1
    assert "2 of 3 were restored, but not scored:" in out
    assert "b.png is 40x32, but the output for" in out and "large has no image for" in out


def test_an_answer_is_written_before_it_is_scored(tmp_path, cli, monkeypatch):
    from jaxgen.media import comparison_sheet

    def broken(*_):
        raise InputError("no score")

    monkeypatch.setattr(comparison_sheet, "measured", broken)
    image = str(save(tmp_path / "a.png", smooth(16, 16)))
    cli(2, "restore", image, "--with", "bicubic", "--scale", "1", "--original", image)
    assert (tmp_path / "a-restored.png").exists()


def test_several_images_and_folders(tmp_path, cli):
    for name in ("a.png", "b.png", "deep/a.png", "deep/more/c.png", "other/c.png"):
        save_deep(tmp_path / name)
    some = [str(tmp_path / name) for name in ("a.png", "b.png", "deep", "other", "a.png")]
    cli(0, "restore", *some, "--with", "nearest")
    names = ("a-restored.png", "b-restored.png", "deep-restored/a.png", "deep-restored/more/c.png")
    assert all((tmp_path / name).exists() for name in (*names, "other-restored/c.png"))
    out = cli(0, "restore", *some, "--with", "nearest")
    assert "5 existed already" in out
    cli(0, "restore", *some, "--with", "nearest", "--out", str(tmp_path / "x"))
    made = sorted(path.relative_to(tmp_path / "x").as_posix() for path in find(tmp_path / "x"))
    assert made == ["a.png", "b.png", "deep/a.png", "deep/more/c.png", "other/c.png"]
    for command in (["restore", "--with", "nearest"], ["stylize"]):
        assert "for several images name a folder" in cli(2, *command, *some, "--out", some[0], "--overwrite")
    assert "Name an image, or a folder" in cli(2, "restore", "--with", "nearest")


def test_images_with_one_name_get_names_that_differ(tmp_path, cli):
    for name in ("a.bmp", "a.tiff", "b.png", "x/b.png", "x/b.bmp", "y/b.bmp", "c.png", "c-sheet.png"):
        save_deep(tmp_path / "in" / name)
    cli(0, "restore", str(tmp_path / "in"), "--with", "nearest")
    made = [path.relative_to(tmp_path / "in-restored").as_posix() for path in find(tmp_path / "in-restored")]
    assert made == ["a-bmp.png", "a-tiff.png", "b.png", "c-sheet.png", "c.png", "x/b-bmp.png", "x/b-png.png", "y/b.png"]
    some = [tmp_path / "in" / name for name in ("b.png", "x/b.png", "x/b.bmp", "y/b.bmp")]
    job = ImageJob(some, tmp_path / "out", "restored", lambda target: [target], False)
    assert [path.name for path in job.targets] == ["b-png.png", "b-png-2.png", "b-bmp.png", "b-bmp-2.png"]
    job = ImageJob([tmp_path / "in"], None, "restored", lambda target: restore.written(target, 1, True), False)
    assert {"c-png.png", "c-sheet-png.png"} <= {path.name for path in job.targets}


def test_a_folder_is_no_mask(tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(64, 64)))
    out = cli(2, "restore", image, "--with", "deep-image-prior", "--mask", str(tmp_path))
    assert "is a folder: name an image" in out


@pytest.fixture
def ctrl_c():
    """Let SIGINT raise KeyboardInterrupt: it is ignored in tests that were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_deep_image_prior_says_how_many_steps_it_takes(monkeypatch, capsys, ctrl_c):
    from jaxgen.models.restoration.deep_image_prior import Prior

    def learned(self, image, mask, scale, key, after, sigma):
        for at in (20, 40, 60):
            if at == 60:
                signal.raise_signal(signal.SIGINT)
            if after(at):
                return image
        raise AssertionError

    monkeypatch.setattr(Prior, "restore", learned)
    image, keys = np.zeros((1, 8, 8, 3)), jax.random.split(jax.random.key(0), 1)
    model = restoration.open_model(restoration.PRIOR, "", None, 500)
    assert model.by and model.by({"degraded": image}, keys, 1.0).shape == image.shape
    said = capsys.readouterr().out
    assert re.search(r"learning the image, 500 steps at most: [\d.e-]+ s; Ctrl-C ends it sooner", said)
    assert said.endswith("Stopped after 60 of 500 steps: this is the answer so far.\n")
    with pytest.raises(KeyboardInterrupt):  # the next image of a folder
        model.by({"degraded": image}, keys, 1.0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(InputError, match="--steps is for --with deep-image-prior"):
        restoration.open_model("bicubic", "", 2, 500)


def test_it_shows_how_far_it_is(monkeypatch):
    shown = []

    @contextmanager
    def progress(text, total):
        assert (text, total) == ("restoring", 56 * 40)
        yield shown.append

    monkeypatch.setattr(restore, "progress", progress)
    work = restore.ImageRestorer(restoration.open_model("nearest", "", 1), 32, 8, False, 4.0, 0, None, False)
    list(work.restored(np.zeros((56, 40, 3), np.float32), {}))
    assert shown == [32 * 32, 32 * 40, 24 * 40 + 32 * 32, 56 * 40]


def test_the_ensemble_is_the_mean_over_eight_ways():
    def shade(params, context, given, keys, scale):
        """Something that depends on the direction: each pixel and the one to its right."""
        x = given["degraded"]
        return x + jax.numpy.roll(x, 1, 2)

    work = restore.ImageRestorer(restoration_model(shade), 0, 0, True, 4.0, 0, None, False)
    x = smooth(12, 9).astype(np.float32)
    around = sum(np.roll(x, step, axis) for axis in (0, 1) for step in (1, -1)) / 4
    np.testing.assert_allclose(np.concatenate(list(work.restored(x, {}))), x + around, rtol=1e-5)


def test_a_grey_image_may_become_one_in_colour():
    def colour(p, c, given, k, s):
        return given["degraded"] * jax.numpy.asarray([1.0, 0.5, 0.0])[None, None, None].repeat(13, 1).repeat(9, 2)

    for colours, channels in ((True, 3), (False, 1)):
        work = restore.ImageRestorer(restoration_model(colour, colours=colours), 0, 0, False, 4.0, 0, None, False)
        made = np.concatenate(list(work.restored(smooth(13, 9, 1).astype(np.float32) / 255, {})))
        assert made.shape == (13, 9, channels)


def test_the_original_may_be_colour_where_the_image_is_grey():
    from jaxgen.media.comparison_sheet import measured

    clean = smooth(40, 40, 1).astype(np.float32) / 127.5 - 1
    noisy = np.clip(clean + 0.1, -1, 1)
    assert measured(np.repeat(clean, 3, 2), noisy, 1) == measured(np.repeat(clean, 3, 2), np.repeat(noisy, 3, 2), 1)


def test_grey_is_scored_as_luma_where_it_was_enlarged():
    from jaxgen.media.comparison_sheet import measured

    clean = smooth(40, 40, 1).astype(np.float32) / 127.5 - 1
    made = np.clip(clean + 0.1, -1, 1)
    both = jax.numpy.asarray(clean[None]), jax.numpy.asarray(made[None])
    whole, enlarged = (next(iter(measured(clean, made, border).values())) for border in (1, 2))
    colour = measured(np.repeat(clean, 3, 2), np.repeat(made, 3, 2), 2)["psnr_y_border2"]
    gain, (plain, shaved) = 20 * np.log10(255 / 219), (float(psnr(*both, n)[0]) for n in (0, 2))
    assert whole == pytest.approx(plain) and enlarged == pytest.approx(shaved + gain, abs=1e-3)
    assert enlarged == pytest.approx(colour, abs=1e-3), "as three equal channels"


def test_each_image_of_a_folder_has_its_own_degradation():
    model = restoration_model(lambda *_: None, degrade=Degradation(noise=(25, 25)), channels=(1, 3))
    work = restore.ImageRestorer(model, 0, 0, False, 4.0, 0, None, True)
    x = np.zeros((8, 8, 1), np.float32)
    a, b, again = (work.degraded(x, name)[0] for name in ("a.png", "b.png", "a.png"))
    assert np.array_equal(a, again) and not np.array_equal(a, b)


def test_weights_say_which_noise_they_are_for_or_leave_it_open(tmp_path):
    """A DnCNN for sigma 50 has tensors like those of one for 25, a NAFNet for blur those of one for noise."""
    file = tmp_path / "a.safetensors"

    def stated(model: Any, name: str, notes: dict[str, str] | None, preset: str = "") -> tuple[Any, str]:
        save_file({"x": np.zeros(1, np.float32)}, file, notes)
        (_, degradation), doubt = restoration.stated(file, preset, name, restoration.restoration_of(model.task(1), ""))
        return degradation.degrade, doubt

    of = lambda name: zoo.load(name).run.model  # noqa: E731
    for notes in (None, {"model": "{"}, {"model": '{"degradation": {"noise": [9, 1]}}'}):
        doubt = stated(of("dncnn"), "dncnn", notes)[1]
        assert "doesn't say which noise it is for: --degrade needs that, such as --sigma 25" in doubt
    louder = replace(of("dncnn"), degradation=Degradation(noise=(50, 50)))
    notes = {"model": json.dumps(asdict(louder))}
    assert stated(of("dncnn"), "dncnn", notes) == (Degradation(noise=(50, 50)), "")
    assert "may be of nafnet, nafnet-deblur, " in stated(of("nafnet"), "nafnet", None)[1]
    assert stated(of("nafnet-deblur"), "nafnet-deblur", None, "nafnet-deblur")[1] == ""
    assert "may be of dncnn-blind, dncnn-3" in stated(of("dncnn-blind"), "dncnn-blind", None)[1]
    assert stated(of("ffdnet"), "ffdnet", None)[1] == stated(of("vdsr"), "vdsr", None)[1] == ""


def test_noise_of_a_given_strength_is_added():
    plain = restoration_model(lambda *_: None, degrade=Degradation(noise=(25, 25)), channels=(1, 3))
    plain.check(50, None, degrade=True)
    with pytest.raises(InputError, match="takes no --sigma"):
        plain.check(50, None)
    with pytest.raises(InputError, match="which noise"):
        replace(plain, doubt="which noise").check(None, None, degrade=True)
    work = restore.ImageRestorer(plain.with_noise(50), 0, 0, False, 4.0, 0, None, True)
    noisy, _ = work.degraded(np.zeros((64, 64, 1), np.float32))
    assert noisy.std() * 127.5 == pytest.approx(50, rel=0.05)


@pytest.mark.slow
def test_published_weights_ask_for_their_noise(cli, real_data, tmp_path):
    image, weights = str(real_data / "denoise/Set12/01.png"), str(real_data / "weights/dncnn_25.pth")
    args = ["--with", weights, "--degrade", "--out", str(tmp_path / "x.png")]
    assert "dncnn_25.pth doesn't say which noise it is for" in cli(2, "restore", image, *args)
    out = cli(0, "restore", image, *args, "--sigma", "25")
    assert float(out.split("psnr_y ")[1].split(",")[0]) == pytest.approx(30.2, abs=0.3)


def test_grey_images_go_through_colour_nets_and_back():
    half = restoration_model(lambda p, c, given, k, s: given["degraded"] * 0.5, multiple=8)
    work = restore.ImageRestorer(half, 0, 0, False, 4.0, 0, None, False)
    x = smooth(13, 9, 1).astype(np.float32) / 255
    np.testing.assert_allclose(np.concatenate(list(work.restored(x, {}))), x / 2, rtol=1e-6)


def test_a_folder_with_bad_files(run, tmp_path, cli):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    save(folder / "a.png", smooth(20, 20))
    save(folder / "deep" / "b.png", smooth(20, 20, 1))
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "d.jpg").write_text("no image")
    out = cli(1, "restore", str(folder), "--with", str(run))
    assert "2 of 4 could not be restored" in out and "c.png" in out and "d.jpg" in out
    made = sorted(p.relative_to(tmp_path / "in-restored").as_posix() for p in (tmp_path / "in-restored").rglob("*.png"))
    assert made == ["a.png", "deep/b.png"]
    again = cli(1, "restore", str(folder), "--with", str(run))
    assert "2 existed already and were kept" in again


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    frames = [Image.fromarray(smooth(16, 16, seed=i)) for i in range(3)]
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    Image.new("F", (16, 16)).save(folder / "height.tif")
    good = save(folder / "good.png", smooth(16, 16))
    (folder / "cut.png").write_bytes(good.read_bytes()[:-200])
    (folder / "text.png").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    save(folder / "dot.png", smooth(1, 1))
    save(folder / "long.png", np.zeros((8, 20_000, 3), np.uint8))
    return {
        "pages.tif": (folder / "pages.tif", "has 3 pages"),
        "height.tif": (folder / "height.tif", "its pixels are floats, of which black and white are unknown"),
        "cut.png": (folder / "cut.png", "can't be read"),
        "text.png": (folder / "text.png", "its content is not an image"),
        "empty.png": (folder / "empty.png", "can't be read"),
        "dot.png": (folder / "dot.png", "1x1: an image must have 4x4 pixels or more"),
        "none.png": (folder / "none.png", "There is no image or folder"),
    }


def test_files_that_cant_be_restored_give_one_sentence(tmp_path, cli):
    for path, words in bad_files(tmp_path).values():
        out = cli(2, "restore", str(path), "--with", "bicubic", "--out", str(tmp_path / "out.png"))
        assert words in out and out.count("\n") <= 1 and "Traceback" not in out
    assert not (tmp_path / "out.png").exists()
    long = str(tmp_path / "long.png")
    assert "more than --memory 0.001" in cli(2, "restore", long, "--with", "bicubic", "--memory", "0.001")
    cli(0, "restore", long, "--with", "bicubic")
    with Image.open(tmp_path / "long-restored.png") as image:
        assert image.size == (40_000, 16)


def test_what_the_net_takes_counts_as_memory(run, tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(600, 600, 1)))
    few = ["--memory", "0.03"]
    out = cli(2, "restore", image, "--with", str(run), "--tile", "0", *few)
    assert "a.png is 600x600" in out and "more than --memory 0.03. Set a smaller --tile, or" in out
    cli(0, "restore", image, "--with", str(run), "--tile", "128", *few)
    out = cli(2, "restore", image, "--with", "deep-image-prior", "--memory", "2", "--overwrite")
    assert "it needs 3" in out and out.count("\n") <= 1
    sharp = ["--with", "lanczos3", "--scale", "1.2345", "--overwrite"]  # goes whole
    out = cli(2, "restore", image, *sharp, "--memory", "0.022")
    assert "more than --memory" in out and "--tile" not in out, "which would not help"


def test_mistakes_in_settings_give_one_sentence(run, tmp_path, cli):
    image = str(save(tmp_path / "a.png", smooth(40, 40)))
    save(tmp_path / "small.png", smooth(8, 8, 1))
    for args, words in [
        (["--with", "nothing"], "There is no run folder or file nothing"),
        (["--with", str(tmp_path)], "is no run: it has no config.json"),
        (["--with", image], "is no weights file"),
        (["--with", str(run), "--scale", "2"], "does not enlarge: leave out --scale"),
        (["--with", "bicubic", "--scale", "0.5"], "--scale must be from 1 to 16"),
        (["--with", "bicubic", "--scale", "0"], "--scale must be from 1 to 16, not 0"),
        (["--with", "bicubic", "--memory", "-1"], "--memory must be above 0"),
        (["--with", "bicubic", "--out", image, "--overwrite"], "would be replaced by its own output"),
        (["--with", "bicubic", "--sigma", "5"], "takes no --sigma"),
        (["--with", "deep-image-prior", "--sigma", "inf"], "--sigma must be a finite number, not inf"),
        (["--with", "bicubic", "--mask", str(tmp_path / "small.png")], "takes no --mask"),
        (["--with", "bicubic", "--tile", "16"], "--tile 16 must be at least 32"),
        (["--with", "bicubic", "--out", str(tmp_path / "x.txt")], "--out must end in .png, .jpg"),
        (["--with", "bicubic", "--degrade", "--original", image], "leave out --original"),
        (["--with", "bicubic", "--original", str(tmp_path)], "must be a file for one image"),
        (["--with", "bicubic", "--original", str(tmp_path / "none.png")], "there is no image or folder"),
        (
            ["--with", "bicubic", "--scale", "1", "--original", str(tmp_path / "small.png")],
            "8x8, but the output for",
        ),
        (["--with", "bicubic", "--preset", "dncnn"], "--preset is for a file of weights"),
    ]:
        out = cli(2, "restore", image, *args)
        assert words in out and "Traceback" not in out, out


def test_nothing_is_replaced_that_was_there(run, tmp_path, cli):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", smooth(20, 20))
    made = tmp_path / "in-restored"
    made.mkdir()
    (made / "a-sheet.png").write_text("mine")
    out = cli(0, "restore", str(folder), "--with", str(run), "--sheet")
    assert "existed already and were kept" in out and (made / "a-sheet.png").read_text() == "mine"
    sheet = str(save(folder / "b-sheet.png", smooth(20, 20)))
    for image, to in ((str(folder), folder), (sheet, folder / "b.png")):
        out = cli(2, "restore", image, "--with", "bicubic", "--sheet", "--out", str(to), "--overwrite")
        assert "would be replaced by its own output" in out


def test_outputs_that_cant_be_written_give_one_sentence(tmp_path, cli):
    image = save(tmp_path / "a.png", smooth(40, 4500, 1))
    (tmp_path / "file").write_text("")
    out = cli(2, "restore", str(image), "--with", "nearest", "--out", str(tmp_path / "file" / "x.png"))
    assert "is a file, not a folder: x.png can't be written into it" in out
    out = cli(2, "restore", str(image), "--with", "nearest", "--scale", "4", "--out", str(tmp_path / "x.webp"))
    assert "x.webp can't be written" in out and not list(tmp_path.glob("*.part"))


def test_damage_that_makes_small_keeps_alpha_and_odd_sizes(tmp_path, cli):
    for name, shape, scale in (("a", (31, 33, 4), "2"), ("b", (101, 101, 3), "1.5")):
        image = save(tmp_path / f"{name}.png", smooth(*shape))
        cli(0, "restore", str(image), "--with", "bicubic", "--scale", scale, "--degrade")
        assert pixels_of(tmp_path / f"{name}-restored.png").shape[2] == shape[2]


def test_training_that_can_teach_nothing_is_refused(tmp_path):
    for changes, words in (
        (["--model.degradation.noise", "0", "0"], "No degradation is set"),
        (["--model.image", "16", "24", "1"], "data.turn needs square images"),
    ):
        parsed = parse("restoration", ["--preset", "dncnn", "--tiny", "--out", str(tmp_path / "run"), *changes])
        with pytest.raises(InputError, match=words):
            loop.fit(parsed.run)
        assert not (tmp_path / "run").exists()


def test_a_mask_of_another_size_or_all_black(tmp_path):
    photo = read(save(tmp_path / "a.png", smooth(20, 20)))
    save(tmp_path / "small.png", np.full((8, 8, 1), 255, np.uint8))
    with pytest.raises(InputError, match=r"8x8, .*a\.png is 20x20: they must have the same size"):
        restore.read_mask(tmp_path / "small.png", tmp_path / "a.png", photo)
    save(tmp_path / "white.png", np.full((20, 20, 1), 255, np.uint8))
    with pytest.raises(InputError, match="all white"):
        restore.read_mask(tmp_path / "white.png", tmp_path / "a.png", photo)
    save(tmp_path / "black.png", np.zeros((20, 20, 1), np.uint8))
    with pytest.raises(InputError, match="all black"):
        restore.read_mask(tmp_path / "black.png", tmp_path / "a.png", photo)


def test_damaging_first_is_what_training_does(run, tmp_path, cli):
    clean = smooth(40, 40, 1)
    image = save(tmp_path / "a.png", clean)
    out = cli(0, "restore", str(image), "--with", str(run), "--degrade")
    value = float(out.split("psnr_y ")[1].split(",")[0])
    assert 10 < value < 40
    x = clean.astype(np.float32)[None] / 127.5 - 1
    small = imresize(jax.numpy.asarray(x), 0.5)
    assert small.shape == (1, 20, 20, 1)
