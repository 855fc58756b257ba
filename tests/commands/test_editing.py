"""Commands of a trained denoiser: other samplers, inpaint, upscale, edit, and their refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from jaxgen import zoo
from jaxgen.commands.parse import parse
from jaxgen.core.errors import InputError
from jaxgen.runs.config_io import differences, load_config, to_json
from tests.helpers.untrained import untrained

CELL, GAP, TIMES = 64, 2, 8  # a grid shows small images enlarged


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Untrained runs, and images of digits and masks beside them."""
    folder = tmp_path_factory.mktemp("editing")
    conditional = "edm-conditional"
    for name, preset, *steps in (("edm", conditional), ("flow", "flow"), ("worse", conditional, "--seed", "1")):
        untrained(folder / name, "diffusion", preset, *steps, "--model.sampling.steps", "3")
    digits: Any = datasets.load_digits()
    for name, number in (("a", 0), ("b", 12)):
        Image.fromarray((digits.images[number] * 15.9).astype(np.uint8)).save(folder / f"{name}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(mask[:6]).save(folder / "short.png")
    Image.fromarray(0 * mask).save(folder / "black.png")
    (folder / "note.txt").write_text("no image")
    (folder / "dcgan").mkdir()
    (folder / "dcgan" / "config.json").write_text(to_json(parse("gan", ["--preset", "dcgan", "--tiny"]).run))
    return folder


def cells(path: Path, count: int) -> np.ndarray:
    """The first images of a grid, f[n 8 8]."""
    sheet = np.asarray(Image.open(path).convert("L"), float)
    side = (sheet.shape[1] - GAP) // (CELL + GAP)
    corners = [(GAP + (CELL + GAP) * (i // side), GAP + (CELL + GAP) * (i % side)) for i in range(count)]
    return np.stack([sheet[y : y + CELL : TIMES, x : x + CELL : TIMES] for y, x in corners])


def given(folder: Path, name: str = "a") -> np.ndarray:
    return np.asarray(Image.open(folder / f"{name}.png"), float)


@pytest.mark.parametrize("method", ["repaint", "ddnm"])
def test_inpainting_keeps_known_pixels(method, folder, cli):
    out = folder / f"{method}.png"
    cli(0, "inpaint", folder / "edm", folder / "a.png", "--mask", folder / "mask.png", "--method", method,
        "--times", "2", "--count", "5", "--label", "0", "--out", out)  # fmt: skip
    shown, *answers = cells(out, 6)
    assert np.abs(shown[:4] - given(folder)[:4]).max() <= 1 and not shown[4:].any()
    for answer in answers:
        assert np.abs(answer[:4] - given(folder)[:4]).max() <= 2
    assert np.abs(answers[0][4:] - answers[1][4:]).max() > 20, "several answers"


def test_a_mask_fits_an_image_upright(folder, cli):
    """A photo that lies on its side in its file, and a mask drawn over what is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(folder / "turned.png", exif=exif)
    Image.fromarray(np.full((8, 6), 255, np.uint8)).save(folder / "upright.png")
    cli(0, "inpaint", folder / "edm", folder / "turned.png", "--mask", folder / "upright.png", "--method", "ddnm",
        "--count", "1", "--out", folder / "t.png")  # fmt: skip
    said = cli(2, "inpaint", folder / "edm", folder / "turned.png", "--mask", folder / "short.png")
    assert "is 6x8, the image 8x6" in said


def test_an_upscaled_image_has_the_small_images_means(folder, cli):
    cli(0, "upscale", folder / "flow", folder / "a.png", "--count", "5", "--out", folder / "up.png")
    shown, *answers = cells(folder / "up.png", 6)
    means = lambda x: x.reshape(4, 2, 4, 2).mean((1, 3))  # noqa: E731
    assert np.corrcoef(means(shown).ravel(), means(given(folder)).ravel())[0, 1] > 0.97, "smoothed, then made smaller"
    # Where the denoiser left [-1, 1] the last cut moved the mean: such squares say nothing.
    whole = lambda x: ((x > 0) & (x < 255)).reshape(4, 2, 4, 2).all((1, 3))  # noqa: E731
    off = np.concatenate([np.abs(means(answer) - means(shown))[whole(answer)] for answer in answers])
    assert len(off) >= 10 and off.max() < 1.5
    assert np.abs(answers[0] - answers[1]).max() > 10


@pytest.mark.slow
def test_posterior_sampling_leads_to_what_is_known(folder, cli):
    """By a gradient through the net: the means are near the given ones, not equal, and nearer without noise."""
    means = lambda x: x.reshape(4, 2, 4, 2).mean((1, 3))  # noqa: E731
    off = []
    for noise in ("0", "200"):
        cli(0, "upscale", folder / "edm", folder / "a.png", "--method", "dps", "--noise", noise, "--count", "5",
            "--label", "0", "--sampling", "steps=30", "--out", folder / f"dps{noise}.png")  # fmt: skip
        shown, *answers = cells(folder / f"dps{noise}.png", 6)
        off.append(np.mean([np.abs(means(answer) - means(shown)).mean() for answer in answers]))
    assert off[0] < 12 and off[1] > 2 * off[0], off
    cli(0, "inpaint", folder / "edm", folder / "a.png", "--mask", folder / "mask.png", "--method", "dps",
        "--count", "2", "--label", "0", "--sampling", "steps=30", "--out", folder / "dps.png")  # fmt: skip
    shown, *answers = cells(folder / "dps.png", 3)
    assert np.mean([np.abs(answer[:4] - shown[:4]).mean() for answer in answers]) < 12
    for words, said in (
        (["upscale", "--noise", "5"], "takes the image for clean: write --method dps"),
        (["upscale", "--method", "dps", "--noise", "300"], "--noise is a standard deviation of 255, not 300"),
        (["edit", "--method", "dps"], "--method dps is for --how colourise or deblur, not variation."),
    ):
        assert said in cli(2, words[0], folder / "edm", folder / "a.png", *words[1:], "--out", folder / "no.png")


def test_a_variation_keeps_more_the_weaker_it_is(folder, cli):
    far = []
    for strength in ("0.34", "1"):
        cli(0, "edit", folder / "edm", folder / "a.png", "--strength", strength, "--out", folder / "v.png",
            "--overwrite")  # fmt: skip
        shown, *answers = cells(folder / "v.png", 8)
        assert np.abs(shown - given(folder)).max() <= 1
        far.append(np.mean([np.abs(answer - shown).mean() for answer in answers]))
    assert far[0] < 0.5 * far[1]


@pytest.mark.slow
def test_a_blend_goes_from_one_image_to_the_other(folder, cli):
    cli(0, "edit", folder / "edm", folder / "a.png", "--how", "blend", "--other", folder / "b.png",
        "--sampling", "steps=60", "--count", "4", "--out", folder / "blend.png")  # fmt: skip
    one, two, *way = cells(folder / "blend.png", 6)
    assert np.abs(one - given(folder)).max() <= 1 and np.abs(two - given(folder, "b")).max() <= 1
    assert np.abs(way[0] - one).mean() < 6 and np.abs(way[-1] - two).mean() < 6
    assert np.abs(way[1] - one).mean() > 2 * np.abs(way[0] - one).mean()


@pytest.mark.slow
def test_samples_drawn_in_other_ways(folder, cli):
    images = {}
    for text in ("", "steps=6", "sampler=ddim", "guidance=3,interval=0.1:5"):
        said = cli(0, "generate", folder / "edm", "--count", "20", "--batch", "10" if text else "20",
                   "--out", folder / "g.npz", "--overwrite", "--sampling", text)  # fmt: skip
        with np.load(folder / "g.npz") as found:
            images[text] = found["image"]
        calls = {"": 5, "steps=6": 11, "sampler=ddim": 3}.get(text, 10)
        assert f"{calls} function evaluations per image" in said and "images/s" in said
    said = cli(0, "generate", folder / "edm", "--count", "2", "--batch", "2", "--out", folder / "g.png", "--overwrite",
               "--sampling", "sampler=dopri5")  # fmt: skip
    assert " function evaluations per image, " in said and " on average" in said, "they are each image's own"
    first = images.pop("")
    assert all(np.abs(np.float32(first) - other).max() > 3 for other in images.values())
    cli(0, "evaluate", folder / "edm", "--metrics", "fid_pixels", "--count", "100", "--sampling", "steps=2")
    row = json.loads((folder / "edm" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert "steps=2" in row["sampling"]


@pytest.mark.slow
def test_a_worse_model_guides(folder, cli):
    def draw(name: str, *words):
        out = folder / f"{name}.npz"
        cli(0, "generate", folder / "edm", "--count", "3", "--labels", "4", "--out", out, *words)
        return np.load(out)["image"].astype(int)

    plain, itself = draw("plain"), draw("itself", "--sampling", f"guidance=3,guide={folder / 'edm'}")
    assert np.abs(plain - itself).max() <= 1  # away from itself is nowhere
    assert np.abs(plain - draw("away", "--sampling", f"guidance=3,guide={folder / 'worse'}")).max() > 10
    words = cli(
        0, "evaluate", folder / "edm", "--metrics", "loss", "--sampling", f"guidance=2,guide={folder / 'worse'}"
    )
    assert "loss" in words


def test_settings_of_sampling_may_change_when_a_run_goes_on(folder):
    run = load_config(folder / "edm")
    other = load_config(folder / "edm", "steps=7,sampler=ddim,clip=true,interval=0.5:2")
    assert differences(run, other) == []
    how = other.model.sampling
    assert (how.steps, how.sampler, how.clip, how.interval) == (7, "ddim", True, (0.5, 2.0))


@pytest.mark.parametrize(
    "text, words",
    [
        ("stepz=3", "Unknown setting of sampling 'stepz': did you mean 'steps'"),
        ("steps=x", "steps must be a whole number, not 'x'"),
        ("guidance=big", "guidance must be a number"),
        ("clip=2", "clip must be true or false"),
        ("interval=3", "interval must be two numbers"),
        ("steps", "must be settings such as steps=10"),
    ],
)
def test_settings_of_sampling_that_are_none(text, words, folder):
    with pytest.raises(InputError, match=words):
        load_config(folder / "edm", text)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("inpaint edm a.png --mask short.png", "short.png is 6x8, the image 8x8: they must have the same size"),
        ("inpaint edm a.png --mask black.png", "is all black: nothing is to be painted"),
        ("inpaint edm a.png --mask nothing.png", "There is no image"),
        ("inpaint edm note.txt --mask mask.png", "note.txt can't be read"),
        ("inpaint edm a.png --mask mask.png --times 0", "times must be at least 1"),
        ("inpaint edm a.png --mask mask.png --label 10", "labels must be from 0 to 9"),
        ("inpaint flow a.png --mask mask.png --label 1", "This model is unconditional"),
        ("inpaint dcgan a.png --mask mask.png", "This model removes no noise"),
        ("inpaint edm a.png --mask mask.png --out x.jpg", "must end in .png"),
        ("upscale edm a.png --factor 3", "--factor 3 must divide both sides of the model's 8x8"),
        ("edit edm a.png --how colourise", "have no three channels: it can't colourise"),
        ("edit edm a.png --how blend", "give both or neither"),
        ("edit edm a.png --other b.png", "give both or neither"),
        ("edit edm a.png --strength 1.5", "strength must be above 0"),
        ("edit edm a.png --how deblur --sigma 0", "The sigma of a blur must be above 0"),
        ("edit edm a.png --out a.png", "a.png would be replaced by its own output"),
        ("inpaint edm a.png --mask mask.png --out mask.png", "mask.png would be replaced by its own output"),
        ("edit edm a.png --count 0", "count must be at least 1"),
        ("generate dcgan --sampling steps=3", "drawn in one way"),
        ("generate edm --sampling churn=2,sampler=ddim", "churn is a setting of heun"),
        ("generate edm --sampling guide=edm", "A guide has no effect with guidance=1"),
        ("generate edm --sampling guide=flow,guidance=2", "with the same images, classes (or none) and kind of noise"),
        ("generate edm --sampling guide=dcgan,guidance=2", "with the same images, classes (or none) and kind of noise"),
        ("generate edm --sampling guide=none,guidance=2", "There is no run folder none"),
    ],
)
def test_mistakes_are_refused(arguments, message, folder, cli, monkeypatch):
    monkeypatch.chdir(folder)
    assert message in cli(2, *arguments.split())
    assert zoo.ZOO and not (folder / "edited.png").exists()
