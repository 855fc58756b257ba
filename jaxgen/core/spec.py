"""The shapes of a task's examples."""

import jax

from jaxgen.core.task import Task
from jaxgen.core.types import Spec


def image_of(task: Task) -> tuple[int, int, int]:
    """Return the height, width and channels of the images a task is trained on."""
    return task.example["image"].shape  # pyright: ignore[reportReturnType]


def spec_of(task: Task, batch: int) -> Spec:
    """Return the shapes of a batch."""
    return {name: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for name, x in task.example.items()}
