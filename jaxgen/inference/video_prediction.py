"""The next frames of a clip, by a model that predicts video."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import Context, Params

KINDS = ({"video"}, {"pose"})  # of past and future


def predictor_of(task: Task, name: str) -> Transform:
    """Return a task's transform of frames or poses to the next ones. Raises InputError for a model without one."""
    found = task.find(Transform)
    # A clip that is to be restored is no example; frames on both sides of what is missing are no past.
    given = found is not None and found.subject in task.example and not found.conditions
    if found is None or not given or {found.source.kind, found.outputs[found.main].kind} not in KINDS:
        raise InputError(f"{name} predicts no video and no motion: name a run of train.video or train.motion.")
    return found


def next_frames(transform: Transform) -> Callable:
    """Return a jitted function (nets, past f32[1 t h w c], keys [1]) -> future f32[t' h w c]."""
    step = lambda nets, past, keys: transform.apply(*nets, {transform.subject: past}, keys)[transform.main][0]  # noqa: E731
    return jax.jit(step)


def continued(
    step: Callable, nets: tuple[Params, Context], past: np.ndarray, frames: int, key: jax.Array
) -> Iterator[np.ndarray]:
    """Yield the `frames` next frames f32[h w c] after the given ones, past f32[t h w c] in [-1, 1].

    step: of `next_frames`, which predicts a fixed number of frames at once. More are predicted from the last frames of
          what is there then, so that memory does not grow with their number.
    """
    count, made = len(past), 0
    while made < frames:
        keys = jax.random.fold_in(key, made)[None]
        future = np.asarray(step(nets, jnp.asarray(past)[None], keys))
        yield from future[: frames - made]
        made += len(future)
        past = np.concatenate([past, future])[-count:]
