"""A run as it was left: its task, and the state of its newest whole checkpoint."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import posthoc_ema
from jaxgen.core.config import Mesh as MeshConfig
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.task import Task
from jaxgen.core.types import Frozen, TrainState
from jaxgen.runs import checkpoint, seals, sharding
from jaxgen.runs.config_io import load_config, named
from jaxgen.runs.sharding import Mesh
from jaxgen.runs.task_transforms import tune


def build_task(run: Run, mesh: Mesh) -> Task:
    """Return the run's task as it is trained on a mesh."""
    return sharding.gathered(tune(named(run.model.task(run.steps), run), run.optim, run.compute, run.steps), mesh)


class Trained(NamedTuple):
    """A run's configuration, the mesh of this machine, and the state on it."""

    run: Run
    mesh: Mesh
    task: Task
    state: TrainState
    frozen: Frozen
    step: int


def open_run(
    folder: Path,
    config: MeshConfig | None = None,
    sampling: str = "",
    average: float | None = None,
    with_frozen: bool = True,
) -> Trained:
    """Return the run of a folder, its samples drawn as `sampling` says.

    average: sigma_rel of the moving averages, of a run that kept some (averages.py)
    with_frozen: whether to load what is frozen as well; what is wanted of the run may not need it
    Raises InputError where there is none, or no whole checkpoint of it.
    """
    run = load_config(folder, sampling)
    step, damaged = seals.newest_whole(folder / "checkpoints")
    for bad, fault in damaged.items():
        print(f"The checkpoint of step {bad} is passed over: {fault}.", file=sys.stderr)
    if step is None:
        raise InputError(f"{folder} has no whole checkpoint yet.")
    mesh = sharding.make_mesh(config or MeshConfig())
    task = build_task(run, mesh)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    state, _ = checkpoint.restore(folder / "checkpoints", step, like)
    if average is not None:
        state = averaged_by(run, state, folder, average)
    loads = task.frozen.items() if with_frozen else ()
    frozen = {net: jax.device_put(load_config(), sharding.replicated(mesh)) for net, load_config in loads}
    return Trained(run, mesh, task, state, frozen, step)


def averaged_by(run: Run, state: TrainState, folder: Path, width: float) -> TrainState:
    """Return a run's state whose moving averages are of this width, made of its own and of earlier snapshots.

    Raises InputError where the run has none, or none that come near to this width.
    """
    posthoc_ema.check_width(width, "--average")
    widths, last = run.optim.ema_widths, int(state.step)
    if not widths or not state.ema:
        raise InputError(f"{folder} kept no averages: --average is for runs with --optim.ema-widths.")
    steps = [s for s in seals.sealed_steps(folder / posthoc_ema.FOLDER) if s <= last]
    for step in list(steps):
        if fault := seals.check(folder / posthoc_ema.FOLDER, step):
            print(f"The averages of step {step} are passed over: {fault}.", file=sys.stderr)
            steps.remove(step)
    if not steps:
        raise InputError(f"{folder} has no whole averages yet: they are kept every {run.save.averages} steps.")
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state.ema)
    steps = sorted({*steps, last})  # a run that was stopped has gone on since its last snapshot
    pairs = [(step, w) for step in steps for w in widths]
    share, distance = posthoc_ema.shares_of([s for s, _ in pairs], [w for _, w in pairs], last, width)
    near = f"an average of width {width:g} made of {len(steps)} snapshots differs from the true one by {distance:.1%}"
    if distance > posthoc_ema.FARTHEST:
        raise InputError(
            f"{folder}: {near}, more than {posthoc_ema.FARTHEST:.0%}: give --average a width nearer to "
            f"{' or '.join(map('{:g}'.format, widths))}, or train with more snapshots (a smaller --save.averages)."
        )
    print(f"{near[0].upper()}{near[1:]}.", file=sys.stderr)
    shares = dict(zip(pairs, share, strict=True))
    total = {net: jax.tree.map(jnp.zeros_like, ema) for net, ema in state.ema.items() if net in state.params}
    for step in steps:
        found = state.ema if step == last else checkpoint.restore(folder / posthoc_ema.FOLDER, step, like)[0]
        for w in widths:
            part = {net: found[posthoc_ema.key_of(net, w, w == widths[0])] for net in total}
            add = lambda sum, x, share=shares[step, w]: sum + np.float32(share) * x if inexact(x) else x  # noqa: E731
            total = jax.tree.map(add, total, part)
    return state.replace(ema={**state.ema, **total})


def inexact(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
