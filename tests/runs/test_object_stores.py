"""Runs in an object store: an S3 server on loopback, with kills, damage, a second writer, and a bad network."""

import json
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.core import paths
from jaxgen.runs import seals
from tests.helpers.object_store import WHO, s3, unreliable
from tests.helpers.running import TINY, call, start

LAST = 60
STEPS = ["--steps", str(LAST), "--save.every", "20", "--log.every", "10", "--log.samples", "20"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(environment):
    with s3("bucket") as found:
        # Libraries of stores warn of what they themselves do.
        yield {**environment, **found, "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, environment) -> Path:
    """A run on this machine that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    call(environment, "train.gan", *TINY, *STEPS, "--out", str(folder))
    return folder


@pytest.fixture(scope="module")
def finished(store, whole):
    """The address of a run in the store that was killed, and then went on to its end."""
    address = "s3://bucket/killed"
    process, folder = start(store, "train.gan", *TINY, *STEPS, "--out", address), paths.path(address)
    while process.poll() is None and not seals.sealed_steps(folder / "checkpoints"):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    said = call(store, "train.gan", "--resume", address)
    assert f"Resuming {address} at step" in said and f"Finished {LAST} steps" in said
    return address


def state(folder: Path) -> dict[str, np.ndarray]:
    from jaxgen.core.config import Mesh
    from jaxgen.runs.load import open_run

    whole = open_run(folder, Mesh(data=1)).state
    leaves = jax.tree_util.tree_leaves_with_path(whole.replace(key=jax.random.key_data(whole.key)))
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def test_a_killed_run_ends_as_one_on_this_machine_that_was_never_stopped(whole, finished):
    folder = paths.path(finished)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = state(folder), state(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    there = {path.name for path in folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "environment.json", "samples", "tensorboard", "losses.png"} <= there
    assert "lock" not in there and (folder / "samples" / "000020.png").read_bytes()[:4] == b"\x89PNG"


def test_commands_read_and_write_there(finished, cli, whole, tmp_path):
    cli(0, "generate", finished, "--count", 4, "--out", "s3://bucket/out/grid.png")
    cli(0, "generate", whole, "--count", 4, "--out", tmp_path / "grid.png")
    assert paths.path("s3://bucket/out/grid.png").read_bytes()[:4] == b"\x89PNG"
    with paths.local(paths.path("s3://bucket/out/grid.png")) as file:
        ours, theirs = (np.asarray(Image.open(each)) for each in (file, tmp_path / "grid.png"))
    np.testing.assert_array_equal(ours, theirs)
    assert "--overwrite" in cli(2, "generate", finished, "--count", 4, "--out", "s3://bucket/out/grid.png")
    for _ in range(2):
        cli(0, "evaluate", finished, "--metrics", "swd_pixels", "--count", 64)
    rows = (paths.path(finished) / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(row)["metric"] for row in rows] == ["swd_pixels"] * 2
    cli(0, "report", finished, "--out", "s3://bucket/out/report.html")
    assert b"digits" in paths.path("s3://bucket/out/report.html").read_bytes()
    cli(
        0,
        "export",
        finished,
        "--to",
        "safetensors",
        "--net",
        "generator",
        "--out",
        "s3://bucket/out/weights.safetensors",
    )
    cli(
        0,
        "import",
        "s3://bucket/out/weights.safetensors",
        "--model",
        "dcgan",
        "--tiny",
        "--out",
        "s3://bucket/imported",
    )
    assert (paths.path("s3://bucket/imported") / "config.json").is_file()


def test_damage_is_set_aside_and_a_run_goes_on_before_it(finished, store):
    folder = paths.path(finished) / "checkpoints"
    victim = max((x for x in (folder / str(LAST)).rglob("*") if x.is_file()), key=lambda x: x.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    said = call(store, "train.gan", "--resume", finished)
    assert f"The checkpoint of step {LAST} is damaged ({LAST}/" in said and f"Finished {LAST} steps" in said
    assert (folder / f"{LAST}.damaged").is_dir() and seals.check(folder, LAST) is None


def test_a_second_writer_is_refused(store):
    address = ["--out", "s3://bucket/two"]
    process = start(store, "train.gan", *TINY, "--steps", "100000", *address)
    try:
        while process.poll() is None and not (paths.path("s3://bucket/two") / "lock").exists():
            time.sleep(0.05)
        said = call(store, "train.gan", *TINY, "--steps", "100000", *address, status=2)
        assert "is being trained in by another process" in said
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and "The same command resumes." in err, err
    assert not (paths.path("s3://bucket/two") / "lock").exists()


def test_a_store_that_fails_and_hangs_loses_nothing(store, whole):
    with unreliable(store["AWS_ENDPOINT_URL"], every=10, hangs=25, seconds=3) as address:
        call({**store, "AWS_ENDPOINT_URL": address}, "train.gan", *TINY, *STEPS, "--out", "s3://bucket/bad")
    folder = paths.path("s3://bucket/bad")
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert seals.newest_whole(folder / "checkpoints") == (LAST, {})


def test_who_asks_and_what_is_not_there_are_said_in_a_sentence(store):
    nobody = {name: value for name, value in store.items() if name not in WHO}
    nobody["AWS_EC2_METADATA_DISABLED"] = "true"
    assert "no credentials were found" in call(nobody, "jaxgen", "report", "s3://bucket/killed", status=2)
    said = call(store, "train.gan", *TINY, "--steps", "2", "--out", "s3://nothing/run", status=2)
    assert "s3://nothing/run can't be written: The specified bucket does not exist" in said


def test_images_and_other_data_are_read_from_there(finished, store, tmp_path, real_data):
    from jaxgen import data
    from jaxgen.core.config import Data

    del finished
    bucket, rng = paths.path("s3://bucket/data"), np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "one.png")
        paths.send(tmp_path / "one.png", bucket / "images" / name)
    source = data.open_source(Data(source="folder:s3://bucket/data/images"), (8, 8, 3))
    assert len(source) == 3 and source.classes == ("a", "b") and source[2]["label"] == 1
    for file in (real_data / "tfds").rglob("*"):
        if file.is_file():
            paths.send(file, bucket / "tfds" / file.relative_to(real_data / "tfds").as_posix())
    digits = data.open_source(Data(source="tfds:mnist", dir="s3://bucket/data/tfds", split="test"), (28, 28, 1))
    assert len(digits) == 10_000
