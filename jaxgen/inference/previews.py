"""Examples beside the outputs of the nets for them, as previews show them."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Degradation, Transform
from jaxgen.core.config import Run
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Frozen, Key, TrainState, averaged
from jaxgen.data import RandomSubset, Source, batches
from jaxgen.inference.sampling import conditioning_of, conditions_of, in_turn
from jaxgen.nn.resample import resize
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh


class Comparison(NamedTuple):
    """Examples beside the outputs of the averaged nets for them.

    kind:    "reconstructions", each example and decode(encode(example)); "restorations", each example degraded,
             restored and as it was; "translations", each source, its translation, and that translated back again where
             the model goes both ways, otherwise an example of the other domain, of pairs the right one; or
             "predictions", each output beside the right one
    spec:    of each of them
    columns: of a grid of them
    make:    (state, frozen) -> f32[n ...]
    """

    kind: str
    spec: ArraySpec
    columns: int
    make: Callable[[TrainState, Frozen], np.ndarray]


def comparison(task: Task, run: Run, mesh: Mesh, source: Source, count: int) -> Comparison | None:
    """Return how at most `count` arrays compare examples with the nets' work; None where there is no such work."""
    transform, codec = task.find(Transform), task.find(Codec)
    if task.find(Degradation) and transform:
        kind, width, work, name = "restorations", 3, partial(restored, task), next(iter(task.example))
    elif transform and "to" in transform.inputs:
        kind, width, work, name = "translations", 3, partial(translated, task), transform.main
    elif transform and transform.subject in task.example and transform.main in task.example:
        kind, width, work, name = "predictions", 2, partial(predicted, task), transform.main
    elif codec and codec.decode:
        kind, width, work, name = "reconstructions", 2, partial(reconstructed, task), next(iter(task.example))
    else:
        return None
    some = RandomSubset(source, max(count // width, 1))
    with closing(batches(some, run.data, task.example, batch=len(some), seed=0, train=False)) as examples:
        found = next(examples)
    batch = {name: sharding.put_whole(sharding.replicated(mesh), found[name]) for name in task.example}
    jitted = jax.jit(
        lambda state, *rest: work(averaged(state, rest[0]), rest[1]), out_shardings=sharding.replicated(mesh)
    )

    def make(state: TrainState, frozen: Frozen) -> np.ndarray:
        made = np.asarray(jitted(state, frozen, batch))
        return made.reshape(-1, *made.shape[2:])  # [n/width width ...] -> [n ...]

    columns = width * max(round((width * len(some)) ** 0.5 / width), 1)
    return Comparison(kind, task.example[name], columns, make)


def reconstructed(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each example and its reconstruction, [b 2 ...]."""
    codec, name = task.get(Codec), next(iter(task.example))
    assert codec.decode is not None
    conditions = {name: batch[name] for name in codec.conditions}
    return jnp.stack([batch[name], codec.decode(*nets, codec.encode(*nets, batch), conditions)], 1)


def restored(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each example degraded (enlarged again by bicubic interpolation), restored, and itself, [b 3 ... h w c]."""
    clean = batch[task.get(Transform).main]
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "damage"), jnp.arange(len(clean)))
    small, made, scale = degraded_and_restored(task, nets, clean, keys)
    *_, height, width, _ = clean.shape
    before = small if scale == 1 else resize(small, (small.shape[-3] * scale, small.shape[-2] * scale))
    return jnp.clip(jnp.stack([before[..., :height, :width, :], made, clean], 1), -1, 1)


def translated(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each source, its translation, and that translated back or the batch's image, f32[b 3 h w c]."""
    transform = task.get(Transform)
    source, home, to = directions(task, batch)
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "translations"), jnp.arange(len(source)))
    rest = {name: batch["image" if name == "style" else name] for name in transform.conditions}
    into = lambda x, to: transform.apply(*nets, {"source": x, "to": to, **rest}, keys)["image"]  # noqa: E731
    made = into(source, to)
    last = batch["image"] if home is None else into(made, home)
    return jnp.clip(jnp.stack([source, made, last], 1), -1, 1)


def predicted(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return the prediction for each example beside the true one, [b 2 ...]."""
    transform = task.get(Transform)
    true = batch[transform.main]
    keys = rng.sample_keys(rng.fold(jax.random.key(0), "predictions"), jnp.arange(len(true)))
    inputs = {name: batch[name] for name in transform.natural}
    return jnp.stack([transform.apply(*nets, inputs, keys)[transform.main], true], 1)


def directions(task: Task, batch: Batch) -> tuple[Array, Array | None, Array]:
    """Return a batch's images to be translated, their domains, None: no way leads back, and the domains to go to.

    Without a source they are the images, and each goes to the domain after its label's; without a label, too, to each
    domain in turn.
    """
    spec = task.get(Transform).inputs["to"]
    domains, count = spec.names, spec.count
    if "source" not in task.example and "label" not in task.example:
        return batch["image"], None, jnp.arange(len(batch["image"]), dtype=jnp.int32) % count
    if "source" not in task.example:
        label = batch["label"]
        return batch["image"], label, (label + 1) % count
    filled = lambda name: jnp.full(len(batch["source"]), domains.index(name), jnp.int32)  # noqa: E731
    return batch["source"], filled("source") if "source" in domains else None, filled("image")


def degraded_and_restored(task: Task, nets: tuple, clean: Array, keys: Key) -> tuple[Array, Array, int]:
    """Return clean examples degraded, then restored to their own size, and by how much they were enlarged."""
    transform = task.get(Transform)
    scale = int(transform.scales[0]) if transform.scales else 2
    inputs = task.get(Degradation).degrade(clean, keys, scale)
    made = transform.apply(*nets, inputs, keys, scale)[transform.main]
    height, width = clean.shape[-3:-1]
    return inputs["degraded"], made[..., :height, :width, :], scale  # odd sides were rounded up


def shown(task: Task, run: Run, source: Source, count: int) -> tuple[dict[str, np.ndarray], int]:
    """Return the conditioning of a grid of `count` samples, and the grid's rows (0: as square as can be).

    Where that is labels alone they are the classes in turn, a row each; else it is taken from examples of a source.
    """
    if conditions_of(task) != ("label",) or not task.classes:
        return conditioning_of(task, run, source, count), 0
    return in_turn(range(task.classes), count)
