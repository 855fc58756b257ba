"""The commands, started as a user starts them: what they print, what they refuse, what they leave behind."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxgen
from jaxgen import zoo
from jaxgen.commands.parse import parse
from jaxgen.commands.purpose import PRESETS
from jaxgen.pretrained import catalogue
from jaxgen.training import huge_pages
from tests.helpers.running import TINY, call


@pytest.fixture(scope="module")
def run(tmp_path_factory, environment) -> Path:
    """A finished tiny run, evaluated on held-out data on the way."""
    folder = tmp_path_factory.mktemp("run") / "run"
    said = call(environment, "train.gan", *TINY, "--eval.every", "10", "--out", str(folder))
    assert "images/s" in said and f"Finished 20 steps. Samples: {folder}/samples/000020.png" in said
    return folder


def train(environment, *args: str, status: int = 0) -> str:
    return call(environment, "train.gan", *args, status=status)


def sentence(said: str) -> str:
    """The one sentence of a refusal, however a box wraps it."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", said).split())


def test_a_run_explains_itself(run):
    config = json.loads((run / "config.json").read_text())
    assert config["preset"] == "dcgan" and config["steps"] == 20 and config["model"]["width"] == 4
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert {"discriminator/loss", "generator/loss", "generator/grad_norm"} <= set(lines[0])
    assert [("eval/test/generator_loss" in line) for line in lines] == [False, True, False, True]
    assert np.isfinite([value for line in lines for value in line.values()]).all()
    record = json.loads((run / "environment.json").read_text())[0]
    assert record["versions"]["jax"] and record["devices"] and record["mesh"] == {"data": 1, "fsdp": 1}
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["000010.png", "000020.png"]
    with Image.open(run / "samples" / "000020.png") as image:
        assert image.size == (4 * 66 + 2, 4 * 66 + 2) and image.mode == "L"
    with Image.open(run / "losses.png") as plot:
        assert plot.size[0] > 500 and len(np.unique(np.asarray(plot))) > 10
    events = list((run / "tensorboard").glob("events.*"))
    assert events and b"discriminator/loss" in events[0].read_bytes()
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["10", "10.sha256", "20", "20.sha256"]


@pytest.mark.slow
def test_generate_gives_the_same_samples_in_any_number(run, tmp_path, environment, cli):
    def samples(name: str, *args: str) -> np.ndarray:
        cli(0, "generate", run, "--out", tmp_path / name, *args)
        with np.load(tmp_path / name) as arrays:
            return arrays["image"]

    many = samples("many.npz", "--count", "20", "--batch", "8")
    few = samples("few.npz", "--count", "3", "--batch", "8")
    other = samples("other.npz", "--count", "20", "--batch", "8", "--seed", "1")
    assert many.shape == (20, 8, 8, 1) and many.dtype == np.uint8
    np.testing.assert_array_equal(many[:3], few)
    assert (many != other).any() and len({x.tobytes() for x in many}) > 1
    with Image.open(tmp_path / "many.png") as grid:
        assert grid.size[0] > 100
    call(environment, "jaxgen", "generate", str(run), "--out", str(tmp_path / "one.npz"), "--count", "20")
    with np.load(tmp_path / "one.npz") as arrays:
        assert np.abs(arrays["image"].astype(int) - many.astype(int)).max() <= 1, "one device, one batch"


@pytest.mark.slow
def test_the_last_grid_is_what_generate_draws_from_the_runs_seed(run, tmp_path, environment):
    grid = tmp_path / "grid.png"
    call(environment, "jaxgen", "generate", str(run), "--count", "16", "--batch", "16", "--out", str(grid))
    with Image.open(grid) as ours, Image.open(run / "samples" / "000020.png") as theirs:
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_lists(cli):
    said = cli(0, "list", "--all")
    assert "dcgan" in said and "536,384" in said and "measured" in said and "…" not in said
    assert "fid_lenet 25.6 ± 0.91 on MNIST (2,000 steps; --model.width 64)" in said and "not yet measured" in said
    assert cli(0, "train.gan", "--list") == cli(0, "list", "gan")


def test_help_shows_the_presets_own_defaults(cli):
    said = cli(0, "train.gan", "--preset", "dcgan-64", "--help")
    assert "--model.width INT" in said and "(default: 128)" in said and "--preset" in said and "--dry-run" in said
    assert "none: resize without a crop" in said
    assert "(default: 32)" in cli(0, "train.gan", "--help")


def test_the_version_and_the_options_of_every_command(cli):
    assert cli(0, "--version") == f"jaxgen {jaxgen.__version__}"
    said = sentence(cli(0, "restore", "--help"))
    assert "--no-mark write no note" in said and "--max-pixels INT images of more pixels are refused" in said
    for name in PRESETS.keys() - {"enlarge"}:
        says = re.search(rf"--{name} (?:\{{None\}}\|PATH )?[^(]*", said)
        assert says and ("no weights" in says[0]) == (catalogue.find(name) is None)


@pytest.mark.parametrize("family", ["gan", "vae", "diffusion"])
def test_without_arguments_a_familys_first_preset_is_trained(family):
    assert parse(family, []).run.preset == zoo.family(family)[0]


def test_a_dry_run_trains_nothing(tmp_path, cli):
    folder = tmp_path / "run"
    said = cli(0, "train.gan", "--preset", "dcgan", "--batch", "8", "--mesh.fsdp", "2", "--out", folder, "--dry-run")
    assert not folder.exists()
    config, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    assert config["mesh"]["fsdp"] == 2
    assert said.startswith("dcgan: 2,000 steps of 8 examples; parameters: discriminator 166,784, generator 369,600")
    assert "'fsdp')" in said and "GFLOP" in said and re.search(r"generator/\w+ [\d,]+ ", said)
    assert "mesh: {'data': 4, 'fsdp': 2}" in said and re.search(r"temporaries [\d.,]+ MiB", said)
    assert re.search(r"time: [\d.e-]+ s a step, [\d.]+ (s|min|h) for all 2,000 steps on this machine[^{}]*$", said)
    assert not re.search(r"generator/\w+/kernel", said), "its arrays are for --verbose"


def test_options_work_together(tmp_path, cli):
    said = cli(
        0, "train.gan", *TINY, "--mesh.data", "1", "--out", tmp_path / "run",
        "--compute.precision", "bf16", "--compute.accumulate", "2",
        "--compute.remat", "--compute.steps-per-call", "5", "--optim.clip", "1", "--optim.schedule", "cosine",
        "--optim.warmup", "5", "--optim.ema", "0.9", "--model.game.loss", "hinge", "--data.flip", "--data.crop",
        "random", "--model.image", "16", "8", "3", "--data.source", "shapes",
    )  # fmt: skip
    assert "Finished 20 steps" in said
    with Image.open(tmp_path / "run" / "samples" / "000020.png") as image:
        assert image.mode == "RGB"


@pytest.mark.slow
def test_steps_in_one_dispatch_give_the_same_run(run, tmp_path, environment):
    folder = tmp_path / "run"
    train(environment, *TINY, "--eval.every", "10", "--out", str(folder), "--compute.steps-per-call", "5")
    ours, theirs = [
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (folder, run)
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)


REFUSALS = {
    "an unknown preset": (["--preset", "dcgam"], "Unknown preset 'dcgam': did you mean 'dcgan'?"),
    "another family's preset": (["--preset", "vae"], "The preset vae belongs to another family: python -m train.vae."),
    "an empty start": (["--start-from", ""], "start_from is empty: name the folder of a run"),
    "a start that is none": (["--start-from", "{tmp}/none", "--dry-run"], "There is no run folder"),
    "an unknown flag": (["--model.widht", "8"], "--model.width"),
    "a word for a number": (["--steps", "many"], "many"),
    "an unknown source": (["--data.source", "digit"], "did you mean 'digits'?"),
    "a missing path": (["--data.source", "folder:/nowhere"], "/nowhere"),
    "an unprepared set": (["--data.source", "tfds:mnist", "--data.dir", "{tmp}"], "jaxgen prepare mnist"),
    "a size that strides don't allow": (["--model.image", "30", "30", "1"], "30x30"),
    "zero width": (["--model.width", "0"], "model.width must be at least 1, not 0"),
    "no steps": (["--steps", "0"], "steps must be at least 1, not 0"),
    "a negative batch": (["--batch", "-4"], "batch must be at least 1, not -4"),
    "a negative seed": (["--seed", "4294967296"], "seed must be from 0 to 4294967295, not 4294967296"),
    "an uneven accumulation": (["--compute.accumulate", "3"], "can't be cut into compute.accumulate=3"),
    "uneven dispatches": (["--compute.steps-per-call", "3"], "not a multiple of compute.steps_per_call=3"),
    "too many devices": (["--mesh.data", "16"], "asks for 16 devices, but there are 8"),
    "an unknown metric": (["--eval.every", "10", "--eval.metrics", "los"], "did you mean 'loss'?"),
    "an unknown split": (["--data.split", "trian"], "trian"),
    "a rate that is no number": (["--model.game.learning-rate", "nan"], "must be a finite number, not nan"),
    "a shift out of the frame": (["--data.shift", "1000000000"], "must be below the sides of the model's images, 8"),
    "batches that fill memory": (["--data.prefetch", "1000000000"], "this machine has"),
    "a preview that fills memory": (["--log.count", "2000000000"], "log.count=2000000000 takes 512.0 GB"),
    "a decay of one": (["--optim.ema", "1"], "optim.ema must be at least 0 and below 1"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_mistake_is_one_sentence_and_status_2(why, tmp_path, cli):
    args, words = REFUSALS[why]
    args = [arg.replace("{tmp}", str(tmp_path)) for arg in args]
    preset = [] if "--preset" in args else TINY
    said = cli(2, "train.gan", *preset, *args, "--out", tmp_path / "run")
    assert words in sentence(said) and "Traceback" not in said, said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_mistyped_command(cli):
    assert "Unknown command 'generat': did you mean 'generate'?" in cli(2, "generat")


def test_a_mesh_that_does_not_divide_the_batch(tmp_path, cli):
    said = cli(2, "train.gan", *TINY, "--batch", "12", "--out", tmp_path / "run")
    assert "8 devices don't divide a batch of 12: choose a multiple of 8" in said


def test_a_corrupt_image_is_named_or_skipped(tmp_path, cli):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(20):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(images / f"{i}.png")
    (images / "7.png").write_bytes((images / "7.png").read_bytes()[:40])
    options = [
        *TINY,
        "--mesh.data",
        "1",
        "--data.source",
        f"folder:{images}",
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "5",
    ]
    said = cli(2, "train.gan", *options, "--steps", "5")
    assert "7.png" in said and not (tmp_path / "run").exists()
    assert "Finished" in cli(0, "train.gan", *options, "--steps", "5", "--data.skip-bad")


def test_a_folder_of_something_else_is_left_alone(tmp_path, cli):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds files but no run" in cli(2, "train.gan", *TINY, "--out", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    said = cli(2, "train.gan", *TINY, "--out", tmp_path / "thesis.txt")
    assert "is a file" in said and (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_folder_whose_making_was_cut_off_is_taken(tmp_path, cli):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.part").write_text("{")
    assert "Finished" in cli(0, "train.gan", *TINY, "--mesh.data", "1", "--out", tmp_path / "run", "--steps", "5")


def test_another_configuration_is_refused_with_the_difference(run, cli):
    before = (run / "config.json").read_bytes(), (run / "metrics.jsonl").read_bytes()
    said = cli(2, "train.gan", *TINY, "--eval.every", "10", "--out", run, "--model.width", "8", "--seed", "3")
    assert "model.width: 4 -> 8" in said and "seed: 0 -> 3" in said
    assert before == ((run / "config.json").read_bytes(), (run / "metrics.jsonl").read_bytes())


def test_a_folder_of_a_run_without_a_checkpoint_can_be_deleted(run, tmp_path, cli):
    (tmp_path / "run").mkdir()
    shutil.copy(run / "config.json", tmp_path / "run")
    said = cli(2, "train.gan", *TINY, "--eval.every", "10", "--out", tmp_path / "run", "--model.width", "8")
    assert "(model.width: 4 -> 8), which has no checkpoint yet: delete the folder" in said
    assert "--out is empty" in cli(2, "train.gan", *TINY, "--out", "")


def test_a_checkpoint_of_another_model_is_refused(run, tmp_path, cli):
    """A configuration edited by hand, as after a change of the code."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"width": 4', '"width": 8'))
    said = cli(2, "train.gan", *TINY, "--eval.every", "10", "--out", folder, "--model.width", "8")
    assert "is of another model" in said and "float32[" in said
    said = cli(2, "generate", folder, "--out", tmp_path / "x.png")
    assert "is of another model" in said


def test_a_walk_through_the_latent(run, tmp_path, cli):
    """Other commands on latents are tested in tests/inference/test_latent_space.py."""
    few = ("--points", "2", "--frames", "3", "--rows", "1", "--columns", "2")
    said = cli(0, "interpolate", run, *few, "--out", tmp_path / "walk.mp4")
    assert "6 frames of step 20" in said and [p.name for p in tmp_path.iterdir()] == ["walk.mp4"]
    said = cli(2, "interpolate", run, "--points", "1", "--out", tmp_path / "x.gif")
    assert sentence(said) == "points must be at least 2, not 1."


def test_generate_refuses(run, tmp_path, cli):
    def refused(*args: str) -> str:
        said = cli(2, "generate", *args)
        assert "Traceback" not in said
        return sentence(said)

    out = ["--out", str(tmp_path / "x.png")]
    assert "There is no run folder" in refused(str(tmp_path / "nowhere"), *out)
    assert "is no run" in refused(str(tmp_path), *out)
    assert "count must be at least 1" in refused(str(run), "--count", "0", *out)
    assert "--count 2000000000 takes 512.0 GB" in refused(str(run), "--count", "2000000000", *out)
    assert "--seed must be from 0 to 4294967295, not 4294967296" in refused(str(run), "--seed", "4294967296", *out)
    assert "must end in .png or .npz" in refused(str(run), "--out", str(tmp_path / "x.jpg"))
    assert "takes no labels" in refused(str(run), "--labels", "3", *out)
    assert "truncation must be from 0 to 1, not 2.0" in refused(str(run), "--truncation", "2", *out)
    assert "RUN" in refused()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"preset": "dcgan"}')
    assert "can't be read as a run's configuration" in refused(str(broken), *out)
    shutil.copy(run / "config.json", broken)
    assert "no whole checkpoint" in refused(str(broken), *out)
    assert not list(tmp_path.glob("x.*"))


def test_a_training_asks_for_huge_pages_once(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(huge_pages.os, "execv", lambda *given: started.append(given))
    monkeypatch.setattr(huge_pages, "POLICY", tmp_path / "enabled")
    monkeypatch.setattr(huge_pages.sys, "orig_argv", ["python", "-m", "train.gan", "--tiny"])
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    huge_pages.use_huge_pages()  # another system
    for policy in ("[always] madvise never", "always madvise [never]"):
        huge_pages.POLICY.write_text(policy)
        huge_pages.use_huge_pages()
    assert not started
    huge_pages.POLICY.write_text("always [madvise] never\n")
    for _ in range(2):
        huge_pages.use_huge_pages()
    assert started == [(sys.executable, [sys.executable, "-m", "train.gan", "--tiny"])]
    assert huge_pages.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
