"""Latent diffusion: Rombach, Blattmann, Lorenz, Esser and Ommer, "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022.

A diffusion model is trained on the latents of a frozen autoencoder. Each channel of the latents is normalised to mean 0
and the standard deviation that the model expects. Mean and standard deviation are measured over the first batches of
training and saved with the state. (Appendix G divides by one number, measured over the first batch.)
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.capabilities import Transform
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, PyTree
from jaxgen.tasks.frozen_autoencoder import autoencoder_of, pixels_of
from jaxgen.tasks.teacher import load, target_deviation

BATCHES = 100  # over which mean and standard deviation are measured
SMALLEST = 1e-3  # lower bound on a channel's standard deviation


def latent_codec(model: Any) -> tuple[Callable, Callable]:
    """Return encode, (params, context, images or videos) -> normalised latents f32[b ... d], and decode."""
    autoencoder, scale = autoencoder_of(model.autoencoder, pixels_of(model)), target_deviation(model)

    def encode(params: Params, context: Context, x: Array) -> Array:
        return normalise(autoencoder.encode(context.frozen["autoencoder"], x), context.extra["codes"], scale)

    def decode(params: Params, context: Context, x0: Array) -> Array:
        statistics = context.extra["codes"]
        latents = x0 * wide(deviation(statistics) / scale, x0) + wide(statistics["mean"], x0)
        return autoencoder.decode(context.frozen["autoencoder"], latents)

    return encode, decode


def with_autoencoder(task: Task, model: Any) -> Task:
    """Return a task on images from a task on latents: model.autoencoder encodes the input and decodes the samples."""
    autoencoder, scale = autoencoder_of(model.autoencoder, pixels_of(model)), target_deviation(model)
    (phase,), kind = task.phases, next(iter(task.example))

    def init(key, spec):
        params, extra = task.init(key, spec)
        return params, {**extra, "codes": initial_statistics(autoencoder.shape[-1])}

    def loss(params: Params, context: Context, batch, key) -> tuple[Array, Aux]:
        latents = autoencoder.encode(context.frozen["autoencoder"], batch[kind])
        statistics = update_statistics(context.extra["codes"], latents)
        value, aux = phase.loss(params, context, {**batch, kind: normalise(latents, statistics, scale)}, key)
        return value, Aux(aux.metrics, {**aux.extra, "codes": statistics})

    return replace(
        task.having(then(task.get(Transform), latent_codec(model)[1])),
        init=init,
        phases=(replace(phase, loss=loss),),
        frozen={**task.frozen, "autoencoder": partial(load, model.autoencoder)},
    )


def then(transform: Transform, decode: Callable) -> Transform:
    """Return the Transform whose main output is decode(params, context, that of `transform`)."""

    def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        made = transform.apply(params, context, inputs, keys, scale)
        return {**made, transform.main: decode(params, context, made[transform.main])}

    return replace(transform, apply=apply)


def initial_statistics(channels: int) -> PyTree:
    """Return the statistics of latents before the first batch.

    "batches" counts down from 0, and "square" is the variance. Where it counts up, in runs of earlier versions,
    "square" is E[x^2].
    """
    return {"batches": jnp.zeros(()), "mean": jnp.zeros(channels), "square": jnp.ones(channels)}


def update_statistics(statistics: PyTree, latents: Array) -> PyTree:
    """Return mean and variance of all latents so far and a batch f32[b ... d]; after `BATCHES` batches they are fixed.

    By the variance about the mean (Chan, Golub and LeVeque 1979): E[x^2] - E[x]^2 loses the digits of both.
    """
    n = jnp.abs(statistics["batches"])
    share = jnp.where(n < BATCHES, 1 / (n + 1), 0)
    axes, before = tuple(range(latents.ndim - 1)), variance(statistics)
    gap = latents.mean(axes) - statistics["mean"]  # [d]
    new = {
        "batches": -jnp.minimum(n + 1, BATCHES),
        "mean": statistics["mean"] + share * gap,
        "square": before + share * (latents.var(axes) - before) + share * (1 - share) * jnp.square(gap),
    }
    return jax.lax.stop_gradient(new)


def variance(statistics: PyTree) -> Array:
    """Return the variance of each channel, f32[d]."""
    square = statistics["square"]
    return jnp.where(statistics["batches"] > 0, square - jnp.square(statistics["mean"]), square)


def deviation(statistics: PyTree) -> Array:
    """Return the standard deviation of each channel, f32[d]."""
    return jnp.sqrt(jnp.maximum(variance(statistics), SMALLEST**2))


def normalise(latents: Array, statistics: PyTree, scale: float) -> Array:
    """Return latents f32[b ... d], normalised to mean 0 and standard deviation `scale`."""
    return (latents - wide(statistics["mean"], latents)) * wide(scale / deviation(statistics), latents)


def wide(numbers: Array, latents: Array) -> Array:
    """Return a number for each channel f32[d] with the axes of latents f32[b ... d]."""
    return numbers[(None,) * (latents.ndim - 1)]
