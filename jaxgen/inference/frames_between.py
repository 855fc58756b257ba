"""Frames between two frames, by a model that was trained to make them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import averaged
from jaxgen.inference import restoration
from jaxgen.inference.opening import configured, mark_of, open_trained, task_of
from jaxgen.media import marks

Connect = Callable[[Any, Any], list[Any]]  # (first, second f32[h w 3] in [0, 1]) -> the frames between them


def transform_of(task: Task) -> Transform | None:
    """Return a task's Transform of frames before and frames after to what is between; None where it has none."""
    found = task.find(Transform)
    if found is None or len(found.inputs) != 2:
        return None
    specs = [*found.inputs.values(), found.outputs[found.main]]
    return found if all(spec.kind == "video" for spec in specs) else None


def connects_frames(name: str) -> bool:
    """Return whether a run, weights or the name of an interpolation make frames between frames. Raises InputError."""
    run = None if name in restoration.KNOWN else configured(name)
    return run is not None and transform_of(run.model.task(run.steps)) is not None


def open_connector(name: str, size: tuple[int, int]) -> tuple[Connect, marks.Mark | None]:
    """Return the function that makes frames between two of a size, and its mark.

    Raises InputError where the model makes none between two frames, or none of this size.
    """
    found = None if name in restoration.KNOWN else transform_of(task_of(name))
    if found is None:
        raise InputError(f"{name} makes no frames between frames: name a run of rife, or of mcvd.")
    (before, first), (after, last) = found.inputs.items()
    counts = first.shape[0], last.shape[0]
    if counts != (1, 1):
        raise InputError(
            f"{name} connects {counts[0]} frames with {counts[1]}, and between two there is one on each side: train it "
            "with --model.past 1 --model.future 1."
        )
    _check(name, first, size)
    opened = open_trained(name, mesh=Mesh(data=1), with_frozen=False)
    nets, [channels] = averaged(opened.state, opened.frozen), first.sizes(-1)
    pads = [(0, -side % first.multiple) for side in size]

    @jax.jit
    def program(nets: Any, one: jax.Array, other: jax.Array, keys: jax.Array) -> jax.Array:
        given = {
            key: jnp.pad(2 * x - 1, (*pads, (0, 0)), "edge")[None, None] for key, x in ((before, one), (after, other))
        }
        made = found.apply(*nets, given, keys)[found.main][0]  # [t h w c]
        return (made[:, : size[0], : size[1]] + 1) / 2

    number = 0  # of the pair, for the keys of a model that draws

    def connect(one: Any, other: Any) -> list[Any]:
        nonlocal number
        one, other = (_in_channels(np.asarray(x, np.float32), channels, name) for x in (one, other))
        keys = rng.sample_keys(jax.random.key(0), jnp.arange(number, number + 1))
        number += 1
        return [np.repeat(frame, 3 // channels, 2) for frame in np.asarray(program(nets, one, other, keys))]

    return connect, mark_of(marks.EDITED, name, opened, None)


def _check(name: str, spec: ArraySpec, size: tuple[int, int]):
    """Raise InputError where a model has frames of another size than a clip's."""
    if spec.fixed and spec.fixed[1:] != size:
        own, theirs = ("x".join(map(str, sides[::-1])) for sides in (spec.fixed[1:], size))
        raise InputError(f"{name} makes frames of {own}, and the clip's are {theirs}: name a run of rife, of any size.")


def _in_channels(frame: np.ndarray, channels: int, name: str) -> np.ndarray:
    """Return a frame f32[h w 3] in a model's channels. Raises InputError where colours would be lost."""
    if channels == 3:
        return frame
    if np.ptp(frame, 2).max() > 0.02:
        raise InputError(f"{name} makes grey frames, and the clip has colours.")
    return frame.mean(2, keepdims=True)
