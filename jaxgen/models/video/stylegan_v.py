"""StyleGAN-V: Skorokhodov, Tulyakov and Elhoseiny 2022, "StyleGAN-V: A Continuous Video Generator with the Price, Image
Quality and Perks of StyleGAN2".

A clip is a function of continuous time. The style w is drawn once for a clip. A motion code for each frame is
concatenated to the constant that StyleGAN2's generator begins with: noise at evenly spaced times becomes a trajectory
by convolutions over time without padding, and the code of a time between two of its points is a sum of waves, whose
periods and phases depend on the trajectory, and which join at the points (section 3.1, equations 3 to 5). The
discriminator sees three frames of a clip, and how far apart they are: it concatenates their features at 16x16 pixels
(section 3.2). Sizes and initial values are those of the authors' code.

There the generator makes only those three frames in training, which is faster for long clips; here it makes them all.

z is [content, noise of the trajectory].
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.models.gan._stylegan2_nets import (
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    MappingNetwork,
    SynthesisNetwork,
    at_least_float32,
    normalise,
    widths,
)
from jaxgen.models.gan.stylegan2 import PAPER, WEIGHT_NAMES
from jaxgen.models.video.vgan import row
from jaxgen.nn.modulated import EqualDense
from jaxgen.nn.priors import normal
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig
from jaxgen.tasks.video_prediction import Image

__all__ = ["PRESETS", "WEIGHT_NAMES", "StyleGANV"]  # the names of weights are StyleGAN2's
SEEN = 3  # frames that the discriminator sees
JOINED = 16  # side of the maps at which it concatenates their features
EMBEDDING = 256  # of a distance of frames


@dataclass(frozen=True)
class StyleGANV:
    """Hyper-parameters of a StyleGAN-V."""

    frames: Count = 16  # of a clip
    image: Image = (256, 256, 3)  # a frame's height, width, channels; both sides the same power of two
    latent: Count = 512  # size of the content, and of w
    motion: Count = 512  # size of the trajectory's points
    distance: Count = 16  # frames from one point to the next
    kernel: Count = 11  # points that a convolution over time sees
    waves: Count = 256  # of a motion code
    longest: Count = 1024  # frames of the longest period; the shortest is `distance`
    mapping_layers: Count = 8  # of the generator's mapping network
    channel_base: Count = 16384  # feature maps of side s have channel_base / s channels, ...
    channel_max: Count = 512  # ... but at most channel_max
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for frames that are not square, or whose side is not a power of two."""
        del steps
        check_settings(self, "model.")
        side = self.image[0]
        if side != self.image[1] or side < 8 or side & (side - 1):
            raise InputError(
                f"StyleGAN-V makes square frames whose side is a power of two, at least 8, not {side}x{self.image[1]}."
            )
        at_least(SEEN, model__frames=self.frames)
        at_least(side, model__channel_base=self.channel_base)
        size, shape = self.latent + self.points * self.motion, (self.frames, *self.image)
        nets = StyleGANVGenerator(self), StyleGANVDiscriminator(self.frames, self.channel_base, self.channel_max)
        return AdversarialTask(self.game, *nets, shape, normal(size)).task()

    @property
    def points(self) -> int:
        """The number of points of the noise, more than those of the trajectory by what the convolutions take."""
        return math.ceil((self.frames - 1) / self.distance) + 2 + 2 * (self.kernel - 1)


class StyleGANVGenerator(nn.Module):
    """z f32[b n] -> clip f32[b t h w c], not bounded to [-1, 1]."""

    model: StyleGANV

    @nn.compact
    def __call__(self, z: Array, label=None, keys=None, *, train: bool) -> Array:
        del label, keys
        m = self.model
        side, b = m.image[0], len(z)
        w = MappingNetwork(m.latent, m.mapping_layers, beta=0.995, name="mapping")(z[:, : m.latent], None, train)
        noise = z[:, m.latent :].reshape(b, m.points, m.motion)
        codes = MotionCodes(m.kernel, m.distance, m.waves, m.longest, name="motion_encoder")(noise, m.frames)
        count = 2 * (side.bit_length() - 1) - 2
        ws = jnp.broadcast_to(jnp.repeat(w, m.frames, 0)[:, None], (b * m.frames, count, m.latent))  # [b*t n d]
        channels = widths(side, m.channel_base, m.channel_max)
        net = SynthesisNetwork(channels, m.image[2], "skip", noisy=False, name="synthesis")
        return net(ws, None, codes.reshape(b * m.frames, -1)).reshape(b, m.frames, *m.image)


class MotionCodes(nn.Module):
    """noise f32[b points d] -> codes of frames 0, 1, ... f32[b t 2*waves]."""

    kernel: int
    distance: int
    waves: int
    longest: int

    @nn.compact
    def __call__(self, noise: Array, frames: int) -> Array:
        x = noise
        for i in range(2):
            last = x.shape[1] - self.kernel + 1
            seen = jnp.concatenate([x[:, j : j + last] for j in range(self.kernel)], -1)  # [b n-k+1 k*d]
            y = EqualDense(noise.shape[-1], multiplier=0.01, name=f"conv_{i}")(seen)
            x = nn.leaky_relu(y, 0.2)
        time = np.arange(frames, dtype=np.float32)
        at = np.arange(frames) // self.distance
        left, right = x[:, at], x[:, at + 1]  # [b t d]
        periods = 2 ** np.linspace(math.log2(self.distance), math.log2(self.longest), self.waves)[::-1]
        rates = jnp.asarray(2 * np.pi / periods, x.dtype)
        shift = jnp.asarray(self.longest / periods, x.dtype)
        part = lambda count, name: EqualDense(count, use_bias=False, name=name)  # noqa: E731
        rates = rates[None, None] * (jnp.tanh(part(self.waves, "periods_predictor")(left)) + 1)
        phases = part(self.waves, "phase_predictor")(left) * shift[None, None]
        ends = part(2 * self.waves, "aligners_predictor")

        def waves(t: np.ndarray) -> Array:
            angles = rates * jnp.asarray(t, x.dtype)[None, :, None] + phases
            return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)  # [b t 2*waves]

        share = jnp.asarray(time % self.distance / self.distance, x.dtype)[None, :, None]
        between = lambda a, b: a * (1 - share) + b * share  # noqa: E731
        start = (at * self.distance).astype(np.float32)
        line = between(waves(start), waves(start + self.distance))
        return waves(time) - line + between(ends(left), ends(right))  # (5)


class StyleGANVDiscriminator(nn.Module):
    """clip f32[b t h w c] -> logits f32[b], by three of its frames, which are random in training."""

    frames: int
    channel_base: int
    channel_max: int

    @nn.compact
    def __call__(self, clip: Array, label=None, *, train: bool) -> Array:
        del label
        b, t = clip.shape[:2]
        at = jnp.broadcast_to(jnp.asarray([0, t // 2, t - 1])[None], (b, SEEN))
        if train:
            at = random_times(self.make_rng("noise"), b, t)
        x = jnp.take_along_axis(clip, at[..., None, None, None], 1)  # [b 3 h w c]
        channels, y = widths(clip.shape[2], self.channel_base, self.channel_max), None
        sides = sorted(channels, reverse=True)
        small = joined(x) if sides[0] <= JOINED else x.reshape(-1, *x.shape[2:])
        for side, half in pairwise(sides):
            features = channels[half] // 2 if half == JOINED else channels[half]
            y, small = DiscriminatorBlock(channels[side], features, "resnet", name=f"b{side}")(y, small)
            if half == JOINED:
                y = joined(y.reshape(b, SEEN, *y.shape[1:]))  # [b 16 16 3*c]
        assert y is not None
        outputs = channels[4]
        y = at_least_float32(DiscriminatorEpilogue(outputs, "resnet", 4, name="b4")(y, small))  # [b c]
        far = distances(at, self.frames, name="time")
        mapped = normalise(at_least_float32(EqualDense(outputs, name="mapping_embed")(far)))
        for i in range(8):
            mapped = EqualDense(outputs, True, 0.01, name=f"mapping_fc{i}")(mapped)
        return (y * mapped).sum(1) * (1 / math.sqrt(outputs))


def joined(x: Array) -> Array:
    """Return the frames of a clip as channels, f32[b t h w c] -> f32[b h w t*c]."""
    return jnp.moveaxis(x, 1, 3).reshape(x.shape[0], *x.shape[2:4], -1)


def distances(at: Array, frames: int, name: str) -> Array:
    """Return an embedding of the distances of frames at times i32[b 3], f32[b 2*n]; to be called within a module."""
    apart = at[:, 1:] - at[:, :-1]  # [b 2]
    table = nn.Embed(frames, EMBEDDING, embedding_init=nn.initializers.normal(1.0), name=name)(apart)
    rates = 2 * np.pi / 2.0 ** np.arange(1, max(math.ceil(math.log2(frames)), 1) + 1)
    angles = apart[..., None].astype(jnp.float32) * jnp.asarray(rates, jnp.float32)[None, None]
    both = jnp.concatenate([table, jnp.sin(angles), jnp.cos(angles)], -1)  # [b 2 n]
    return both.reshape(len(at), -1)


def random_times(key: Any, count: int, frames: int) -> Array:
    """Return three different times of a clip in order, i32[count 3]: first their whole distance, then the start."""
    draw = jax.random.uniform(key, (count, SEEN))
    whole = 2 + jnp.floor(draw[:, 0] * (frames - 2)).astype(jnp.int32)  # 2 ... frames - 1
    first = jnp.floor(draw[:, 1] * (frames - whole)).astype(jnp.int32)
    middle = 1 + jnp.floor(draw[:, 2] * (whole - 1)).astype(jnp.int32)
    return jnp.stack([first, first + middle, first + whole], 1)


TINY = StyleGANV(
    frames=4,
    image=(8, 8, 3),
    latent=8,
    motion=4,
    distance=2,
    kernel=2,
    waves=4,
    longest=8,
    mapping_layers=1,
    channel_base=64,
    channel_max=8,
    game=replace(PAPER, lazy=2),
)
PRESETS = {"stylegan-v": row(StyleGANV(), TINY, 60_321_045, steps=390_625, batch=64)}
