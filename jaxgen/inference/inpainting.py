"""Inpainting by a diffusion or flow model that was not trained for it."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxgen.core.capabilities import Denoiser
from jaxgen.core.errors import InputError
from jaxgen.core.spec import image_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.diffusion import conditions
from jaxgen.diffusion.samplers import Denoise
from jaxgen.tasks.denoising import Sampling, guided, start
from jaxgen.tasks.hole_filling import Holes, hole_filling

TIMES = 5  # that RePaint takes a step


def bound(
    d: Denoiser, params: Params, context: Context, how: Sampling, label: int | None = None
) -> tuple[Denoise, Denoiser]:
    """Return (x, tau) -> E[x0 | x] with these nets bound, for a label or none, and `d` with its codec bound.

    Without a label, a guiding classifier is not used.
    """
    how = replace(how, classifier="") if label is None else how
    ways = (way and partial(way, params, context) for way in (d.encode, d.decode))
    encode, decode = (way or (lambda x: x) for way in ways)

    def denoise(x: Array, tau: Array) -> Array:
        known = {} if label is None else {"label": jnp.full(len(x), label, jnp.int32)}
        return guided(d, params, context, d.unconditional(len(x), known), how)(x, tau)

    return denoise, replace(d, encode=encode, decode=decode)


def repainted(denoise: Denoise, d: Denoiser, keys: Key, x0: Array, hidden: Array, times: int = TIMES) -> Array:
    """Return x0 f32[b h w c] with what is hidden f32[b h w 1] painted by RePaint; `denoise` and `d` as from `bound`."""
    encode: Any = d.encode
    decode: Any = d.decode
    left = jnp.broadcast_to(1 - hidden, x0.shape)
    latents, kept = encode(x0 * left), conditions.known_latents(left, d.shape)
    painted = decode(conditions.repaint(denoise, start(d, keys), d.taus, keys, latents, kept, d.frame, times))
    return left * x0 + (1 - left) * painted  # latents keep the known pixels only nearly


def check(d: Denoiser):
    """Raise InputError where the known pixels of an image can't be kept."""
    if d.encode is not None and d.shape[:2] == (1, 1):
        raise InputError("This model's latents have no places in the image: known parts can't be kept in them.")


def inpainting_of(task: Task, how: Sampling) -> Task:
    """Return the task with the Transform that fills in holes by its denoiser, of images of its own size."""
    d, image = task.get(Denoiser), image_of(task)
    check(d)

    def paint(params: Params, context: Context, given: Batch, keys: Key) -> Array:
        x = given["degraded"]
        if x.shape[1:] != image:
            sizes = ["x".join(map(str, shape)) for shape in (image[:2], x.shape[1:3])]
            raise InputError(f"This model paints images of its own size, {sizes[0]}, not of {sizes[1]}.")
        return jnp.clip(repainted(*bound(d, params, context, how), keys, x, given["mask"]), -1, 1)

    return task.having(*hole_filling(Holes(boxes=1), paint, 1, image[2], stochastic=True, size=image[:2]))
