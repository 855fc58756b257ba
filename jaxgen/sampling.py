"""Samples of a task with `generate`, and what its examples look like."""

from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from jaxgen import rng, shard
from jaxgen.config import Run
from jaxgen.core import PyTree, Spec, Task, TrainState, averaged
from jaxgen.data import Some, Source, batches
from jaxgen.errors import InputError
from jaxgen.shard import Mesh

Frozen = Mapping[str, PyTree]


def sampler(task: Task, mesh: Mesh, batch: int) -> Callable[..., np.ndarray]:
    """Return (state, frozen, seed, count, given) -> images f32[count h w c], by the averaged nets."""
    stream = drawer(task, mesh, batch)

    def sample(state: TrainState, frozen: Frozen, seed: int, count: int, given: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([np.asarray(some) for some in stream(state, frozen, seed, count, given)])[:count]

    return sample


def drawer(task: Task, mesh: Mesh, batch: int, average: bool = True) -> Callable[..., Iterator[jax.Array]]:
    """Return (state, frozen, seed, count, given) -> iterator of images f32[batch h w c], by the averaged or last nets.

    Sample i depends on the seed, i and its row of `given` only: they are drawn `batch` at a time, always as many, so
    that not even the last bit depends on the count; the last batch may hold some beyond it.
    """
    if (generate := task.generate) is None:
        raise InputError("This model has no `generate`: it can't draw samples.")
    batch += -batch % mesh.size
    rows, whole = shard.batched(mesh), shard.replicated(mesh)

    def draw(state: TrainState, frozen: Frozen, seed, indices, given):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        if not average:
            state = state.replace(ema={})
        return generate(*averaged(state, frozen), keys, given)["image"]

    jitted = jax.jit(draw, out_shardings=whole)

    def stream(state: TrainState, frozen: Frozen, seed: int, count: int, given: Mapping[str, np.ndarray]):
        for first in range(0, count, batch):
            indices = np.arange(first, first + batch, dtype=np.int32)
            # Rows past the last are drawn again and thrown away.
            some = {k: shard.put_whole(rows, v[np.minimum(indices, len(v) - 1)]) for k, v in given.items()}
            yield jitted(state, frozen, np.uint32(seed), shard.put_whole(rows, indices), some)

    return stream


def given(task: Task, run: Run, source: Source, count: int) -> dict[str, np.ndarray]:
    """Return what `generate` needs for `count` samples, from examples of a source."""
    if not task.given:
        return {}
    some = Some(source, count)
    examples = batches(some, run.data, image_of(task), batch=len(some), seed=0, train=False)
    first = next(examples)
    examples.close()
    return {name: np.resize(first[name], (count, *first[name].shape[1:])) for name in task.given}


def image_of(task: Task) -> tuple[int, int, int]:
    """Return the height, width and channels of the pictures a task is trained on."""
    return task.example["image"].shape  # pyright: ignore[reportReturnType]


def spec_of(task: Task, batch: int) -> Spec:
    """Return the shapes of a batch."""
    return {name: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for name, x in task.example.items()}


def check_data(task: Task, source: Source):
    """Raise InputError where a source's examples are not what the task takes."""
    for name in task.example:
        if name not in source[0]:
            raise InputError(f"The model needs {name!r} in every example, but the data has only {sorted(source[0])}.")
    if task.classes and len(source.classes) > task.classes:
        count = len(source.classes)
        raise InputError(f"The data has {count} classes, the model {task.classes}: write --model.classes {count}.")
