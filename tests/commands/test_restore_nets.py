"""python -m jaxgen restore: what nets are given: tiles, ensembles, grey and colour, alpha, noise."""

import json
import re
import signal
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgen import zoo
from jaxgen.commands import restore
from jaxgen.core.errors import InputError
from jaxgen.data.degradations import Degradation
from jaxgen.inference import restoration
from jaxgen.media.photo import read
from jaxgen.metrics.pixels import psnr
from tests.helpers.capabilities import restoration_model
from tests.helpers.photo_samples import pixels_of, save, smooth


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
