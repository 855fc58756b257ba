"""What translators that learn without pairs share: a critic for each domain, and their settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.config import Data, Run
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, PyTree
from jaxgen.models.translation._generators import Image
from jaxgen.tasks.patch_discriminators import Game

DOMAINS = "source", "image"
CRITICS = {"source": "critic_source", "image": "critic"}  # who judges images of a domain
JITTERED = Data("unpaired:digits,shapes", crop="jitter", flip=True)
COVERED = replace(JITTERED, crop="random")  # as UNIT and MUNIT do it
Both = dict[str, Array]  # images f32[b h w c] by domain
Made = Callable[[Params, Context, Batch, Key], Both]  # images made for each domain


def critics(game: Game, key: Key, image: Image) -> dict[str, PyTree]:
    """Return the parameters of both critics."""
    return {net: game.init(rng.fold(key, net), image, image[2]) for net in CRITICS.values()}


def tell(game: Game, params: Params, real: Both, fake: Both) -> tuple[Array, dict[str, Array]]:
    """Return what the critics of both domains minimise f32[b], and what is shown of it."""
    value, metrics = jnp.zeros(len(real["image"])), {}
    for domain, net in CRITICS.items():
        a, b = game.says_of_both(params[net], real[domain], fake[domain])
        value = value + game.telling(a, b)
        metrics |= {f"{domain}_{name}": x for name, x in game.scores(a, b).items()}
    return value, metrics


def fool(game: Game, params: Params, fake: Both) -> Array:
    """Return what who makes the images of both domains minimises of the judgement f32[b]."""
    return sum((game.fooling(game.says(params[net], fake[domain])) for domain, net in CRITICS.items()), jnp.zeros(()))


def told_apart(game: Game, made: Made) -> Callable[..., tuple[Array, Aux]]:
    """Return the loss of the critics of both domains, of images that are made for each of them."""

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        value, metrics = tell(game, params, {d: batch[d] for d in DOMAINS}, made(params, context, batch, key))
        return value.mean(), Aux(metrics)

    return loss


def chosen(to: Array, source: Array, image: Array) -> Array:
    """Return of two translations f32[b h w c] those into the domains of these numbers i32[b]."""
    return jnp.where(jnp.broadcast_to((to == 1)[:, None, None, None], image.shape), image, source)


def row(model: Any, steps: int, batch: int = 1, data: Data = JITTERED, **settings) -> Run:
    """Return the run that trains a model on two sets that are no pairs."""
    return Run(model=model, data=data, steps=steps, batch=batch, **settings)


TINY = Data("unpaired:digits,shapes")
