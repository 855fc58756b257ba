"""The training task of paired translation: a generator, and a discriminator of source and image together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Data, Log, Optim, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import ArraySpec, image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Image, Key, Params, Phase
from jaxgen.losses import perceptual
from jaxgen.metrics.pixels import psnr
from jaxgen.pretrained import backbones
from jaxgen.tasks.patch_discriminators import PatchGANConfig, each
from jaxgen.tasks.transforms import translation

Translate = Callable[..., Array]
HALF = Optim(schedule="half")  # the schedule of most translation models
LAYERS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}  # pix2pixHD's
JITTERED = Data("shapes", pair="edges", crop="jitter", flip=True)


@dataclass(frozen=True)
class PairedTranslation:
    """Builds the task of a generator (x f32[b h w c], keys Key[b]) -> f32[b h w c] that learns from pairs.

    multiple:   the sides of x must be divisible by it
    several:    whether other keys give other outputs
    pixel:      weight of the pixel distance from the true image
    perceptual: weight of the distance between features of both images, at the layers `LAYERS` of a backbone
                (pretrained/backbones.py)
    """

    image: Image
    generator: nn.Module
    game: PatchGANConfig
    pixel: float
    multiple: int
    several: bool = False
    distance: Literal["l1", "l2"] = "l1"
    perceptual: float = 0.0
    backbone: str = "vgg16"

    def task(self) -> Task:
        """Return the task. Raises InputError for settings out of range."""
        self.game.check(self.image)
        at_least(0, model__pixel=self.pixel, model__perceptual=self.perceptual)
        if not self.pixel and not self.perceptual and not self.game.adversarial:
            raise InputError("There is no loss: model.pixel and model.game.adversarial are both 0.")
        # One stream: both phases translate the same images with the same keys, so XLA translates once a step.
        phases = (Phase("critic", "critic", self.discriminator_loss, stream="z"),) if self.has_discriminator else ()
        learners = {"critic": self.game.learner("critic")} if self.has_discriminator else {}
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={**learners, "generator": self.game.learner("generator")},
            phases=(*phases, Phase("generator", "generator", self.loss, stream="z")),
            frozen={"backbone": partial(backbones.load, self.backbone)} if self.perceptual else {},
            capabilities=(
                translation(self.translate, multiple=self.multiple, channels=self.image[2], stochastic=self.several),
            ),
        )

    @property
    def has_discriminator(self) -> bool:
        return self.game.adversarial > 0

    def init(self, key: Key, spec: Any = None):
        del spec
        x, keys = jnp.zeros((2, *self.image)), jax.random.split(key, 2)
        params = {"generator": self.generator.init(rng.fold(key, "generator"), x, keys)["params"]}
        if self.has_discriminator:
            params["critic"] = self.game.init(rng.fold(key, "critic"), self.image, 2 * self.image[2])
        return params, {}

    def generated(self, params: Params, source: Array, keys: Key) -> Array:
        return self.generator.apply({"params": params["generator"]}, source, keys)  # pyright: ignore[reportReturnType]

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, to
        return self.generated(params, given["source"], keys)

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        source, image = batch["source"], batch["image"]
        fake_image = self.generated(params, source, jax.random.split(key, len(source)))
        real, fake = self.game.outputs_of_both(params["critic"], stacked(source, image), stacked(source, fake_image))
        return self.game.discriminator_loss(real, fake).mean(), Aux(self.game.scores(real, fake))

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Isola et al. 2017, equation 4: G* = arg min max L_cGAN(G, D) + lambda L_L1(G); Wang et al. 2018, (5)."""
        source, image = batch["source"], batch["image"]
        fake_image = self.generated(params, source, jax.random.split(key, len(source)))
        error = fake_image - image
        pixel = each(jnp.abs(error) if self.distance == "l1" else jnp.square(error))  # [b]
        value, metrics = self.pixel * pixel, {"pixel": pixel.mean(), "psnr": psnr(fake_image, image).mean()}
        if self.has_discriminator:
            fake = self.game.outputs(params["critic"], stacked(source, fake_image))
            adversarial = self.game.generator_loss(fake)
            value, metrics = value + self.game.adversarial * adversarial, metrics | {"adversarial": adversarial.mean()}
            if self.game.features:
                real = self.game.outputs(params["critic"], stacked(source, image))
                features = self.game.feature_distance(real, fake)
                value, metrics = value + self.game.features * features, metrics | {"features": features.mean()}
        if self.perceptual:
            ours, theirs = (context.frozen["backbone"].features(x, tuple(LAYERS)) for x in (fake_image, image))
            distance = perceptual.feature_loss(ours, theirs, 1, tuple(LAYERS.values()))
            value, metrics = value + self.perceptual * distance, metrics | {"perceptual": distance.mean()}
        return value.mean(), Aux(metrics)


def stacked(source: Array, image: Array) -> Array:
    """Return the channels of both images side by side, f32[b h w 2c]."""
    return jnp.concatenate([source, image], -1)


def pair_of(image: Image) -> dict[str, ArraySpec]:
    """Return what an example of two domains is."""
    return {name: image_spec(image) for name in ("source", "image")}


def check_pairs(run: Run, name: str):
    """Raise InputError where a model that learns from pairs gets unpaired sets."""
    if run.data.source.startswith("unpaired:"):
        raise InputError(
            f"{name} learns from pairs: {run.data.source!r} has none. Give paired:PATH, or --data.pair and one set; "
            "cyclegan, cut and unit learn without pairs."
        )


def row(model: Any, steps: int, batch: int = 1, data: Data = JITTERED, **settings) -> Run:
    """Return a run that trains a model on pairs."""
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


def tiny(model: Any, data: Data = Data("shapes", pair="edges")) -> Run:
    """Return a run of a small model that takes seconds."""
    return Run(model=model, data=data, steps=20, batch=8, log=Log(every=5, samples=10, count=12), save=Save(every=10))
