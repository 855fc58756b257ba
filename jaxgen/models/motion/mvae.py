"""MVAE: Ling, Zinno, Cheng and van de Panne 2020, "Character Controllers Using Motion VAEs".

A VAE of the next frame, given the one before. The encoder sees both; the decoder, six experts whose weights are mixed
by a gating net, makes the next frame of the one before and 32 latents. Samples draw new latents for each frame. In
training the net goes on from its own frames for 8 frames, at first seldom, later always (scheduled sampling).

A frame holds rotations, and the root's velocity and contacts (jaxgen/data/motion_clips); the paper's has places and
velocities of joints too.

`mvae`  the CMU split: one given frame and 60 more
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.losses.elbo import kl_normal
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.recurrent import uniform_within
from jaxgen.tasks.motion_generation import RATE, motion_task, row, space_of, squared

TEACHER, RAMP = 1 / 9, 2 / 9  # shares of the training: until then the true frame before, from then on the own one


@dataclass(frozen=True)
class MVAE:
    """Hyper-parameters of an MVAE."""

    skeleton: str = "cmu"  # cmu, deepmimic, smpl, or a file of a motion that has it
    unit: float = 0.0  # metres of one of its lengths; 0: the power of ten that makes it man-sized
    rate: float = RATE  # frames in a second
    frames: Count = 60  # after the given one
    latent: Count = 32
    width: Count = 256  # of the encoder and of each expert
    experts: Count = 6
    gate: Count = 64  # width of the gating net
    rollout: Count = 8  # frames after which the true frame is given again
    kl: float = 0.2  # factor on the divergence, which is the mean over the latents
    learning_rate: float = 1e-4  # falls to 0
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        space = space_of(self)
        net = MVAENet(space.channels, self.latent, self.width, self.experts, self.gate)

        def init(key: Key) -> Params:
            x = jnp.zeros((1, space.channels))
            return {"generator": net.init(key, x, x)["params"]}

        def loss(params: Params, context: Context, x: Array, clip: Array, label: Any, key: Key):
            del clip, label
            use, count = {"params": params["generator"]}, x.shape[1] - 1
            keys = jax.random.split(key, count)
            done = context.step / steps
            own = jnp.clip((done - TEACHER) / (RAMP - TEACHER), 0, 1)  # probability of the own frame before

            def step(last: Array, now: tuple):
                before, after, key, first = now
                noise, choice = jax.random.split(key)
                true = first | ~jax.random.bernoulli(choice, own, (len(last), 1))
                last = jnp.where(true, before, last)
                found: Any = net.apply(use, last, after, method="encode")
                mean, log_scale = found
                z = mean + jnp.exp(log_scale) * jax.random.normal(noise, mean.shape)
                made: Any = net.apply(use, last, z, method="decode")
                zero = jnp.zeros(mean.shape)
                kl = kl_normal(to_f32(mean), to_f32(log_scale), zero, zero).mean()
                return to_f32(made), (squared(made, after), kl)

            first = jnp.arange(count) % self.rollout == 0
            before, after = (part.swapaxes(0, 1) for part in (x[:, :-1], x[:, 1:]))
            _, (error, kl) = jax.lax.scan(step, x[:, 0], (before, after, keys, first))
            metrics = {"error": error.mean(), "kl": kl.mean()}
            return metrics["error"] + self.kl * metrics["kl"], metrics

        def draw(params: Params, context: Context, keys: Key, given: Batch) -> dict[str, Array]:
            del context
            use, z = {"params": params["generator"]}, rng.normal(keys, (self.frames, self.latent))  # [b t latent]

            def step(last: Array, z: Array):
                made: Any = net.apply(use, last, z, method="decode")
                made = to_f32(made)
                return made, made

            _, made = jax.lax.scan(step, given["start"][:, -1], z.swapaxes(0, 1))
            return {"motion": made.swapaxes(0, 1)}

        optimizer = optax.adam(optax.linear_schedule(self.learning_rate, 0.0, steps))
        return motion_task(self, space, init, loss, draw, optimizer, start=1)


class MVAENet(nn.Module):
    """The encoder, and the decoder with its experts. Section 4, figure 3."""

    channels: int
    latent: int
    width: int
    experts: int
    gate: int

    def setup(self):
        dense = lambda features: Dense(features)  # noqa: E731
        self.fc1, self.fc2, self.mean, self.log_var = (
            dense(n) for n in (self.width, self.width, self.latent, self.latent)
        )
        self.gate1, self.gate2, self.gate3 = (dense(n) for n in (self.gate, self.gate, self.experts))
        sizes = (self.latent + self.channels, *[self.latent + self.width] * 2)
        outs = (self.width, self.width, self.channels)
        self.layers = [
            (
                self.param(f"experts_{i}_kernel", uniform_within(n), (self.experts, n, m)),
                self.param(f"experts_{i}_bias", nn.initializers.zeros, (self.experts, m)),
            )
            for i, (n, m) in enumerate(zip(sizes, outs, strict=True))
        ]

    def __call__(self, last: Array, now: Array) -> Array:
        return self.decode(last, self.encode(last, now)[0])

    def encode(self, last: Array, now: Array) -> tuple[Array, Array]:
        """Return mean and log deviation [b latent] of the latents of a frame [b c] after the one before."""
        x = jnp.concatenate([now, last], -1)
        y = nn.elu(self.fc1(x))
        y = nn.elu(self.fc2(jnp.concatenate([x, y], -1)))
        y = jnp.concatenate([x, y], -1)
        return self.mean(y), 0.5 * self.log_var(y)

    def decode(self, last: Array, z: Array) -> Array:
        """Return the frame [b c] after the one before, by latents [b latent]."""
        y = jnp.concatenate([z, last], -1)
        share = nn.elu(self.gate2(nn.elu(self.gate1(y))))
        share = jax.nn.softmax(self.gate3(share), -1)  # [b experts]
        y = last
        for i, layer in enumerate(self.layers):
            y = mixed(jnp.concatenate([z, y], -1), share, layer)
            y = nn.elu(y) if i + 1 < len(self.layers) else y
        return y


def mixed(x: Array, share: Array, layer: Sequence[Array]) -> Array:
    """Return x W + b, where W and b are the experts' [e n m] and [e m], mixed by shares [b e]: [b n] -> [b m]."""
    kernel, bias = (part.astype(x.dtype) for part in layer)
    each = jnp.einsum("bn,enm->bem", x, kernel) + bias[None]  # the mixture of products is the product of the mixture
    return (share[..., None] * each).sum(1)


SMALL = MVAE("deepmimic", frames=4, latent=4, width=8, experts=2, gate=4, rollout=2)
PRESETS = {"mvae": row(MVAE(), SMALL, 1_445_062, 100_000, 64)}
