"""Supervised learning: one net, one loss of its outputs, and an optional transform of inputs to outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import optax
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.spec import Example
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables


def supervised_task(
    net: nn.Module,
    init: tuple,
    loss: Callable[[Any, Batch, Context, Key], tuple[Array, Mapping[str, Array], Any]],
    optimizer: optax.GradientTransformation,
    ema: float,
    example: Example,
    transform: Transform,
    name: str = "predictor",
) -> Task:
    """Return the task of a net that learns from examples of its inputs and outputs.

    init: the net's arguments for its initialisation
    loss: (variables, batch, context, key) -> loss f32[], metrics, new running statistics
    name: of the net and of the phase
    """

    def start(key: Key, _: Any):
        found = net.init(key, *init)
        stats = {kind: x for kind, x in found.items() if kind != "params"}
        return {name: found["params"]}, {name: stats} if stats else {}

    def phase(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        value, metrics, stats = loss(variables(name, params, context.extra), batch, context, key)
        return value, Aux(metrics, {name: stats} if stats else {})

    return Task(
        init=start,
        example=example,
        learners={name: Learner((name,), optimizer)},
        phases=(Phase(name, name, phase),),
        ema=(Ema(name, ramped(ema)),),
        capabilities=(transform,),
    )
