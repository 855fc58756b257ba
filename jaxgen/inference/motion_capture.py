"""The motion that a clip shows, by a model that captures it."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.data.known_skeletons import BODY
from jaxgen.data.skeleton import Motion
from jaxgen.nn import rotations


def capturer_of(task: Task, name: str) -> Transform:
    """Return a task's transform of a clip to a motion. Raises InputError for a model without one."""
    found = task.find(Transform)
    if found is None or not {"pose", "turns", "root"} <= set(found.outputs) or found.source.kind != "video":
        raise InputError(f"{name} captures no motion: name a run of train.motion with a preset such as capture-lstm.")
    return found


def windows(frames: int, size: int) -> list[int]:
    """Return the first frames of windows of `size` frames that overlap by half and reach the last frame."""
    last = max(frames - size, 0)
    return sorted({*range(0, last + 1, max(size // 2, 1)), last})


def captured_motion(
    transform: Transform, nets: tuple[Any, Any], clip: np.ndarray, rate: float, show: Callable[[int], Any] = print
) -> Motion:
    """Return the motion of `BODY` in a clip u8[t h w c] of the model's size, `rate` frames in a second.

    Windows overlap by half; in each frame their rotations and places are weighted by how far it is from their ends. A
    clip that is shorter than a window is continued by its last frame. The lowest foot is on the ground, y = 0, and the
    body begins above 0; the camera looks along -z.

    show: called with the number of windows that are done
    """
    size = int(transform.source.shape[0])
    count = len(clip)
    clip = np.concatenate([clip, clip[-1:].repeat(max(size - count, 0), 0)])
    step = jax.jit(lambda nets, x: transform.apply(*nets, {transform.subject: x}, None))
    weight = np.minimum(np.arange(size) + 1, size - np.arange(size)).astype(np.float64)
    turned, root, total = np.zeros((len(clip), len(BODY), 3, 3)), np.zeros((len(clip), 3)), np.zeros(len(clip))
    starts = windows(len(clip), size)
    for number, made in enumerate(_each(step, nets, clip, starts, size)):
        part = slice(starts[number], starts[number] + size)
        own = np.asarray(rotations.six_to_matrix(made["turns"]))  # [t k 3 3]
        turned[part, : own.shape[1]] += weight[:, None, None, None] * own
        root[part] += weight[:, None] * made["root"][:, 0]
        total[part] += weight
        show(number + 1)
    turned, root = turned[:count], (root / total[:, None])[:count]
    turned[:, own.shape[1] :] = np.eye(3)  # the ends of limbs do not turn
    u, _, v = np.linalg.svd(turned)  # the nearest rotation to a mean of rotations
    sign = np.ones((*turned.shape[:2], 3))
    sign[..., 2] = np.linalg.det(u @ v)
    motion = Motion(BODY, (u * sign[..., None, :]) @ v, root - BODY.offsets[0], rate)
    lowest = motion.places()[..., 1].min()
    moved = motion.root - np.asarray([root[0, 0], lowest, root[0, 2]])
    return Motion(BODY, motion.rotations, moved, rate)


def _each(step: Callable, nets: Any, clip: np.ndarray, starts: list[int], size: int) -> Iterator[dict[str, np.ndarray]]:
    for start in starts:
        given = clip[None, start : start + size] / np.float32(127.5) - 1
        yield {name: np.asarray(x[0], np.float64) for name, x in step(nets, given).items()}
