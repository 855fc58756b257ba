"""Import of weight files as runs; export of runs as weight files."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.core import paths
from jaxgen.core.config import Mesh, Run, validate
from jaxgen.core.errors import InputError, choose
from jaxgen.core.spec import spec_of
from jaxgen.core.types import PyTree, TrainState, variables
from jaxgen.core.whole_file import temporary
from jaxgen.interop.entries import Entry, entry
from jaxgen.interop.nearest import nearest
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.interop.write import write_safetensors, write_torch
from jaxgen.media import output_files
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.load import build_task
from jaxgen.runs.run_dir import claim, record_start


class Imported(NamedTuple):
    """A run made from a file of weights: its folder, the nets with these weights, their number, and what was chosen."""

    folder: Path
    nets: str
    count: int
    choices: list[str]


def import_weights(path: Path, run: Run, net: str | None, take: str = "") -> Imported:
    """Make a run at step 0 from a weight file.

    net: the net that gets the weights; None: each net that fits. Other nets are initialised at random.
    take: the part of the file to take; "": the average where there is one (entries.py)
    Raises InputError where the file or the folder can't be used, or the weights don't fit.
    """
    validate(run)
    output_files.check_place(run.folder)
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise InputError(f"{run.folder} exists already: nothing in it is overwritten. Give another folder with --out.")
    tensors = read(path)
    mesh = sharding.make_mesh(Mesh(data=1))
    task = build_task(run, mesh)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    candidates = [choose(net, like.params, "net")] if net else list(like.params)
    rule = rule_of(run.preset)
    found = {
        name: entry(rule, run.model, name, variables(name, like.params, like.extra), tensors, take)
        for name in candidates
    }
    fits = fitting(path, found)
    if not fits:
        faults = [f"These weights are not the {name}'s: {'; '.join(one.problems())}." for name, one in found.items()]
        raise InputError(f"{path} doesn't fit {run.preset}. {' '.join(faults)} {nearest(tensors)}")
    state = sharding.make_state(task, mesh, jax.random.key(run.seed), spec_of(task, run.batch))
    for name, one in fits.items():
        state = placed(state, name, one.weights(tensors))
    # So that what a killed import leaves is not in the way of the next one. A store can't rename a folder.
    stays = paths.remote(run.folder)
    part = run.folder if stays else temporary(run.folder.absolute())
    try:
        with claim(run, part) as claimed:
            record_start(claimed.files, mesh)
            checkpoints = Checkpoints(part / "checkpoints", run.save.keep, claimed.settle)
            checkpoints.save(0, state, {"batches": 0, "window": {}, "imported": path.name})
            checkpoints.close()
            if not stays:
                part.replace(run.folder)
    finally:
        if not stays:
            paths.delete(part, ignore_errors=True)
    count = sum(int(np.prod(row.shape)) for one in fits.values() for row in one.rows)
    choices = [text for name, one in fits.items() if (text := one.choice(name))]
    return Imported(run.folder, " and ".join(fits), count, choices)


def fitting(path: Path, found: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the nets of which a file holds the weights, and where. Raises InputError where one part fits several nets.

    What is surplus to one net may be another net's, if the file holds all nets side by side.
    """
    used = [name for one in found.values() for name in one.used]
    shared = len(set(used)) < len(used)
    fits = {net: one for net, one in found.items() if not one.problems()}
    if len(set().union(*(one.used for one in fits.values()))) < sum(len(one.rows) for one in fits.values()):
        raise InputError(f"{path} fits {' and '.join(fits)}: say which with --net.")
    whole = all(one.complete and {one.prefix + name for name in one.surplus} <= set(used) for one in found.values())
    return fits or (dict(found) if whole and not shared else {})


def placed(state: TrainState, net: str, new: PyTree) -> TrainState:
    """Return the state with new variables of a net, and as its moving average."""
    copies = lambda tree, like: jax.tree.map(lambda x, y: jax.device_put(x.astype(y.dtype), y.sharding), tree, like)  # noqa: E731
    collections = {name: value for name, value in new.items() if name != "params"}
    params = {**state.params, net: copies(new["params"], state.params[net])}
    extra = {**state.extra, net: copies(collections, state.extra[net])} if collections else state.extra
    ema = {**state.ema, net: copies(new, state.ema[net])} if net in state.ema else state.ema
    return state.replace(params=params, extra=extra, ema=ema)


def export_weights(
    run: Run, state: TrainState, net: str, kind: str, path: Path, average: bool, overwrite: bool = False
) -> int:
    """Write a net's variables under the published names, as safetensors or a torch file; return how many tensors."""
    return export_nets(run, state, (net,), kind, path, average, overwrite)


def export_nets(
    run: Run, state: TrainState, nets: Sequence[str], kind: str, path: Path, average: bool, overwrite: bool = False
) -> int:
    """Write nets' variables to one file, as `export_weights` does; the names of several begin with the net's."""
    tensors = {}
    for net in nets:
        found = variables(net, state.params, state.extra)
        if average and net in state.ema:
            found = dict(state.ema[net])
        theirs = to_theirs(rule_of(run.preset), run.model, net, jax.device_get(found))
        tensors |= {f"{net}.{name}" if len(nets) > 1 else name: x for name, x in theirs.items()}
    if kind == "torch":
        write_torch(path, tensors, overwrite)
    else:
        notes = {"preset": run.preset, "net": ",".join(nets), "model": json.dumps(dataclasses.asdict(run.model))}
        notes |= {"classes": json.dumps(run.data.classes)} if run.data.classes else {}
        notes |= {"vocabulary": json.dumps(run.data.vocabulary)} if run.data.vocabulary else {}
        write_safetensors(path, tensors, {**notes, "step": str(int(state.step))}, overwrite)
    return len(tensors)
