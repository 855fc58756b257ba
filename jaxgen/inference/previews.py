"""Examples beside what the nets make of them, as they are shown while training."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Restorer
from jaxgen.core.config import Run
from jaxgen.core.spec import image_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Frozen, Key, TrainState, averaged
from jaxgen.data import RandomSubset, Source, batches
from jaxgen.inference.sampling import conditioning_of, in_turn
from jaxgen.nn.resample import resize
from jaxgen.runs import sharding
from jaxgen.runs.sharding import Mesh


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
    """Return how at most `count` images compare examples with the nets' work; None where there is no such work."""
    if task.translator is not None:
        kind, width, work = "translations", 3, partial(translated, task)
    elif task.restorer is not None:
        kind, width, work = "restorations", 3, partial(mended, task)
    elif task.encode is not None and task.decode is not None:
        kind, width, work = "reconstructions", 2, partial(reconstructed, task)
    else:
        return None
    some = RandomSubset(source, max(count // width, 1))
    with closing(batches(some, run.data, image_of(task), batch=len(some), seed=0, train=False)) as examples:
        found = next(examples)
    batch = {name: sharding.put_whole(sharding.replicated(mesh), found[name]) for name in task.example}
    jitted = jax.jit(
        lambda state, *rest: work(averaged(state, rest[0]), rest[1]), out_shardings=sharding.replicated(mesh)
    )

    def make(state: TrainState, frozen: Frozen) -> np.ndarray:
        made = np.asarray(jitted(state, frozen, batch))
        return made.reshape(-1, *made.shape[2:])  # [n/width width h w c] -> [n h w c]

    columns = width * max(round((width * len(some)) ** 0.5 / width), 1)
    return Comparison(kind, columns, make)


def reconstructed(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each image and what is left of it in its code, f32[b 2 h w c]."""
    assert task.encode is not None and task.decode is not None
    conditioning_of = {name: batch[name] for name in task.given}
    return jnp.stack([batch["image"], task.decode(*nets, task.encode(*nets, batch), conditioning_of)], 1)


def mended(task: Task, nets: tuple, batch: Batch) -> jax.Array:
    """Return each image damaged (enlarged again by bicubic interpolation), mended, and itself, f32[b 3 h w c]."""
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
    """Return a batch's images to be translated, the domains that they are of, None: no way leads back, and where to.

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
    """Return clean images damaged, then mended to their own size, and by how much they were enlarged."""
    scale = restorer.scales[0] if restorer.scales else 2
    conditioning_of = restorer.degrade(clean, keys, scale)
    made = restorer.restore(*nets, conditioning_of, keys, scale)
    return conditioning_of["degraded"], made[:, : clean.shape[1], : clean.shape[2]], scale  # odd sides were rounded up


def shown(task: Task, run: Run, source: Source, count: int) -> tuple[dict[str, np.ndarray], int]:
    """Return what `generate` needs for a grid of `count` samples, and the grid's rows (0: as square as can be).

    Where that is labels alone they are the classes in turn, a row each; else it is taken from examples of a source.
    """
    if task.given != ("label",) or not task.classes:
        return conditioning_of(task, run, source, count), 0
    return in_turn(range(task.classes), count)
