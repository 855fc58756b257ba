"""Devices: process start-up, the mesh, and how states and batches lie on it."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgen.core.config import Mesh as MeshConfig
from jaxgen.core.errors import InputError
from jaxgen.core.memory import machine_memory
from jaxgen.core.step import init_state, once
from jaxgen.core.task import Task
from jaxgen.core.types import Key, PyTree, Spec, TrainState
from jaxgen.runs.task_transforms import map_nets

Mesh = jax.sharding.Mesh
Rules = Sequence[tuple[str, PartitionSpec]]  # the first pattern found in an array's path decides

PATIENCE = 30  # seconds that a process that ends waits for the others
# What JAX, Gloo and NCCL say where another process has gone.
LOST = re.compile(r"Gloo|NCCL|peer|heartbeat|coordination|another task|UNAVAILABLE|DEADLINE_EXCEEDED", re.IGNORECASE)
SMALL = 4096  # numbers; below it an array costs less to copy than to gather


def start(config: MeshConfig, environment: Mapping[str, str] = os.environ):
    """Join the other processes, if there are any. Must come before the first use of a device."""
    address, count, index = config.coordinator, config.num_processes, config.process_id
    if (address, count, index) != (None, None, None):
        if address is None or count is None or index is None:
            raise InputError("mesh.coordinator, mesh.num-processes and mesh.process-id go together: give all three.")
        if not 0 <= index < count:
            raise InputError(f"mesh.process-id must be from 0 to {count - 1}, not {index}.")
        if not re.fullmatch(r".+:\d+", address):
            raise InputError(f"mesh.coordinator must be HOST:PORT, not {address!r}.")
        jax.distributed.initialize(address, count, index, shutdown_timeout_seconds=PATIENCE)
    elif launched_by(environment):
        jax.distributed.initialize(shutdown_timeout_seconds=PATIENCE)


def part():
    """Leave the other processes, if there are any, once they leave as well; after `PATIENCE` seconds without them."""
    if jax.distributed.is_initialized():
        with contextlib.suppress(Exception):  # they are late, or gone
            jax.distributed.shutdown()


def lost(error: BaseException) -> bool:
    """Return whether an error says that another process of this run has gone."""
    gone = not isinstance(error, InputError) and LOST.search(str(error))  # JAX raises many kinds
    return bool(gone) and jax.distributed.is_initialized()


def launched_by(environment: Mapping[str, str]) -> str | None:
    """Return which launcher started several processes of this job, of those that JAX can ask for their addresses."""

    def number(name: str) -> int:
        return int(environment.get(name, "1") or 1)

    if number("SLURM_NTASKS") > 1 and "SLURM_STEP_ID" in environment:  # a step: srun started us, not the batch script
        return "SLURM"
    if number("OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if environment.get("TPU_WORKER_HOSTNAMES", "").count(",") or number("MEGASCALE_NUM_SLICES") > 1:
        return "TPU pod"
    return None


def is_first() -> bool:
    """Return whether this is the one process that writes files and talks to the user."""
    return jax.process_index() == 0


def make_mesh(config: MeshConfig) -> Mesh:
    """Return the mesh (data, fsdp). Raises InputError where the devices don't suffice."""
    devices = jax.devices()
    data = config.data or max(len(devices) // config.fsdp, 1)
    count = data * config.fsdp
    if count > len(devices) or (jax.process_count() > 1 and count != len(devices)):
        raise InputError(
            f"mesh.data={data} times mesh.fsdp={config.fsdp} asks for {count} devices, but there are {len(devices)}."
        )
    return jax.make_mesh((data, config.fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2, devices=devices[:count])


def one_by_one(mesh: Mesh) -> bool:
    """Return whether a program has to end before the next starts: on several CPU devices their collectives deadlock."""
    return mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, size: int | None = None) -> NamedSharding:
    """Return how arrays [b ...] lie: cut over all devices, or copied where `size` examples can't be."""
    if size is not None and size % mesh.size:
        return replicated(mesh)
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def shardings(tree: PyTree, mesh: Mesh, rules: Rules = ()) -> PyTree:
    """Return a sharding for every array of a state, its shapes, or a part of it.

    `rules` are asked first, by path ("params/generator/..."; moments and averages end alike). Otherwise an array of
    at least SMALL numbers is cut along the longest axis that fsdp divides, and any other is copied.
    """
    fsdp = mesh.shape["fsdp"]

    def one(path, x) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in rules:
            if re.search(pattern, name):
                return NamedSharding(mesh, spec)
        axes = [i for i, n in enumerate(x.shape) if n % fsdp == 0]
        if fsdp == 1 or np.prod(x.shape, dtype=int) < SMALL or not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree_util.tree_map_with_path(one, tree)


def abstract_state(task: Task, mesh: Mesh, spec: Spec, rules: Rules = ()) -> TrainState:
    """Return the shapes, dtypes and shardings of the task's state."""
    shapes = jax.eval_shape(lambda key: init_state(task, key, spec), jax.random.key(0))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings(shapes, mesh, rules)
    )


def check_memory(like: TrainState, mesh: Mesh):
    """Raise InputError where a state can't lie on the mesh's devices, or in the machine's memory if CPUs."""
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * getattr(x.dtype, "itemsize", 8)  # noqa: E731
    need = sum(map(size, jax.tree.leaves(like)))
    have, sharers = memory_of(mesh)
    need *= sharers
    if have and need > have:
        where = "this machine" if mesh.devices.flat[0].platform == "cpu" else "a device"
        raise InputError(
            f"The model's state takes {need / 1e9:,.0f} GB, {where} has {have / 1e9:,.0f}: make the model smaller, or "
            "cut it over more devices with --mesh.fsdp."
        )


def memory_of(mesh: Mesh) -> tuple[int, int]:
    """Return the bytes of a device's memory, 0 if unknown, and how many devices share them: CPUs have the machine's."""
    device = mesh.local_mesh.devices.flat[0]
    if device.platform == "cpu":
        return machine_memory(), mesh.local_mesh.size
    return (device.memory_stats() or {}).get("bytes_limit", 0), 1


def make_state(task: Task, mesh: Mesh, key: Key, spec: Spec, rules: Rules = ()) -> TrainState:
    """Return the state at step 0, every array made where it will lie."""
    lie = jax.tree.map(lambda x: x.sharding, abstract_state(task, mesh, spec, rules))
    # As numbers of the host: a key array of one process's device can't enter a computation of several processes.
    numbers = np.asarray(jax.random.key_data(key))
    make = lambda n: init_state(task, jax.random.wrap_key_data(n), spec)  # noqa: E731
    return jax.jit(make, out_shardings=lie, compiler_options=once())(numbers)


def put_whole(lie: NamedSharding, x: np.ndarray) -> jax.Array:
    """Return an array that every process holds whole, laid out on a mesh."""
    return jax.make_array_from_callback(x.shape, lie, lambda index: x[index])


def gathered(task: Task, mesh: Mesh) -> Task:
    """Return the task whose losses see whole parameters.

    Left to itself the partitioner cuts the convolutions along the channels, and moves the activations to do it.
    """
    if mesh.shape["fsdp"] == 1:
        return task
    return map_nets(task, lambda tree: jax.lax.with_sharding_constraint(tree, replicated(mesh)))


def stacked(mesh: Mesh) -> NamedSharding:
    """Return how arrays [k b ...] of k batches lie."""
    return NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))


def put_batch(mesh: Mesh, stacked: bool = False) -> Callable[[Mapping[str, np.ndarray]], dict[str, jax.Array]]:
    """Return the function from this process's rows of a batch, or of k stacked ones, to the batch on the mesh."""
    lie = NamedSharding(mesh, PartitionSpec(*[None] * stacked, ("data", "fsdp")))
    return lambda batch: {k: jax.make_array_from_process_local_data(lie, v) for k, v in batch.items()}


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; every process must ask at the same step."""
    return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(flag))))
