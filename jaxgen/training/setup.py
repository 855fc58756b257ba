"""The setup of a run, and its compiled step."""

import math
from dataclasses import dataclass

import jax

from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.memory import check_fits
from jaxgen.core.spec import spec_of
from jaxgen.core.step import make_step
from jaxgen.core.task import Task
from jaxgen.core.types import Frozen, PyTree, TrainState
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh


@dataclass(frozen=True)
class Setup:
    """The arguments that all parts of the training loop share.

    mesh:   the devices
    task:   the task with the run's settings, for this mesh
    like:   the shapes, dtypes and shardings of its state
    frozen: the nets that are never trained, on every device
    """

    mesh: Mesh
    task: Task
    like: TrainState
    frozen: Frozen


def lower(run: Run, task: Task, mesh: Mesh, like: TrainState, frozen: PyTree):
    """Return one call, (state, batch, frozen) -> (state, metrics) with the state donated, traced and lowered.

    With steps_per_call=k it takes k batches stacked, and gives metrics f32[k].
    """
    step = make_step(task, run.compute.accumulate)
    if run.compute.steps_per_call > 1:
        one = step
        step = lambda state, batches, frozen: jax.lax.scan(lambda s, b: one(s, b, frozen), state, batches)  # noqa: E731
    batch = batch_of(run, task, mesh)
    out = (jax.tree.map(lambda x: x.sharding, like), sharding.replicated(mesh))
    return jax.jit(step, donate_argnums=0, out_shardings=out).lower(like, batch, frozen)


def batch_of(run: Run, task: Task, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes, dtypes and shardings of a call's batch."""
    batch, k = spec_of(task, run.batch * task.slices), run.compute.steps_per_call
    lie, stack = (sharding.stacked(mesh), (k,)) if k > 1 else (sharding.batched(mesh), ())
    return {name: jax.ShapeDtypeStruct((*stack, *x.shape), x.dtype, sharding=lie) for name, x in batch.items()}


def check_batches(run: Run, task: Task):
    """Raise InputError where the batches that wait for the step, or the preview's samples, don't fit into memory."""
    example = sum(math.prod(x.shape) * x.dtype.itemsize for x in spec_of(task, 1).values())  # bytes
    waiting = run.batch * task.slices * run.compute.steps_per_call * (run.data.prefetch + 1) / jax.process_count()
    check_fits(waiting * example, f"batch={run.batch} with data.prefetch={run.data.prefetch}")
    check_fits(run.log.count * example, f"log.count={run.log.count}")


def check_mesh(run: Run, mesh: Mesh):
    """Raise InputError where the mesh does not divide the batch."""
    part = run.batch // run.compute.accumulate
    if part % mesh.size:
        what = f"a batch of {run.batch}" + (f" in {run.compute.accumulate} parts" if part < run.batch else "")
        raise InputError(f"The mesh's {mesh.size} devices don't divide {what}: choose a multiple of {mesh.size}.")
