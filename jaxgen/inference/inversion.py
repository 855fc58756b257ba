"""GAN inversion: the latent of the image nearest to a given one."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.core import rng
from jaxgen.core.config import Data
from jaxgen.core.types import Array
from jaxgen.data import image_files
from jaxgen.data.image_decoding import decode_file
from jaxgen.data.transforms import to_float, to_size
from jaxgen.inference.latent_space import Entry, Given, Nets, conditions
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.colour import eight_bit
from jaxgen.pretrained.feature_distances import Features

RATE, NOISE = 0.1, 0.05  # Karras et al. 2020a, appendix D
TICK = 25  # steps in a dispatch, at most


class Projection(NamedTuple):
    """w or z f32[1 ...], its label i32[1] or None, the image f32[1 h w c], losses f32[steps], and the PSNR in dB."""

    latent: np.ndarray
    label: np.ndarray | None
    image: np.ndarray
    losses: np.ndarray
    psnr: float


def read_image(path: Path, image: tuple[int, int, int], data: Data) -> np.ndarray:
    """Return an image's file as f32[1 h w c] in [-1, 1], brought to the model's size as the data is.

    Raises InputError where there is no such file, where it is no image, and where the channels can't be converted.
    """
    decoded = decode_file(path)
    if image_files.is_animated(path):
        print(f"{path} has several frames or pages: the first is used.", file=sys.stderr)
    crop = "none" if data.crop in ("none", "jitter") else "center"
    return to_float(to_size(decoded, image, crop))[None]  # [1 h w c]


def rate(steps: int) -> optax.Schedule:
    """Return step -> rate: up over the first 5 % of the steps, down along a cosine over the last 25 %."""

    def at(step):
        t = step / steps
        down = 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.minimum(1.0, (1 - t) / 0.25))
        return RATE * down * jnp.minimum(1.0, t / 0.05)

    return at


def middle(entry: Entry, seed: int, count: int, given: Given) -> tuple[np.ndarray, float]:
    """Return the mean w f32[1 ...] of `count` samples, and the root of their mean squared distance from it."""
    total, squares = np.zeros(()), np.zeros(())
    for part in np.split(np.arange(count), range(1024, count, 1024)):
        some = entry.sample(seed, part, {name: x[part] for name, x in given.items()}).astype(np.float64)
        total, squares = total + some.sum(0, keepdims=True), squares + np.square(some).sum((0, -1))
    mean = total / count
    variance = (squares / count - np.square(mean[0]).sum(-1)).mean()  # of a row
    return mean.astype(np.float32), float(np.sqrt(max(variance, 0.0)))


def project(
    entry: Entry,
    target: np.ndarray,
    steps: int,
    seed: int,
    labels: Sequence[int],
    features: Features,
    ticks: Callable[[range], Any] = iter,
) -> Projection:
    """Return the latent whose image is nearest to the target f32[1 h w c].

    The loss is the mean squared error of the pixels plus that of the features, if any, over their mean square.
    From the mean w of 10,000 samples, where a straight line in w is a walk; elsewhere from the nearest of 64 samples.
    Adam; noise of 0.05 sigma (1 - t / 0.75)^2 on the latent, sigma its samples' distance from their mean. All rows of w
    are free. Karras et al. 2020a, "Analyzing and Improving the Image Quality of StyleGAN", appendix D.
    """
    see, weights = features

    def losses(nets: Nets, weights, w: Array, given, target: Array) -> Array:
        image = entry.latent.synthesise(*nets, w, given)
        far = jnp.square(image - jnp.broadcast_to(target, image.shape)).mean((1, 2, 3))  # [b]
        if see:
            a, b = see(weights, image), see(weights, target)
            far += jnp.square(a - jnp.broadcast_to(b, a.shape)).mean(1) / (jnp.square(b).mean() + 1e-8)
        return far

    count = 10_000 if entry.latent.linear else 64
    given = conditions(count, labels)
    if entry.latent.linear:
        start, sigma = middle(entry, seed, count, given)
        label = {name: x[:1] for name, x in given.items()}
    else:
        samples = entry.sample(seed, np.arange(count), given)  # [64 ...]
        sigma = float(np.sqrt(np.square(samples - samples.mean(0, keepdims=True)).sum(-1).mean()))
        best = int(np.argmin(jax.jit(losses)(entry.nets, weights, samples, given, target)))
        start, label = samples[best : best + 1], {name: x[best : best + 1] for name, x in given.items()}

    optimizer = optax.adam(rate(steps))
    every = next(k for k in range(min(TICK, steps), 0, -1) if steps % k == 0)

    def tick(nets, weights, carry, first, target):
        def step(carry, i):
            w, moments = carry
            key = jax.random.fold_in(rng.fold(jax.random.key(seed), "projection"), i)
            strength = NOISE * sigma * jnp.square(jnp.maximum(0.0, 1 - i / steps / 0.75))
            noise = strength * jax.random.normal(key, w.shape)
            value, slope = jax.value_and_grad(lambda w: losses(nets, weights, w + noise, label, target)[0])(w)
            updates, moments = optimizer.update(slope, moments)
            return (optax.apply_updates(w, updates), moments), value

        return jax.lax.scan(step, carry, first + jnp.arange(every))

    play, values = jax.jit(tick, out_shardings=entry.whole), []
    carry = jax.device_put((start, optimizer.init(start)), entry.whole)  # as it comes back: nothing is compiled twice
    for first in ticks(range(0, steps, every)):
        carry, value = play(entry.nets, weights, carry, first, target)
        values.append(np.asarray(value))
    w = np.asarray(carry[0])
    image = entry.paint(w, label)
    near = float(psnr(eight_bit(jnp.asarray(image)), eight_bit(jnp.asarray(target)))[0])
    return Projection(w, label.get("label"), image, np.concatenate(values), near)
