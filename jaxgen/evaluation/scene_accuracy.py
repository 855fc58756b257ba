"""The share of images of scenes that are as their captions say, by rule (data/scene_rules.py): `scene_accuracy`.

`scene_accuracy` is the share of images with every attribute right that their caption names; `_colour`, `_count`, ...
are the shares of each, and `_in_two`, `_in_counting`, ... those of all in each kind of caption. `_shuffled` is that of
images beside the caption of another: the floor.
"""

from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.core.types import Frozen, TrainState, averaged
from jaxgen.data.scene_rules import ATTRIBUTES, judge
from jaxgen.data.scenes import SLICES, parse
from jaxgen.data.tokeniser import Tokeniser
from jaxgen.inference.texts import text_input
from jaxgen.metrics.metric import Metric, State
from jaxgen.nn.colour import eight_bit

NAME = "scene_accuracy"
COLUMNS = ("all", *ATTRIBUTES, *(f"in_{kind}" for kind in SLICES), "shuffled")


def counts(images: np.ndarray, texts: list[str], valid: np.ndarray) -> np.ndarray:
    """Return for each of COLUMNS how many images u8[b h w 3] are right and how many count, f32[k 2].

    A text that is none of a scene, such as one that was cut, does not count.
    """
    total, captions = np.zeros((len(COLUMNS), 2), np.float32), {}
    for i in np.flatnonzero(valid).tolist():
        with suppress(InputError):  # an error within a compiled program would end the process
            captions[i] = parse(texts[i])
    rows = list(captions)
    apart = len(SLICES) if len(rows) > len(SLICES) else 1  # the kinds of captions take turns
    for place, i in enumerate(rows):
        caption, other = captions[i], captions[rows[(place + apart) % len(rows)]]
        found = judge(images[i], caption)
        found[f"in_{caption.slice}"] = found["all"]
        found["shuffled"] = judge(images[i], other)["all"]
        for name, right in found.items():
            total[COLUMNS.index(name)] += (right, 1)
    return total


def scene_accuracy(task: Task) -> Metric:
    """Return the measure for a model that makes images of texts. Raises InputError for another one."""
    found, transform = text_input(task), task.find(Transform)
    if found is None or transform is None or transform.outputs[transform.main].kind != "image":
        raise InputError(f"{NAME} is of images that are made of captions: this model takes no text.")
    name, spec = found
    tokeniser = Tokeniser(spec.names)

    def count(images, tokens, valid) -> np.ndarray:
        return counts(np.asarray(images), [tokeniser.text(row) for row in np.asarray(tokens)], np.asarray(valid))

    def update(total: State, state: TrainState, frozen: Frozen, batch, index, valid) -> State:
        keys = rng.sample_keys(rng.fold(jax.random.key(0), "scenes"), index)
        given = {name: batch[name] for name in transform.required}
        made = transform.apply(*averaged(state, frozen), given, keys)[transform.main]
        pixels = jnp.uint8(jnp.round((eight_bit(made) + 1) * 127.5))
        shape = jax.ShapeDtypeStruct((len(COLUMNS), 2), jnp.float32)
        return total + jax.pure_callback(count, shape, pixels, batch[name], valid)

    def result(total: State) -> dict[str, float]:
        if not np.asarray(total)[0, 1]:
            raise InputError(f"{NAME} needs captions of scenes, whole ones: the run's data or its context give none.")
        shares = {column: right / n for column, (right, n) in zip(COLUMNS, np.asarray(total, float), strict=True) if n}
        return {NAME if column == "all" else f"{NAME}_{column}": float(share) for column, share in shares.items()}

    return Metric(lambda: jnp.zeros((len(COLUMNS), 2)), update, jnp.add, result)
