"""Video prediction: the next frames of a clip from those before.

The examples are the `past` and the `future` of a clip. Nets compute with pixels in [0, 1], as their authors' do.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params, variables
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.supervised import supervised_task

Image = tuple[int, int, int]
RATE = 10.0  # frames in a second of what is shown; the nets do not know it


def prediction_task(
    model: Any,
    net: nn.Module,
    predict: Callable[..., Array],
    loss: Callable[..., tuple[Array, Any]],
    init: tuple,
    stochastic: bool = False,
) -> Task:
    """Return the task of a video predictor.

    model:   has image, past, future, learning_rate and ema
    predict: (variables, past f32[b t h w c] in [0, 1]) -> future [b t' h w c], of which what is beyond [0, 1] is cut
    loss:    (variables, clip f32[b t+t' h w c] in [0, 1], context, key) -> loss f32[], new running statistics
    init:    the net's arguments for its initialisation
    stochastic: whether there are many futures; `predict` then takes keys Key[b] as well
    """
    at_least(1, model__past=model.past, model__future=model.future, model__image=min(model.image))
    spec = lambda frames: ArraySpec("video", (frames, *model.image), rate=RATE)  # noqa: E731
    inputs, outputs = {"past": spec(model.past)}, {"future": spec(model.future)}

    def whole(nets: Any, batch: Batch, context: Context, key: Key):
        clip = to_unit(jnp.concatenate([batch["past"], batch["future"]], 1))  # [b t+t' h w c]
        value, stats = loss(nets, clip, context, key)
        return value, {}, stats

    def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        nets = variables("predictor", params, context.extra)
        made = predict(nets, to_unit(given["past"]), *((keys,) if stochastic else ()))
        return {"future": from_unit(jnp.clip(to_f32(made), 0, 1))}

    transform = Transform(apply, inputs, outputs, subject="past", stochastic=stochastic)
    adam = optax.adam(model.learning_rate)
    return supervised_task(net, init, whole, adam, model.ema, inputs | outputs, transform)


def to_unit(x: Array) -> Array:
    """Return pixels in [0, 1] of pixels in [-1, 1]."""
    return (x + 1) / 2


def from_unit(x: Array) -> Array:
    """Return pixels in [-1, 1] of pixels in [0, 1]."""
    return 2 * x - 1


def mean_squared(made: Array, true: Array) -> Array:
    """Return the mean of squared errors over everything, f32[]."""
    return jnp.square(to_f32(made) - true).mean()


def extended(step: Callable[[Array], Array], past: Array, frames: int) -> Array:
    """Return `frames` predicted frames: a map of t frames to the t next ones is applied repeatedly.

    past f32[b t h w c] -> f32[b frames h w c].
    """
    made = []
    for _ in range(-(-frames // past.shape[1])):
        past = step(past)
        made.append(past)
    return jnp.concatenate(made, 1)[:, :frames]


def row(model: Any, small: Any, parameters: int, steps: int = 125_000, batch: int = 16) -> Preset:
    """Return a preset: OpenSTL's 200 epochs of 10,000 clips, and a tiny run."""
    data, optim = Data("moving-digits"), Optim(schedule="cosine")
    full = Run(model, data=data, steps=steps, batch=batch, optim=optim, log=Log(100, 1000, 8), save=Save(1000))
    tiny = Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4))
    return Preset(full, tiny, parameters)
