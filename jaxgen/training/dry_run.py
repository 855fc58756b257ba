"""A dry run: configuration, parameters, sharding, FLOPs, memory and time of a run. Nothing is saved."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgen.core.config import Run, validate
from jaxgen.core.progress import duration
from jaxgen.core.spec import spec_of
from jaxgen.core.types import PyTree
from jaxgen.runs import sharding
from jaxgen.runs.config_io import to_json
from jaxgen.runs.load import build_task
from jaxgen.training import warm_start
from jaxgen.training.resuming import shortened_warmup
from jaxgen.training.setup import Setup, batch_of, check_batches, check_mesh, lower

CALLS = 3  # whose time is measured


def dry_run(run: Run, verbose: bool = False):
    """Print what would be trained, the configuration as JSON, the parameters of modules, and the step's costs.

    The time is measured over a few steps, on a batch of zeros, where the memory suffices for them.

    verbose: a row for each array of the parameters
    """
    validate(run)
    sharding.start(run.mesh)
    mesh = sharding.make_mesh(run.mesh)
    check_mesh(run, mesh)
    task = build_task(run, mesh)
    check_batches(run, task)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    console = Console(soft_wrap=True, highlight=False)
    begin = warm_start.weights_of(run, like)[1] if run.start_from else ""
    nets = ", ".join(f"{net} {count(params):,}" for net, params in like.params.items())
    console.print(f"{run.preset}: {run.steps:,} steps of {run.batch} examples; parameters: {nets}\n", markup=False)
    console.print(to_json(run), end="", markup=False)
    console.print()
    console.print(_table(like.params, verbose))
    for sentence in [begin] * bool(begin) + shortened_warmup(run, 0):
        console.print(f"\n{sentence}", markup=False)
    sharding.check_memory(like, mesh)
    frozen = {net: jax.device_put(load(), sharding.replicated(mesh)) for net, load in task.frozen.items()}
    compiled = lower(run, task, mesh, like, frozen).compile()
    console.print(f"mesh: {dict(mesh.shape)} of {mesh.devices.flat[0].device_kind}, {jax.process_count()} process(es)")
    console.print(f"parameters: {count(like.params):,}")
    console.print(f"state: {_bytes(sum(_size(x) for x in jax.tree.leaves(like)))}, over all devices once")
    cost = compiled.cost_analysis()
    if cost and "flops" in cost:
        console.print(f"one call of {run.compute.steps_per_call} step(s): {cost['flops'] / 1e9:,.3f} GFLOP per device")
    memory = compiled.memory_analysis()
    if memory is not None:
        parts = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
        console.print("memory per device: " + ", ".join(f"{name} {_bytes(n)}" for name, n in parts.items()))
        need = sum(parts.values()) + memory.output_size_in_bytes - memory.alias_size_in_bytes
        if advice := shortage(run, mesh, need, memory.temp_size_in_bytes):
            console.print(advice)
            return
    each = seconds_of_a_step(run, Setup(mesh, task, like, frozen), compiled)
    console.print(
        f"time: {duration(each)} a step, {duration(each * run.steps)} for all {run.steps:,} steps on this machine, "
        "beside compilation, reading of data, previews and evaluation"
    )


def _table(nets: PyTree, verbose: bool) -> Table:
    """Return a row for each module of the nets, or for each array, with its sharding."""
    table = Table("array" if verbose else "module", *["shape"] * verbose, "numbers", "sharding", box=None)
    rows: dict[str, list[Any]] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(nets):
        rows.setdefault(jax.tree_util.keystr(path if verbose else path[:2], simple=True, separator="/"), []).append(x)
    for name, arrays in rows.items():
        how = " and ".join(sorted({str(tuple(x.sharding.spec)) if any(x.sharding.spec) else "copied" for x in arrays}))
        table.add_row(name, *[str(list(x.shape)) for x in arrays if verbose], f"{count(arrays):,}", how)
    if not verbose:
        table.caption, table.caption_justify = "--verbose lists the arrays", "left"
    return table


def shortage(run: Run, mesh: sharding.Mesh, need: int, working: int) -> str:
    """Return a sentence on what to lower where a device lacks memory for a step; "" where it suffices.

    need: bytes of a device; working: those of them that only the step takes, mostly for its batch
    """
    have, sharers = sharding.memory_of(mesh)
    if not have or need * sharers <= have:
        return ""
    lower = [f"--batch (now {run.batch})"]
    if run.batch > run.compute.accumulate:
        lower.append(f"or raise --compute.accumulate (now {run.compute.accumulate})")
    if not run.compute.remat:
        lower.append("or set --compute.remat")
    if run.compute.precision == "f32":
        lower.append("or --compute.precision bf16")
    if 2 * working < need:  # most of it is the state
        lower = ["the model's width or depth, or cut the state over more devices with --mesh.fsdp"]
    where = "this machine" if mesh.devices.flat[0].platform == "cpu" else "a device"
    return f"A step takes {need * sharers / 1e9:,.1f} GB, {where} has {have / 1e9:,.1f}: lower {', '.join(lower)}."


def seconds_of_a_step(run: Run, setup: Setup, compiled: Any) -> float:
    """Return the seconds of a step, measured over three calls after a first one.

    A lazy phase counts with its share of the steps; of several, the most frequent one's.
    """
    mesh, task = setup.mesh, setup.task
    state = sharding.make_state(task, mesh, jax.random.key(run.seed), spec_of(task, run.batch))
    put = lambda x: sharding.put_whole(x.sharding, np.zeros(x.shape, x.dtype))  # noqa: E731  # pyright: ignore
    batch = {name: put(x) for name, x in batch_of(run, task, mesh).items()}

    def seconds(step: int) -> float:
        nonlocal state
        state = state.replace(step=sharding.put_whole(sharding.replicated(mesh), np.asarray(step, np.int32)))
        began = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch, setup.frozen))
        return time.perf_counter() - began

    k, every = run.compute.steps_per_call, min((p.every for p in task.phases if p.every > 1), default=0)
    seconds(0)
    each = sum(seconds(1) for _ in range(CALLS)) / CALLS / k
    return each + (seconds(0) - each) / every if every and k == 1 else each


def count(tree: PyTree) -> int:
    """Return how many numbers a tree of arrays or shapes holds."""
    return sum(x.size for x in jax.tree.leaves(tree))


def _size(x) -> int:
    return 8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.size * np.dtype(x.dtype).itemsize


def _bytes(n: float) -> str:
    return f"{n / 2**20:,.1f} MiB"
