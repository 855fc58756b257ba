"""Commands on latents: anomaly scores, maps, arithmetic, samplers fitted to latents; and data of some labels only."""

import csv
import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from jaxgen import zoo
from jaxgen.commands.arithmetic import sources_of
from jaxgen.commands.map import grid_values
from jaxgen.commands.parse import parse
from jaxgen.commands.score import choose_measure, scores_of
from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.config import Data, Mesh
from jaxgen.core.errors import InputError
from jaxgen.data import RandomSubset, Subset, batches, labels_of, open_source
from jaxgen.evaluation.sample_scores import open_scores
from jaxgen.inference import latent_samplers
from jaxgen.inference.autoencoding import Autoencoder, check_vectors
from jaxgen.media.image_grid import CAPTION, to_u8
from jaxgen.media.plots import plot_map
from jaxgen.metrics.auroc import auroc
from jaxgen.runs.config_io import differences, from_json, to_json
from jaxgen.runs.load import Trained, open_run
from jaxgen.training.loop import fit
from tests.helpers.capabilities import decode, encode, log_prob
from tests.helpers.data_samples import message, refuse, tree
from tests.helpers.untrained import save_untrained

CELL = 66  # pixels of a grid's cell and its gap
SETTINGS = {
    "vae": "vae --data.only 0-8 --model.latent 2 --model.nets.width 64 --steps 400 --batch 64"
    " --compute.steps-per-call 50 --log.every 50 --log.samples 0 --save.every 400",
    "cvae": "cvae",
    "autoencoder": "autoencoder --steps 10",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Runs: two latents and a prior, trained on nine digits; untrained with labels and without a prior; settings."""
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in SETTINGS.items():
        run = parse(
            "vae", ["--tiny", "--mesh.data", "1", "--out", str(folder / name), "--preset", *settings.split()]
        ).run
        fit(run) if name == "vae" else save_untrained(run)
    bare = {"dcgan": zoo.load("dcgan").tiny, "large": zoo.load("autoencoder").tiny, "one": zoo.load("vae").tiny}
    bare["large"] = dataclasses.replace(bare["large"], model=dataclasses.replace(bare["large"].model, latent=4097))
    bare["one"] = dataclasses.replace(bare["one"], model=dataclasses.replace(bare["one"].model, latent=1))
    for name, run in bare.items():
        (folder / name).mkdir()
        preset = {"large": "autoencoder", "one": "vae"}.get(name, name)
        (folder / name / "config.json").write_text(to_json(dataclasses.replace(run, preset=preset)))
    return {name: folder / name for name in (*SETTINGS, *bare)}


@pytest.fixture(scope="module")
def opened(runs) -> dict[str, Trained]:
    return {name: open_run(runs[name], Mesh(data=1)) for name in SETTINGS}


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as file:
        return file.size


# ---------------------------------------------------------------- data of some labels


def labels_read(source) -> list[int]:
    found = [source[i]["label"] for i in range(len(source))]
    assert labels_of(source).tolist() == found
    several = getattr(source, "__getitems__", None)
    assert several is None or [x["label"] for x in several(list(range(len(found))))] == found
    return found


def check_only(only: str, kept: set[int], source: str, **fields):
    """Check that exactly the examples of the labels are kept, in their order and with their labels."""
    image = (8, 8, 3) if source == "shapes" else (8, 8, 1)
    data = Data(source, **fields)
    whole, some = (open_source(dataclasses.replace(data, only=x), image) for x in (None, only))
    where = [i for i, label in enumerate(labels_of(whole)) if label in kept]
    assert len(some) == len(where) and some.classes == whole.classes
    assert labels_read(RandomSubset(some, 40)) and set(labels_of(some)) == kept
    found = [next(batches(x, data, image, batch=64, seed=0, train=False)) for x in (some, Subset(whole, where[:64]))]
    np.testing.assert_array_equal(found[0]["image"], found[1]["image"])
    np.testing.assert_array_equal(found[0]["label"], found[1]["label"])


@pytest.mark.parametrize("source", ["digits", "shapes"])
def test_only_some_labels(source):
    check_only("1,5-7", {1, 5, 6, 7}, source)


def test_only_some_folders(tmp_path):
    tree(tmp_path, dict.fromkeys(f"{name}/{i}.png" for name in ("cat", "dog", "eel") for i in range(4)))
    check_only("0,2", {0, 2}, f"folder:{tmp_path}")


def test_only_some_labels_of_a_tfds_set(real_data):
    check_only("0-8", set(range(9)), "tfds:mnist", dir=str(real_data / "tfds"), split="test[:500]")


def test_missing_labels_are_refused(tmp_path):
    for only, words in {"8-10": "from 0 to 9, not 10", "cat": "numbers such as 1, 0,1 or 0-9, not 'cat'"}.items():
        with pytest.raises(InputError, match=rf"^data\.only must be {words}\.$"):
            open_source(Data(only=only))
    tree(tmp_path, {"a.png": None, "b.png": None})
    refuse(f"folder:{tmp_path}", "The data has no labels: data.only=0 selects nothing.", only="0")
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 4, 4), np.uint8), label=[0, 2])
    refuse(f"npz:{tmp_path / 'x.npz'}", "The split 'train' of", "has no example of data.only=1.", only="1")
    message(lambda: labels_of(open_source(Data(f"folder:{tmp_path}"))), "The data has no labels.")


def test_older_runs_are_resumed(runs):
    run = from_json((runs["cvae"] / "config.json").read_text())
    values = json.loads(to_json(run))
    assert values["data"].pop("only") is None
    assert from_json(json.dumps(values)) == run
    some = dataclasses.replace(run, data=dataclasses.replace(run.data, only="1"))
    assert differences(run, some) == ["data.only: None -> 1"]
    other = dataclasses.replace(some, preset="vae")  # which has other settings
    assert differences(run, other) == ["preset: cvae -> vae"]


def test_real_images_of_other_labels_are_kept_apart(opened):
    run, mesh, task, *_ = opened["vae"]
    others = [dataclasses.replace(run, data=dataclasses.replace(run.data, only=x)) for x in ("0-8", "8,0-7", None)]
    scores = [open_scores(r, task, mesh, ["swd_pixels"], 5, "train", real=5)[0] for r in others]
    assert len({s.key() for s in scores}) == 3
    assert set(labels_of(scores[0].source)) == set(range(9))


# ---------------------------------------------------------------- anomalies


@pytest.mark.parametrize("levels", [3, 10, 10**9])
def test_the_area_under_the_curve_is_sklearns(levels):
    draw = np.random.default_rng(levels)
    odd = draw.random(300) < 0.2
    scores = np.floor(draw.random(300) * levels) + np.floor(odd * 0.3 * levels)
    assert auroc(scores, odd) == pytest.approx(roc_auc_score(odd, scores), abs=1e-12)
    assert auroc(scores * 0, odd) == 0.5 and auroc(odd * 1.0, odd) == 1 and auroc(odd * -1.0, odd) == 0


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A folder of 50 held-out digits from 0 to 8 and 5 images of noise."""
    folder = tmp_path_factory.mktemp("mixed")
    digits = open_source(Data("digits", split="test", only="0-8"))
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    images = {f"digit/{i:02}": digits[i]["image"][..., 0] for i in range(50)}
    for name, pixels in {**images, **{f"other/{i}": x for i, x in enumerate(noise)}}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("by", ["likelihood", "reconstruction"])
def test_images_of_noise_are_ranked_first(runs, cli, opened, mixed, tmp_path, by):
    out = tmp_path / "s.csv"
    printed = cli(0, "score", runs["vae"], mixed, "--by", by, "--anomalies", "1", "--count", 20, "--out", out)
    assert f"55 images scored by {by} at step 400: {out}" in printed
    assert "AUROC 1.0000 of 5 anomalies among 55 images" in printed
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 56)]
    assert {row["image"] for row in rows[:5]} == {f"other/{i}.png" for i in range(5)}
    assert [row["label"] for row in rows] == ["other"] * 5 + ["digit"] * 50
    values = [float(row["score"]) for row in rows]
    assert values == sorted(values, reverse=True)
    # 10 and 10 images in rows of 8, a line of text under each image, a gap between the halves
    assert size(tmp_path / "s.png") == (8 * CELL + 2, 2 * (2 * (CELL + CAPTION) + 2) + CAPTION)
    if by == "reconstruction":
        task, state = opened["vae"].task, opened["vae"].state
        context: Any = None
        with Image.open(mixed / rows[7]["image"]) as file:
            x = np.asarray(file, np.float32)[None, ..., None] / 127.5 - 1
        made = decode(task)(state.params, context, encode(task)(state.params, context, {"image": x}), {})
        assert values[7] == pytest.approx(float(((made - x) ** 2).mean()), rel=1e-4)


def test_files_that_cant_be_read_are_left_out_and_listed(runs, cli, mixed, tmp_path):
    folder = shutil.copytree(mixed, tmp_path / "in")
    (folder / "other/9.png").write_text("no image")
    out = tmp_path / "s.csv"
    printed = cli(1, "score", runs["vae"], folder, "--by", "reconstruction", "--anomalies", "1", "--out", out)
    assert "AUROC 1.0000 of 5 anomalies among 55" in printed
    assert "1 of 56 images can't be read, and were not scored: other/9.png: its content is not an image" in printed
    assert len(out.read_text().splitlines()) == 1 + 55


def test_likelihoods_are_the_tasks_and_of_each_image_alone(opened):
    trained = opened["vae"]
    data = trained.run.data.at("test")
    source = open_source(data)
    autoencoder = Autoencoder(trained)
    all_, three = (autoencoder.negative_log_likelihoods(x, data, 5) for x in (source, Subset(source, range(3))))
    np.testing.assert_array_equal(all_[:3], three)
    assert len(all_) == len(source) and log_prob(trained.task)
    batch = next(batches(source, data, (8, 8, 1), batch=len(source), seed=0, train=False))
    keys = jax.random.split(jax.random.key(7), len(source))
    context: Any = None
    other = -log_prob(trained.task)(trained.state.params, context, batch, keys, 5)
    assert abs(all_.mean() - other.mean()) < 0.1 and np.corrcoef(all_, np.asarray(other))[0, 1] > 0.95


def test_scores_of_a_source(runs, cli, tmp_path):
    """A set with labels and without file names, a part of it, and a sheet that shows all images in order."""
    out = tmp_path / "s.csv"
    printed = cli(0, "score", runs["cvae"], "digits", "--limit", 12, "--samples", 2, "--out", out)
    assert "12 images scored by likelihood" in printed and "AUROC" not in printed
    rows = list(csv.DictReader(out.read_text().splitlines()))
    some = RandomSubset(open_source(Data("digits", split="test")), 12)
    assert {int(row["image"]): row["label"] for row in rows} == {
        int(i): str(label) for i, label in zip(some.indices, some.labels, strict=True)
    }
    assert size(tmp_path / "s.png") == (8 * CELL + 2, 2 * (CELL + CAPTION) + 2)
    printed = cli(0, "score", runs["vae"], "digits", "--anomalies", "9", "--out", out, "--overwrite")
    assert f"of {(labels_of(open_source(Data('digits', split='test'))) == 9).sum()} anomalies among 297" in printed


def test_scores_that_are_not_finite_are_refused(opened, monkeypatch):
    monkeypatch.setattr(Autoencoder, "squared_errors", lambda *args: np.array([1, np.nan]))
    data = Data("digits")
    message(
        lambda: scores_of(opened["vae"], open_source(data), data, "reconstruction", 1),
        "The scores of 1 images are NaN",
    )


# ---------------------------------------------------------------- map and arithmetic


def test_maps(runs, cli, tmp_path):
    printed = cli(0, "map", runs["vae"], "--out", tmp_path / "map.png", "--side", 5)
    held_out = len(open_source(Data("digits", split="test", only="0-8")))
    assert f"The latents of {held_out} images of test at step 400: {tmp_path}/map.png" in printed
    assert size(tmp_path / "map.png") == (1400, 700)
    cli(0, "map", runs["cvae"], "--by", "pca", "--count", 50, "--out", tmp_path / "pca.png")
    assert size(tmp_path / "pca.png") == (750, 700)
    shown = np.asarray(Image.open(tmp_path / "pca.png").convert("RGB")).reshape(-1, 3)
    assert (shown == (31, 119, 180)).all(1).sum() > 20, "digits of class 0 in their colour"


def test_the_grid_is_at_the_priors_quantiles_or_spans_the_latents(opened):
    codes_ = np.array([[0, 5], [2, -5], [1, 1]], np.float32)
    values = grid_values(opened["vae"], codes_, 9, ())
    want = stats.norm.ppf((np.arange(9) + 0.5) / 9)
    np.testing.assert_allclose(values, [want, want], atol=0.05)
    values = grid_values(opened["autoencoder"], codes_, 3, ())
    np.testing.assert_allclose(values, [[0, 1, 2], [-5, 0, 5]])


def test_the_second_latent_of_a_map_grows_upwards(opened, tmp_path):
    painted = np.full((3, 3, 2, 2, 1), 200, np.uint8)
    painted[2, 0] = 100  # the second latent largest, the first smallest
    plot_map(np.zeros((1, 2)), None, (), "ab", tmp_path / "m.png", painted, np.zeros((2, 3)))
    shown = np.asarray(Image.open(tmp_path / "m.png").convert("L"))
    middle, corner = (np.median(np.argwhere(shown == value), 0) for value in (200, 100))
    side = np.sqrt((shown == 100).sum())
    np.testing.assert_allclose(
        corner, [np.argwhere(shown == 200)[:, 0].min() + side / 2, middle[1] - side], atol=side / 3
    )


def test_arithmetic(runs, cli, opened, tmp_path):
    """A label minus itself leaves the added label; the strip shows the mean latents first."""
    trained = opened["vae"]
    digits = open_source(Data("digits"))
    file = tmp_path / "three.png"
    Image.fromarray(digits[3]["image"][..., 0]).save(file)
    out = tmp_path / "a.png"
    printed = cli(
        0, "arithmetic", runs["vae"], "--start", "label:1", "--minus", "label:1", "--plus", f"label:4,{file}",
        "--steps", 3, "--examples", 6, "--out", out,
    )  # fmt: skip
    assert f"label:1 - label:1 + label:4,{file} at step 400: {out}" in printed
    assert size(out) == (7 * CELL + 2, CELL + 2)
    strip = np.asarray(Image.open(out)).astype(int)
    cells = [strip[2:CELL, 2 + i * CELL : (i + 1) * CELL] for i in range(7)]
    assert (cells[3] == 255).all()
    for a, b in ((0, 1), (0, 4), (2, 6)):
        assert np.abs(cells[a] - cells[b]).max() <= 1
    fours = Subset(digits, np.flatnonzero(labels_of(digits) == 4))
    autoencoder = Autoencoder(trained)
    ones = [autoencoder.encode(x, trained.run.data).mean(0) for x in (RandomSubset(fours, 6), Subset(digits, [3]))]
    want = to_u8(autoencoder.decode(np.mean(ones, 0)[None], {}))[0, ..., 0]
    assert np.abs(cells[2] - want.repeat(8, 0).repeat(8, 1)).max() <= 1
    cli(0, "arithmetic", runs["cvae"], "--start", file, "--minus", "label:1", "--plus", "label:9", "--label", 3,
        "--out", out, "--overwrite")  # fmt: skip


# ---------------------------------------------------------------- samplers


def keys_of(count: int):
    return jax.random.split(jax.random.key(1), count)


def energy(a: np.ndarray, b: np.ndarray) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|: 0 for one distribution."""
    return 2 * float(cdist(a, b).mean()) - float(cdist(a, a).mean()) - float(cdist(b, b).mean())


def test_a_mixture_has_the_moments_of_its_data():
    draw = np.random.default_rng(0)
    means, weights = np.array([[4.0, 0, 1], [-2, 1, -3]]), np.array([0.25, 0.75])
    roots = draw.normal(size=(2, 3, 3)) / 2
    which = draw.random(20_000) < 0.25
    noise = draw.normal(size=(20_000, 3))
    codes_ = np.where(which[:, None], means[0] + noise @ roots[0].T, means[1] + noise @ roots[1].T)
    sample = latent_samplers.fit_mixture(codes_.astype(np.float32), 2)
    found = np.asarray(jax.jit(sample)(keys_of(20_000)))
    mean = weights @ means
    covariance = sum(
        w * (r @ r.T + np.outer(m - mean, m - mean)) for w, r, m in zip(weights, roots, means, strict=True)
    )
    np.testing.assert_allclose(found.mean(0), mean, atol=0.08)
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.3)
    first = found[found[:, 2] > -1]  # the components are separate
    assert len(first) / len(found) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(np.cov(first.T), roots[0] @ roots[0].T, atol=0.08)
    np.testing.assert_allclose(sample(keys_of(20_000)[5:6])[0], found[5], rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"^components=4 is more than the number of latents to fit them to: 3\.$"):
        latent_samplers.fit_mixture(codes_[:3], 4)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_a_mixture_is_fitted_on_the_latents_scale(scale):
    """A floor of 1e-6 under the variances would be a hundred times those of latents of deviation 1e-4."""
    latents = np.random.default_rng(0).normal(size=(300, 2))
    draws = [latent_samplers.fit_mixture(x.astype(np.float32), 1)(keys_of(20)) for x in (latents, scale * latents)]
    np.testing.assert_allclose(draws[1], scale * draws[0], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.slow
def test_a_second_stage_comes_nearer_to_latents_that_are_far_from_the_prior(monkeypatch):
    """For latents on a ring it is nearer than the prior and than the Gaussian with their mean and covariance."""
    monkeypatch.setattr(latent_samplers, "WIDTH", 64)
    draw = np.random.default_rng(0)

    def ring(count: int) -> np.ndarray:
        angle, radius = draw.uniform(0, 2 * np.pi, count), 3 + 0.2 * draw.normal(size=count)
        return np.stack([1 + radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)

    codes_, others = ring(4000), ring(1000)
    sample = latent_samplers.fit_two_stage(codes_, steps=1500)
    found = np.asarray(jax.jit(sample)(keys_of(1000)))
    prior = draw.normal(size=(1000, 2))
    gaussian = draw.multivariate_normal(codes_.mean(0), np.cov(codes_.T), 1000)
    far, near, best = energy(prior, others), energy(gaussian, others), energy(found, others)
    assert best < 0.5 * near < 0.5 * far
    np.testing.assert_allclose(sample(keys_of(1000)[5:6])[0], found[5], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixture", "two-stage"])
def test_latents_of_a_trained_model_are_nearer_to_a_sampler_than_to_the_prior(opened, monkeypatch, name):
    monkeypatch.setattr(latent_samplers, "WIDTH", 32)
    monkeypatch.setattr(latent_samplers, "fit_two_stage", partial(latent_samplers.fit_two_stage, steps=300))
    trained = opened["vae"]
    data = trained.run.data
    seen: list[Any] = []

    def spy(fitted):
        def fit(codes, *args):
            seen.append(fitted(codes, *args))
            return seen[-1]

        return fit

    for part in ("fit_mixture", "fit_two_stage"):
        monkeypatch.setattr(latent_samplers, part, spy(getattr(latent_samplers, part)))
    drawn = [np.concatenate(list(map(np.asarray, latent_samplers.images(trained, name, n, 0, 4))))[:n] for n in (3, 9)]
    np.testing.assert_array_equal(drawn[0], drawn[1][:3])
    assert drawn[1].shape == (9, 8, 8, 1) and len(seen) == 2
    held_out = Autoencoder(trained).encode(open_source(data.at("test")), data)
    found = np.asarray(seen[0](keys_of(1000)))
    prior = np.random.default_rng(0).normal(size=(1000, 2))
    assert energy(found, held_out) < 0.5 * energy(prior, held_out)
    # Each drawn latent is decoded with the sample's own key.
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "samples"), jnp.arange(9))
    want = Autoencoder(trained).decode(np.asarray(seen[1](keys)), {})
    np.testing.assert_allclose(drawn[1], want, atol=1e-4)
    assert latent_samplers.refit(trained, "prior") is trained


@pytest.mark.slow
def test_an_autoencoder_is_sampled_and_scored(runs, cli, tmp_path):
    def samples(*args) -> np.ndarray:
        cli(0, "generate", *args, "--sampler", "mixture", "--components", 3, "--out", tmp_path / "x.npz", "--overwrite")
        with np.load(tmp_path / "x.npz") as arrays:
            return arrays["image"]

    some, more = (samples(runs["autoencoder"], "--count", n, "--batch", 8, "--seed", 3) for n in (5, 11))
    np.testing.assert_array_equal(some, more[:5])
    assert (samples(runs["autoencoder"], "--count", 5, "--batch", 8, "--seed", 4) != some).any()
    labelled = samples(runs["cvae"], "--count", 6, "--labels", "2,7")
    assert labelled.shape == (6, 8, 8, 1) and size(tmp_path / "x.png") == (3 * CELL + 2, 2 * CELL + 2)
    printed = cli(0, "evaluate", runs["autoencoder"], "--sampler", "mixture", "--metrics", "swd_pixels", "--count", 16)
    assert "sampler mixture" in printed
    row = json.loads((runs["autoencoder"] / "evaluations.jsonl").read_text().splitlines()[-1])
    assert row["sampler"] == "mixture" and row["metric"] == "swd_pixels" and np.isfinite(row["value"])


def test_scores_use_the_sampler(opened):
    run, mesh, task, *_ = opened["vae"]
    [scores] = open_scores(run, task, mesh, ["swd_pixels"], 20, "train", real=20, cache=False)
    found = scores.compare(scores.take_in(latent_samplers.images(opened["vae"], "mixture", 20, 0), 20))
    assert found["swd_pixels"] > 0


# ---------------------------------------------------------------- mistakes

REFUSALS = {
    "no likelihood": ("score autoencoder digits --by likelihood", "has no likelihood: write --by reconstruction."),
    "nothing to score by": ("score dcgan digits", "This model has neither a likelihood nor an encoder"),
    "no samples": ("score vae digits --samples 0", "samples must be at least 1, not 0."),
    "no images on the sheet": ("score vae digits --count 0", "count must be at least 1, not 0."),
    "no images": ("score vae digits --limit 0", "limit must be at least 1, not 0."),
    "a folder that is not there": ("score vae {tmp}/no", "There is no folder or .zip"),
    "an unknown split": ("score vae digits --split best", "split of digits"),
    "no labels": (
        "score vae {tmp}/plain --anomalies 0",
        "The images have no labels: leave out --anomalies.",
    ),
    "a label too high": ("score vae digits --anomalies 10", "anomalies must be from 0 to 9, not 10."),
    "all are anomalies": ("score vae digits --anomalies 0-9", "All of the images have a label of --anomalies 0-9."),
    "a model that needs labels": (
        "score cvae {tmp}/plain",
        "'image']: put the images of each label into a sub-folder",
    ),
    "another table": ("score vae digits --out {tmp}/x.png", "--out must end in .csv, not 'x.png'."),
    "a map of four numbers": (
        "map cvae",
        "latents have 4 numbers, not two: train with --model.latent 2, or write --by pca.",
    ),
    "a map of one number": ("map one --by pca", "latents have one number: a map needs two or more."),
    "a map of a GAN": ("map dcgan", "This model has no encoder: it makes no latents of images."),
    "a map of nothing": ("map vae --count 0", "count must be at least 1, not 0."),
    "a grid of one": ("map vae --side 1", "side must be at least 2, not 1."),
    "a map's class": ("map vae --label 3", "This model is unconditional: it takes no labels."),
    "arithmetic of a GAN": ("arithmetic dcgan label:1 label:2 label:3", "This model has no encoder"),
    "a class left out": ("arithmetic vae label:9 label:1 label:2", "The run's data have no example of label:9."),
    "a class too high": (
        "arithmetic vae label:1 label:10 label:2",
        "label:K must be from 0 to 9, not 10.",
    ),
    "several classes": (
        "arithmetic vae label:1 label:1-2 label:2",
        "label:K must be one class, not '1-2'.",
    ),
    "no image": ("arithmetic vae label:1 {tmp}/no.png label:2", "There is no image"),
    "an empty name": ("arithmetic vae label:1, label:2 label:3", "image files or label:K: one part is empty."),
    "its own input": (
        "arithmetic vae {tmp}/plain/a.png label:1 label:2 --out {tmp}/plain/a.png --overwrite",
        "a.png would be replaced by its own output",
    ),
    "components of one image": ("map cvae --by pca --count 1", "need two images or more, not one."),
    "a likelihood by no samples": ("evaluate vae --metrics nll_0", "nll_0: write nll_K or bpd_K, by K samples"),
    "samples of an autoencoder": (
        "generate autoencoder",
        "This model has no prior to draw samples from: write --sampler mixture or two-stage.",
    ),
    "one step": ("arithmetic vae label:1 label:2 label:3 --steps 1", "steps must be at least 2, not 1."),
    "no examples": ("arithmetic vae label:1 label:2 label:3 --examples 0", "examples must be at least 1, not 0."),
    "codes of a GAN": ("generate dcgan --sampler mixture", "This model has no encoder"),
    "codes too long": (
        "generate large --sampler two-stage",
        "latents have 4097 numbers: this works with at most 4096.",
    ),
    "no components": ("generate vae --sampler mixture --components 0", "components must be at least 1, not 0."),
    "a truncated mixture": ("generate vae --sampler mixture --truncation 0.5", "--truncation needs --sampler prior"),
    "another sampler": ("generate vae --sampler flow", "--sampler"),
    "an evaluation without codes": ("evaluate dcgan --sampler mixture", "This model has no encoder"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_mistake_is_one_sentence_before_anything_is_restored(why, runs, cli, tmp_path, monkeypatch):
    tree(tmp_path, {"plain/a.png": None, "plain/b.png": None})
    line, words = REFUSALS[why]
    verb, name, *args = line.replace("{tmp}", str(tmp_path)).split()
    if verb == "arithmetic":
        args = [x for pair in zip(("--start", "--minus", "--plus"), args[:3], strict=True) for x in pair] + args[3:]
    if "--out" not in args and verb != "evaluate":
        args += ["--out", str(tmp_path / ("x.csv" if verb == "score" else "x.png"))]

    def restored(*args):
        raise AssertionError("restored a checkpoint")

    monkeypatch.setattr("jaxgen.runs.checkpoint.restore", restored)
    before = sorted(tmp_path.iterdir())
    printed = cli(2, verb, runs[name], *args)
    assert words in printed and "Traceback" not in printed
    assert sorted(tmp_path.iterdir()) == before


def test_arithmetic_without_labels(opened, tmp_path):
    tree(tmp_path, {"a.png": None, "b.png": None})
    run, _, task, *_ = opened["vae"]
    run = dataclasses.replace(run, data=Data(f"folder:{tmp_path}"))
    message(lambda: sources_of(run, task, "label:1", 5, 0), "have no labels, so label:1 is unknown: name")


def test_latents_that_are_no_vectors(opened):
    task = opened["vae"].task
    codec = task.get(Codec)
    grid = Codec(lambda params, context, batch: jnp.zeros((len(batch["image"]), 4, 4), jnp.int32), codec.decode)
    message(lambda: check_vectors(task.having(grid)), "This model's latents are 4x4 whole numbers")
    message(lambda: check_vectors(task.having(Codec(codec.encode))), "This model has no encoder")
    message(lambda: choose_measure(task.lacking(Codec), "reconstruction"), "write --by likelihood.")
    assert check_vectors(task) == 2


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("score", "labels of the anomalies, such as 9 or 0,2"),
        ("map", "the first two principal components of latents of any length"),
        ("arithmetic", "which stands for the training examples of class K"),
        ("generate", "a mixture of Gaussians (mixture) or a second VAE (two-stage)"),
    ],
)
def test_a_command_has_help(cli, monkeypatch, verb, words):
    monkeypatch.setenv("COLUMNS", "400")
    assert words in cli(0, verb, "--help")
