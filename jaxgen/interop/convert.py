"""Import of weight files as runs; export of runs as weight files and StableHLO programs."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxgen.core import rng
from jaxgen.core.capabilities import Classifier, Transform
from jaxgen.core.config import Mesh, Run, validate
from jaxgen.core.errors import InputError, choose
from jaxgen.core.spec import spec_of
from jaxgen.core.task import Task
from jaxgen.core.types import PyTree, TrainState, averaged, variables
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import SURPLUS, problems, rule_of, table, to_ours, to_theirs
from jaxgen.interop.write import write_safetensors, write_torch
from jaxgen.media import output_files
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.load import build_task
from jaxgen.runs.run_dir import claim, record_start

PROGRAMS = ("generate", "classify")
PLATFORMS = ("cpu", "cuda", "tpu")


def import_weights(path: Path, run: Run, net: str | None) -> tuple[Path, str, int]:
    """Make a run at step 0 from a weight file; return its folder, the net with these weights and their number.

    net: the net that gets the weights; None: the net that fits, or all nets where the file holds all of them. Other
    nets are initialised at random.
    Raises InputError where the file or the folder can't be used, or the weights don't fit.
    """
    validate(run)
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise InputError(f"{run.folder} exists already: nothing in it is overwritten. Give another folder with --out.")
    tensors = read(path)
    mesh = sharding.make_mesh(Mesh(data=1))
    task = build_task(run, mesh)
    state = sharding.make_state(task, mesh, jax.random.key(run.seed), spec_of(task, run.batch))
    nets = list(state.params)
    candidates = [choose(net, nets, "net")] if net else nets
    rule, likes = rule_of(run.preset), {name: variables(name, state.params, state.extra) for name in candidates}
    wrong = {name: problems(rule, run.model, name, like, tensors) for name, like in likes.items()}
    fits = {name: to_ours(rule, run.model, name, likes[name], tensors) for name, found in wrong.items() if not found}
    if len(fits) > 1:
        raise InputError(f"{path} fits {' and '.join(fits)}: say which with --net.")
    new = fits or parts(run, likes, tensors)
    if not new:
        faults = [f"These weights are not the {name}'s: {'; '.join(found)}." for name, found in wrong.items()]
        raise InputError(f"{path} doesn't fit {run.preset}. " + " ".join(faults))
    for name, weights in new.items():
        state = placed(state, name, weights)
    with claim(run) as folder:
        record_start(folder, mesh)
        checkpoints = Checkpoints(folder / "checkpoints", run.save.keep)
        checkpoints.save(0, state, {"batches": 0, "window": {}, "imported": path.name})
        checkpoints.close()
    return folder, " and ".join(new), sum(x.size for x in jax.tree.leaves(new))


def parts(run: Run, likes: Mapping[str, PyTree], tensors: Mapping[str, np.ndarray]) -> dict[str, PyTree]:
    """Return the weights of all nets where a file holds all of them, otherwise {}."""
    rule, found, used = rule_of(run.preset), {}, set()
    for net, like in likes.items():
        own = {name: tensors[name] for *_, name, _ in table(rule, run.model, net, like) if name in tensors}
        if used & own.keys():
            return {}
        used |= own.keys()
        if problems(rule, run.model, net, like, own):
            return {}
        found[net] = to_ours(rule, run.model, net, like, own)
    return {} if any(name not in used and not name.endswith(SURPLUS) for name in tensors) else found


def placed(state: TrainState, net: str, new: PyTree) -> TrainState:
    """Return the state with new variables of a net, and as its moving average."""
    copies = lambda tree, like: jax.tree.map(lambda x, y: jax.device_put(x.astype(y.dtype), y.sharding), tree, like)  # noqa: E731
    collections = {name: value for name, value in new.items() if name != "params"}
    params = {**state.params, net: copies(new["params"], state.params[net])}
    extra = {**state.extra, net: copies(collections, state.extra[net])} if collections else state.extra
    ema = {**state.ema, net: copies(new, state.ema[net])} if net in state.ema else state.ema
    return state.replace(params=params, extra=extra, ema=ema)


def export_weights(run: Run, state: TrainState, net: str, kind: str, path: Path, average: bool) -> int:
    """Write a net's variables under the published names, as safetensors or a torch file; return how many tensors."""
    found = variables(net, state.params, state.extra)
    if average and net in state.ema:
        found = dict(state.ema[net])
    tensors = to_theirs(rule_of(run.preset), run.model, net, jax.device_get(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "torch":
        write_torch(path, tensors)
    else:
        notes = {"preset": run.preset, "net": net, "model": json.dumps(dataclasses.asdict(run.model))}
        write_safetensors(path, tensors, {**notes, "step": str(int(state.step))})
    return len(tensors)


def export_program(task: Task, state: TrainState, frozen: PyTree, average: bool, out: Path | None, folder: Path):
    """Write `generate`, or else `classify`, as StableHLO, and print how to call it. Raises InputError."""
    program = next((kind for kind in PROGRAMS if exportable(task, kind)), "")
    if not program:
        raise InputError("This model draws no samples and is no classifier: there is no program to export.")
    path = out or folder / f"{program}.stablehlo"
    if path.exists():
        raise InputError(f"{path} exists already: nothing is overwritten. Give another file with --out.")
    code = stablehlo(task, state if average else state.replace(ema={}), frozen, program)
    with output_files.whole(path) as part:
        part.write_bytes(code)
    inputs = ("seed", "indices", *task.get(Transform).required) if program == "generate" else ("images",)
    call = ", ".join(inputs)
    print(f"{program}: {path}\njax.export.deserialize(open({str(path)!r}, 'rb').read()).call({call})")


def exportable(task: Task, program: str) -> bool:
    """Return whether a task has what a program of this name needs."""
    transform = task.find(Transform)
    draws = transform is not None and set(transform.required) <= set(task.example)
    return draws if program == "generate" else task.find(Classifier) is not None


def stablehlo(task: Task, state: TrainState, frozen: PyTree, program: str) -> bytes:
    """Return `generate` or `classify` with its weights as a serialised StableHLO program of any batch size.

    `jax.export.deserialize(bytes).call` takes (seed u32[], indices i32[b]) and what the samples are conditioned on,
    such as labels i32[b], and gives images f32[b h w c] in [-1, 1], the samples of `python -m jaxgen generate` with
    these numbers; or it takes images and gives logits f32[b k].
    """
    state, frozen = jax.device_get((dataclasses.replace(state, key=None, optimizer_state={}), frozen))
    (b,) = export.symbolic_shape("b")

    def generate(seed, indices, *inputs):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        transform = task.get(Transform)
        named = dict(zip(transform.required, inputs, strict=True))
        return transform.apply(*averaged(state, frozen), named, keys)[transform.main]

    def classify(example):
        return task.get(Classifier).classify(*averaged(state, frozen), {main: example})["logits"]

    main = next(iter(task.example))

    def batch(name: str) -> jax.ShapeDtypeStruct:
        one: Any = task.example[name]
        return jax.ShapeDtypeStruct((b, *one.shape), one.dtype)

    if program == "generate":
        seed, indices = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((b,), jnp.int32)
        function, args = generate, (seed, indices, *map(batch, task.get(Transform).required))
    else:
        function, args = classify, (batch(main),)
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(*args).serialize())
