"""Functions from Task to Task: what the configuration does to every learner, phase and net, whatever the family."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import posthoc_ema
from jaxgen.core.config import Compute, Optim
from jaxgen.core.task import Task
from jaxgen.core.types import Context, LossFn, PyTree, ramped


def tune(task: Task, optim: Optim, compute: Compute, steps: int) -> Task:
    """Return the task with the run's schedule, clipping, EMA decay, precision and rematerialisation."""
    learners = {
        name: dataclasses.replace(learner, optimizer=_optimizer(learner.optimizer, optim, steps))
        for name, learner in task.learners.items()
    }
    ema = task.ema if optim.ema is None else ()
    if optim.ema:
        ema = tuple(dataclasses.replace(e, decay=ramped(optim.ema)) for e in task.ema)
    if optim.ema_widths:
        ema = tuple(
            dataclasses.replace(e, decay=posthoc_ema.decay_of(w), key=posthoc_ema.key_of(e.net, w, i == 0))
            for e in task.ema
            for i, w in enumerate(optim.ema_widths)
        )
    task = dataclasses.replace(task, learners=learners, ema=ema)
    if compute.precision == "bf16":
        task = map_nets(task, _half)
    if compute.remat:
        policy = jax.checkpoint_policies.save_only_these_names("conv", "dense")
        task = map_losses(task, lambda loss: jax.checkpoint(loss, policy=policy))
    return task


def map_losses(task: Task, f: Callable[[LossFn], LossFn]) -> Task:
    """Return the task with f(loss) for every phase's loss."""
    return dataclasses.replace(task, phases=tuple(dataclasses.replace(p, loss=f(p.loss)) for p in task.phases))


def map_nets(task: Task, f: Callable[[PyTree], PyTree]) -> Task:
    """Return the task whose losses and capabilities see f(parameters) of every net: trained, averaged and frozen."""

    def wrap(fn):
        def wrapped(params, context: Context, *rest, **more):
            context = context.replace(ema=f(context.ema), frozen=f(context.frozen))
            return fn(f(params), context, *rest, **more)

        return wrapped

    capabilities = tuple(capability.wrapped(wrap) for capability in task.capabilities)
    return dataclasses.replace(map_losses(task, wrap), capabilities=capabilities)


def _half(tree: PyTree) -> PyTree:
    # The layers compute in their kernel's dtype. Biases and the scales of norms stay f32: vectors, or stacks of them.
    def half(path, x):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return x.astype(jnp.bfloat16) if x.dtype == jnp.float32 and x.ndim > 1 and name not in ("bias", "scale") else x

    return jax.tree_util.tree_map_with_path(half, tree)


def _optimizer(optimizer: optax.GradientTransformation, optim: Optim, steps: int) -> optax.GradientTransformation:
    clip = [optax.clip_by_global_norm(optim.clip)] if optim.clip else []
    if optim.schedule == "constant" and not optim.warmup:
        return optax.chain(*clip, optimizer) if clip else optimizer
    return optax.chain(*clip, optimizer, _scale_by_step(schedule(optim, steps)))


def schedule(optim: Optim, steps: int) -> optax.Schedule:
    """Return step -> the factor on the learning rate: a linear warm-up, then constant, or down to 0 at `steps`."""
    warmup = warmup_of(optim, steps)
    rest = max(steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "half": optax.linear_schedule(1.0, 0.0, rest - rest // 2, transition_begin=rest // 2),
    }[optim.schedule]
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])


def warmup_of(optim: Optim, steps: int) -> int:
    """Return the steps of warm-up: those of the setting, or a tenth of all where the run has fewer than that."""
    return optim.warmup if optim.warmup <= steps else max(steps // 10, 1)


def _scale_by_step(factor: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Scale updates by factor(step) of the step that `core.make_step` passes: a count of its own, as optax keeps,

    would run k times too fast in a phase with repeat=k, and too slow in a lazy one.
    """

    def update(updates, state, params=None, **extra):
        del params
        f = factor(extra["step"])
        return jax.tree.map(lambda u: u * f, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
