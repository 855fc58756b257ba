"""Views of a learned scene from any camera."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import averaged
from jaxgen.data import open_source
from jaxgen.rendering.posed_rays import orbit
from jaxgen.runs.load import Trained, build_task


def renderer_of(task: Task, name: str) -> Transform:
    """Return the Transform that renders a camera's view. Raises InputError where a model has none."""
    transform = task.find(Transform)
    if transform is None or not transform.subject or transform.source.kind != "camera":
        raise InputError(f"{name} renders no views: its model takes no camera. Name a run of train.rendering.")
    return transform


def of_size(run: Run, size: tuple[int, int] | None) -> Run:
    """Return a run whose views have another width and height."""
    if size is None:
        return run
    return dataclasses.replace(run, model=dataclasses.replace(run.model, image=(size[1], size[0], 3)))


def orbit_of(run: Run, task: Task, count: int) -> np.ndarray:
    """Return `count` cameras f32[count 5 4] on a circle like those of a run's data, which must be there."""
    source = open_source(run.data, task.example)
    cameras = getattr(source, "cameras", None)
    if cameras is None:
        cameras = np.stack([source[i]["camera"] for i in range(len(source))])
    return orbit(np.asarray(cameras), count)


def views(opened: Trained, run: Run, cameras: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the view f32[h w 3] in [-1, 1] of each camera, and the distances f32[h w 1] of what it shows.

    run: the opened one, or the same with another size of its images
    """
    transform = build_task(run, opened.mesh).get(Transform)
    nets = averaged(opened.state, opened.frozen)
    keys = jax.random.split(jax.random.key(0), 1)
    draw = jax.jit(lambda nets, camera: transform.apply(*nets, {transform.subject: camera}, keys))
    for camera in cameras:
        made = draw(nets, camera[None])
        yield np.asarray(made[transform.main][0]), np.asarray(made["distance"][0])
