"""The words of the contract: arrays by name, learners, phases, averages, and the state that training changes."""

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
Image = tuple[int, int, int]  # height, width, channels
Metrics = Mapping[str, Array]  # "phase/name" -> f32[]


@dataclass(frozen=True)
class Learner:
    """Who moves which nets: one optimizer, its moments shared by all the learner's phases."""

    nets: tuple[str, ...]
    optimizer: optax.GradientTransformation


class Context(struct.PyTreeNode):
    """What a loss or a generator may read and never differentiates.

    extra:    whatever else the state carries, keyed by net (its Flax collections) or by a name of its own
    ema:      {net: Flax variables of its moving average}
    frozen:   {net: variables of a net that is never trained}
    step:     i32[], the number of steps taken
    learners: who moves which nets, and `moments`, {learner: its optimizer's state}: a loss may play its opponent's
              next updates (in a step only; elsewhere both are empty)
    """

    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    frozen: Mapping[str, PyTree]
    step: Array
    moments: Mapping[str, PyTree] = struct.field(default_factory=dict)
    learners: Mapping[str, Learner] = struct.field(pytree_node=False, default=FrozenDict())


class Aux(struct.PyTreeNode):
    """What a loss hands back beside its value: metrics (name -> f32[]) and new values of entries of `extra`."""

    metrics: Mapping[str, Array] = field(default_factory=dict)
    extra: Mapping[str, PyTree] = field(default_factory=dict)


LossFn = Callable[[Params, Context, Batch, Key], tuple[Array, Aux]]


@dataclass(frozen=True)
class Phase:
    """One loss, played `repeat` times on fresh examples in every `every`-th step.

    Phases that name the same `stream` get the same key in a step; alone, a phase's stream is its name.
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

    key: its name in the state; unset: the net's, and then it is the one that samples are drawn by
    """

    net: str
    decay: Callable[[Any], Any]
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.net


def ramped(decay: float) -> Callable[[Any], Array]:
    """Return an EMA decay that rises to `decay`, so that a short run's average forgets its first steps."""
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


class TrainState(struct.PyTreeNode):
    """All that training changes; arrays only. `key` is the root key and never advances."""

    step: Array
    key: Key
    params: Params
    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    optimizer_state: Mapping[str, PyTree]  # by learner


StepFn = Callable[[TrainState, Batch, Mapping[str, PyTree]], tuple[TrainState, Metrics]]


def variables(net: str, params: Params, extra: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """A net's Flax variables: its parameters, and its collections in `extra`."""
    return {"params": params[net], **extra.get(net, {})}


def averaged(state: TrainState, frozen: Mapping[str, PyTree]) -> tuple[Params, Context]:
    """What `generate` and its like are called with: the averaged nets where there are any, the last ones elsewhere."""
    own = {net: ema for net, ema in state.ema.items() if net in state.params}
    params = {**state.params, **{net: ema["params"] for net, ema in own.items()}}
    rest = {net: {k: v for k, v in ema.items() if k != "params"} for net, ema in own.items()}
    extra = {**state.extra, **{net: collections for net, collections in rest.items() if collections}}
    return params, Context(extra, state.ema, frozen, state.step)


def _check(ok: bool, sentence: str):
    if not ok:
        raise ValueError(sentence)


Frozen = Mapping[str, PyTree]
