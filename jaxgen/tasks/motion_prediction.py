"""Motion prediction: the next poses of a body from those before.

The examples are the `past` and the `future` of a window: places of joints in the frame of the root. Nets see them in
the unit `model.unit`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params, variables
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.supervised import supervised_task

RATE = 25.0  # frames in a second: the literature's, which takes every second one of its files
STRIDE = 2


def prediction_task(
    model: Any,
    net: nn.Module,
    predict: Callable[[Any, Array], Array],
    loss: Callable[..., tuple[Array, Any]],
    init: tuple,
    optimizer: optax.GradientTransformation,
) -> Task:
    """Return the task of a predictor of motion.

    model:   has parents, past, future, unit and ema
    predict: (variables, past f32[b t j 3]) -> the next poses [b t' j 3]
    loss:    (variables, window f32[b t+t' j 3], context, key) -> loss f32[], new running statistics
    init:    the net's arguments for its initialisation
    Raises InputError for parents that are no tree.
    """
    at_least(1, model__past=model.past, model__future=model.future, model__parents=len(model.parents))
    if bad := next((p for i, p in enumerate(model.parents) if not -1 <= p < i), None):
        raise InputError(f"model.parents: each joint's parent is an earlier joint or -1, not {bad}.")
    joints = len(model.parents)
    spec = lambda frames: ArraySpec("pose", (frames, joints, 3), rate=RATE, parents=tuple(model.parents))  # noqa: E731
    inputs, outputs = {"past": spec(model.past)}, {"future": spec(model.future)}

    def whole(nets: Any, batch: Batch, context: Context, key: Key):
        window = jnp.concatenate([batch["past"], batch["future"]], 1) / model.unit  # [b t+t' j 3]
        value, stats = loss(nets, window, context, key)
        return value, {}, stats

    def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del keys, scale
        made = predict(variables("predictor", params, context.extra), given["past"] / model.unit)
        return {"future": to_f32(made) * model.unit}

    transform = Transform(apply, inputs, outputs, subject="past")
    return supervised_task(net, init, whole, optimizer, model.ema, inputs | outputs, transform)


def distance(made: Array, true: Array) -> Array:
    """Return the mean distance of points [... 3], f32[]; its derivative is 0 where they agree."""
    squared = jnp.square(to_f32(made) - true).sum(-1)
    same = squared == 0
    return jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, squared))).mean()


def cosines(frames: int) -> np.ndarray:
    """Return the orthonormal matrix f32[frames frames] of the discrete cosine transform (type 2): row k is wave k."""
    time, wave = np.arange(frames), np.arange(frames)[:, None]
    scale = np.where(wave == 0, np.sqrt(1 / frames), np.sqrt(2 / frames))
    return (scale * np.cos(np.pi * (time + 0.5) * wave / frames)).astype(np.float32)


def held(past: Array, frames: int) -> Array:
    """Return the poses with the last one repeated, [b t j 3] -> [b frames j 3]."""
    return jnp.concatenate([past, jnp.repeat(past[:, -1:], frames - past.shape[1], 1)], 1)


def row(model: Any, small: Any, parameters: int, steps: int, batch: int, optim: Optim | None = None) -> Preset:
    """Return a preset, and a tiny run."""
    data = Data("mocap:mocap.zip", stride=STRIDE)
    log = Log(100, 1000, 8)
    full = Run(model, data=data, steps=steps, batch=batch, optim=optim or Optim(), log=log, save=Save(1000))
    tiny = Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4))
    return Preset(full, tiny, parameters)
