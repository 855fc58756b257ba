"""Nothing that is saved is lost: a fault in each step of a save, and damage to a seal, without any training."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxgen.core.errors import InputError
from jaxgen.runs import checkpoint, seals
from jaxgen.runs.checkpoint import Checkpoints

# Orbax's other writes report to an event loop that is closed when one of them has failed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STATE = {"w": np.arange(6, dtype=np.float32), "n": np.array(3)}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
BUSY = OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def fail(monkeypatch, where, name: str, error: OSError, when=lambda *args: True):
    """Have a function raise an error when its arguments are such."""
    real = getattr(where, name)

    def faulty(*args, **kwargs):
        if when(*args):
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(where, name, faulty)


def about(text: str, last: bool = False):
    return lambda *args: text in str(args[-1 if last else 0])


# The step of a save at which it breaks, and how. Each leaves the checkpoint of that step out, whole ones untouched.
LOST = {
    "the arrays": lambda patch: fail(patch, ocp.AsyncCheckpointer, "save", FULL),
    "Orbax's rename": lambda patch: fail(patch, os, "rename", FULL, about("100.orbax")),
    "what Orbax writes in the background": lambda patch: fail(
        patch, ocp.AsyncCheckpointer, "wait_until_finished", FULL
    ),
    "a file's fsync": lambda patch: fail(patch, os, "fsync", FULL),
    "a file's digest": lambda patch: fail(patch, seals, "_digest", FULL, about("manifest")),
    "the seal's file": lambda patch: fail(patch, Path, "write_text", FULL, about(".sha256")),
    "the seal's rename": lambda patch: fail(patch, Path, "replace", FULL, about("/100.sha256", last=True)),
}
# Faults after the seal: the checkpoint stays.
KEPT = {
    "none": lambda patch: None,
    "deleting an old seal": lambda patch: fail(patch, Path, "unlink", FULL, about("/10.sha256")),
    "deleting old files": lambda patch: fail(patch, shutil, "rmtree", BUSY, about("/10")),
    "listing old checkpoints": lambda patch: fail(patch, seals, "sealed_steps", FULL),
}


def saved(folder: Path, *steps: int, keep: int = 100) -> Path:
    store = Checkpoints(folder, keep)
    for step in steps:
        store.save(step, STATE, {"batches": step})
    store.close()
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("three") / "checkpoints", 1, 10, 1000)


@pytest.fixture
def folder(three, tmp_path) -> Path:
    """A folder with the whole checkpoints 1, 10 and 1000."""
    return Path(shutil.copytree(three, tmp_path / "checkpoints"))


def whole(folder: Path) -> list[int]:
    """Return the steps that can be restored, each restored."""
    steps = [step for step in seals.sealed_steps(folder) if seals.check(folder, step) is None]
    for step in steps:
        state, notes = checkpoint.restore(folder, step, STATE)
        np.testing.assert_array_equal(state["w"], STATE["w"])
        assert notes == {"batches": step}
    return steps


@pytest.mark.parametrize("fault", LOST)
def test_a_fault_before_the_seal_leaves_all_others(fault, folder, monkeypatch):
    store = Checkpoints(folder, 1)
    with monkeypatch.context() as patch:
        LOST[fault](patch)
        with pytest.raises(InputError, match=r"step 100 could not be written .*No space left.* are untouched"):
            store.save(100, STATE, {"batches": 100})
            store.wait()
    store.close()
    assert whole(folder) == [1, 10, 1000]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{step}{end}" for step in (1, 10, 1000) for end in ("", ".sha256")
    )


def test_notes_that_are_no_json_leave_all_others(folder):
    store = Checkpoints(folder, 1)
    with pytest.raises(InputError, match="step 100 could not be written"):
        store.save(100, STATE, {"batches": object()})
        store.wait()
    store.close()
    assert whole(folder) == [1, 10, 1000]


@pytest.mark.parametrize("fault", KEPT)
def test_a_fault_after_the_seal_is_a_warning(fault, folder, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        KEPT[fault](patch)
        saved(folder, 2000, keep=1)
    said = capfd.readouterr().err
    assert whole(folder)[-1] == 2000
    assert ("An old checkpoint could not be deleted" in said) == (fault != "none")
    saved(folder, 3000, keep=1)  # deletes what the save before could not
    assert sorted(path.name for path in folder.iterdir()) == ["3000", "3000.sha256"]


def test_a_folder_that_a_user_removed_counts_for_nothing(folder, capfd):
    shutil.rmtree(folder / "1000")
    store = Checkpoints(folder, 1)
    assert not store.has(1000) and store.has(10)
    store.save(20, STATE, {"batches": 20})
    store.wait()
    store.save(1000, STATE, {"batches": 1000})
    shutil.rmtree(folder / "20", ignore_errors=True)  # while the run goes on
    store.close()
    assert whole(folder) == [1000] and not capfd.readouterr().err


def test_a_sealed_checkpoint_is_not_saved_again(folder):
    store = Checkpoints(folder, 1)
    with pytest.raises(InputError, match="step 10 could not be written"):
        store.save(10, STATE, {})
        store.wait()
    store.close()
    assert whole(folder) == [1, 10, 1000]


def cut(data: bytes) -> bytes:
    return data[: data.rindex(b"\n", 0, -1) + 1]


def old(data: bytes) -> bytes:
    """Return what version 0.1 would have written: neither heading nor sum."""
    return data[data.index(b"\n") + 1 : data.rindex(b"\n", 0, -1) + 1]


SEALS = {
    "emptied": lambda data: b"",
    "cut in its heading": lambda data: data[:20],
    "cut after its heading": lambda data: data[: len(seals.HEADING)],
    "cut by its last line": cut,
    "cut by two lines": lambda data: cut(cut(data)),
    "cut by a byte": lambda data: data[:-1],
    "without a line": lambda data: data.replace(data.splitlines(keepends=True)[3], b""),
    "no text": lambda data: b"\xff\xfe" + data,
    "zeros": lambda data: bytes(len(data)),
    "old and cut by a line": lambda data: cut(old(data)),
    "old and cut in a line": lambda data: old(data)[:-9],
    "old with a line of nothing": lambda data: old(data) + b"\n",
}


@pytest.mark.parametrize("damage", SEALS)
def test_a_damaged_seal_is_damage(damage, folder):
    path = folder / "1000.sha256"
    path.write_bytes(SEALS[damage](path.read_bytes()))
    step, damaged = seals.newest_whole(folder)
    assert step == 10 and list(damaged) == [1000]
    assert damaged[1000].startswith("1000") and damaged[1000].isprintable()
    store = Checkpoints(folder, 5)
    assert store.damaged == damaged and (folder / "1000.damaged").is_dir() and not path.exists()
    store.close()
    assert whole(folder) == [1, 10]


def test_a_seal_that_is_a_folder_or_names_other_files(folder, tmp_path):
    path = folder / "1000.sha256"
    lines = old(path.read_bytes())
    (tmp_path / "other").write_bytes(b"")
    path.write_bytes(lines + b"0  ../other\n0  /dev/zero\n")
    assert seals.check(folder, 1000) == "../other is missing"
    path.unlink()
    path.mkdir()
    assert seals.check(folder, 1000) == "1000.sha256 can't be read: Is a directory"


def test_a_seal_of_version_0_1_is_read(folder):
    path = folder / "1000.sha256"
    path.write_bytes(old(path.read_bytes()))
    assert seals.check(folder, 1000) is None
    (folder / "1000" / ".DS_Store").touch()
    assert seals.check(folder, 1000) is None
    (folder / "1000" / "more").touch()
    assert seals.check(folder, 1000) == "1000/more is not in 1000.sha256"


def test_everything_is_on_the_disk_before_the_seal(folder, monkeypatch):
    done: list[str] = []
    sync, replace = os.fsync, Path.replace
    name = lambda number: os.readlink(f"/proc/self/fd/{number}")  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(name(number)), sync(number)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append(f"-> {to}"), replace(path, to)))
    saved(folder, 2000)
    sealing = done.index(f"-> {folder / '2000.sha256'}")
    before, root = done[:sealing], folder / "2000"
    assert {str(path) for path in (*root.rglob("*"), root, folder)} < set(before)
    assert ".sha256." in before[-1] and done[sealing + 1 :] == [str(folder)]
