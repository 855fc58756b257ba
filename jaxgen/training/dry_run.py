"""A dry run: configuration, parameters, sharding, FLOPs and memory of a run. Nothing is trained."""

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgen.core.config import Run, validate
from jaxgen.core.spec import spec_of
from jaxgen.core.types import PyTree
from jaxgen.runs import sharding
from jaxgen.runs.config_io import to_json
from jaxgen.runs.load import build_task
from jaxgen.training import warm_start
from jaxgen.training.resuming import shortened_warmup
from jaxgen.training.setup import check_mesh, lower


def dry_run(run: Run):
    """Print the resolved configuration as JSON, a table of the parameters, and the compiled step's costs."""
    validate(run)
    sharding.start(run.mesh)
    mesh = sharding.make_mesh(run.mesh)
    check_mesh(run, mesh)
    task = build_task(run, mesh)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    console = Console(soft_wrap=True, highlight=False)
    begin = warm_start.weights_of(run, like)[1] if run.start_from else ""
    console.print(to_json(run), end="", markup=False)
    for net, params in like.params.items():
        console.print(f"\n{net}: {count(params):,} parameters")
        table = Table("parameter", "shape", "numbers", "sharding", box=None)
        for path, x in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            table.add_row(name, str(list(x.shape)), f"{x.size:,}", str(tuple(x.sharding.spec) or "copied"))
        console.print(table)
    for sentence in [begin] * bool(begin) + shortened_warmup(run, 0):
        console.print(f"\n{sentence}", markup=False)
    # Read, not traced: what is frozen may be another run's checkpoint.
    frozen = {net: jax.eval_shape(lambda x: x, load()) for net, load in task.frozen.items()}
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


def count(tree: PyTree) -> int:
    """Return how many numbers a tree of arrays or shapes holds."""
    return sum(x.size for x in jax.tree.leaves(tree))


def _size(x) -> int:
    return 8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.size * np.dtype(x.dtype).itemsize


def _bytes(n: float) -> str:
    return f"{n / 2**20:,.1f} MiB"
