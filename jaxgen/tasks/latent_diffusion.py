"""Latent diffusion: Rombach, Blattmann, Lorenz, Esser and Ommer, "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022.

A model learns the codes that a frozen autoencoder has of images, less their mean and over their standard deviation,
number by number, so that their scale is the one the model is made for. Both are measured over the first batches of the
training (appendix G divides by one number, measured over the first batch), and saved with the state.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Params, PyTree
from jaxgen.tasks.frozen_autoencoder import autoencoder_of
from jaxgen.tasks.teacher import load

BATCHES = 100  # that the codes are measured over
SMALLEST = 1e-3  # standard deviation of a number that counts as one


def latent_codec(model: Any) -> tuple[Callable, Callable]:
    """Return (params, context, images f32[b H W c]) -> scaled codes f32[b h w d], and the way back."""
    coder, scale = autoencoder_of(model.autoencoder, model.image), target_deviation(model)

    def encode(params: Params, context: Context, x: Array) -> Array:
        return normalise(coder.encode(context.frozen["autoencoder"], x), context.extra["codes"], scale)

    def decode(params: Params, context: Context, x0: Array) -> Array:
        seen = context.extra["codes"]
        codes = x0 * (deviation(seen) / scale)[None, None, None] + seen["mean"][None, None, None]
        return coder.decode(context.frozen["autoencoder"], codes)

    return encode, decode


def with_autoencoder(task: Task, model: Any) -> Task:
    """Return the game of images that a game of codes makes, with model.autoencoder before and behind it."""
    coder, scale = autoencoder_of(model.autoencoder, model.image), target_deviation(model)
    (phase,) = task.phases
    assert task.generate is not None

    def init(key, spec):
        params, extra = task.init(key, spec)
        return params, {**extra, "codes": initial_statistics(coder.shape[2])}

    def loss(params: Params, context: Context, batch, key) -> tuple[Array, Aux]:
        codes = coder.encode(context.frozen["autoencoder"], batch["image"])
        seen = update_statistics(context.extra["codes"], codes)
        value, aux = phase.loss(params, context, {**batch, "image": normalise(codes, seen, scale)}, key)
        return value, Aux(aux.metrics, {**aux.extra, "codes": seen})

    return replace(
        task,
        init=init,
        phases=(replace(phase, loss=loss),),
        frozen={**task.frozen, "autoencoder": partial(load, model.autoencoder)},
        generate=then(task.generate, latent_codec(model)[1]),
        log_prob=None,  # that of codes is none of images
    )


def target_deviation(model: Any) -> float:
    """Return the standard deviation that a model is made for."""
    return getattr(model, "sigma_data", 1.0)


def then(draw: Callable, decode: Callable) -> Callable:
    """Return `generate` that gives decode(params, context, what `draw` made)."""

    def generate(params: Params, context: Context, keys, given):
        made = draw(params, context, keys, given)
        return {**made, "image": decode(params, context, made["image"])}

    return generate


def initial_statistics(numbers: int) -> PyTree:
    """Return what is known of codes before the first batch."""
    return {"batches": jnp.zeros(()), "mean": jnp.zeros(numbers), "square": jnp.ones(numbers)}


def update_statistics(seen: PyTree, codes: Array) -> PyTree:
    """Return the means over this batch f32[b h w d] and those before; after the first batches they stay."""
    n = seen["batches"]
    share = jnp.where(n < BATCHES, 1 / (n + 1), 0)
    means = {"mean": codes.mean((0, 1, 2)), "square": jnp.square(codes).mean((0, 1, 2))}  # [d]
    new = {name: seen[name] + share * (mean - seen[name]) for name, mean in means.items()}
    return jax.lax.stop_gradient({"batches": jnp.minimum(n + 1, BATCHES), **new})


def deviation(seen: PyTree) -> Array:
    """Return the standard deviation of each number, f32[d]."""
    return jnp.sqrt(jnp.maximum(seen["square"] - jnp.square(seen["mean"]), SMALLEST**2))


def normalise(codes: Array, seen: PyTree, scale: float) -> Array:
    """Return codes f32[b h w d] of mean 0 and this standard deviation."""
    return (codes - seen["mean"][None, None, None]) * (scale / deviation(seen))[None, None, None]
