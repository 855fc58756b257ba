"""python -m jaxgen restore: scores beside originals, and those of published images."""

import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.commands import restore
from jaxgen.core.errors import InputError
from jaxgen.media.batch_files import ImageJob
from jaxgen.media.photo import find, read
from jaxgen.metrics.pixels import psnr
from tests.helpers.photo_samples import save, save_smooth, smooth


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
        save_smooth(tmp_path / "small" / name)
    for name in ("baby.png", "deep/bird.png", "cat.png", "cat.tif"):
        save_smooth(tmp_path / "large" / name)
    job = ImageJob([tmp_path / "small"], None, "restored", lambda target: [target], False)
    found = {file.name: path and path.name for file, path in restore.pairs_of(job, tmp_path / "large").items()}
    assert found == {"babyx4.bmp": "baby.png", "birdx2.png": "bird.png", "x4.png": None} | {
        "cat.bmp": "cat.png",
        "cat.png": "cat.png",
    }


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
        save_smooth(tmp_path / f"small/{name}.png", 16, 16)
    save_smooth(tmp_path / "large/a.png", 32, 32)
    save_smooth(tmp_path / "large/b.png", 40, 32)
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
