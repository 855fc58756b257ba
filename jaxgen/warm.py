"""A start from what another run has learned: fine-tuning, or a larger net around a smaller one."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxgen.config import Mesh
from jaxgen.core import Array, Task, TrainState, averaged, variables
from jaxgen.errors import InputError
from jaxgen.trained import open_run

SHOWN = 3  # names of arrays in a sentence


def weights_of(folder: Path, like: TrainState, mesh: Mesh) -> tuple[dict[str, Array], str]:
    """Return the averaged weights of a run, and what goes with them, that fit a state: by path; and a sentence on them.

    What has the same path and shape fits: "params/generator/...". Raises InputError where there is no run, or nothing
    of it fits.
    """
    trained = open_run(folder, mesh, with_frozen=False)
    params, context = averaged(trained.state, {})
    there, wanted = flat({"params": params, "extra": context.extra}), flat(parts(like))
    fitting = {path: x for path, x in there.items() if path in wanted and alike(x, wanted[path])}
    names = [path for path in wanted if path.startswith("params/")]
    left = [path.removeprefix("params/") for path in names if path not in fitting]
    taken = len(names) - len(left)
    if not taken:
        raise InputError(f"start_from: no array of the weights of {folder} has the name and shape of one here.")
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    rest = f"; none there fits {', '.join(left[:SHOWN])}{more}" if left else ""
    return fitting, f"Starting from {folder} at step {trained.step}: {taken} of {len(names)} arrays{rest}."


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
