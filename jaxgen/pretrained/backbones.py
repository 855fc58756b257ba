"""The nets whose feature maps say what is in an image and in what style: any classifier of the zoo.

vgg16   the published backbone of ST-LPIPS, a VGG-16 with blurred pooling (shift_tolerant.py): pip install
        jaxgen[perceptual]; its layers are relu1_1 ... relu5_3
random  the same net at a sixteenth of its width with random weights: textures of a sort, and quick
FOLDER  a run of train.classifier; its layers are what the classifier calls them
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxgen import zoo
from jaxgen.core import paths
from jaxgen.core.capabilities import Classifier
from jaxgen.core.errors import InputError, choose
from jaxgen.core.task import Task
from jaxgen.core.types import Array, PyTree
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import feature_extractors, perceptual_distances

NAMES = ("vgg16", "random")


class Backbone(struct.PyTreeNode):
    """A classifier and its weights. Hand it to a jitted function as an argument, lest they be compiled into it."""

    variables: PyTree
    model: Any = struct.field(pytree_node=False)  # its configuration, by which two of them are equal

    def features(self, image: Array, layers: Sequence[str]) -> list[Array]:
        """Return feature maps of f32[b h w 3] in [-1, 1], f32[b h_l w_l c_l] each. Layers above are not computed."""
        task, net = _task(self.model)
        out = feature_extractors.classify(task, net, self.variables, image)
        return [to_f32(out[layer]) for layer in layers]


@lru_cache
def _task(model: Any) -> tuple[Task, str]:
    task = model.task(1)
    [net] = task.learners["classifier"].nets
    return task, net


def model_of(name: str) -> Any:
    """Return the configuration of a backbone. Raises InputError where it is not there, without reading its weights."""
    if name == "vgg16":
        perceptual_distances.st_lpips_file("vgg")
    if name in NAMES:
        model = replace(zoo.load("vgg16-shift-tolerant").run.model, classes=2, dropout=0.0)
        return model if name == "vgg16" else replace(model, image=(32, 32, 3), width=1 / 16)
    if not paths.path(name).is_dir():
        choose(name, NAMES, "backbone (or folder of a classifier's run)")
    from jaxgen.runs.config_io import load_config

    model = load_config(paths.path(name)).model
    task = model.task(1)
    if task.find(Classifier) is None:
        raise InputError(f"{name} is no classifier's run: it has no features.")
    if (channels := task.example["image"].shape[2]) != 3:
        raise InputError(f"{name} sees images of {channels} channel(s), not of 3.")
    return model


def load(name: str) -> Backbone:
    """Return a backbone with its weights. Raises InputError for one that can't be had."""
    model = model_of(name)
    if name not in NAMES:
        from jaxgen.core.config import Mesh
        from jaxgen.runs.load import open_run

        _, _, _, state, _, _ = open_run(paths.path(name), Mesh(data=1))
        [net] = state.params
        return Backbone({"params": state.params[net], **state.extra.get(net, {})}, model)
    task, net = _task(model)
    if name == "random":
        params, extra = task.init(jax.random.key(0), {})
        return Backbone({"params": params[net], **extra[net]}, model)
    params, _ = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    rest = {k: jax.tree.map(lambda x: jnp.zeros(x.shape), v) for k, v in params[net].items()}  # the head is never used
    return Backbone({"params": {**rest, **perceptual_distances.st_lpips("vgg").params}}, model)


def check(name: str, layers: Sequence[str], image: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
    """Return the shapes [b h w c] of a backbone's layers for images of this size. Raises InputError if unknown."""
    model = model_of(name)
    if not layers:
        raise InputError("A style needs feature maps: name some layers of the backbone.")
    least = smallest(model)
    if image is not None and image[2] != 3:
        raise InputError(f"The backbone {name} sees colour, not images of {image[2]} channel(s).")
    if image is not None and min(image[:2]) < least:
        raise InputError(f"The backbone {name} needs images of {least}x{least} at least, not {image[0]}x{image[1]}.")
    found = layers_of(model, image or (64, 64, 3))
    return [found[choose(layer, found, f"layer of the backbone {name}")] for layer in layers]


def layers(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes [b h w c] of all layers of a backbone, in its order, for images of the size it was made for."""
    model = model_of(name)
    return layers_of(model, model.task(1).example["image"].shape)


def layers_of(model: Any, image: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes [b h w c] of all layers of a backbone for images of this size, in its order."""
    task, net = _task(model)
    found: dict[str, tuple[int, ...]] = {}  # filled on the way: JAX returns a dictionary sorted

    def answer(x: Array):
        params, extra = task.init(jax.random.key(0), {})
        variables = {"params": params[net], **extra[net]}
        found.update((layer, y.shape) for layer, y in feature_extractors.classify(task, net, variables, x).items())

    jax.eval_shape(answer, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    return {layer: shape for layer, shape in found.items() if len(shape) == 4}


def smallest(model: Any) -> int:
    """Return the least side, in pixels, of what a backbone can see."""
    return getattr(model, "smallest", 32)
