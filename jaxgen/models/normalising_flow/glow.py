"""Glow: Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018.

A step is an activation normalisation, which the first batch initialises, an invertible 1x1 convolution, and an affine
coupling of the channels (table 1). Each of L levels is a rearrangement of 2x2 pixels to channels, K steps, and a split,
after which half of the channels are done: z is their distance from a mean and a scale that are predicted from the
others. Sizes are those of the authors' code for CIFAR-10, and so are the scale sigmoid(raw + 2) of a coupling and the
zero-initialised convolutions with learned scales. The steps of a level are stacked: they compile as one.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data
from jaxgen.core.ranges import Count, Decay
from jaxgen.losses.elbo import sum_per_example
from jaxgen.models.normalising_flow._bijections import START, ActNorm, InvertibleConv
from jaxgen.models.normalising_flow._flow import Flow, row
from jaxgen.models.normalising_flow.realnvp import check_sides
from jaxgen.nn.conv import REMAT_POLICY, Conv
from jaxgen.nn.precision import to_f32
from jaxgen.nn.shuffle import depth_to_space, space_to_depth

Array = jax.Array


@dataclass(frozen=True)
class Glow(Flow):
    """Hyper-parameters of a Glow."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    alpha: Decay = 0.0  # of the logit of pixels: how far black and white are from the ends; 0: no logit
    scales: Count = 3  # L
    depth: Count = 32  # K, steps of each scale
    width: Count = 512  # features of the couplings' nets

    def check(self):
        check_sides(self.image, self.scales, "scales")

    @property
    def module(self) -> "GlowNet":
        return GlowNet(self.image, self.scales, self.depth, self.width)


class ZeroConv(nn.Module):
    """A convolution that starts at 0, its outputs scaled by exp(3 logs). Section 3.3 and the authors' code."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = to_f32(Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, name="conv")(x))
        logs = to_f32(self.param("logs", nn.initializers.zeros, (self.features,)))
        return y * jnp.exp(3 * logs)[None, None, None]


class AffineCoupling(nn.Module):
    """The first half of the channels gives a shift and a scale of the others. Table 1."""

    width: int

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        kept, free = jnp.split(x, 2, -1)
        conv = partial(Conv, self.width, use_bias=False, kernel_init=nn.initializers.normal(0.05))
        h = nn.relu(ActNorm(name="norm_1")(to_f32(conv((3, 3), name="conv_1")(kept)))[0])
        h = nn.relu(ActNorm(name="norm_2")(to_f32(conv((1, 1), name="conv_2")(h)))[0])
        shift, raw = jnp.split(ZeroConv(x.shape[-1], name="out")(h), 2, -1)
        log_scale = nn.log_sigmoid(raw + 2)
        free = free * jnp.exp(-log_scale) - shift if inverse else (free + shift) * jnp.exp(log_scale)
        log_det = sum_per_example(log_scale)
        return jnp.concatenate([kept, free], -1), -log_det if inverse else log_det


class Step(nn.Module):
    """One step of the flow, of what has been done: (x, log-determinant) -> (x, log-determinant). Figure 2a."""

    width: int

    @nn.compact
    def __call__(self, x: Array, total: Array, inverse: bool = False) -> tuple[Array, Array]:
        layers = [ActNorm(name="norm"), InvertibleConv(name="mix"), AffineCoupling(self.width, name="coupling")]
        for layer in reversed(layers) if inverse else layers:
            x, log_det = layer(x, inverse)
            total = total + log_det
        return x, total


class GlowNet(nn.Module):
    """x f32[b h w c] -> (z f32[b n], log-determinant f32[b]); with inverse z -> (x, log-determinant)."""

    image: tuple[int, int, int]
    scales: int
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        return self.scale(x, self.image, 0, inverse)

    def scale(self, x: Array, shape: tuple[int, int, int], level: int, inverse: bool) -> tuple[Array, Array]:
        """Return z of what enters a scale, or with inverse what entered it, and the log-determinant. Figure 2b."""
        height, width, channels = shape[0] // 2, shape[1] // 2, 4 * shape[2]
        whole, half = (height, width, channels), (height, width, channels // 2)
        done, last = math.prod(half), level + 1 == self.scales
        total = jnp.zeros(len(x))
        if not inverse:
            x, total = self.steps(space_to_depth(x, 2), total, level, False)
            if last:
                z, log_det = self.standardised(x, self.top(channels), False)
                return z.reshape(len(x), -1), total + log_det
            kept, out = jnp.split(x, 2, -1)
            z, log_det = self.standardised(out, self.predicted(kept, level), False)
            rest, more = self.scale(kept, half, level + 1, False)
            return jnp.concatenate([z.reshape(len(x), -1), rest], 1), total + log_det + more
        if last:
            x, log_det = self.standardised(x.reshape(-1, *whole), self.top(channels), True)
        else:
            kept, total = self.scale(x[:, done:], half, level + 1, True)
            out, log_det = self.standardised(x[:, :done].reshape(-1, *half), self.predicted(kept, level), True)
            x = jnp.concatenate([kept, out], -1)
        x, total = self.steps(x, total + log_det, level, True)
        return depth_to_space(x, 2), total

    def steps(self, x: Array, total: Array, level: int, inverse: bool) -> tuple[Array, Array]:
        """Return x after the K steps of a level, whose parameters are stacked."""

        def body(step: Step, carry: tuple[Array, Array], _: None):
            call = nn.remat(lambda step, *given: step(*given, inverse), policy=REMAT_POLICY, prevent_cse=False)
            return call(step, *carry), None

        axes: Any = {"params": 0, START: 0}
        rngs: Any = {"params": True}
        scan = nn.scan(body, variable_axes=axes, split_rngs=rngs, length=self.depth, reverse=inverse)
        return scan(Step(self.width, name=f"level_{level}"), (x, total), None)[0]

    def predicted(self, kept: Array, level: int) -> tuple[Array, Array]:
        """Return the mean and the log scale of the channels that are done, given the others."""
        mean, logs = jnp.split(ZeroConv(2 * kept.shape[-1], name=f"prior_{level}")(kept), 2, -1)
        return mean, logs

    def top(self, channels: int) -> tuple[Array, Array]:
        """Return the mean and the log scale of the last scale's channels, which are learned."""
        mean, logs = (to_f32(self.param(f"top_{n}", nn.initializers.zeros, (channels,))) for n in ("mean", "logs"))
        return mean[None, None, None], logs[None, None, None]

    def standardised(self, x: Array, prior: tuple[Array, Array], inverse: bool) -> tuple[Array, Array]:
        """Return (x - mean) exp(-logs), or with inverse x of that, and the log-determinant."""
        mean, logs = prior
        log_det = sum_per_example(jnp.broadcast_to(logs, x.shape))
        return (x * jnp.exp(logs) + mean, log_det) if inverse else ((x - mean) * jnp.exp(-logs), -log_det)

    def everything(self, x: Array) -> Any:
        """Use every net once: for their initialisation."""
        return self(x)


PRESETS = {"glow": row(Glow(), 44_152_272, Data("shapes"), scales=2, depth=2, width=8)}
