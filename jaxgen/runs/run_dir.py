"""A run's folder: claimed by one process at a time, never mixed with another run, and explaining itself."""

import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from jaxgen.core import paths
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.whole_file import replacing
from jaxgen.runs import seals
from jaxgen.runs.config_io import differences, load_config, to_json
from jaxgen.runs.lease import Lease
from jaxgen.runs.mirror import Mirror
from jaxgen.runs.sharding import Mesh, is_first

LIBRARIES = ("jaxgen", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def begun(run: Run) -> bool:
    """Return whether the run has saved anything that is whole."""
    return seals.newest_whole(run.folder / "checkpoints")[0] is not None


def read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of a metrics file with their values; what is no such line, as after damage, is left out."""
    found = {}
    for line in path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if line.endswith("\n") and isinstance(row, dict) and isinstance(row.get("step"), int):
                found[line] = row
    return found


def saved(run: Run) -> Run | None:
    """Return the run that the folder of this one holds already, as it was last saved; None where it holds none."""
    return load_config(run.folder) if (run.folder / "config.json").is_file() else None


class Claimed(NamedTuple):
    """A run's folder that this process writes into."""

    folder: Path  # where its checkpoints lie
    files: Path  # where its small files are written: the same folder, unless that lies in a store
    settle: Callable[[], None] = lambda: None  # returns once they are in `folder`, and it is still this process's


@contextmanager
def claim(run: Run, elsewhere: Path | None = None) -> Iterator[Claimed]:
    """Make the run's folder, or check that it holds this very run, and keep other processes out of it meanwhile.

    elsewhere: a folder in place of the run's own
    The run may have more steps than it was saved with; `lengthen` saves their number.
    Raises InputError where it holds something else, a run of another configuration, or can't be written.
    """
    folder = elsewhere or run.folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give the run a folder of its own with --out.")
    if folder.is_dir() and any(map(_counts, folder.iterdir())):
        if not (old := saved(run)):
            raise InputError(f"{folder} holds files but no run: give the run a folder of its own with --out.")
        if changed := differences(old, run):
            raise InputError(_other(folder, old, run, changed))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("folder checked")
    if not is_first():
        yield Claimed(folder, folder)
        return
    with _claimed_in_store(folder) if paths.remote(folder) else _claimed_here(folder) as claimed:
        with _as_input_error(folder):
            if not (claimed.files / "config.json").exists():
                _write(claimed.files / "config.json", to_json(run))
                claimed.settle()
        with _as_input_error(folder, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            yield claimed


@contextmanager
def _claimed_here(folder: Path) -> Iterator[Claimed]:
    with _as_input_error(folder):
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "samples").mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder} is being trained in by another process: wait for it, or stop it.") from error
        yield Claimed(folder, folder)


@contextmanager
def _claimed_in_store(folder: Path) -> Iterator[Claimed]:
    with ExitStack() as stack:
        with _as_input_error(folder):
            lease = stack.enter_context(Lease(folder))
        mirror = stack.enter_context(Mirror(folder))

        def settle():
            lease.check()
            mirror.send()

        yield Claimed(folder, mirror.files, settle)


def _other(folder: Path, old: Run, run: Run, changed: list[str]) -> str:
    """Return a sentence on a folder with a run that differs from this one."""
    if len(changed) == 1 and run.steps < old.steps:
        return f"{folder} holds a run of {old.steps} steps: it can become longer, but not shorter."
    said = f"{folder} holds a run with other settings ({'; '.join(changed)})"
    if not begun(run):
        return f"{said}, which has no checkpoint yet: delete the folder, or name another one with --out."
    return (
        f"{said}: resume it with --resume {folder}, or name another folder with --out; --start-from {folder} starts "
        "that run from these weights."
    )


def _counts(path: Path) -> bool:
    """Return whether a path says that a folder is in use: not what a process leaves that is killed as it makes one."""
    left = path.name == "lock" or path.suffix == ".part" or (path.is_dir() and not any(path.iterdir()))
    return not left


@contextmanager
def _as_input_error(folder: Path, *numbers: int) -> Iterator[None]:
    """Turn a refusal to write, of these error numbers if any are given, into one sentence."""
    try:
        yield
    except OSError as error:
        if numbers and error.errno not in numbers:
            raise
        raise InputError(f"The run folder {folder} can't be written: {error.strerror or error}.") from error


def lengthen(folder: Path, steps: int):
    """Save a new number of steps in a run's settings."""
    _write(folder / "config.json", to_json(dataclasses.replace(load_config(folder), steps=steps)))


def record_start(folder: Path, mesh: Mesh, data: Mapping[str, Any] | None = None):
    """Add this start to the run's environment.json, and write the fingerprint of its data to data.json."""
    starts = []
    with suppress(OSError, ValueError):
        starts = json.loads((folder / "environment.json").read_text())
    _write(folder / "environment.json", json.dumps([*starts, environment(mesh)], indent=2) + "\n")
    if data:
        _write(folder / "data.json", json.dumps(data) + "\n")


def recorded_data(folder: Path) -> dict[str, Any]:
    """Return the fingerprint of the data of a run's last start; {} where there is none, as of older versions."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / "data.json").read_text())
        return found if isinstance(found, dict) else {}
    return {}


def environment(mesh: Mesh) -> dict:
    """Return what the numbers of a run depend on beside its configuration."""
    devices = mesh.devices.flat
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "commit": commit(),
        "devices": [str(device.device_kind) for device in devices],
        "mesh": dict(mesh.shape),
        "processes": jax.process_count(),
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
    }


def commit() -> str | None:
    """Return the commit of the source that runs, with "+changes" where it was edited; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout else "")


def _write(path: Path, text: str):
    with replacing(path, durable=True) as part:
        part.write_text(text)
