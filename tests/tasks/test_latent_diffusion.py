"""Latent diffusion over trained autoencoders: normalisation, saved state, commands, and error messages."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from jaxgen import data
from jaxgen.commands.parse import parse
from jaxgen.core.capabilities import Denoiser, Density
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state
from jaxgen.core.types import averaged
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL
from jaxgen.models.diffusion.consistency import Consistency
from jaxgen.models.diffusion.ddpm import DDPM
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.flow import Flow
from jaxgen.runs.load import open_run
from jaxgen.tasks.frozen_autoencoder import autoencoder_of
from jaxgen.tasks.latent_diffusion import deviation, initial_statistics, normalise, update_statistics
from jaxgen.tasks.teacher import load
from jaxgen.training.loop import fit
from tests.helpers.capabilities import denoiser
from tests.helpers.running import assert_same
from tests.helpers.untrained import untrained

IMAGE = (8, 8, 1)
QUIET = ["--tiny", "--log.samples", "0", "--mesh.data", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two untrained autoencoders, one with a latent map and one with latent vectors; an image and its mask."""
    folder = tmp_path_factory.mktemp("latent")
    for name in ("vq-vae", "vae"):
        untrained(folder / name, "vae", name)
    digits: Any = datasets.load_digits()
    Image.fromarray((digits.images[0] * 15.9).astype(np.uint8)).save(folder / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


def argv(folder: Path, name: str, autoencoder: str = "vq-vae", steps: int = 20) -> list[str]:
    out = folder / f"{name}-{autoencoder}"
    few = ["--model.net.kind", "dit", "--model.net.patch", "1", "--model.sampling.steps", "2"]
    return ["--preset", name, *QUIET, *few, "--steps", str(steps), "--model.autoencoder", str(folder / autoencoder),
            "--out", str(out)]  # fmt: skip


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """A run of a model of a latent map."""
    return fit(parse("diffusion", argv(folder, "edm-conditional")).run)


def test_latents_are_normalised_to_the_scale_of_the_model(folder, run):
    opened = open_run(run)
    statistics: Any = opened.state.extra["codes"]
    assert int(statistics["batches"]) == -20
    autoencoder = autoencoder_of(str(folder / "vq-vae"), IMAGE)
    source = data.open_source(opened.run.data, IMAGE)
    stream = data.batches(source, opened.run.data, IMAGE, batch=1024, seed=0)
    latents = autoencoder.encode(load(str(folder / "vq-vae")), jnp.asarray(next(stream)["image"]))
    stream.close()
    assert latents.shape == (1024, 4, 4, 4)
    ours = normalise(latents, statistics, 0.5)
    np.testing.assert_allclose(ours.mean((0, 1, 2)), 0, atol=0.1)
    np.testing.assert_allclose(ours.std((0, 1, 2)), 0.5, atol=0.1)


def test_statistics_are_those_of_the_first_hundred_batches():
    key = jax.random.key(0)
    noise = np.asarray(jax.random.normal(key, (120, 16, 2, 2, 5)))
    latents = (3 * noise + np.array([0, 7, -300, 5000, 1e4])).astype(np.float32)
    statistics, after, update = initial_statistics(5), None, jax.jit(update_statistics)
    for i, batch in enumerate(latents):
        statistics = update(statistics, batch)
        if i == 99:
            after = statistics
    jax.tree.map(np.testing.assert_array_equal, statistics, after)
    first = np.asarray(latents[:100], np.float64).reshape(-1, 5)
    np.testing.assert_allclose(statistics["mean"], first.mean(0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(deviation(statistics), first.std(0), rtol=1e-3)


def test_a_run_that_measured_squares_goes_on():
    """Runs of before hold E[x^2]: they are read as they were, and go on as the others."""
    rng = np.random.default_rng(0)
    first, second = (np.float32(2 * rng.normal(size=(8, 2, 2, 3)) + 1) for _ in range(2))
    before = {"batches": jnp.float32(1), "mean": first.mean((0, 1, 2)), "square": np.square(first).mean((0, 1, 2))}
    np.testing.assert_allclose(deviation(before), first.std((0, 1, 2)), rtol=1e-5)
    after, both = update_statistics(before, jnp.asarray(second)), np.concatenate([first, second])
    np.testing.assert_allclose(after["mean"], both.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(deviation(after), both.std((0, 1, 2)), rtol=1e-5)


def test_a_constant_channel_stays_finite():
    statistics = update_statistics(initial_statistics(2), jnp.ones((4, 1, 1, 2)))
    assert np.isfinite(normalise(jnp.ones((4, 1, 1, 2)), statistics, 1.0)).all()


@pytest.mark.parametrize("name", ["vq-vae", "vae"])
def test_encode_and_decode_are_those_of_the_autoencoder(name, folder):
    model = replace(EDM(IMAGE, net=replace(SMALL["dit"], patch=1)), autoencoder=str(folder / name))
    task = model.task(10)
    assert task.example["image"].shape == IMAGE and task.find(Density) is None
    shape = {"vq-vae": (4, 4, 4), "vae": (1, 1, 4)}[name]
    assert denoiser(task).shape == shape
    frozen = {"autoencoder": task.frozen["autoencoder"]()}
    params, context = averaged(init_state(task, jax.random.key(0), spec_of(task, 2)), frozen)
    digits: Any = datasets.load_digits()
    x = jnp.asarray(digits.images[:3] / 8 - 1, jnp.float32)[..., None]
    d: Any = denoiser(task)
    latents = d.encode(params, context, x)
    back = d.decode(params, context, latents)
    inside = autoencoder_of(model.autoencoder, IMAGE)
    nets = frozen["autoencoder"]
    np.testing.assert_allclose(back, inside.decode(nets, inside.encode(nets, x)), atol=1e-5)
    assert latents.shape == (3, *shape)


def test_the_autoencoder_is_frozen_and_not_saved(folder, run):
    opened = open_run(run)
    assert set(opened.state.params) == {"denoiser"} and set(opened.frozen) == {"autoencoder"}
    ours = jax.tree.map(np.asarray, opened.frozen["autoencoder"]["params"]["encoder"])
    theirs = open_run(folder / "vq-vae").state.params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, ours, jax.tree.map(np.asarray, theirs))


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical(folder, run, tmp_path):
    words = argv(folder, "edm-conditional")
    words[-1] = str(tmp_path / "halves")
    halves = parse("diffusion", words).run
    with_stop = replace(halves, save=replace(halves.save, every=10))
    fit(with_stop)
    last = tmp_path / "halves" / "checkpoints" / "20"
    shutil.rmtree(last)
    (last.parent / "20.sha256").unlink()
    (tmp_path / "halves" / "metrics.jsonl").write_text(
        "".join(line + "\n" for line in (run / "metrics.jsonl").read_text().splitlines()[:2])
    )
    fit(with_stop)
    assert_same(run, tmp_path / "halves", 20)


def test_samples_do_not_depend_on_the_batch_size(run, cli, tmp_path):
    for batch in (1, 5):
        cli(
            0,
            "generate",
            run,
            "--count",
            "5",
            "--batch",
            str(batch),
            "--labels",
            "3",
            "--out",
            tmp_path / f"{batch}.npz",
        )
    one, five = (np.load(tmp_path / f"{batch}.npz")["image"] for batch in (1, 5))
    assert one.shape == (5, *IMAGE)
    np.testing.assert_array_equal(one, five)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "shortcut", "consistency"])
def test_every_method_trains_on_latents(name, folder, cli):
    made = fit(parse("diffusion", argv(folder, name, "vae", 3)).run)
    opened = open_run(made)
    if found := opened.task.find(Denoiser):
        assert found.shape == (1, 1, 4)
        words = cli(2, "inpaint", made, folder / "a.png", "--mask", folder / "mask.png")
        assert "latents have no places in the image" in words


@pytest.mark.slow
def test_images_are_edited_in_latent_space(folder, run, cli, tmp_path):
    from tests.commands.test_editing import cells

    image, mask = folder / "a.png", folder / "mask.png"
    few = ["--label", "0", "--count", "3", "--out", tmp_path / "out.png", "--overwrite"]
    cli(0, "inpaint", run, image, "--mask", mask, "--times", "2", *few)
    _, *answers = cells(tmp_path / "out.png", 4)
    for answer in answers:
        np.testing.assert_allclose(answer[:4], np.asarray(Image.open(image), float)[:4], atol=1)
    cli(0, "edit", run, image, *few)
    cli(0, "edit", run, image, "--how", "blend", "--other", image, *few)
    for words in (["upscale", run, image], ["edit", run, image, "--how", "deblur"],
                  ["inpaint", run, image, "--mask", mask, "--method", "ddnm"]):  # fmt: skip
        assert "denoises an autoencoder's latents, not pixels" in cli(2, *words, *few)


def test_a_dry_run_reads_frozen_nets(run, capsys):
    from jaxgen.runs.config_io import from_json
    from jaxgen.training.dry_run import dry_run

    dry_run(from_json((run / "config.json").read_text()))
    assert "GFLOP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (EDM((8, 8, 1), autoencoder="no/run"), "There is no run folder no/run."),
        (EDM((16, 16, 1), autoencoder="vq-vae"), "takes 8x8x1 images: model.image must be 8 8 1, not 16 16 1."),
        (Flow((8, 8, 1), autoencoder="edm-conditional-vq-vae"), "must be a run of train.vae without labels"),
        (
            DDPM((8, 8, 1), net=BackboneConfig(multipliers=(1, 2)), autoencoder="vae"),
            "multiples of 2, not 1x1. The inputs here are latents of vae",
        ),
        (
            Consistency((8, 8, 1), teacher="edm-conditional-vq-vae", net=SMALL["dit"]),
            "and 0 classes: edm-conditional-vq-vae is a run of EDM with 8x8x1 images and 10 classes, and the latents",
        ),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_refused(model, words, folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=words.replace(".", r"\.")):
        model.task(10)
