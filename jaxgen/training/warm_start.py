"""A start from what another run has learned: fine-tuning, or a larger net around a smaller one."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxgen.core import paths
from jaxgen.core.class_names import listed
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import Array, TrainState, averaged, variables
from jaxgen.runs.load import open_run


def weights_of(run: Run, like: TrainState) -> tuple[dict[str, Array], str]:
    """Return the averaged weights of run.start_from that fit a state, and what goes with them, by path; and a sentence.

    What has the same path and shape fits: "params/generator/...". Raises InputError where there is no run, and where
    less than half fits, of all numbers and of each net that is averaged: coincidences are no start.
    """
    folder, preset = paths.path(run.start_from or ""), run.preset
    trained = open_run(folder, run.mesh, with_frozen=False)
    codes = [getattr(r.model, "autoencoder", "") for r in (trained.run, run)]
    if len({code and paths.absolute(code) for code in codes}) > 1:
        of = [f"latents of {code}" if code else "images" for code in codes]
        raise InputError(f"--start-from: {folder} is a model of {of[0]}, this one is of {of[1]}.")
    params, context = averaged(trained.state, {})
    there, wanted = flat({"params": params, "extra": context.extra}), flat(parts(like))
    fitting = {path: x for path, x in there.items() if path in wanted and alike(x, wanted[path])}
    size = lambda paths: sum(wanted[path].size for path in paths)  # noqa: E731
    said, shares, all_taken = [], [], 0
    for net in like.params:
        names = [path for path in wanted if path.startswith(f"params/{net}/")]
        taken = [path for path in names if path in fitting]
        said.append(f"{net} ({len(taken)} of {len(names)} arrays)")
        shares += [size(taken) / max(size(names), 1)] if net in like.ema else []
        all_taken += size(taken)
    whole = size(path for path in wanted if path.startswith("params/"))
    if max([all_taken / max(whole, 1), *shares]) < 0.5:
        raise InputError(
            f"--start-from: {folder} is a run of {trained.run.preset} whose weights don't fit this {preset}: "
            f"{', '.join(said)}. Name a run of the same nets and sizes."
        )
    names = other_classes(trained.run.data.classes, run.data.classes)
    return fitting, f"Starting from {folder} at step {trained.step}: {', '.join(said)}.{names}"


def other_classes(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Return a sentence on runs whose classes have other names or another order, or nothing."""
    if not old or not new or old == new:
        return ""
    return (
        f" Its classes were {listed(old)}, those of this run are {listed(new)}: what it learned of class 0 is used for "
        f"{new[0]}, and so on."
    )


def started(state: TrainState, task: Task, fitting: Mapping[str, Array]) -> TrainState:
    """Return a new state with these weights, its averages begun with them; the moments stay at 0."""
    put = lambda path, x: fitting.get(name_of(path), x)  # noqa: E731
    found = jax.tree_util.tree_map_with_path(put, parts(state))
    params, extra = found["params"], found["extra"]
    own = {e.name: variables(e.net, params, extra) for e in task.ema}
    copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))  # the step donates the state, each buffer once
    return state.replace(params=params, extra=extra, ema={**state.ema, **copied(own)})


def parts(state: TrainState) -> dict:
    return {"params": state.params, "extra": state.extra}


def flat(tree) -> dict[str, Array]:
    return {name_of(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def name_of(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def alike(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype
