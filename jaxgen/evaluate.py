"""What a state can do: samples of a task with `generate`, and measures on held-out data."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import rng, shard
from jaxgen.config import Run
from jaxgen.core import PyTree, Spec, Task, TrainState, averaged
from jaxgen.data import Source, batches, open_source
from jaxgen.errors import InputError, choose
from jaxgen.shard import Mesh

Frozen = Mapping[str, PyTree]


def sampler(task: Task, mesh: Mesh, batch: int) -> Callable[..., np.ndarray]:
    """Return (state, frozen, seed, count, given) -> images f32[count h w c], by the averaged nets.

    Sample i depends on the seed, i and its row of `given` only: they are drawn `batch` at a time, always as many, so
    that not even the last bit depends on the count.
    """
    if (generate := task.generate) is None:
        raise InputError("This model has no `generate`: it can't draw samples.")
    batch += -batch % mesh.size
    rows, whole = shard.batched(mesh), shard.replicated(mesh)

    def draw(state: TrainState, frozen: Frozen, seed, indices, given):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        return generate(*averaged(state, frozen), keys, given)["image"]

    jitted = jax.jit(draw, out_shardings=whole)

    def sample(state: TrainState, frozen: Frozen, seed: int, count: int, given: Mapping[str, np.ndarray]) -> np.ndarray:
        images = []
        for first in range(0, count, batch):
            indices = np.arange(first, first + batch, dtype=np.int32)
            # Rows past the last are drawn again and thrown away.
            some = {k: shard.put_whole(rows, v[np.minimum(indices, len(v) - 1)]) for k, v in given.items()}
            images.append(np.asarray(jitted(state, frozen, np.uint32(seed), shard.put_whole(rows, indices), some)))
        return np.concatenate(images)[:count]

    return sample


def given(task: Task, run: Run, source: Source, count: int) -> dict[str, np.ndarray]:
    """Return what `generate` needs for `count` samples, from the first examples of a source."""
    if not task.given:
        return {}
    examples = batches(source, run.data, image_of(task), batch=min(count, len(source)), seed=0, train=False)
    first = next(examples)
    examples.close()
    return {name: np.resize(first[name], (count, *first[name].shape[1:])) for name in task.given}


def image_of(task: Task) -> tuple[int, int, int]:
    """Return the height, width and channels of the pictures a task is trained on."""
    return task.example["image"].shape  # pyright: ignore[reportReturnType]


def spec_of(task: Task, batch: int) -> Spec:
    """Return the shapes of a batch."""
    return {name: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for name, x in task.example.items()}


class Evaluation:
    """The measures of a run's `eval.metrics` on its held-out split, under names `eval/<split>/<metric>`."""

    def __init__(self, run: Run, task: Task, mesh: Mesh):
        self.run, self.task = run, task
        self.measures = [METRICS[choose(name, METRICS, "metric")](task) for name in run.eval.metrics]
        self.put = shard.put_batch(mesh)
        self.source = open_source(run.data.at(run.eval.split), image_of(task))
        if len(self.source) < run.batch:
            raise InputError(f"eval.split={run.eval.split} has {len(self.source)} examples, less than one batch.")

    def batches(self) -> Iterator[Mapping[str, jax.Array]]:
        process = (jax.process_index(), jax.process_count())
        count = min(self.run.eval.batches, len(self.source) // self.run.batch)
        stream = batches(
            self.source, self.run.data, image_of(self.task), batch=self.run.batch, seed=0, process=process, train=False
        )
        for batch in islice(stream, count):
            yield self.put({name: batch[name] for name in self.task.example})
        stream.close()

    def __call__(self, state: TrainState, frozen: Frozen) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for i, batch in enumerate(self.batches()):
            for measure in self.measures:
                for name, value in measure(state, batch, frozen, np.int32(i)).items():
                    found.setdefault(f"eval/{self.run.eval.split}/{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in found.items()}


def losses(task: Task) -> Callable[..., Mapping[str, jax.Array]]:
    """Return the measure of every phase's loss, with the last weights, nothing updated: `<phase>_loss`."""

    def measure(state: TrainState, batch, frozen: Frozen, number):
        _, context = averaged(state, frozen)
        context = context.replace(extra=state.extra)
        key = jax.random.fold_in(rng.fold(state.key, "eval"), number)
        play = lambda phase: phase.loss(state.params, context, batch, rng.fold(key, phase.stream or phase.name))  # noqa: E731
        return {f"{phase.name}_loss": jnp.float32(play(phase)[0]) for phase in task.phases}

    return jax.jit(measure)


METRICS = {"loss": losses}
