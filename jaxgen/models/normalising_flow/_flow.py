"""The task that normalising flows share: dequantisation, the logit of the pixels, likelihoods and samples.

A level k of 256 becomes y = (k + u) / 256 with u in [0, 1), and x = logit(alpha / 2 + (1 - alpha) y). A net maps x to
z ~ N(0, I). A lower bound of log P of the levels is E_q(u) [log p(y) / 256^D - log q(u)] (Ho et al. 2019, "Flow++",
section 3.1): q is uniform, or a flow of its own. With several draws of u it is the tighter bound of importance weights.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.nn import logsumexp

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Density, Latent
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.ranges import Decay, check_settings
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.losses.elbo import normal_log_density, sum_per_example
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.models.normalising_flow._bijections import START
from jaxgen.nn.priors import normal
from jaxgen.tasks.transforms import example_generation

LEVELS = 256


def to_logits(levels: Array, u: Array, alpha: float, count: int = LEVELS) -> tuple[Array, Array]:
    """Return x = logit(alpha / 2 + (1 - alpha) y) and log |det dx/du| f32[b], y = (levels + u) / count.

    With alpha = 0 it is x = y - 1/2, without the logit. 1 - y is taken of what is left of the levels, so that values
    near 1 keep their digits.
    """
    if not alpha:
        return (levels + u) / count - 0.5, jnp.full(len(u), -math.prod(u.shape[1:]) * math.log(count))
    low = alpha / 2 + (1 - alpha) / count * (levels + u)
    high = alpha / 2 + (1 - alpha) / count * ((count - 1 - levels) + (1 - u))
    log_low, log_high = jnp.log(low), jnp.log(high)
    return log_low - log_high, sum_per_example(math.log((1 - alpha) / count) - log_low - log_high)


def from_logits(x: Array, alpha: float) -> tuple[Array, Array]:
    """Return y = (sigmoid(x) - alpha / 2) / (1 - alpha) and log |det dy/dx| f32[b]; y = x + 1/2 with alpha = 0."""
    if not alpha:
        return x + 0.5, jnp.zeros(len(x))
    log_det = jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x) - math.log(1 - alpha)
    return (jax.nn.sigmoid(x) - alpha / 2) / (1 - alpha), sum_per_example(log_det)


@dataclass(frozen=True)
class Flow:
    """Hyper-parameters of a normalising flow, and its task; subclasses have its net.

    The module has `__call__(x f32[b h w c], inverse=False)` -> (z f32[b n], log |det dz/dx| f32[b]), and with inverse
    (x, log |det dx/dz|) of z; where it learns q(u), also `noise(values f32[b h w c] in [-1, 1], u in [0, 1))` -> (u',
    log q(u')).
    """

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    alpha: Decay = 1e-5  # of the logit of pixels: how far black and white are from the ends; 0: no logit
    learning_rate: float = 1e-3  # of Adam
    ema: Decay = 0.999  # decay of the EMA
    learns_noise = False  # whether the module has `noise`

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range and image sizes that the net can't take."""
        del steps
        check_settings(self, "model.")
        self.check()
        example = labelled(self.image, 0)
        latent = Latent(normal(math.prod(self.image)), lambda params, context, z, given: z, self.decode)

        def generate(params, context, keys, given):
            return {"image": self.decode(params, context, latent.draw(keys, given.get("truncation")), given)}

        return Task(
            init=self.init,
            example=example,
            learners={"flow": Learner(("flow",), optax.adam(self.learning_rate))},
            phases=(Phase("flow", "flow", self.loss),),
            ema=(Ema("flow", ramped(self.ema)),),
            capabilities=(
                example_generation(generate, example),
                latent,
                Codec(self.encode, self.decode),
                Density(self.log_prob),
            ),
        )

    def check(self):
        """Raise InputError for image sizes that the net can't take."""

    @property
    def module(self) -> Any:
        """The net."""
        raise NotImplementedError

    def init(self, key: Key, spec: Any = None):
        x = jnp.zeros((2, *self.image))
        made = self.module.init(rng.fold(key, "flow"), x, method="everything")
        rest = {name: value for name, value in made.items() if name != "params"}
        return {"flow": made["params"]}, {"flow": rest} if rest else {}

    def apply(self, params: Params, extra: Any, *inputs: Any, **how: Any) -> Any:
        return self.module.apply({"params": params["flow"], **extra.get("flow", {})}, *inputs, **how)

    def levels_of(self, x: Array) -> Array:
        """Return the levels 0, 1, ... 255 of images in [-1, 1], as f32."""
        return jnp.round((jnp.clip(x, -1, 1) + 1) * ((LEVELS - 1) / 2))

    def bound(self, params: Params, extra: Any, levels: Array, u: Array, **how: Any) -> tuple[Array, Any]:
        """Return log p(k + u) - log q(u) in nats, f32[b], and the changed collections; u is uniform noise."""
        log_q: Any = jnp.zeros(len(u))
        if self.learns_noise:
            u, log_q = self.apply(params, extra, levels / ((LEVELS - 1) / 2) - 1, u, method="noise")
        x, log_det = to_logits(levels, u, self.alpha)
        found = self.apply(params, extra, x, **how)
        (z, more), changed = found if "mutable" in how else (found, {})
        return normal_log_density(z).sum(1) + log_det + more - log_q, changed

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        levels = self.levels_of(batch["image"])
        u = jax.random.uniform(rng.fold(key, "u"), levels.shape)
        # A layer that its first batch initialises says so in this collection.
        how = {"mutable": [START]} if context.train and START in context.extra.get("flow", {}) else {}
        log_p, changed = self.bound(params, context.extra, levels, u, **how)
        bits = bits_per_dimension(log_p.mean(), math.prod(self.image), DISCRETE)
        return bits, Aux({"nll": -log_p.mean()}, {"flow": changed} if changed else {})

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return log 1/k sum_i p(k + u_i) / q(u_i) of the images' levels in nats, f32[b], with k draws of u."""
        levels = self.levels_of(batch["image"])

        def one(total, i):
            own = jax.vmap(lambda key: rng.fold(jax.random.fold_in(key, i), "u"))(keys)
            u = jax.vmap(lambda key: jax.random.uniform(key, self.image))(own)
            return logsumexp(jnp.stack([total, self.bound(params, context.extra, levels, u)[0]]), axis=0), None

        total, _ = jax.lax.scan(one, jnp.full(len(levels), -jnp.inf), jnp.arange(samples))
        return total - math.log(samples)

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the latents f32[b n] of images, at the middle of each level."""
        levels = self.levels_of(batch["image"])
        x, _ = to_logits(levels, jnp.full(levels.shape, 0.5), self.alpha)
        return self.apply(params, context.extra, x)[0]

    def decode(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return the images in [-1, 1] of latents f32[b n]. Rounded to 8 bits, a pixel has the level where y lies."""
        y, _ = from_logits(self.apply(params, context.extra, z, inverse=True)[0], self.alpha)
        return jnp.clip(y * LEVELS - 0.5, 0, LEVELS - 1) / ((LEVELS - 1) / 2) - 1


def row(model: Any, parameters: int, data: Data = Data("digits"), **small: Any) -> Preset:
    """Return a preset. Its tiny run has 8x8 images and the fields `small` of the model changed."""
    reduced = replace(model, image=(8, 8, model.image[2]), **small)
    return Preset(
        Run(
            model,
            data=data,
            steps=20_000,
            batch=64,
            optim=Optim(clip=1.0, warmup=500),
            log=Log(every=100, samples=1000),
            save=Save(every=1000),
        ),
        tiny=Run(reduced, data=data, steps=20, batch=16, log=Log(every=5, samples=10, count=16), save=Save(every=10)),
        parameters=parameters,
    )
