"""Shared parts of unpaired translation: one discriminator for each of the two domains, and run settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Run
from jaxgen.core.types import Array, Aux, Batch, Context, Image, Key, Params, PyTree
from jaxgen.tasks.patch_discriminators import PatchGANConfig
from jaxgen.tasks.transforms import translation

DOMAINS = "source", "image"
DISCRIMINATORS = {"source": "critic_source", "image": "critic"}  # the net that judges images of a domain
JITTERED = Data("unpaired:digits,shapes", crop="jitter", flip=True)
RANDOM_CROP = replace(JITTERED, crop="random")  # as in UNIT and MUNIT
ImagesByDomain = dict[str, Array]  # f32[b h w c] each
TranslateBoth = Callable[[Params, Context, Batch, Key], ImagesByDomain]  # translations into each domain


def both_ways(translate: Callable, multiple: int, channels: int, stochastic: bool = False) -> tuple[Transform, ...]:
    """Return the Transform of a model that translates from either domain into the other."""
    ways: Any = {"domains": DOMAINS, "default": DOMAINS.index("image"), "multiple": multiple, "channels": channels}
    return (translation(translate, **ways, stochastic=stochastic),)


def init_discriminators(game: PatchGANConfig, key: Key, image: Image) -> dict[str, PyTree]:
    """Return the parameters of both discriminators."""
    return {net: game.init(rng.fold(key, net), image, image[2]) for net in DISCRIMINATORS.values()}


def discriminator_loss(
    game: PatchGANConfig, params: Params, real: ImagesByDomain, fake: ImagesByDomain
) -> tuple[Array, dict[str, Array]]:
    """Return the sum of both discriminators' losses f32[b], and metrics."""
    value, metrics = jnp.zeros(len(real["image"])), {}
    for domain, net in DISCRIMINATORS.items():
        a, b = game.outputs_of_both(params[net], real[domain], fake[domain])
        value = value + game.discriminator_loss(a, b)
        metrics |= {f"{domain}_{name}": x for name, x in game.scores(a, b).items()}
    return value, metrics


def generator_loss(game: PatchGANConfig, params: Params, fake: ImagesByDomain) -> Array:
    """Return the sum of the generators' adversarial losses in both domains f32[b]."""
    losses = (game.generator_loss(game.outputs(params[net], fake[domain])) for domain, net in DISCRIMINATORS.items())
    return sum(losses, jnp.zeros(()))


def discriminator_phase(game: PatchGANConfig, translate: TranslateBoth) -> Callable[..., tuple[Array, Aux]]:
    """Return the loss function of a phase that trains both discriminators on these translations."""

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        real, fake = {domain: batch[domain] for domain in DOMAINS}, translate(params, context, batch, key)
        value, metrics = discriminator_loss(game, params, real, fake)
        return value.mean(), Aux(metrics)

    return loss


def select_domain(to: Array, source: Array, image: Array) -> Array:
    """Return, for each example, its translation into domain `to` i32[b]: 0 is "source", 1 is "image"; f32[b h w c]."""
    return jnp.where(jnp.broadcast_to((to == 1)[:, None, None, None], image.shape), image, source)


def row(model: Any, steps: int, batch: int = 1, data: Data = JITTERED, **settings) -> Run:
    """Return a run that trains a model on two unpaired sets."""
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


TINY = Data("unpaired:digits,shapes")
