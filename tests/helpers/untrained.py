"""Runs that were never trained: for tests of commands that need a run, whatever its weights.

Training a tiny run compiles its initialisation and its step; drawing its weights in NumPy compiles nothing.
"""

import math
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import keystr, tree_map_with_path

from jaxgen.commands.parse import parse
from jaxgen.core.config import Run, validate
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import TrainState
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.config_io import to_json
from jaxgen.runs.load import build_task


def untrained(folder: Path, family: str, preset: str, *settings: str) -> Path:
    """Save a preset's tiny run with drawn weights, as if it were finished; return its folder."""
    options = ["--preset", preset, "--tiny", "--mesh.data", "1", "--log.samples", "0", *settings]
    return save_untrained(parse(family, [*options, "--out", str(folder)]).run)


def save_untrained(run: Run, change: Callable[[TrainState], TrainState] = lambda state: state) -> Path:
    """Save a run with drawn weights, changed by `change`, as if it were finished; return its folder."""
    validate(run)
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text(to_json(run))
    task = build_task(run, sharding.make_mesh(run.mesh))
    state = drawn_state(task, run.batch, run.seed).replace(step=np.int32(run.steps))
    checkpoints = Checkpoints(run.folder / "checkpoints", 1)
    checkpoints.save(run.steps, jax.tree.map(jax.numpy.asarray, change(state)), {})
    checkpoints.close()
    return run.folder


def drawn_state(task: Task, batch: int, seed: int = 0) -> TrainState:
    """Return a state with drawn weights, moments of 0, and step 0."""
    like = jax.eval_shape(lambda key: init_state(task, key, spec_of(task, batch)), jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like.replace(key=None))
    params, extra, ema = (drawn(tree, seed) for tree in (like.params, like.extra, like.ema))
    return zeros.replace(key=jax.random.key(0), params=params, extra=extra, ema=ema)


def drawn(like, seed: int = 0):
    """Return arrays that depend on names and the seed alone: kernels of unit gain, scales and variances 1, others 0."""

    def draw(path, x):
        name = keystr(path[-1:])
        if not np.issubdtype(x.dtype, np.floating):
            return np.zeros(x.shape, x.dtype)
        if len(x.shape) < 2:
            return np.full(x.shape, any(word in name for word in ("scale", "var")), x.dtype)
        rng = np.random.default_rng(zlib.crc32(keystr(path).encode(), seed))
        return (rng.normal(size=x.shape) / math.sqrt(math.prod(x.shape[:-1]))).astype(x.dtype)

    return tree_map_with_path(draw, like)
