"""Samples of a task with `generate`, what they are told, and what its examples look like."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import rng, shard
from jaxgen.config import Run
from jaxgen.core import Array, Batch, GenerateFn, Key, PyTree, Restorer, Spec, Task, TrainState, averaged
from jaxgen.data import Some, Source, batches
from jaxgen.errors import InputError, numbers
from jaxgen.nn.resample import resize
from jaxgen.shard import Mesh

Frozen = Mapping[str, PyTree]
After = Callable[[Mapping[str, jax.Array]], object]


def ignored(told: Mapping[str, jax.Array]):
    """Do nothing."""


def sampler(task: Task, mesh: Mesh, batch: int) -> Callable[..., np.ndarray]:
    """Return (state, frozen, seed, count, given) -> images f32[count h w c], by the averaged nets.

    A function that is given last is called with {} when the program is ready, and after each batch with what else
    `generate` told of it, such as its "evaluations".
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


def generate_of(task: Task) -> GenerateFn:
    """Return a task's `generate`. Raises InputError where it has none."""
    if task.generate is None:
        instead = "" if task.encode is None or task.decode is None else ": write --sampler mixture or two-stage"
        raise InputError(f"This model has no prior to draw samples from{instead}.")
    return task.generate


def drawer(task: Task, mesh: Mesh, batch: int, average: bool = True) -> Callable[..., Iterator[jax.Array]]:
    """Return (state, frozen, seed, count, given) -> iterator of images f32[batch h w c], by the averaged or last nets.

    Sample i depends on the seed, i and its row of `given` only: they are drawn `batch` at a time, always as many, so
    that not even the last bit depends on the count; the last batch may hold some beyond it.
    """
    generate = generate_of(task)
    batch += -batch % mesh.size
    rows, whole = shard.batched(mesh), shard.replicated(mesh)

    def draw(state: TrainState, frozen: Frozen, seed, indices, given):
        keys = rng.sample_keys(rng.fold(jax.random.key(seed), "samples"), indices)
        if not average:
            state = state.replace(ema={})
        return generate(*averaged(state, frozen), keys, given)

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
            some = {k: shard.put_whole(rows, v[np.minimum(indices, len(v) - 1)]) for k, v in given.items()}
            told = (state, frozen, np.uint32(seed), shard.put_whole(rows, indices), some)
            program = program or jitted.lower(*told).compile()
            if first == 0:
                after({})
            made = dict(program(*told))
            yield made.pop("image")
            after(made)

    return stream


def given(task: Task, run: Run, source: Source, count: int) -> dict[str, np.ndarray]:
    """Return what `generate` needs for `count` samples, from examples of a source."""
    if not task.given:
        return {}
    check_data(task, source, run.data.pair)
    some = Some(source, count)
    examples = batches(some, run.data, image_of(task), batch=len(some), seed=0, train=False)
    first = next(examples)
    examples.close()
    return {name: np.resize(first[name], (count, *first[name].shape[1:])) for name in task.given}


class Comparison(NamedTuple):
    """Examples beside what the averaged nets make of them.

    kind:    "reconstructions", each example and decode(encode(example)); "restorations", each example damaged, mended
             and as it was; or "translations", each source, what is made of it, and that translated back again where
             the model goes both ways, otherwise an example of the other domain: of pairs what should have been made
    columns: of a grid of them
    make:    (state, frozen) -> f32[n h w c]
    """

    kind: str
    columns: int
    make: Callable[[TrainState, Frozen], np.ndarray]


def comparison(task: Task, run: Run, mesh: Mesh, source: Source, count: int) -> Comparison | None:
    """Return how at most `count` pictures compare examples with the nets' work; None where there is no such work."""
    if task.translator is not None:
        kind, width, work = "translations", 3, partial(translated, task)
    elif task.restorer is not None:
        kind, width, work = "restorations", 3, partial(mended, task)
    elif task.encode is not None and task.decode is not None:
        kind, width, work = "reconstructions", 2, partial(reconstructed, task)
    else:
        return None
    some = Some(source, max(count // width, 1))
    with closing(batches(some, run.data, image_of(task), batch=len(some), seed=0, train=False)) as examples:
        found = next(examples)
    batch = {name: shard.put_whole(shard.replicated(mesh), found[name]) for name in task.example}
    jitted = jax.jit(lambda state, *rest: work(averaged(state, rest[0]), rest[1]), out_shardings=shard.replicated(mesh))

    def make(state: TrainState, frozen: Frozen) -> np.ndarray:
        made = np.asarray(jitted(state, frozen, batch))
        return made.reshape(-1, *made.shape[2:])  # [n/width width h w c] -> [n h w c]

    columns = width * max(round((width * len(some)) ** 0.5 / width), 1)
    return Comparison(kind, columns, make)


def reconstructed(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each picture and what is left of it in its code, f32[b 2 h w c]."""
    assert task.encode is not None and task.decode is not None
    given = {name: batch[name] for name in task.given}
    return jnp.stack([batch["image"], task.decode(*nets, task.encode(*nets, batch), given)], 1)


def mended(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each picture damaged (enlarged again by bicubic interpolation), mended, and itself, f32[b 3 h w c]."""
    restorer, clean = task.restorer, batch["image"]
    assert restorer is not None
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "damage"), jnp.arange(len(clean)))
    small, made, scale = remade(restorer, nets, clean, keys)
    _, height, width, _ = clean.shape
    before = small if scale == 1 else resize(small, (small.shape[1] * scale, small.shape[2] * scale))
    return jnp.clip(jnp.stack([before[:, :height, :width], made, clean], 1), -1, 1)


def translated(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each source, what is made of it, and that translated back or the batch's image, f32[b 3 h w c]."""
    translator = task.translator
    assert translator is not None
    source, home, to = directions(task, batch)
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "translations"), jnp.arange(len(source)))
    told = {name: batch["image" if name == "style" else name] for name in translator.told}
    made = translator.translate(*nets, {"source": source, **told}, keys, to)
    last = batch["image"] if home is None else translator.translate(*nets, {"source": made, **told}, keys, home)
    return jnp.clip(jnp.stack([source, made, last], 1), -1, 1)


def directions(task: Task, batch: Batch) -> tuple[Array, Array | None, Array]:
    """Return a batch's pictures to be translated, the domains that they are of, None: no way leads back, and where to.

    Without a source they are the images, and each goes to the domain after its label's; without a label, too, to each
    domain in turn.
    """
    assert task.translator is not None
    domains = task.translator.domains
    if "source" not in task.example and "label" not in task.example:
        return batch["image"], None, jnp.arange(len(batch["image"]), dtype=jnp.int32) % len(domains)
    if "source" not in task.example:
        label = batch["label"]
        return batch["image"], label, (label + 1) % len(domains)
    filled = lambda name: jnp.full(len(batch["source"]), domains.index(name), jnp.int32)  # noqa: E731
    return batch["source"], filled("source") if "source" in domains else None, filled("image")


def remade(restorer: Restorer, nets: tuple, clean: Array, keys: Key) -> tuple[Array, Array, int]:
    """Return clean pictures damaged, then mended to their own size, and by how much they were enlarged."""
    scale = restorer.scales[0] if restorer.scales else 2
    given = restorer.degrade(clean, keys, scale)
    made = restorer.restore(*nets, given, keys, scale)
    return given["degraded"], made[:, : clean.shape[1], : clean.shape[2]], scale  # odd sides were rounded up


def shown(task: Task, run: Run, source: Source, count: int) -> tuple[dict[str, np.ndarray], int]:
    """Return what `generate` needs for a grid of `count` samples, and the grid's rows (0: as square as can be).

    Where that is labels alone they are the classes in turn, a row each; else it is taken from examples of a source.
    """
    if task.given != ("label",) or not task.classes:
        return given(task, run, source, count), 0
    return in_turn(range(task.classes), count)


def in_turn(labels: Sequence[int], count: int) -> tuple[dict[str, np.ndarray], int]:
    """Return {"label": i32[count]}, the labels in turn, and the rows of a grid that has one for each of them.

    The label of sample i does not depend on the count. The rows are 0, for a square, where the labels don't all fit.
    """
    rows = len(labels) if 1 < len(labels) <= count else 0
    return {"label": np.resize(np.asarray(labels, np.int32), count)}, rows


def classes_of(task: Task, labels: str | None) -> tuple[int, ...]:
    """Return the classes that a user names: all where that is None, an empty tuple where the model is told none.

    Raises InputError for a class that there is not, and where an unconditional model is given any.
    """
    if "label" not in task.given:
        if labels is not None:
            raise InputError("This model is unconditional: it takes no labels.")
        return ()
    return tuple(range(task.classes)) if labels is None else numbers(labels, task.classes, "labels")


def check_truncation(task: Task, psi: float):
    """Raise InputError where psi is not in [0, 1], or has no meaning for the model."""
    if not 0 <= psi <= 1:
        raise InputError(f"truncation must be from 0 to 1, not {psi}.")
    if psi < 1 and task.latent is None:
        raise InputError("This model has no latent vector: truncation has no meaning for it.")


def image_of(task: Task) -> tuple[int, int, int]:
    """Return the height, width and channels of the pictures a task is trained on."""
    return task.example["image"].shape  # pyright: ignore[reportReturnType]


def spec_of(task: Task, batch: int) -> Spec:
    """Return the shapes of a batch."""
    return {name: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype) for name, x in task.example.items()}


def check_data(task: Task, source: Source, pair: str = "none"):
    """Raise InputError where a source's examples are not what the task takes."""
    for name in task.example:
        if name == "source" and name not in source[0]:
            if pair == "none":
                raise InputError(
                    "This model translates pictures of one domain into another: give --data.source paired:PATH or "
                    "unpaired:PATH_A,PATH_B, or --data.pair edges, grey, mask or small."
                )
        elif name not in source[0]:
            hint = ": the pictures of each label belong in a sub-folder of their own" if name == "label" else ""
            has = sorted(source[0])
            raise InputError(f"The model needs {name!r} in every example, but the data has only {has}{hint}.")
        elif not task.example[name].shape and np.ndim(source[0][name]):
            raise InputError(f"The model needs one number as {name!r}, but the data has several.")
    if task.classes and len(source.classes) > task.classes:
        count = len(source.classes)
        raise InputError(f"The data has {count} classes, the model {task.classes}: write --model.classes {count}.")
