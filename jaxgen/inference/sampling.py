"""Samples of a task, and their conditioning."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Latent, Transform
from jaxgen.core.class_names import class_numbers
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.memory import check_fits
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.core.task import Task
from jaxgen.core.types import Frozen, TrainState, averaged
from jaxgen.data import RandomSubset, Source, batches, check_source
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh

After = Callable[[Mapping[str, jax.Array]], object]


def ignored(values: Mapping[str, jax.Array]):
    """Do nothing."""


def make_sampler(task: Task, mesh: Mesh, batch: int) -> Callable[..., np.ndarray]:
    """Return (state, frozen, seed, count, given) -> samples f32[count ...], by the averaged nets.

    A function that is given last is called with {} when the program is ready, and after each batch with what else
    is known of it, such as its "nfe".
    """
    stream = drawer(task, mesh, batch)

    def sample(
        state: TrainState,
        frozen: Frozen,
        seed: int,
        count: int,
        given: Mapping[str, np.ndarray],
        after: After = ignored,
    ) -> np.ndarray:
        return np.concatenate([np.asarray(some) for some in stream(state, frozen, seed, count, given, after)])[:count]

    return sample


def draws_samples(task: Task) -> bool:
    """Return whether a task draws samples: from noise, its example's arrays, or both."""
    transform = task.find(Transform)
    return transform is not None and set(transform.required) <= set(task.example)


def generator_of(task: Task) -> Transform:
    """Return the Transform that draws a task's samples. Raises InputError where it has none."""
    if not draws_samples(task):
        codec, transform = task.find(Codec), task.find(Transform)
        if transform is not None and transform.subject:  # "degraded", "source" or "content"
            raise InputError(f"This model needs {', '.join(transform.required)}: it changes images, and draws none.")
        instead = ": write --sampler mixture or two-stage" if codec is not None and codec.decode is not None else ""
        raise InputError(f"This model has no prior to draw samples from{instead}.")
    return task.get(Transform)


def sample_spec(task: Task) -> ArraySpec:
    """Return the spec of a task's samples; of a model that draws none, of its first array."""
    if draws_samples(task):
        transform = task.get(Transform)
        return task.example.get(transform.main, transform.outputs[transform.main])
    return next(iter(task.example.values()))


def pixels_of(task: Task) -> tuple[str, ArraySpec]:
    """Return which array of an example samples are compared with, and its spec.

    Raises InputError where they are no images or clips, or the examples have none of them.
    """
    name = generator_of(task).main
    spec = task.example.get(name)
    if spec is None or spec.kind not in ("image", "video"):
        kind = sample_spec(task).kind
        raise InputError(f"The samples are no images or clips like those of the data, but {kind}: no score fits.")
    return name, spec


def check_samples(task: Task, count: int, what: str):
    """Raise InputError for a number of samples that the memory can't hold; what: the option that asks for them."""
    check_fits(4 * count * math.prod(side for side in sample_spec(task).shape if isinstance(side, int)), what)


def conditions_of(task: Task) -> tuple[str, ...]:
    """Return the names of an example's arrays that samples are conditioned on; () where none are drawn."""
    return task.get(Transform).required if draws_samples(task) else ()


def drawer(task: Task, mesh: Mesh, batch: int, average: bool = True) -> Callable[..., Iterator[jax.Array]]:
    """Return (state, frozen, seed, count, given) -> iterator of samples f32[batch ...], by the averaged or last nets.

    Sample i depends on the seed, i and its row of `given` only: they are drawn `batch` at a time, always as many, so
    that not even the last bit depends on the count; the last batch may hold some beyond it.
    """
    transform = generator_of(task)
    batch += -batch % mesh.size
    rows, whole = sharding.batched(mesh), sharding.replicated(mesh)

    def draw(state: TrainState, frozen: Frozen, seed, indices, given):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        if not average:
            state = state.replace(ema={})
        return transform.apply(*averaged(state, frozen), given, keys)

    jitted, program = jax.jit(draw, out_shardings=whole), None

    def stream(
        state: TrainState,
        frozen: Frozen,
        seed: int,
        count: int,
        given: Mapping[str, np.ndarray],
        after: After = ignored,
    ):
        nonlocal program
        for first in range(0, count, batch):
            indices = np.arange(first, first + batch, dtype=np.int32)
            # Rows past the last are drawn again and thrown away.
            some = {k: sharding.put_whole(rows, v[np.minimum(indices, len(v) - 1)]) for k, v in given.items()}
            arguments = (state, frozen, np.uint32(seed), sharding.put_whole(rows, indices), some)
            program = program or jitted.lower(*arguments).compile()
            if first == 0:
                after({})
            made = dict(program(*arguments))
            yield made.pop(transform.main)
            after(made)

    return stream


def conditioning_of(task: Task, run: Run, source: Source, count: int) -> dict[str, np.ndarray]:
    """Return what `generate` needs for `count` samples, from examples of a source."""
    if not (names := conditions_of(task)):
        return {}
    check_source(source, run.data, example := conditions_example(task))
    some = RandomSubset(source, count)
    examples = batches(some, run.data, example, batch=len(some), seed=0, train=False)
    first = next(examples)
    examples.close()
    return {name: np.resize(first[name], (count, *first[name].shape[1:])) for name in names}


def conditions_example(task: Task) -> Example:
    """Return the example from which what samples are conditioned on is read: of motions no more than that.

    So they may come from takes that are shorter than what is made of them.
    """
    needed = {name: task.example[name] for name in conditions_of(task)}
    return needed if needed and all(spec.kind == "pose" for spec in needed.values()) else task.example


def in_turn(labels: Sequence[int], count: int) -> tuple[dict[str, np.ndarray], int]:
    """Return {"label": i32[count]}, the labels in turn, and the rows of a grid that has one for each of them.

    The label of sample i does not depend on the count. The rows are 0, for a square, where the labels don't all fit.
    """
    rows = len(labels) if 1 < len(labels) <= count else 0
    return {"label": np.resize(np.asarray(labels, np.int32), count)}, rows


def classes_of(task: Task, labels: str | None) -> tuple[int, ...]:
    """Return the classes that a user names, by name or number: all where that is None; () for an unconditional model.

    Raises InputError for a class that there is not, and where an unconditional model is given any.
    """
    if "label" not in conditions_of(task):
        if labels is not None:
            raise InputError("This model is unconditional: it takes no labels.")
        return ()
    names = task.example["label"].names if "label" in task.example else ()
    return tuple(range(task.classes)) if labels is None else class_numbers(labels, names, "labels", task.classes)


def class_named(task: Task, label: str) -> int:
    """Return the one class that a user names. Raises InputError like `classes_of`, and for several."""
    if len(found := classes_of(task, label)) != 1:
        raise InputError(f"--label must be one class, not {label!r}.")
    return found[0]


def check_truncation(task: Task, psi: float):
    """Raise InputError where psi is not in [0, 1], or has no meaning for the model."""
    if not 0 <= psi <= 1:
        raise InputError(f"truncation must be from 0 to 1, not {psi}.")
    if psi < 1 and task.find(Latent) is None:
        raise InputError("This model has no latent vector: truncation has no meaning for it.")
