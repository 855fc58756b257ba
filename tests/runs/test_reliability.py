"""A run survives kills at any moment, damage, a full disk and values that are not finite; in real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgen.runs import seals
from tests.helpers.running import ROOT, TINY, assert_same, call, start

LAST, BEFORE = 72, 66  # steps: the run's last two checkpoints
STEPS = ["--steps", str(LAST), "--save.every", "6", "--log.every", "4", "--log.samples", "20"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, environment) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    call(environment, "train.gan", *TINY, *STEPS, "--out", str(folder))
    return folder


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest(folder: Path) -> int:
    return max((int(p.stem) for p in (folder / "checkpoints").glob("*.sha256")), default=0)


def logged(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def half_written(folder: Path) -> bool:
    return any("tmp" in p.name for p in (folder / "checkpoints").glob("*"))


def unsealed(folder: Path) -> bool:
    return any(p.name.isdigit() and not p.with_suffix(".sha256").exists() for p in (folder / "checkpoints").glob("*"))


# When to kill: conditions on the files of the folder. `was` is the newest step of the process before.
MOMENTS = {
    "the folder is there, nothing else": lambda f, was: (f / "config.json").exists(),
    "lines are logged, and the first checkpoint is being written": lambda f, was: logged(f) > 0 and half_written(f),
    "a checkpoint is in place but not sealed": lambda f, was: newest(f) > was and unsealed(f),
    "the metrics have overtaken the checkpoint": lambda f, was: lines(f)[-1]["step"] > newest(f) > was,
    "samples are there": lambda f, was: newest(f) > was and (f / "samples" / "000020.png").exists(),
    "a later checkpoint is being written": lambda f, was: newest(f) > was and half_written(f),
    "two more are sealed, and the oldest is deleted or about to be": lambda f, was: newest(f) > was + 6,
}
ONE_MOMENT = ["a later checkpoint is being written"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moments", [ONE_MOMENT, pytest.param(list(MOMENTS), marks=pytest.mark.slow)], ids=len)
def test_a_killed_run_ends_as_if_never_stopped(moments, whole, tmp_path, environment):
    folder, ends, killed = tmp_path / "run", [], 0
    for moment in moments:
        reached = MOMENTS[moment]
        was = newest(folder) if folder.exists() else 0
        process = start(environment, "train.gan", *TINY, *STEPS, "--out", str(folder))
        while process.poll() is None:
            try:
                if folder.exists() and reached(folder, was):
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                    break
            except (OSError, ValueError, IndexError):
                pass  # read during a write
            time.sleep(0.0005)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err, f"{moment}: {err}"
        ends.append((moment, process.returncode, newest(folder)))
    final = call(environment, "train.gan", *TINY, *STEPS, "--out", str(folder))
    assert f"Finished {LAST} steps" in final or "is finished" in final
    assert killed == len(moments), f"the run was over before it could be killed: {ends}"
    assert_same(whole, folder, LAST)
    steps = [line["step"] for line in lines(folder)]
    assert steps == list(range(4, LAST + 1, 4))


@pytest.mark.slow
def test_two_runs_of_one_seed_are_bit_equal_and_another_seed_is_not(whole, tmp_path, environment):
    same, other = tmp_path / "same", tmp_path / "other"
    call(environment, "train.gan", *TINY, *STEPS, "--out", str(same))
    call(environment, "train.gan", *TINY, *STEPS, "--out", str(other), "--seed", "1")
    assert_same(whole, same, LAST)
    assert (whole / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_and_the_run_goes_on_from_there(which, whole, tmp_path, environment):
    folder = tmp_path / "run"
    options = [*TINY, *STEPS, "--save.every", "1000", "--out", str(folder)]
    process = start(environment, "train.gan", *options)
    while process.poll() is None and not logged(folder):
        time.sleep(0.002)
    asked = time.monotonic()
    process.send_signal(which)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail("the run was over before the signal came")
    assert time.monotonic() - asked < 10
    assert process.returncode == 128 + which and "The same command resumes." in err
    assert 0 < newest(folder) < LAST
    assert "Resuming" in call(environment, "train.gan", *options)
    assert_same(whole, folder, LAST)


@pytest.mark.slow
def test_a_signal_while_compiling_leaves_at_once(tmp_path, environment):
    folder = tmp_path / "run"
    cold = {**environment, "JAXGEN_CACHE": str(tmp_path / "cache")}
    process = start(cold, "train.gan", "--preset", "dcgan", "--out", str(folder), "--model.width", "48")
    while process.poll() is None and not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "before the first step" in err
    assert time.monotonic() - asked < 3


@pytest.fixture(scope="module")
def copied(whole):
    """Copies of the finished run, to be damaged."""

    def copy(to: Path) -> Path:
        subprocess.run(["cp", "-r", str(whole), str(to)], check=True)
        return to

    return copy


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage, words", [(truncate, "not as it was"), (flip, "not as it was"), (Path.unlink, "missing")]
)
def test_a_damaged_checkpoint_is_named_and_skipped(damage, words, whole, copied, tmp_path, environment, cli):
    folder = copied(tmp_path / "run")
    files = folder / "checkpoints" / str(LAST) / "state" / "ocdbt.process_0" / "d"
    data = max(files.iterdir(), key=lambda p: p.stat().st_size)
    damage(data)
    printed = cli(0, "generate", folder, "--count", "4", "--out", tmp_path / "grid.png")
    assert f"step {LAST} is passed over" in printed and words in printed and f"step {BEFORE}" in printed
    assert (folder / "checkpoints" / str(LAST)).is_dir(), "generate changes nothing in a run"
    printed = call(environment, "train.gan", *TINY, *STEPS, "--out", str(folder))
    assert f"step {LAST} is damaged" in printed and data.name in printed
    assert "Resuming" in printed and f"step {BEFORE}" in printed
    assert_same(whole, folder, LAST)
    assert (folder / "checkpoints" / f"{LAST}.damaged").is_dir()


def test_every_damaged_file_is_noticed(copied, tmp_path):
    folder = copied(tmp_path / "run") / "checkpoints"
    files = [p for p in (folder / str(LAST)).rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) > 5
    for path in files:
        before = path.read_bytes()
        flip(path)
        assert seals.newest_whole(folder)[0] == BEFORE, path
        path.write_bytes(before)
    assert seals.newest_whole(folder) == (LAST, {})


@pytest.mark.slow
def test_a_full_disk_gives_one_sentence_and_earlier_checkpoints_stay(tmp_path, environment):
    """A limit on the size of files replaces a full disk: the checkpoint's writes fail half way through."""
    folder = tmp_path / "run"
    # At width 256 one kernel has 128 KiB, and noise is hardly compressed: however Orbax shares the arrays out over
    # files, one file is above the limit. (At width 32 no array has more than 16 KiB, and a checkpoint may fit.)
    options = [*TINY, "--steps", "30", "--save.every", "6", "--batch", "8", "--model.width", "256"]
    options += ["--log.samples", "0", "--out", str(folder)]
    process = start(environment, "train.gan", *options)
    while process.poll() is None and not newest(folder):
        time.sleep(0.001)
    process.kill()
    _, err = process.communicate(timeout=60)
    saved = seals.newest_whole(folder / "checkpoints")[0]
    assert saved and saved < 30, err
    command = f'ulimit -f 24; exec "{sys.executable}" -m train.gan {" ".join(options)}'
    limited = {**environment, "JAX_ENABLE_COMPILATION_CACHE": "false"}  # the cache's files would meet the limit too
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=limited, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "The checkpoint of step" in done.stderr and "could not be written" in done.stderr, done.stderr
    assert "File too large" in done.stderr, done.stderr
    assert seals.newest_whole(folder / "checkpoints")[0] == saved
    assert "Finished" in call(environment, "train.gan", *options)


def test_a_folder_that_cannot_be_written(cli):
    printed = cli(2, "train.gan", *TINY, "--out", "/proc/run")
    assert "/proc/run can't be written" in printed


def test_values_that_are_not_finite_stop_the_run(tmp_path, cli):
    folder = tmp_path / "run"
    printed = cli(1, "train.gan", *TINY, *STEPS, "--out", folder, "--model.game.learning-rate", "1e30")
    assert "stopped being finite at step" in printed and "phase '" in printed
    step = newest(folder)
    assert all(value == value for line in lines(folder) for value in line.values())
    assert step == 0 or seals.check(folder / "checkpoints", step) is None
    assert (f"the checkpoint of step {step} is from before" if step else "there is no checkpoint yet") in printed


def test_two_processes_do_not_train_in_one_folder(whole, cli):
    import fcntl

    with (whole / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = cli(2, "train.gan", *TINY, *STEPS, "--out", whole)
    assert "another process" in printed


def test_a_finished_run_says_so_and_changes_nothing(whole, cli):
    look = lambda: {p: os.stat(p).st_mtime_ns for p in whole.rglob("*") if p.is_file() and p.name != "lock"}  # noqa: E731
    before = look()
    assert "is finished" in cli(0, "train.gan", *TINY, *STEPS, "--out", whole)
    assert before == look() and len(before) > 20
