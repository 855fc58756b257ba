"""The game of translators that learn from pairs: made and true images are judged beside what they were made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Translator
from jaxgen.core.config import Data, Log, Optim, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, Phase
from jaxgen.losses import perceptual
from jaxgen.metrics.pixels import psnr
from jaxgen.models.translation._generators import Image
from jaxgen.pretrained import backbones
from jaxgen.tasks.patch_discriminators import Game, each

Translate = Callable[..., Array]
HALF = Optim(schedule="half")  # how most translators are trained
LAYERS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}  # pix2pixHD's
JITTERED = Data("shapes", pair="edges", crop="jitter", flip=True)


@dataclass(frozen=True)
class Paired:
    """A generator (x f32[b h w c], keys Key[b]) -> f32[b h w c], a critic of both images together, and their game.

    multiple: what the sides of x must be divisible by
    several:  whether other keys give other answers
    pixel:    weight of the distance from the true image
    seen:     weight of the distance between features of both, those of `LAYERS` of a backbone (pretrained)
    """

    image: Image
    generator: nn.Module
    game: Game
    pixel: float
    multiple: int
    several: bool = False
    distance: Literal["l1", "l2"] = "l1"
    seen: float = 0.0
    backbone: str = "vgg16"

    def task(self) -> Task:
        """Return the game. Raises InputError for what can't be played."""
        self.game.check(self.image)
        at_least(0, model__pixel=self.pixel, model__perceptual=self.seen)
        if not self.pixel and not self.seen and not self.game.adversarial:
            raise InputError("Nothing is learned: model.pixel and model.game.adversarial are both 0.")
        # One stream: both players meet the same images, which are then made once a step.
        phases = (Phase("critic", "critic", self.critic_loss, stream="z"),) if self.judged else ()
        learners = {"critic": self.game.learner("critic")} if self.judged else {}
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={**learners, "generator": self.game.learner("generator")},
            phases=(*phases, Phase("generator", "generator", self.loss, stream="z")),
            given=("source",),
            frozen={"trunk": partial(backbones.load, self.backbone)} if self.seen else {},
            generate=generated(self.translate),
            translator=Translator(self.translate, multiple=self.multiple, channels=self.image[2], several=self.several),
        )

    @property
    def judged(self) -> bool:
        return self.game.adversarial > 0

    def init(self, key: Key, spec: Any = None):
        del spec
        x, keys = jnp.zeros((2, *self.image)), jax.random.split(key, 2)
        params = {"generator": self.generator.init(rng.fold(key, "generator"), x, keys)["params"]}
        if self.judged:
            params["critic"] = self.game.init(rng.fold(key, "critic"), self.image, 2 * self.image[2])
        return params, {}

    def made(self, params: Params, source: Array, keys: Key) -> Array:
        return self.generator.apply({"params": params["generator"]}, source, keys)  # pyright: ignore[reportReturnType]

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, to
        return self.made(params, given["source"], keys)

    def critic_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        source, image = batch["source"], batch["image"]
        made = self.made(params, source, jax.random.split(key, len(source)))
        real, fake = self.game.says_of_both(params["critic"], beside(source, image), beside(source, made))
        return self.game.telling(real, fake).mean(), Aux(self.game.scores(real, fake))

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Isola et al. 2017, equation 4: G* = arg min max L_cGAN(G, D) + lambda L_L1(G); Wang et al. 2018, (5)."""
        source, image = batch["source"], batch["image"]
        made = self.made(params, source, jax.random.split(key, len(source)))
        apart = each(jnp.abs(made - image) if self.distance == "l1" else jnp.square(made - image))  # [b]
        value, metrics = self.pixel * apart, {"pixel": apart.mean(), "psnr": psnr(made, image).mean()}
        if self.judged:
            fake = self.game.says(params["critic"], beside(source, made))
            fooling = self.game.fooling(fake)
            value, metrics = value + self.game.adversarial * fooling, metrics | {"fooling": fooling.mean()}
            if self.game.features:
                seen = self.game.apart(self.game.says(params["critic"], beside(source, image)), fake)
                value, metrics = value + self.game.features * seen, metrics | {"features": seen.mean()}
        if self.seen:
            see = context.frozen["trunk"].features
            seen = perceptual.feature_loss(
                see(made, tuple(LAYERS)), see(image, tuple(LAYERS)), 1, tuple(LAYERS.values())
            )
            value, metrics = value + self.seen * seen, metrics | {"perceptual": seen.mean()}
        return value.mean(), Aux(metrics)


def beside(source: Array, image: Array) -> Array:
    """Return both images' channels, f32[b h w 2c]."""
    return jnp.concatenate([source, image], -1)


def pair_of(image: Image) -> dict[str, jax.ShapeDtypeStruct]:
    """Return what an example of two domains is."""
    return {name: jax.ShapeDtypeStruct(image, jnp.float32) for name in ("source", "image")}


def generated(translate: Translate, domain: int = 0):
    """Return the `generate` of a translator: given a source, the image in the domain of this number."""

    def generate(params: Params, context: Context, keys: Key, given: Batch) -> Batch:
        to = jnp.full(len(given["source"]), domain, jnp.int32)
        return {"image": jnp.clip(translate(params, context, given, keys, to), -1, 1)}

    return generate


def check_pairs(run: Run, name: str):
    """Raise InputError where a model that learns from pairs is given sets that are none."""
    if run.data.source.startswith("unpaired:"):
        raise InputError(
            f"{name} learns from pairs: {run.data.source!r} has none. Give paired:PATH, or --data.pair and one set; "
            "cyclegan, cut and unit learn without pairs."
        )


def row(model: Any, steps: int, batch: int = 1, data: Data = JITTERED, **settings) -> Run:
    """Return the run that trains a model on pairs."""
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


def tiny(model: Any, data: Data = Data("shapes", pair="edges")) -> Run:
    """Return the run of a small model that takes seconds."""
    return Run(model=model, data=data, steps=20, batch=8, log=Log(every=5, samples=10, count=12), save=Save(every=10))
