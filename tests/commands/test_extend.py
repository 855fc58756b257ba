"""Outpainting and seamless tiles: jaxgen/commands/extend.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.commands.extend import fullest, inpainted, rolled, sides
from jaxgen.core.errors import InputError
from jaxgen.inference.restoration import Model
from tests.helpers.capabilities import restoration_model
from tests.helpers.compose_samples import load, save, smooth
from tests.helpers.untrained import untrained


def filler(size: tuple[int, ...] = ()) -> Model:
    """A model that fills hidden pixels with the mean of the known pixels."""

    def restore(params, context, given, keys, scale):
        known = 1 - given["mask"]
        mean = (given["degraded"] * known).sum((1, 2)) / known.sum((1, 2))
        return jnp.where(given["mask"] > 0, mean[:, None, None], given["degraded"])

    return restoration_model(restore, "filler", conditions=("mask",), multiple=4, whole=True, size=size)


@pytest.fixture
def background(tmp_path):
    return save(tmp_path / "b.png", smooth(0, 40, 50))


@pytest.mark.parametrize("size", [(), (16, 12)])
def test_all_beyond_the_border_is_filled_from_known_pixels(size):
    image = np.full((20, 18, 3), 0.25, np.float32)
    image[:, 9:] = 0.75
    given = np.pad(image, ((7, 9), (30, 1), (0, 0)))
    hidden = np.pad(np.zeros((20, 18, 1), np.float32), ((7, 9), (30, 1), (0, 0)), constant_values=1)
    made = inpainted(filler(size), given, hidden, 0, 0)
    assert np.array_equal(made[7:27, 30:48], image)
    assert not np.isnan(made).any() and made.min() >= 0.25 - 1e-6 and made.max() <= 0.75 + 1e-6
    assert (np.abs(made[:, 0] - 0.25).max() < 0.1) == bool(size), "a window sees what is near to it only"


def test_windows_grow_from_what_is_known():
    hidden = np.ones((40, 40, 1), np.float32)
    hidden[10:20, 10:20] = 0
    while hidden.any():
        part = fullest(hidden, (16, 16))
        assert 0 < hidden[part].sum() < 16 * 16
        hidden[part] = 0


def test_sides_are_read_as_css_margins():
    assert sides((3,)) == (3, 3, 3, 3) and sides((3, 4)) == (3, 4, 3, 4) and sides((1, 2, 3, 4)) == (1, 2, 3, 4)


def test_a_tiles_border_is_hidden_in_its_middle():
    image = smooth(0, 20, 30)
    given, hidden = rolled(image, 3)
    back = np.roll(given, (-10, -15), (0, 1))
    there = np.roll(hidden, (-10, -15), (0, 1))[..., 0]
    assert np.array_equal(back, image)
    assert there[:3].all() and there[-3:].all() and there[:, :3].all() and not there[3:-3, 3:-3].any()
    with pytest.raises(InputError, match="covers the whole image"):
        rolled(image, 10)


def test_a_tile_without_a_model(background, tmp_path, cli):
    assert "a seamless tile" in cli(0, "extend", background, "--tile")
    made, was = load(tmp_path / "b-tile.png"), load(background)
    jump = lambda x: np.abs(x[0] - x[-1]).mean() + np.abs(x[:, 0] - x[:, -1]).mean()  # noqa: E731
    assert jump(made) < 0.3 * jump(was) and np.abs(made - was).mean() < 40


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run of an inpainting net."""
    return untrained(tmp_path_factory.mktemp("extend") / "run", "restoration", "partial-conv")


def test_a_net_fills_beyond_the_border_and_keeps_the_rest(run, background, tmp_path, cli):
    said = cli(0, "extend", background, "--with", run, "--by", "3", "5", "--out", tmp_path / "o.png")
    assert "46x60" in said
    assert np.array_equal(load(tmp_path / "o.png")[3:-3, 5:-5], load(background))
    said = cli(0, "extend", background, "--with", run, "--tile", "--seam", "4", "--out", tmp_path / "t.png")
    made, was = load(tmp_path / "t.png"), load(background)
    assert np.array_equal(made[4:-4, 4:-4], was[4:-4, 4:-4]) and not np.array_equal(made, was)


def test_colours_under_alpha_0_do_not_matter(run, tmp_path, cli):
    made, alpha = [], np.ones((24, 28, 1), np.float32)
    alpha[4:12, :9] = 0
    for hidden in (-1, 1):
        colours = np.where(alpha, smooth(0, 24, 28), np.float32(hidden))
        image = save(tmp_path / f"{hidden}.png", colours, alpha)
        cli(0, "extend", image, "--by", "4", "--with", run, "--out", tmp_path / f"{hidden}-o.png")
        made.append(load(tmp_path / f"{hidden}-o.png"))
    assert np.array_equal(*made)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    """An untrained run of a diffusion model of 8x8 images in colour, in few steps."""
    few = ("--model.image", "8", "8", "3", "--model.sampling.steps", "3")
    return untrained(tmp_path_factory.mktemp("extend") / "run", "diffusion", "ddpm", "--data.source", "shapes", *few)


@pytest.mark.slow
def test_a_diffusion_model_fills_windows_beyond_the_border(diffusion, tmp_path, cli):
    image = save(tmp_path / "p.png", smooth(0, 12, 14))
    said = cli(0, "extend", image, "--with", diffusion, "--by", "3", "4", "2", "0", "--answers", "2")
    made, other, was = (load(tmp_path / f"{name}.png") for name in ("p-extended", "p-extended-2", "p"))
    assert "17x18, 45% of it filled in" in said and made.shape == (17, 18, 3)
    assert np.array_equal(made[3:-2, :-4], was) and np.array_equal(other[3:-2, :-4], was)
    beyond = np.ones((17, 18), bool)
    beyond[3:-2, :-4] = False
    assert (np.abs(made - other)[beyond].max(1) > 0).mean() > 0.9, "all of it is filled, with each result's own noise"
    cli(0, "extend", image, "--with", diffusion, "--tile", "--seam", "2")
    made = load(tmp_path / "p-tile.png")
    assert np.array_equal(made[2:-2, 2:-2], was[2:-2, 2:-2])
    seam = np.ones((12, 14), bool)
    seam[2:-2, 2:-2] = False
    assert (np.abs(made - was)[seam].max(1) > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((), "Write either --by"),
        (("--by", "1", "2", "3"), "one, two or four numbers"),
        (("--by", "4"), "--by needs a model: name it with --with."),
        (("--by", "4", "--with", "bicubic"), "bicubic can't fill in masked pixels"),
        (("--tile", "--seam", "3"), "--seam is for --tile with a model"),
        (("--tile", "--by", "3"), "Write either --by"),
        (("--tile", "--preset", "srcnn"), "leave out --answers and --preset"),
        (("--by", "99999", "--with", "bicubic"), "a side can have 20000 pixels at most"),
        (("--by", "4", "--with", "bicubic", "--seed", "4294967296"), "--seed must be from 0 to 4294967295"),
        (("--by", "-1", "--with", "bicubic"), "--by must be 0 or more pixels, not -1."),
    ],
)
def test_an_extension_that_cannot_be(background, tmp_path, cli, more, sentence):
    assert sentence in cli(2, "extend", background, *more, "--out", tmp_path / "o.png")
    assert not (tmp_path / "o.png").exists()
