"""A run as it was left: its task, and the state of its newest whole checkpoint."""

import sys
from pathlib import Path
from typing import NamedTuple

import jax

from jaxgen import checkpoint, loop, runs, shard
from jaxgen.config import Mesh as MeshConfig
from jaxgen.config import Run
from jaxgen.core import Task, TrainState
from jaxgen.errors import InputError
from jaxgen.sampling import Frozen, spec_of
from jaxgen.shard import Mesh


class Trained(NamedTuple):
    """A run's configuration, the mesh of this machine, and the state on it."""

    run: Run
    mesh: Mesh
    task: Task
    state: TrainState
    frozen: Frozen
    step: int


def open_run(folder: Path, config: MeshConfig | None = None, sampling: str = "") -> Trained:
    """Return the run of a folder, its samples drawn as `sampling` says.

    Raises InputError where there is none, or no whole checkpoint of it.
    """
    run = runs.load(folder, sampling)
    step, damaged = checkpoint.newest_whole(folder / "checkpoints")
    for bad, fault in damaged.items():
        print(f"The checkpoint of step {bad} is passed over: {fault}.", file=sys.stderr)
    if step is None:
        raise InputError(f"{folder} has no whole checkpoint yet.")
    mesh = shard.make_mesh(config or MeshConfig())
    task = loop.build(run, mesh)
    like = shard.abstract_state(task, mesh, spec_of(task, run.batch))
    state, _ = checkpoint.restore(folder / "checkpoints", step, like)
    frozen = {net: jax.device_put(load(), shard.replicated(mesh)) for net, load in task.frozen.items()}
    return Trained(run, mesh, task, state, frozen, step)
