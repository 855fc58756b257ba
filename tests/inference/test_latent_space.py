"""The latent space of a trained generator: walks, mixtures, projections, directions, labels and truncation."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.core.capabilities import Latent
from jaxgen.core.config import Mesh, Run
from jaxgen.core.errors import InputError, numbers
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state
from jaxgen.core.types import TrainState
from jaxgen.inference import inversion, latent_space
from jaxgen.inference.latent_space import Entry, conditions
from jaxgen.inference.previews import shown
from jaxgen.inference.sampling import check_truncation, classes_of, conditioning_of, in_turn, make_sampler
from jaxgen.media import animation, image_grid
from jaxgen.media.animation import save_animation
from jaxgen.pretrained.feature_distances import features_of
from jaxgen.runs.load import Trained, open_run
from jaxgen.training.loop import fit
from tests.helpers.untrained import save_untrained

MODELS = ("dcgan", "cgan", "stylegan2")
STEPS = {"dcgan": 10, "cgan": 10, "stylegan2": 2}
CELL = 66  # pixels of a grid's cell and its gap


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Tiny runs: of z, of z and a label (the only one that is trained), and of a w with four rows."""
    folder = tmp_path_factory.mktemp("runs")
    for name in MODELS:
        run = zoo.load(name).tiny
        save, log = (dataclasses.replace(x, every=STEPS[name]) for x in (run.save, run.log))
        log = dataclasses.replace(log, samples=STEPS["cgan"] if name == "cgan" else 0)
        changes = {"preset": name, "out": str(folder / name), "mesh": Mesh(data=1), "steps": STEPS[name]}
        run = dataclasses.replace(run, save=save, log=log, **changes)
        if name == "cgan":
            fit(run)
        else:
            save_untrained(run, *([partial(initialised, run)] if name == "stylegan2" else []))
    return {name: folder / name for name in MODELS}


def initialised(run: Run, state: TrainState) -> TrainState:
    """Return a StyleGAN2's initial state, with a mean of w that is not 0: drawn weights would hardly depend on w."""
    task = run.model.task(run.steps)
    first = init_state(task, jax.random.key(0), spec_of(task, run.batch))
    average = first.ema["generator"]
    w = average["batch_stats"]["mapping"]["w_avg"]
    mean = np.random.default_rng(0).normal(0, 0.1, w.shape).astype(np.float32)
    stats = {**average["batch_stats"], "mapping": {"w_avg": mean}}
    return first.replace(step=state.step, ema={**first.ema, "generator": {**average, "batch_stats": stats}})


@pytest.fixture(scope="module")
def opened(runs) -> dict[str, Trained]:
    return {name: open_run(folder, Mesh(data=1)) for name, folder in runs.items()}


@pytest.fixture(scope="module")
def entries(opened) -> dict[str, Entry]:
    return {name: Entry(trained, 8) for name, trained in opened.items()}


def labels_of(name: str) -> tuple[int, ...]:
    return tuple(range(10)) if name == "cgan" else ()


# ---------------------------------------------------------------- functions


def test_a_great_circle_keeps_norms_and_hits_its_ends():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(5, 3, 4)).astype(np.float32) for _ in range(2))
    norm = lambda x: np.linalg.norm(x.reshape(5, -1), axis=1)  # noqa: E731
    b *= (norm(a) / norm(b))[:, None, None]
    for t in np.linspace(0, 1, 7):
        np.testing.assert_allclose(norm(latent_space.slerp(a, b, t)), norm(a), rtol=1e-6)
    np.testing.assert_allclose(latent_space.slerp(a, b, 0), a, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(latent_space.slerp(a, b, 1), b, rtol=1e-6, atol=1e-7)
    half = latent_space.slerp(a, 2 * b, 0.5)  # the bisector, with the mean of the norms
    mean = a + b
    np.testing.assert_allclose(half, mean * (1.5 * norm(a) / norm(mean))[:, None, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(latent_space.slerp(a, 3 * a, 0.5), 2 * a, rtol=1e-6)  # on one line
    np.testing.assert_allclose(latent_space.slerp(a, -a, 0.25), a / 2, rtol=1e-6)
    np.testing.assert_array_equal(latent_space.slerp(0 * a, 0 * a, 0.5), 0 * a)


@pytest.mark.parametrize(("name", "straight"), [("dcgan", False), ("stylegan2", False), ("stylegan2", True)])
def test_a_walk_is_closed_and_passes_the_samples(entries, opened, name, straight):
    """Between two points the way back is the way there, reversed."""
    walk = list(latent_space.interpolate(entries[name], 3, 2, 4, None, 3, 1.0, straight))
    assert len(walk) == 8
    _, mesh, task, state, frozen, _ = opened[name]
    samples = make_sampler(task, mesh, 8)(state, frozen, 3, 6, {})
    scale = np.abs(samples).max()
    np.testing.assert_allclose(np.clip(walk[0], -1, 1), samples[:3], atol=1e-5 * scale)
    np.testing.assert_allclose(np.clip(walk[4], -1, 1), samples[3:], atol=1e-5 * scale)
    for j in (1, 2, 3):
        np.testing.assert_allclose(walk[4 + j], walk[4 - j], atol=1e-4 * scale)
        assert np.abs(walk[j] - walk[j - 1]).max() > 0.01 * scale


def test_any_number_of_rows_is_one_program(opened):
    entry = Entry(opened["dcgan"], 3)
    z = entry.draw(0, np.arange(7), {})
    images = entry.paint(z, {})
    np.testing.assert_array_equal(entry.paint(z[4:], {}), images[4:])
    np.testing.assert_array_equal(entry.draw(0, [5], {}), z[[5]])
    maps: list[Any] = [entry._draw, entry._paint]
    assert [f._cache_size() for f in maps] == [1, 1]


def test_labels_on_a_walk(entries):
    """An image on a walk in z has the label of that point."""
    labels = np.array([[3, 4], [3, 4]])
    walk = list(latent_space.interpolate(entries["cgan"], 0, 2, 2, labels, 2, 1.0, False))
    z = entries["cgan"].draw(0, np.arange(4), {})
    given = conditions(2, (3, 4))
    middle = latent_space.slerp(z[:2], z[2:], 0.5)
    np.testing.assert_array_equal(walk[1], entries["cgan"].paint(middle, given))
    assert (walk[1] != entries["cgan"].paint(middle, conditions(2, (4, 3)))).any()


def test_truncation(entries, opened):
    entry = entries["stylegan2"]
    assert "truncation" not in conditions(4, (), 1.0)
    whole = entry.sample(0, np.arange(4), conditions(4, ()))
    none = entry.sample(0, np.arange(4), conditions(4, (), 0.0))
    half = entry.sample(0, np.arange(4), conditions(4, (), 0.5))
    mean = opened["stylegan2"].state.ema["generator"]["batch_stats"]["mapping"]["w_avg"]
    assert np.abs(mean).max() > 0
    np.testing.assert_array_equal(none, np.broadcast_to(np.asarray(mean), none.shape))
    np.testing.assert_allclose(half, (none + whole) / 2, rtol=1e-4, atol=1e-5)
    assert np.abs(entries["dcgan"].draw(0, np.arange(64), conditions(64, (), 0.3))).max() <= 0.3


def test_mixing_no_layers_or_all_of_them(entries):
    entry = entries["stylegan2"]
    w = entry.sample(0, np.arange(5), {})
    images = entry.paint(w, {})
    for layers, source in ((range(4), [0, 0, 0, 1, 1, 1]), ((), [2, 3, 4, 2, 3, 4])):
        grid = latent_space.mix(entry, 0, 2, 3, layers, (), 1.0).reshape(3, 4, 8, 8, 1)
        np.testing.assert_array_equal(grid[0, 1:], images[2:])
        np.testing.assert_array_equal(grid[1:, 0], images[:2])
        np.testing.assert_array_equal(grid[1:, 1:].reshape(6, 8, 8, 1), images[source])
        assert (grid[0, 0] == 1).all()
    mixed = w[[3]].copy()
    mixed[:, [0, 2]] = w[[0]][:, [0, 2]]
    grid = latent_space.mix(entry, 0, 2, 3, (0, 2), (), 1.0).reshape(3, 4, 8, 8, 1)
    np.testing.assert_array_equal(grid[1, 2], entry.paint(mixed, {})[0])


@pytest.mark.parametrize("name", MODELS)
def test_directions_are_the_eigenvectors_of_the_first_weights(entries, name):
    entry = entries[name]
    params = jax.device_get(entry.nets[0]["generator"])
    if name == "stylegan2":
        first, second = params["synthesis"]["b4"], params["synthesis"]["b8"]
        layers = [first["conv1"], first["torgb"], second["conv0"], second["conv1"], second["torgb"]]
        kernels = [layer["affine"]["kernel"] for layer in layers]
        rows = [[kernels[0]], kernels[1:3], [kernels[3]], [kernels[4]]]
        for ours, theirs in zip(entry.factors(), rows, strict=True):
            assert {x.tobytes() for x in ours.T} == {x.tobytes() for x in np.concatenate(theirs, 1).T}
        kernel = np.concatenate(kernels, 1)
    else:
        dense = params["net"]["Dense_0"] if name == "cgan" else params["Dense_0"]
        kernel = dense["kernel"][:8]  # the rows of z, without those of the label
        np.testing.assert_allclose(entry.factors()[0], kernel, rtol=1e-6, atol=1e-9)
    found = latent_space.semantic(entry.factors(), 8)
    np.testing.assert_allclose(found @ found.T, np.eye(8), atol=1e-12)
    left, sizes, _ = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.einsum("kd,dk->k", found, left)), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(kernel.T @ found.T, axis=0), sizes, rtol=1e-5)
    assert (found[np.arange(8), np.abs(found).argmax(1)] > 0).all()


def test_steps_along_directions(entries):
    entry = entries["stylegan2"]
    images, found = latent_space.directions(entry, 0, 2, 1.5, (1, 3), (), 1.0)
    w = entry.sample(0, [0], {})
    assert images.shape == (14, 8, 8, 1)
    for i in (0, 1):
        np.testing.assert_array_equal(images[7 * i + 3], entry.paint(w, {})[0])
    moved = w.copy()
    moved[:, [1, 3]] += 1.5 * found[1].astype(np.float32)
    np.testing.assert_allclose(images[13], entry.paint(moved, {})[0], atol=1e-5)
    np.testing.assert_array_equal(found, latent_space.semantic([entry.factors()[i] for i in (1, 3)], 2))


@pytest.mark.parametrize(
    ("name", "distance"),
    [("dcgan", "lenet"), ("cgan", "pixels"), pytest.param("stylegan2", "pixels", marks=pytest.mark.slow)],
)
def test_a_projection_finds_the_models_own_sample(entries, name, distance):
    entry = entries[name]
    given = conditions(1, (4,) if name == "cgan" else ())
    target = entry.paint(entry.sample(7, [5], given), given)
    features = features_of(distance)
    found = inversion.project(entry, target, 200, 0, labels_of(name) and (4,), features)
    assert found.losses.shape == (200,) and found.losses[-1] < found.losses[0] / 10
    assert found.psnr > 30 and found.image.shape == target.shape
    np.testing.assert_array_equal(entry.paint(found.latent, given), found.image)


def test_the_mean_of_w(entries):
    w = entries["stylegan2"].sample(0, np.arange(1500), {}).astype(np.float64)
    mean, sigma = inversion.middle(entries["stylegan2"], 0, 1500, {})
    np.testing.assert_allclose(mean[0], w.mean(0), rtol=1e-5, atol=1e-6)
    assert sigma == pytest.approx(np.sqrt(((w - w.mean(0)) ** 2).sum(-1).mean()), rel=1e-5)


def test_the_learning_rate_of_a_projection():
    """Karras et al. 2020a, appendix D: up from 0 over 50 of 1,000 steps, down to 0 over the last 250."""
    at = inversion.rate(1000)
    assert [float(np.asarray(at(i))) for i in (0, 25, 50, 700, 750, 875, 1000)] == pytest.approx(
        [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0], abs=1e-6
    )


def test_numbers():
    assert numbers("3", 10, "labels") == (3,)
    assert numbers("0,2, 1-3", 10, "labels") == (0, 2, 1, 2, 3)
    for text, words in {
        "": "must be numbers such as",
        "cat": "must be numbers such as 1, 0,1 or 0-9, not 'cat'",
        "1.5": "not '1.5'",
        "1,,2": "must be numbers",
        "10": "from 0 to 9, not 10",
        "-1": "from 0 to 9, not -1",
        "8-12": "from 0 to 9, not 12",
        "3-1": "upwards: 1-3, not 3-1",
    }.items():
        with pytest.raises(InputError, match=words):
            numbers(text, 10, "labels")


def test_a_grid_has_one_label_a_row():
    images = np.linspace(-1, 1, 5)[:, None, None, None] * np.ones((1, 64, 64, 1))
    sheet = image_grid.grid(images, rows=2)
    assert sheet.shape == (2 * CELL + 2, 3 * CELL + 2)
    cells = sheet[CELL // 2 :: CELL, CELL // 2 :: CELL]
    np.testing.assert_array_equal(cells, [[0, 128, 255], [64, 191, 255]])
    for count, rows in ((30, 10), (16, 10), (10, 10), (9, 0)):
        given, lines = in_turn(range(10), count)
        assert lines == rows and given["label"].tolist() == [i % 10 for i in range(count)]
    assert in_turn((3,), 4)[1] == 0


def test_an_animation_of_colours(tmp_path):
    frames = [np.full((5, 7, 3), (40 * i, 200, 0), np.uint8) for i in range(4)]
    for name in ("a.gif", "a.mp4"):
        save_animation(tmp_path / name, iter(frames), 10, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.mp4"]
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0 and getattr(gif, "n_frames", 1) == 4
        for i, frame in enumerate(frames):
            gif.seek(i)
            assert gif.info["duration"] == 100
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() <= 2
    seen, rate = decoded(tmp_path / "a.mp4")
    assert seen.shape == (4, 6, 8, 3) and rate == 10
    assert np.abs(seen[:, :4, :6].astype(int) - np.stack(frames)[:, :4, :6]).max() < 16


def decoded(path: Path) -> tuple[np.ndarray, float]:
    """Return the frames u8[n h w 3] of a .mp4, and their number in a second."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        return np.stack(frames), float(stream.average_rate or 0)


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("name", ["dcgan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("cgan", "stylegan2"))])
def test_every_command(runs, cli, tmp_path, name):
    run, label = runs[name], ["--labels", "2,7"] if name == "cgan" else []
    size = ("--rows", 2, "--columns", 3, "--points", 2, "--frames", 5)
    printed = cli(0, "interpolate", run, *size, "--out", tmp_path / "walk.gif", "--fps", 10, *label)
    assert f"10 frames of step {STEPS[name]}: {tmp_path}/walk.gif" in printed
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.size == (3 * CELL + 2, 2 * CELL + 2) and gif.info["loop"] == 0
        lasts = []
        for i in range(getattr(gif, "n_frames", 1)):
            gif.seek(i)
            lasts.append(gif.info["duration"])
        assert sum(lasts) == 1000, "equal frames become one that lasts longer"
    cli(0, "directions", run, "--count", 3, "--out", tmp_path / "directions.png", "--seed", 5)
    with Image.open(tmp_path / "directions.png") as grid, np.load(tmp_path / "directions.npz") as arrays:
        assert grid.size == (7 * CELL + 2, 3 * CELL + 2)
        assert arrays["directions"].shape == (3, 8)
        middle = np.asarray(grid)[:, 3 * CELL + 2 : 4 * CELL]
        np.testing.assert_array_equal(middle[2:CELL], middle[2 + CELL : 2 * CELL])
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(20, 15)).save(tmp_path / "target.png")
    out = tmp_path / "projected.png"
    printed = cli(0, "project", run, tmp_path / "target.png", "--steps", 6, "--out", out, "--distance", "pixels")
    with Image.open(out) as grid, np.load(tmp_path / "projected.npz") as arrays:
        assert grid.size == (2 * CELL + 2, CELL + 2)
        assert arrays["w" if name == "stylegan2" else "z"].shape == ((1, 4, 8) if name == "stylegan2" else (1, 8))
        assert len(arrays["loss"]) == 6 and ("label" in arrays) == (name == "cgan")
        assert f"PSNR {arrays['psnr']:.2f} dB by pixels after 6 steps" in printed


def test_the_command_that_mixes(runs, cli, tmp_path):
    cli(0, "mix", runs["stylegan2"], "--rows", 2, "--columns", 3, "--layers", "0-1", "--out", tmp_path / "mix.png")
    with Image.open(tmp_path / "mix.png") as grid:
        assert grid.size == (4 * CELL + 2, 3 * CELL + 2)
    for name in ("dcgan", "cgan"):
        assert "w is one vector" in cli(2, "mix", runs[name], "--out", tmp_path / "mix.png", "--overwrite")


def test_a_video(runs, cli, tmp_path, monkeypatch):
    size = ("--rows", 1, "--columns", 2, "--points", 3, "--frames", 4, "--space", "z")
    cli(0, "interpolate", runs["stylegan2"], *size, "--out", tmp_path / "walk.mp4", "--fps", 12)
    seen, rate = decoded(tmp_path / "walk.mp4")
    assert seen.shape == (12, CELL + 2, 2 * CELL + 2, 3) and rate == 12
    monkeypatch.setattr(animation, "find_spec", lambda name: None)
    printed = cli(2, "interpolate", runs["stylegan2"], "--out", tmp_path / "other.mp4")
    assert printed == "A .mp4 needs PyAV: pip install 'jaxgen[video]', or write a .gif."


def test_generate_with_labels_and_truncation(runs, cli, tmp_path):
    def samples(name: str, *args) -> dict[str, np.ndarray]:
        cli(0, "generate", runs[name], "--out", tmp_path / "x.npz", "--batch", 8, "--overwrite", *args)
        with np.load(tmp_path / "x.npz") as arrays:
            return dict(arrays)

    some, three = (samples("cgan", "--count", 5, "--labels", labels) for labels in ("3,1", "3"))
    assert some["label"].tolist() == [3, 1, 3, 1, 3] and three["label"].tolist() == [3] * 5
    np.testing.assert_array_equal(some["image"][::2], three["image"][::2])
    assert samples("cgan", "--count", 12)["label"].tolist() == [*range(10), 0, 1]
    # The rows of the grid, and the images while training: 10 classes, 16 samples.
    cli(0, "generate", runs["cgan"], "--count", 16, "--batch", 16, "--out", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as ours, Image.open(runs["cgan"] / "samples" / "000010.png") as theirs:
        assert ours.size == (2 * CELL + 2, 10 * CELL + 2)
        assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1, "eight devices and one"
    plain, one, none = (samples("stylegan2", "--count", 6, *args) for args in ((), TRUNCATED[1], TRUNCATED[0]))
    np.testing.assert_array_equal(plain["image"], one["image"])
    assert (none["image"] == none["image"][:1]).all() and (plain["image"] != plain["image"][:1]).any()
    assert (few := samples("dcgan", "--count", 6, *TRUNCATED[0])["image"]).ndim == 4 and (few == few[:1]).all()


TRUNCATED = {psi: ("--truncation", psi) for psi in (0, 1)}


def test_a_conditional_run_draws_samples_without_its_data(runs, cli, tmp_path):
    task = open_run(runs["cgan"], Mesh(data=1)).task
    assert classes_of(task, None) == tuple(range(10))
    text = (runs["cgan"] / "config.json").read_text()
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "checkpoints").symlink_to(runs["cgan"] / "checkpoints")
    assert '"source": "digits"' in text
    (moved / "config.json").write_text(text.replace('"source": "digits"', '"source": "folder:/nowhere"'))
    cli(0, "generate", moved, "--count", 10, "--out", tmp_path / "grid.png")


REFUSALS = {
    **{f"{verb} to nothing": (f"{verb} dcgan --out=", "--out must end in .") for verb in ("generate", "directions")},
    "a label too high": ("generate cgan --labels 10", "labels must be from 0 to 9, not 10."),
    "a label below 0": ("generate cgan --labels=-1", "labels must be from 0 to 9, not -1."),
    "a word for a label": ("generate cgan --labels cat", "labels must be numbers such as 1, 0,1 or 0-9, not 'cat'."),
    "labels without classes": ("generate dcgan --labels 1", "This model is unconditional: it takes no labels."),
    "a walk of labels": ("interpolate dcgan --labels 1 --out {tmp}/x.gif", "it takes no labels."),
    "much truncation": ("generate dcgan --truncation 1.5", "truncation must be from 0 to 1, not 1.5."),
    "negative truncation": ("interpolate dcgan --truncation -0.5 --out {tmp}/x.gif", "from 0 to 1, not -0.5."),
    "no number": ("mix stylegan2 --truncation nan", "truncation must be a finite number, not nan."),
    "a word for truncation": ("generate dcgan --truncation much", "much"),
    "a walk of one point": ("interpolate dcgan --points 1 --out {tmp}/x.gif", "points must be at least 2, not 1."),
    "no walk": ("interpolate dcgan --rows 0 --out {tmp}/x.gif", "rows must be at least 1, not 0."),
    "no w": ("interpolate dcgan --space w --out {tmp}/x.gif", "This model has no w space"),
    "another space": ("interpolate dcgan --space x --out {tmp}/x.gif", "--space"),
    "a walk's name": (
        "interpolate dcgan --out {tmp}/x.png",
        "--out must end in .gif, .apng, .mp4, .webm or .mkv, not 'x.png'.",
    ),
    "a fast gif": ("interpolate dcgan --fps 60 --out {tmp}/x.gif", "A .gif shows at most 50 frames per second, not 60"),
    "a layer too deep": ("mix stylegan2 --layers 2-4", "layers must be from 0 to 3, not 4."),
    "layers without rows": ("directions dcgan --layers 0", "This model's w is one vector"),
    "too many directions": ("directions dcgan --count 9", "The latent has 8 directions, not 9."),
    "a direction's class": ("directions cgan --label 10", "labels must be from 0 to 9, not 10."),
    "a class without classes": ("project dcgan {tmp}/p.png --label 1", "This model is unconditional"),
    "no image": ("project dcgan {tmp}/no.png", "There is no image"),
    "a folder": ("project dcgan {tmp}", "is a folder: name one image."),
    "no image's content": (
        "project dcgan {tmp}/text.png",
        "text.png can't be read: its content is not an image in PNG",
    ),
    "an image's own place": ("project dcgan {tmp}/p.png --out {tmp}/p.png", "replaced by its own output"),
    "no steps": ("project dcgan {tmp}/p.png --steps 0", "steps must be at least 1, not 0."),
    "another suffix": ("mix stylegan2 --out {tmp}/x.gif", "--out must end in .png, not 'x.gif'."),
    "a missing run": ("mix nowhere", "There is no run folder"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_mistake_is_one_sentence_before_anything_is_restored(why, runs, cli, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    Image.new("L", (8, 8)).save(tmp_path / "p.png")
    line, words = REFUSALS[why]
    verb, name, *args = line.replace("{tmp}", str(tmp_path)).split()

    def restored(*args):
        raise AssertionError("restored a checkpoint")

    monkeypatch.setattr("jaxgen.runs.checkpoint.restore", restored)
    if not any(arg.startswith("--out") for arg in args):
        args += ["--out", str(tmp_path / "x.png")]
    before = sorted(tmp_path.iterdir())
    printed = cli(2, verb, runs.get(name, tmp_path / name), *args)
    assert words in printed and "Traceback" not in printed
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("ask", [latent_space.latent_of, lambda task: check_truncation(task, 0.5)])
def test_a_model_without_a_latent(ask):
    task = zoo.load("dcgan").tiny.model.task(1)
    with pytest.raises(InputError, match="no latent vector"):
        ask(task.lacking(Latent))


def test_a_latent_of_unknown_weights():
    task = zoo.load("dcgan").tiny.model.task(1)
    with pytest.raises(InputError, match="has no directions"):
        latent_space.check_directions(task.having(dataclasses.replace(task.get(Latent), factors=None)), 1)


def test_scores_keep_the_datas_labels(opened):
    """Scored samples have the labels of examples, not the classes in turn."""
    from jaxgen import data

    run, _, task, *_ = opened["cgan"]
    source = data.open_source(run.data, (8, 8, 1))
    some = data.RandomSubset(source, 40)
    theirs = [int(some[i]["label"]) for i in range(40)]
    assert conditioning_of(task, run, source, 40)["label"].tolist() == theirs != [i % 10 for i in range(40)]
    assert shown(task, run, source, 40)[0]["label"].tolist() == [i % 10 for i in range(40)]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("generate", "psi in [0, 1]"),
        ("interpolate", "A walk follows great circles in z"),
        ("mix", "layers that use the sample on the left"),
        ("project", "it is cropped and resized to the model's size"),
        ("directions", "Each row shows one direction"),
    ],
)
def test_a_command_has_help(cli, monkeypatch, verb, words):
    monkeypatch.setenv("COLUMNS", "400")
    assert words in cli(0, verb, "--help")
