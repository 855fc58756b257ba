"""The types of the contract: batches, learners, phases, moving averages and the training state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.core import FrozenDict

Array = jax.Array
Key = jax.Array  # typed PRNG key
PyTree = Any
Batch = Mapping[str, Any]  # arrays: {"image": f32[b h w c] in [-1, 1], "label": i32[b], ...}
Spec = Mapping[str, Any]  # a batch, or anything with the shapes and dtypes of one
Params = Mapping[str, PyTree]  # keyed by net
Frozen = Mapping[str, PyTree]  # variables of nets that are never trained, keyed by net
Image = tuple[int, int, int]  # height, width, channels
Metrics = Mapping[str, Array]  # "phase/name" -> f32[]


@dataclass(frozen=True)
class Learner:
    """An optimizer and its nets. All phases of a learner share its moments."""

    nets: tuple[str, ...]
    optimizer: optax.GradientTransformation


class Context(struct.PyTreeNode):
    """The read-only arguments of losses and capabilities, which are not differentiated.

    extra:    the other variables of the state: Flax collections by net, and entries of a loss by name
    ema:      {net: Flax variables of its moving average}
    frozen:   {net: variables of a net that is never trained}
    step:     i32[], the number of steps taken
    learners: the learners of the task, and `moments`, {learner: its optimizer's state}, for losses that unroll another
              learner's updates; both are empty outside of a step
    train:    whether losses play nets as in training, with the statistics of the batch and dropout; held-out losses
              play the nets as they are used
    """

    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    frozen: Mapping[str, PyTree]
    step: Array
    moments: Mapping[str, PyTree] = struct.field(default_factory=dict)
    learners: Mapping[str, Learner] = struct.field(pytree_node=False, default=FrozenDict())
    train: bool = struct.field(pytree_node=False, default=True)


class Aux(struct.PyTreeNode):
    """The other results of a loss: metrics, name -> f32[], and new values of entries of `extra`."""

    metrics: Mapping[str, Array] = field(default_factory=dict)
    extra: Mapping[str, PyTree] = field(default_factory=dict)


LossFn = Callable[[Params, Context, Batch, Key], tuple[Array, Aux]]


@dataclass(frozen=True)
class Phase:
    """One loss and update, done `repeat` times on fresh examples in each `every`-th step.

    Phases with the same `stream` get the same key in a step; by default the stream is the phase's name.
    """

    name: str
    learner: str
    loss: LossFn
    repeat: int = 1
    every: int = 1
    stream: str = ""


@dataclass(frozen=True)
class Ema:
    """The moving average of a net's variables: average <- d average + (1 - d) net, with d = decay(step).

    key: its name in the state; unset: the net's own name, and then samples use this average
    """

    net: str
    decay: Callable[[Any], Any]
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.net


def ramped(decay: float) -> Callable[[Any], Array]:
    """Return an EMA decay that rises to `decay`, so that the average of a short run forgets the first steps."""
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


class TrainState(struct.PyTreeNode):
    """The state of training, arrays only. `key` is the root key and never advances."""

    step: Array
    key: Key
    params: Params
    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    optimizer_state: Mapping[str, PyTree]  # by learner


StepFn = Callable[[TrainState, Batch, Mapping[str, PyTree]], tuple[TrainState, Metrics]]


def variables(net: str, params: Params, extra: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Return a net's Flax variables: its parameters, and its collections in `extra`."""
    return {"params": params[net], **extra.get(net, {})}


def averaged(state: TrainState, frozen: Mapping[str, PyTree]) -> tuple[Params, Context]:
    """Return the first arguments of every capability: the averaged nets, or the last ones where there is no average."""
    own = {net: ema for net, ema in state.ema.items() if net in state.params}
    params = {**state.params, **{net: ema["params"] for net, ema in own.items()}}
    rest = {net: {k: v for k, v in ema.items() if k != "params"} for net, ema in own.items()}
    extra = {**state.extra, **{net: collections for net, collections in rest.items() if collections}}
    return params, Context(extra, state.ema, frozen, state.step)


def _check(ok: bool, sentence: str):
    if not ok:
        raise ValueError(sentence)
