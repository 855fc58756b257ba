"""Checkpoints: Orbax writes and reads the arrays; a seal shows whether one is whole (seals.py).

checkpoints/<step>/          the state, and notes (data position, open window of metrics) as JSON
checkpoints/<step>.sha256    its seal, written last: without it a checkpoint is none
checkpoints/<step>.damaged/  what a resumed run found damaged and set aside
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.core.types import PyTree, TrainState
from jaxgen.runs import seals, stores
from jaxgen.runs.sharding import is_first, lost


class Checkpoints:
    """The checkpoints of one run: written in the background, the newest `keep` kept."""

    def __init__(self, folder: Path, keep: int, settle: Callable[[], None] = lambda: None):
        """settle: returns once all that goes with a checkpoint is saved; it is called before the seal is written."""
        self.folder, self.keep, self.settle = folder.absolute(), keep, settle
        self.damaged = seals.set_aside_damaged(self.folder) if is_first() else {}
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints checked")
        stores.enable(self.folder)
        self.checkpointer = ocp.AsyncCheckpointer(_handler())
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def save(self, step: int, state: PyTree, notes: Mapping[str, Any]):
        """Save the state and the notes; returns once the arrays are copied. Raises InputError if the disk refuses."""
        self.wait()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(dict(notes)))
        try:
            self.checkpointer.save(str(self.folder / str(step)), args=args)
        except Exception as error:
            raise self._failed(step, error)  # noqa: B904
        self.thread = threading.Thread(target=self._finish, args=(step,))
        self.thread.start()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Return the newest state and its notes, or None if there is none.

        like: shapes, dtypes and shardings of the state, of whatever layout.
        """
        step = same_everywhere(seals.newest_whole(self.folder)[0] if is_first() else None)
        return None if step is None else restore(self.folder, step, like)

    def has(self, step: int) -> bool:
        """Return whether that step is saved, in every process."""
        return same_everywhere(int(seals.sealed(self.folder, step)) if is_first() else None) == 1

    def wait(self):
        """Return when the last save is complete. Raises InputError if it failed."""
        if self.thread:
            self.thread.join()
        if self.error:
            error, self.error = self.error, None
            raise error

    def close(self):
        try:
            self.wait()
        finally:
            self.checkpointer.close()

    def _finish(self, step: int):
        try:
            self.checkpointer.wait_until_finished()
            if is_first():
                self.settle()
                seals.seal(self.folder, step)
        except Exception as error:
            self.error = self._failed(step, error)
            return
        try:
            faults = seals.prune(self.folder, self.keep) if is_first() else []
        except OSError as error:
            faults = [str(error)]
        for fault in faults:
            print(f"An old checkpoint could not be deleted ({fault}). The run goes on.", file=sys.stderr)

    def _failed(self, step: int, error: Exception) -> Exception:
        if lost(error):
            return error
        seals.discard(self.folder, step)
        failed = InputError(
            f"The checkpoint of step {step} could not be written to {self.folder} ({_reason(error)}); "
            "the ones before it are untouched."
        )
        failed.__cause__ = error
        return failed


def restore(folder: Path, step: int, like: PyTree) -> tuple[Any, dict[str, Any]]:
    """Return one checkpoint's state, laid out as `like`, and its notes. Raises InputError if it is of another model."""
    path = str(folder.absolute() / str(step))
    stores.enable(folder)
    with ocp.Checkpointer(_handler()) as checkpointer:
        saved = checkpointer.metadata(path).item_metadata["state"]
        holds, wants = _shapes(saved), _shapes(like)
        for name in [*holds, *wants]:
            if holds.get(name) != wants.get(name):
                raise InputError(
                    f"The checkpoint {path} is of another model: {name} is {holds.get(name, 'not in it')}, "
                    f"here it is {wants.get(name, 'not wanted')}."
                )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), notes=ocp.args.JsonRestore())
        restored = checkpointer.restore(path, args=args)
    return restored["state"], restored["notes"]


def _handler() -> ocp.CompositeCheckpointHandler:
    return ocp.CompositeCheckpointHandler(state=ocp.StandardCheckpointHandler(), notes=ocp.JsonCheckpointHandler())


def _shapes(tree: PyTree) -> dict[str, str]:
    def describe(x) -> str:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.eval_shape(jax.random.key_data, x)
        return f"{np.dtype(x.dtype)}{list(x.shape)}"

    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {
        "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in p): describe(x)
        for p, x in leaves
    }


def _reason(error: BaseException) -> str:
    """Return what the system said, out of an error that may be many lines long."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if said := paths.fault(error):
        return said.rstrip(".")
    number = re.search(r"os_error_code='(\d+)'", str(error))  # as TensorStore writes it
    return os.strerror(int(number[1])) if number else " ".join(str(error).split())[:200]


def same_everywhere(value: int | None) -> int | None:
    """Return process 0's value in every process."""
    if jax.process_count() == 1:
        return value
    number = int(multihost_utils.broadcast_one_to_all(np.array(-1 if value is None else value)))
    return None if number < 0 else number
