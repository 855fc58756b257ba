"""Training of classifiers: cross-entropy with label smoothing, SGD with Nesterov momentum or Adam."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.capabilities import Classifier
from jaxgen.core.config import Data, Eval, Log, Optim, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Learner, Phase, variables

Image = tuple[int, int, int]
Numbers = tuple[float, ...]
IMAGENET: dict[str, Numbers] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
IMAGENET_OPTIM = Optim(schedule="cosine", warmup=5000)


@dataclass(frozen=True)
class Recipe:
    """Optimizer and label smoothing of a classifier. Schedule, clipping and augmentation are settings of the run.

    The papers use plain momentum, decay all parameters and reduce the learning rate in steps. Here, as in later
    recipes, momentum is Nesterov's, only kernels decay, and the presets use a cosine schedule.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.1
    momentum: Decay = 0.9  # Nesterov momentum, or Adam's beta1
    weight_decay: float = 1e-4  # of kernels only, not of biases and norms
    smoothing: Decay = 0.0  # share of the label spread over all classes

    def build(self) -> optax.GradientTransformation:
        kernels = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)  # noqa: E731
        decay = optax.add_decayed_weights(self.weight_decay, mask=kernels)
        if self.optimizer == "adamw":
            return optax.adamw(self.learning_rate, b1=self.momentum, weight_decay=self.weight_decay, mask=kernels)
        if self.optimizer == "adam":
            return optax.chain(decay, optax.adam(self.learning_rate, b1=self.momentum))
        return optax.chain(decay, optax.sgd(self.learning_rate, self.momentum or None, nesterov=self.momentum > 0))


def cross_entropy(logits: Array, label: Array, smoothing: float = 0.0) -> Array:
    """-sum_k q_k log softmax(logits)_k with q = (1 - smoothing) onehot + smoothing / K: f32[b k], i32[b] -> f32[b].

    Szegedy et al. 2016, section 7.
    """
    log_p = jax.nn.log_softmax(logits)
    hard = jnp.take_along_axis(log_p, label[:, None], axis=-1)[:, 0]  # [b]
    return -(1 - smoothing) * hard - smoothing * log_p.mean(-1)


def classifier_task(
    net: nn.Module,
    image: Image,
    classes: int,
    recipe: Recipe,
    normal: Mapping[str, Numbers],
    loss: Callable[[Array, Array, float], Array] = cross_entropy,
) -> Task:
    """Return the training task of one net, `net(x, train) -> {"logits": f32[b classes], feature: [b ...]}`.

    normal: {"mean", "std"}, one number for each channel, or one for all: the net's input is
            ((image + 1) / 2 - mean) / std

    `classify` returns all outputs of the net.
    """
    at_least(2, model__classes=classes)
    at_least(1, model__image=min(image))
    if not 0 <= recipe.smoothing < 1:
        raise InputError(f"model.recipe.smoothing must be from 0 to below 1, not {recipe.smoothing}.")
    for name, values in normal.items():
        if len(values) not in (1, image[2]):
            raise InputError(f"model.{name} has {len(values)} numbers for {image[2]} channels: give one, or one each.")
    if min(normal["std"]) <= 0:
        raise InputError(f"model.std must be positive, not {normal['std']}.")
    # ((x + 1) / 2 - mean) / std, in one multiplication
    mean, std = (v if len(v) == image[2] else v * image[2] for v in (normal["mean"], normal["std"]))
    slope = [0.5 / s for s in std]
    shift = [(0.5 - m) / s for m, s in zip(mean, std, strict=True)]

    def normalised(x):
        one = lambda v: jnp.broadcast_to(jnp.asarray(v, jnp.float32), x.shape)  # noqa: E731
        return x * one(slope) + one(shift)

    def init(key, spec):
        nets = net.init(key, jnp.zeros((2, *image)), train=False)
        params = {"classifier": nets["params"]}
        return params, {"classifier": {k: v for k, v in nets.items() if k != "params"}}

    def classification_loss(params, context, batch, key):
        out, stats = net.apply(
            variables("classifier", params, context.extra),
            normalised(batch["image"]),
            train=context.train,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        label = batch["label"]
        metrics = {"top1": (out["logits"].argmax(-1) == label).mean(dtype=jnp.float32)}
        return loss(out["logits"], label, recipe.smoothing).mean(), Aux(metrics, {"classifier": stats})

    def classify(params, context, batch) -> Any:
        return net.apply(variables("classifier", params, context.extra), normalised(batch["image"]), train=False)

    return Task(
        init=init,
        example=labelled(image, classes),
        learners={"classifier": Learner(("classifier",), recipe.build())},
        phases=(Phase("classifier", "classifier", classification_loss),),
        capabilities=(Classifier(classify),),
    )


def imagenet(model: Any, steps: int, batch: int = 256, optim: Optim = IMAGENET_OPTIM, every: int = 10_000) -> Run:
    """Return the run that trains a model on ImageNet; the whole validation set is evaluated every `every` steps."""
    return Run(
        model=model,
        data=Data("tfds:imagenet2012", crop="area", flip=True),
        steps=steps,
        batch=batch,
        optim=optim,
        save=Save(every=5000),
        eval=Eval(every=every, split="validation", batches=0, metrics=("accuracy",)),
    )


def tiny(model: Any) -> Run:
    """Return a run of a small model that takes seconds."""
    return Run(model=model, data=Data("shapes"), steps=20, batch=16, log=Log(every=5), save=Save(every=10))
