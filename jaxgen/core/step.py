"""The initial state and the train step, which runs the phases of a task in order."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict
from jax.core import Tracer

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import (
    Array,
    Batch,
    Context,
    Key,
    Metrics,
    Phase,
    PyTree,
    Spec,
    StepFn,
    TrainState,
    _check,
    variables,
)


def init_state(task: Task, key: Key, spec: Spec) -> TrainState:
    """Return the state at step 0.

    spec: a batch or its shapes, {"image": [b h w c], ...}
    Raises InputError where spec is not what the task takes.
    """
    for name, one in task.example.items():
        if name not in spec:
            raise InputError(f"The model needs {name!r} in every batch, but the data has only {sorted(spec)}.")
        if tuple(spec[name].shape[1:]) != one.shape:
            raise InputError(f"The model takes {name!r} of shape {one.shape}, the batch has {spec[name].shape[1:]}.")
    make, keys = partial(_made, task, spec), (rng.fold(key, "init"), rng.fold(key, "train"))
    # Inside another jitted function the keys are tracers, and this is compiled with that function.
    return make(*keys) if isinstance(keys[0], Tracer) else jax.jit(make, compiler_options=once())(*keys)


def once() -> dict[str, int]:
    """Return compiler options for a program that runs once: on a CPU the optimisation takes longer than the run."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def _made(task: Task, spec: Spec, key: Key, later: Key) -> TrainState:
    params, extra = task.init(key, spec)
    nets = {net for learner in task.learners.values() for net in learner.nets}
    _check(set(params) == nets, f"`init` made nets {sorted(params)}, but the learners own {sorted(nets)}.")
    # A copy, not an alias: the step donates the state, and one buffer can't be donated twice.
    ema = {e.name: jax.tree.map(jnp.copy, variables(e.net, params, extra)) for e in task.ema}
    moments = {n: lr.optimizer.init({net: params[net] for net in lr.nets}) for n, lr in task.learners.items()}
    return TrainState(jnp.zeros((), jnp.int32), later, params, extra, ema, moments)


def make_step(task: Task, accumulate: int = 1) -> StepFn:
    """Return the pure function (state, batch, frozen) -> (state, metrics) that plays every phase once in order.

    The batch holds `task.slices` plays' worth of examples: a phase with `repeat=k` plays on the first k slices.
    accumulate: how many equal parts of a play's examples are differentiated one after the other, their gradients
    averaged; a loss that is a mean over examples is unchanged, statistics over the batch are those of a part.
    Metrics are means over plays and parts, NaN where a phase skipped this step; `phase/finite` is 1 or 0.
    The function takes gates as a fourth argument, {phase: bool[]}: what a phase changes is discarded where its gate is
    False. One compiled program then serves the whole step and each phase alone.
    """

    learners = FrozenDict(task.learners)

    def differentiate(phase: Phase, own, state: TrainState, extra, batch, key, frozen):
        context = Context(extra, state.ema, frozen, state.step, state.optimizer_state, learners)

        def loss(own):
            return phase.loss({**state.params, **own}, context, batch, key)

        (value, aux), gradients = jax.value_and_grad(loss, has_aux=True)(own)
        unknown = set(aux.extra) - set(extra)
        _check(not unknown, f"Phase {phase.name!r} hands back {sorted(unknown)}, which `init` put in no extra.")
        return gradients, {"loss": value, **aux.metrics}, {**extra, **aux.extra}

    def play(phase: Phase, state: TrainState, batch, key, frozen) -> tuple[TrainState, Metrics]:
        learner = task.learners[phase.learner]
        own: Any = {net: state.params[net] for net in learner.nets}
        if accumulate == 1:
            gradients, metrics, extra = differentiate(phase, own, state, state.extra, batch, key, frozen)
        else:

            def part(extra, x):
                gradients, metrics, extra = differentiate(phase, own, state, extra, x[0], x[1], frozen)
                return extra, (gradients, metrics)

            parts = split(batch, accumulate), jax.random.split(key, accumulate)
            extra, (gradients, metrics) = _mean_scan(part, state.extra, parts, accumulate)
        optimizer = optax.with_extra_args_support(learner.optimizer)
        updates, moments = optimizer.update(gradients, state.optimizer_state[phase.learner], own, step=state.step)
        own = optax.apply_updates(own, updates)
        finite = jnp.isfinite(metrics["loss"]) & _all_finite(own)
        metrics = {**metrics, "grad_norm": optax.tree.norm(gradients), "finite": finite.astype(jnp.float32)}
        state = state.replace(
            params={**state.params, **own},
            extra=extra,
            optimizer_state={**state.optimizer_state, phase.learner: moments},
        )
        return state, metrics

    def plays(phase: Phase, state: TrainState, slices, key, frozen) -> tuple[TrainState, Metrics]:
        if phase.repeat == 1:
            return play(phase, state, jax.tree.map(lambda x: x[0], slices), key, frozen)

        def body(state, x):
            return play(phase, state, x[0], x[1], frozen)

        first = jax.tree.map(lambda x: x[: phase.repeat], slices)
        state, metrics = jax.lax.scan(body, state, (first, jax.random.split(key, phase.repeat)))
        return state, {k: v.min() if k == "finite" else v.mean() for k, v in metrics.items()}

    def step(
        state: TrainState, batch: Batch, frozen: Mapping[str, PyTree], gates: Mapping[str, Array] | None = None
    ) -> tuple[TrainState, Metrics]:
        key, metrics = jax.random.fold_in(state.key, state.step), {}
        slices = split(batch, task.slices)
        for phase in task.phases:
            before, args = state, (state, slices, rng.fold(key, phase.stream or phase.name), frozen)
            if phase.every == 1:
                state, new = plays(phase, *args)
            else:
                shapes = jax.eval_shape(lambda *args, phase=phase: plays(phase, *args)[1], *args)
                skipped = {k: jnp.full(s.shape, 1.0 if k == "finite" else jnp.nan, s.dtype) for k, s in shapes.items()}
                state, new = jax.lax.cond(
                    state.step % phase.every == 0,
                    lambda *args, phase=phase: plays(phase, *args),
                    lambda state, *_, skipped=skipped: (state, skipped),
                    *args,
                )
            metrics.update({f"{phase.name}/{name}": value for name, value in new.items()})
            if gates is not None:
                state = _select(gates[phase.name], state, before)
        ema = dict(state.ema)
        for e in task.ema:
            d = e.decay(state.step)
            ema[e.name] = jax.tree.map(
                lambda a, x, d=d: d * a + (1 - d) * x if jnp.issubdtype(x.dtype, jnp.inexact) else x,
                ema[e.name],
                variables(e.net, state.params, state.extra),
            )
        return state.replace(step=state.step + 1, ema=ema), metrics

    return step


def split(batch: PyTree, parts: int) -> PyTree:
    """Cut every array [b ...] into [parts b/parts ...], each part taken across the whole batch.

    Strided, not contiguous: a batch that is sharded over devices is cut without moving an example.
    """
    for name, x in batch.items() if isinstance(batch, Mapping) else ():
        if x.shape[0] % parts:
            raise InputError(f"{x.shape[0]} examples of {name!r} can't be cut into {parts} parts: give a multiple.")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape((x.shape[0] // parts, parts, *x.shape[1:])), 1, 0), batch)


def _mean_scan(part, extra, xs, count: int):
    """Scan `part` over xs, threading extra, and return the means of what it yields without stacking it."""
    shapes = jax.eval_shape(lambda extra, xs: part(extra, jax.tree.map(lambda x: x[0], xs))[1], extra, xs)

    def body(carry, x):
        extra, total = carry
        extra, new = part(extra, x)
        return (extra, jax.tree.map(jnp.add, total, new)), None

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (extra, total), _ = jax.lax.scan(body, (extra, zeros), xs)
    return extra, jax.tree.map(lambda x: x / count, total)


def _select(gate: Array, new: TrainState, old: TrainState) -> TrainState:
    """Return the new state where the gate is True, else the old one; what both share needs no choice."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(gate, a, b), new, old)


def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
