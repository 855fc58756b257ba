"""MDM: Tevet, Raab, Gordon, Shafir, Cohen-Or and Bermano 2023, "Human Motion Diffusion Model".

A transformer encoder reads a noisy clip behind one token of the noise level and the action, and predicts the clean clip
itself, so that places and velocities of joints, and feet on the ground, can be compared as well (equations 3 to 5). In
training some actions are hidden: classifier-free guidance. The paper's clips have 196 frames, its conditions are texts
or actions; it samples by all 1,000 steps of DDPM, here 50 of DDIM are the default.

A frame holds the root's velocity and contacts (jaxgen/data/motion_clips).

`mdm`  the CMU split: 60 frames at 25 a second, 8 actions
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Denoiser
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Share
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.diffusion import schedules
from jaxgen.diffusion.grids import ddpm_timesteps, grid
from jaxgen.diffusion.schedules import expand_like
from jaxgen.nn.conv import Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.sequence_transformer import SequenceLayer, positions
from jaxgen.nn.transformer import stack_layers
from jaxgen.tasks.denoising import Sampling, drop_labels, generator
from jaxgen.tasks.motion_generation import CMU_ACTIONS, RATE, Space, motion_task, row, space_of, squared


@dataclass(frozen=True)
class MDM:
    """Hyper-parameters of an MDM."""

    skeleton: str = "cmu"  # cmu, deepmimic, smpl, or a file of a motion that has it
    unit: float = 0.0  # metres of one of its lengths; 0: the power of ten that makes it man-sized
    rate: float = RATE  # frames in a second
    frames: Count = 60  # of a clip
    classes: int = CMU_ACTIONS  # actions; 0: unconditional
    width: Count = 512  # features of a frame
    heads: Count = 4
    hidden: Count = 1024  # features of the perceptrons
    depth: Count = 8  # layers
    dropout: Share = 0.1
    timesteps: Count = 1000  # noise levels of the cosine schedule
    drop: Decay = 0.1  # share of actions that are hidden in training
    places: float = 1.0  # factor on the squared distance of joints, in square metres; so of their steps, and of the
    steps: float = 1.0  # steps of joints from frame to frame
    feet: float = 1.0  # steps of feet that stand
    sampling: Sampling = Sampling("ddim", 50, "time")
    learning_rate: float = 1e-4
    ema: Decay = 0.9999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        space = space_of(self)
        self.sampling.check(self.classes, self.drop, "ve")
        if self.sampling.guide or self.sampling.classifier:
            raise InputError(
                "This model is guided by its own unconditional prediction: leave out guide and classifier."
            )
        denoiser = self.denoiser(space)

        def init(key: Key) -> Params:
            label = jnp.zeros(1, jnp.int32) if self.classes else None
            x = jnp.zeros((1, self.frames, space.channels))
            return {"generator": self.net(space.channels).init(key, x, jnp.zeros(1), label)["params"]}

        def loss(params: Params, context: Context, x0: Array, clip: Array, label: Array | None, key: Key):
            keys = {name: rng.fold(key, name) for name in ("t", "eps", "hide", "dropout")}
            t = jax.random.randint(keys["t"], x0.shape[:1], 0, self.timesteps)
            tau = jnp.asarray(self.taus, jnp.float32)[t]
            alpha = 1 / jnp.sqrt(1 + tau**2)
            xt = expand_like(x0, alpha) * (x0 + expand_like(x0, tau) * jax.random.normal(keys["eps"], x0.shape))
            label = drop_labels(label, self.classes, self.drop, keys["hide"])
            net = self.net(space.channels, context.train)
            use = {"params": params["generator"]}
            made: Any = net.apply(use, xt, jnp.float32(t), label, rngs={"dropout": keys["dropout"]})
            terms = {"clean": squared(made, x0), **geometric(space, space.leave(context.extra["clips"], made), clip)}
            factors = {"clean": 1.0, "places": self.places, "steps": self.steps, "feet": self.feet}  # equation 6
            return sum((factors[name] * term for name, term in terms.items()), jnp.zeros(())), terms

        def draw(params: Params, context: Context, keys: Key, given: Batch) -> dict[str, Array]:
            made = generator(denoiser, self.sampling)(params, context, keys, given)
            return {"nfe" if name == "nfe" else "motion": x for name, x in made.items()}

        return motion_task(self, space, init, loss, draw, optax.adamw(self.learning_rate), (denoiser,))

    def net(self, channels: int, train: bool = False) -> "MDMNet":
        return MDMNet(channels, self.classes, self.width, self.heads, self.hidden, self.depth, self.dropout, train)

    @property
    def taus(self) -> np.ndarray:
        """sigma / alpha at each time, rising, f64[T]."""
        bar = schedules.alpha_bars(schedules.betas("cosine", self.timesteps))
        return np.sqrt((1 - bar) / bar)

    def denoiser(self, space: Space) -> Denoiser:
        """Return the net as a denoiser of clips f32[t c] in the net's space."""
        how, table = self.sampling, self.taus
        if how.grid == "time":
            taus = np.append(table[ddpm_timesteps(how.steps, self.timesteps)], 0.0)
        else:
            taus = grid(how.grid, how.steps, "ve", table[0], table[-1])
        net, levels = self.net(space.channels), jnp.log(jnp.asarray(table, jnp.float32))

        def predict_x0(params: Params, context: Context, x: Array, tau: Array, conditioning: Batch) -> Array:
            t = jnp.interp(jnp.log(tau), levels, jnp.arange(self.timesteps, dtype=jnp.float32))
            xt = x * expand_like(x, 1 / jnp.sqrt(1 + tau**2))
            return net.apply({"params": params["generator"]}, xt, t, conditioning.get("label"))  # pyright: ignore

        encode = lambda params, context, clip: space.enter(context.extra["clips"], clip)  # noqa: E731
        decode = lambda params, context, x: space.leave(context.extra["clips"], x)  # noqa: E731
        null = {"label": self.classes} if self.classes else {}
        shape = (self.frames, space.channels)
        return Denoiser(predict_x0, "ve", taus, shape, null, bool(self.drop), encode=encode, decode=decode)


def geometric(space: Space, made: Array, true: Array) -> dict[str, Array]:
    """Return how far the places of joints, their steps, and feet that stand are off, f32[] each: equations 3 to 5."""
    at, ought = space.format.places(made), space.format.places(true)  # [b t j 3]
    step = jnp.diff(at, axis=1)
    stands = true[:, 1:, -1, 4:, None]  # [b t-1 2 1]
    feet = step[:, :, np.asarray(space.format.feet)] * stands
    return {
        "places": squared(at, ought),
        "steps": squared(step, jnp.diff(ought, axis=1)),
        "feet": squared(feet, 0 * feet),
    }


class MDMNet(nn.Module):
    """x f32[b t c], time f32[b], label i32[b] (below classes, or that: none) -> clean x. Section 3, figure 2."""

    channels: int
    classes: int
    width: int
    heads: int
    hidden: int
    depth: int
    dropout: float
    train: bool = False

    @nn.compact
    def __call__(self, x: Array, time: Array, label: Array | None) -> Array:
        token = ScalarEmbedding(self.width, self.width, name="time")(time).astype(x.dtype)  # [b width]
        if label is not None:
            table = self.param("action", nn.initializers.normal(1.0), (self.classes, self.width))
            own = table[jnp.minimum(label, self.classes - 1)].astype(x.dtype)
            token = token + jnp.where(expand_like(own, label) < self.classes, own, 0.0)
        y = jnp.concatenate([token[:, None], Dense(self.width, name="embed")(x)], 1)  # [b t+1 width]
        y = y + positions(y.shape[1], self.width)[None].astype(y.dtype)
        y = nn.Dropout(self.dropout, deterministic=not self.train)(y)
        layer = SequenceLayer(self.heads, self.hidden, self.dropout, self.train, name="layers")
        return Dense(self.channels, name="final")(stack_layers(layer, self.depth, y)[:, 1:])


SMALL = MDM("deepmimic", frames=4, classes=3, width=8, heads=2, hidden=8, depth=2, sampling=Sampling("ddim", 3, "time"))
PRESETS = {"mdm": row(MDM(), SMALL, 17_548_992, 600_000, 64)}
