"""python -m jaxgen restore --mask: what it fills in, how often, and what it refuses."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import degradation_quality
from tests.helpers.photo_samples import pixels_of as pixels
from tests.helpers.untrained import untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Untrained runs, an image and masks."""
    folder = tmp_path_factory.mktemp("inpainting")
    for name in ("partial-conv", "completion-vae"):
        untrained(folder / name, "restoration", name)
    untrained(folder / "edm", "diffusion", "edm", "--model.sampling.steps", "3")
    rng = np.random.default_rng(0)
    for name, size in (("a", (40, 50, 3)), ("small", (8, 8))):
        Image.fromarray(rng.integers(0, 255, size).astype(np.uint8)).save(folder / f"{name}.png")
        mask = np.zeros(size[:2], np.uint8)
        mask[2 : size[0] // 2, 3 : size[1] // 2] = 255
        Image.fromarray(mask).save(folder / f"{name}-mask.png")
        Image.fromarray(0 * mask).save(folder / f"{name}-black.png")
    return folder


@pytest.mark.slow
def test_training_shows_images_with_holes(tmp_path, cli):
    settings = ("--preset", "partial-conv", "--tiny", "--mesh.data", "1", "--steps", "2")
    cli(0, "train.restoration", *settings, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "restorations" / "000002.png").exists()


def test_the_command_fills_in_what_a_mask_hides(folder, cli):
    cli(0, "restore", folder / "a.png", "--with", folder / "partial-conv", "--mask", folder / "a-mask.png")
    before, after, mask = (pixels(folder / f"{name}.png") for name in ("a", "a-restored", "a-mask"))
    assert after.shape == before.shape and np.array_equal(after[mask == 0], before[mask == 0])
    assert (after[mask > 0] != before[mask > 0]).mean() > 0.5
    said = cli(0, "restore", folder / "a.png", "--with", folder / "partial-conv", "--degrade", "--overwrite")
    assert "psnr_rgb" in said


def test_several_answers_are_written_and_shown(folder, cli):
    out = folder / "several.png"
    args = ["--with", folder / "completion-vae", "--mask", folder / "a-mask.png", "--answers", "3", "--sheet"]
    said = cli(0, "restore", folder / "a.png", *args, "--out", out)
    assert "several.png and 2 more" in said
    one, two, three = (pixels(folder / f"several{end}.png") for end in ("", "-2", "-3"))
    before, mask = pixels(folder / "a.png"), pixels(folder / "a-mask.png")
    for answer in (one, two, three):
        assert np.array_equal(answer[mask == 0], before[mask == 0])
    assert (one != two).any() and (two != three).any()
    assert pixels(folder / "several-sheet.png").shape[1] == 4 * 484 - 4
    assert "exists already" in cli(2, "restore", folder / "a.png", *args[:4], "--answers", "2", "--out", out)
    cli(0, "restore", folder / "a.png", *args[:4], "--out", folder / "first.png")
    assert np.array_equal(pixels(folder / "first.png"), one), "the count of answers changes none"


@pytest.mark.slow
def test_how_far_two_answers_are_apart_is_measured(folder, monkeypatch):
    one, other = jnp.zeros((1, 2, 2, 3)), jnp.full((1, 2, 2, 3), 0.5).at[:, 0].set(0.25)
    mask = jnp.zeros((1, 2, 2, 1)).at[:, 0].set(1)
    assert [float(x[0]) for x in degradation_quality.apart(one, other, mask)] == pytest.approx(
        [0.25 * 127.5, 0.5 * 127.5]
    )
    monkeypatch.setattr(degradation_quality, "COMPARED", 50)
    found = degradation_quality.compared(folder / "completion-vae", folder / "compared.png")
    assert found["apart_hole"] > 0 and found["apart_rest"] == 0


def test_a_diffusion_model_fills_in_images_of_its_size(folder, cli):
    args = ["--with", folder / "edm", "--mask", folder / "small-mask.png", "--answers", "2"]
    cli(0, "restore", folder / "small.png", *args, "--out", folder / "painted.png")
    before, mask = pixels(folder / "small.png"), pixels(folder / "small-mask.png")
    one, two = pixels(folder / "painted.png"), pixels(folder / "painted-2.png")
    assert np.array_equal(one[mask == 0], before[mask == 0]) and np.array_equal(two[mask == 0], before[mask == 0])
    assert (one != two).any()
    args[3] = folder / "a-mask.png"
    Image.open(folder / "a.png").convert("L").save(folder / "grey.png")
    said = cli(2, "restore", folder / "grey.png", *args)
    assert "paints images of its own size, 8x8, not of 40x50" in said


def test_what_the_command_refuses(folder, cli):
    image = folder / "a.png"
    for args, words in [
        (["--with", folder / "partial-conv"], "needs --mask"),
        (["--with", folder / "edm"], "needs --mask"),
        (["--with", folder / "partial-conv", "--mask", folder / "small-mask.png"], "they must have the same size"),
        (["--with", folder / "partial-conv", "--mask", folder / "a-black.png"], "all black"),
        (["--with", folder / "partial-conv", "--mask", folder / "none.png"], "none.png can't be read"),
        (["--with", folder / "partial-conv", "--mask", folder / "a-mask.png", "--answers", "2"], "has one answer"),
        (["--with", folder / "partial-conv", "--mask", folder / "a-mask.png", "--answers", "0"], "must be at least 1"),
        (["--with", folder / "partial-conv", "--mask", folder / "a-mask.png", "--degrade"], "leave out --mask"),
    ]:
        said = cli(2, "restore", image, *args, "--out", folder / "nothing.png")
        assert words in said and "Traceback" not in said, said
    assert not (folder / "nothing.png").exists()
