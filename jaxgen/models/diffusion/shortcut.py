"""Shortcut models: Frans, Hafner, Levine and Abbeel, "One Step Diffusion via Shortcut Models", ICLR 2025.

A flow with the step size as an input: s(x_t, t, d) is the mean velocity from t to t - d. For infinitely short steps it
is trained by flow matching. For longer steps the target is the mean of two consecutive steps of half the size
(equation 5), taken with the EMA of the weights. The half steps have d = 1/128, 1/64, ... 1/2; the shortest step is
trained by flow matching only. Time is 1 for noise and 0 for images, the reverse of the paper.

Differences from the authors' code, kvfrans/shortcut-models: there the times of flow matching are multiples of 1/128
too, an eighth of a batch trains long steps, labels are dropped only in flow matching, targets are clipped to [-4, 4],
the optimizer is AdamW with a weight decay of 0.1, and guidance can be learned with the steps. Here times are
continuous, labels are dropped in the whole batch, targets are not clipped, weights are not decayed, and there is no
guidance.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay, Range
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._few_step_sampling import FewStepSampling, few_step_generator
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.tasks.denoising import check_model, drop_labels, game, shape_of


@dataclass(frozen=True)
class Shortcut:
    """Hyper-parameters of a shortcut model."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    shortest: Annotated[int, Range(2)] = 128  # largest number of sampling steps, a power of two
    share: Annotated[float, Range(0, 1, True, True)] = 0.25  # of a batch that trains long steps
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: FewStepSampling = FewStepSampling()
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.999  # decay of the EMA, which computes the targets of long steps
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        check_model(self)
        if self.shortest & (self.shortest - 1):
            raise InputError(f"model.shortest must be a power of two, such as 128, not {self.shortest}.")
        count = self.sampling.steps
        if count & (count - 1) or count > self.shortest:
            raise InputError(f"model.sampling.steps must be a power of two up to {self.shortest}, not {count}.")
        return game(self, few_step_generator(self.mean_velocity, count, self.shape, self.classes))

    @property
    def module(self):
        return self.net.module(self.shape[2], self.classes)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes, True)}, {}

    def velocity(self, params: Params, x: Array, t: Array, d: Array, label: Array | None, key: Key | None = None):
        """Return the mean velocity from times t f32[b] to t - d. The net's second time input is 100 log2(1 / d)."""
        finer = jnp.log2(1 / jnp.maximum(d, 1 / self.shortest))  # d = 0 (flow matching) is encoded as the shortest step
        return _nets.call(
            self.module, params["denoiser"], x, 1000 * t, label, 100 * finer, key if self.net.dropout else None
        )

    def mean_velocity(
        self, params: Params, context: Context, x: Array, t: Array, r: Array, label: Array | None
    ) -> Array:
        return self.velocity(params, x, t, t - r, label)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, label = batch["image"], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "eps", "d", "hide", "dropout")}
        b = len(x0)
        long = jnp.arange(b) < max(round(self.share * b), 1)  # bool[b]
        exponents = self.shortest.bit_length() - 1
        # 1/2, ... 1/shortest: two half steps are one long step
        half = 0.5 ** jax.random.randint(keys["d"], (b,), 1, exponents + 1)
        u = jax.random.uniform(keys["t"], (b,))
        t = jnp.where(long, 2 * half * jnp.ceil(u / (2 * half)), u)  # where a step of this size begins
        eps = rng.normal(jax.random.split(keys["eps"], b), self.shape)
        xt = expand_like(x0, 1 - t) * x0 + expand_like(x0, t) * eps
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        predicted = self.velocity(params, xt, t, jnp.where(long, 2 * half, 0), label, keys["dropout"])
        # Targets: two half steps of the EMA, or the velocity of flow matching.
        average = {"denoiser": context.ema["denoiser"]["params"]} if context.ema else params
        first = self.velocity(average, xt, t, half, label)
        second = self.velocity(average, xt - expand_like(x0, half) * first, t - half, half, label)
        both = jax.lax.stop_gradient((first + second) / 2)
        target = jnp.where(expand_like(x0, jnp.float32(long)) > 0, both, eps - x0)
        error = jnp.square(predicted - target).mean((1, 2, 3))  # [b]
        mean = lambda which: (error * which).sum() / which.sum()  # noqa: E731
        return error.mean(), Aux({"flow": mean(1.0 - long), "consistency": mean(1.0 * long)})


PRESETS = {"shortcut": row(Shortcut(), 1_942_337, net=SMALL["dit"])}
