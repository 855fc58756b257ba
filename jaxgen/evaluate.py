"""What a state can do: samples of a task with `generate`, and measures on held-out data."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import rng, shard
from jaxgen.config import Run
from jaxgen.core import PyTree, Spec, Task, TrainState, averaged
from jaxgen.data import Some, Source, batches, open_source
from jaxgen.errors import InputError, choose
from jaxgen.metrics.accuracy import ACCURACY
from jaxgen.metrics.metric import Metric, State
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


class Evaluation:
    """The measures of a task on one split of a run's data, under names `eval/<split>/<metric>`."""

    def __init__(self, run: Run, task: Task, mesh: Mesh):
        self.run, self.task = run, task
        self.measures = {name: MEASURES[choose(name, MEASURES, "metric")](task) for name in run.eval.metrics}
        self.updates = {name: jax.jit(measure.update, donate_argnums=0) for name, measure in self.measures.items()}
        self.put = shard.put_batch(mesh)
        self.whole = shard.replicated(mesh)
        self.source = open_source(run.data.at(run.eval.split), image_of(task))
        check_data(task, self.source)
        self.results: dict[str, State] = {}
        if len(self.source) < run.batch and run.eval.batches:
            raise InputError(f"eval.split={run.eval.split} has {len(self.source)} examples, less than one batch.")

    def batches(self) -> Iterator[tuple[Mapping[str, jax.Array], jax.Array]]:
        """Yield each batch and which of its rows count: bool[b]; a ragged last one is filled up with rows of itself."""
        rank, processes = jax.process_index(), jax.process_count()
        batch, data, image = self.run.batch, self.run.data, image_of(self.task)
        stream = batches(self.source, data, image, batch=batch, seed=0, process=(rank, processes), train=False)
        local = batch // processes
        # All processes take equally many: those that suffice for the whole split, unless fewer are asked for.
        for some in islice(stream, self.run.eval.batches or None):
            rows = len(some["image"])
            fill = np.arange(local) % rows if rows else np.zeros(local, int)
            full = {k: some[k][fill] if rows else np.zeros((local, *some[k].shape[1:]), some[k].dtype) for k in some}
            both = self.put({**{name: full[name] for name in self.task.example}, "valid": np.arange(local) < rows})
            yield both, both.pop("valid")
        stream.close()

    def __call__(self, state: TrainState, frozen: Frozen) -> dict[str, float]:
        self.results = {name: jax.device_put(measure.empty(), self.whole) for name, measure in self.measures.items()}
        for number, (batch, valid) in enumerate(self.batches()):
            for name, update in self.updates.items():
                self.results[name] = update(self.results[name], state, frozen, batch, np.int32(number), valid)
        found: dict[str, float] = {}
        for name, measure in self.measures.items():
            found |= measure.result(jax.device_get(self.results[name]))
        return {f"eval/{self.run.eval.split}/{name}": value for name, value in found.items()}

    @property
    def confusion(self) -> np.ndarray | None:
        """The last call's counts [true guessed] where accuracy was measured."""
        return np.asarray(self.results["accuracy"]["confusion"]) if "accuracy" in self.results else None


def losses(task: Task) -> Metric:
    """Return the measure of every phase's loss, a mean over whole batches, nothing updated: `<phase>_loss`.

    With the last weights, as in training; a ragged last batch is left out.
    """
    names = [f"{phase.name}_loss" for phase in task.phases]

    def empty() -> State:
        return {"count": jnp.zeros(()), **{name: jnp.zeros(()) for name in names}}

    def update(total: State, state: TrainState, frozen: Frozen, batch, number, valid) -> State:
        _, context = averaged(state, frozen)
        context = context.replace(extra=state.extra)
        key = jax.random.fold_in(rng.fold(state.key, "eval"), number)
        play = lambda phase: phase.loss(state.params, context, batch, rng.fold(key, phase.stream or phase.name))  # noqa: E731
        found = {name: jnp.float32(play(phase)[0]) for name, phase in zip(names, task.phases, strict=True)}
        found = {"count": jnp.ones(()), **found}
        return {name: total[name] + jnp.where(valid.all(), value, 0) for name, value in found.items()}

    def result(total: State) -> dict[str, float]:
        return {name: float(total[name]) / float(total["count"] or np.nan) for name in names}

    return Metric(empty, update, lambda a, b: jax.tree.map(jnp.add, a, b), result)


def accuracy(task: Task) -> Metric:
    """Return the measure of a classifier's top1 and top5, by the averaged weights, over every example."""
    if (classify := task.classify) is None:
        raise InputError("This model has no `classify`: it has no accuracy.")

    def update(total: State, state: TrainState, frozen: Frozen, batch, number, valid) -> State:
        logits = classify(*averaged(state, frozen), batch["image"])["logits"]
        return ACCURACY.update(total, logits, batch["label"], valid)

    return Metric(lambda: ACCURACY.empty(task.classes), update, ACCURACY.merge, ACCURACY.result)


MEASURES = {"loss": losses, "accuracy": accuracy}
