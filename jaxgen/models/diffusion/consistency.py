"""Consistency models: Song, Dhariwal, Chen and Sutskever 2023; trained alone as in Song and Dhariwal, "Improved
Techniques for Training Consistency Models", ICLR 2024.

The consistency function f(x, sigma) = c_skip x + c_out F(c_in x, c_noise) maps any point of a trajectory of the ODE to
its end, the image. c_skip = 1 and c_out = 0 at the lowest noise level (2023, equation 5 and appendix C). Two
neighbouring points of a trajectory are x0 + sigma_{i+1} eps and x0 + sigma_i eps. The loss is the pseudo-Huber distance
between f of the first and f of the second (no gradient), divided by sigma_{i+1} - sigma_i (2024, equations 6 and 7).
The noise levels are Karras's. Above the lowest there are 10 at first, and their number doubles in stages of training up
to 1,280 (equation 8). i is drawn so that log sigma is approximately normal (equation 10). With a teacher, the folder of
an `edm` run, the second point is one Heun step of the teacher's ODE from the first: distillation (2023, algorithm 2).

Differences from the authors' code of 2023, openai/consistency_models: it uses rectified Adam, here Adam. In
distillation only the pairs of points are the same. There 18 or 40 levels are drawn uniformly, the distance is LPIPS,
the target uses an EMA of the weights, the net is initialised from the teacher, and its time input is 250 log sigma, as
the teacher's. Here the time input is log sigma / 4, as in EDM.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least, check_labels
from jaxgen.core.ranges import Count, Decay, Positive, Signed
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params
from jaxgen.diffusion.samplers import noise_like
from jaxgen.diffusion.schedules import check_ends, expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._few_step_sampling import FewStepSampling
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.models.diffusion.edm import EDM
from jaxgen.tasks.denoising import check_model, drop_labels, game, shape_of, with_label
from jaxgen.tasks.teacher import denoiser_loader, teacher_of

RHO = 7.0
HUBER = 0.00054  # c divided by the square root of the data's dimension. 2024, section 3.3


@dataclass(frozen=True)
class Consistency:
    """Hyper-parameters of a consistency model."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    sigma_data: Positive = 0.5  # standard deviation of the data
    sigma_min: Positive = 0.002  # lowest noise level
    sigma_max: Positive = 80.0  # highest noise level
    levels: Count = 10  # noise levels above the lowest at the start of training
    most: Count = 1280  # noise levels above the lowest at the end of training
    p_mean: Signed = -1.1  # mean of log sigma in training
    p_std: Positive = 2.0  # standard deviation of log sigma in training
    drop: Decay = 0.0  # share of labels replaced by the null label in training
    sampling: FewStepSampling = FewStepSampling()
    learning_rate: float = 1e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images
    teacher: str = ""  # folder of an `edm` run; empty: training without a teacher

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for invalid settings and for a teacher that does not fit."""
        check_model(self)
        at_least(self.levels, model__most=self.most)
        if not self.sigma_min < self.sigma_max:
            raise InputError(f"model.sigma_min={self.sigma_min} must be below model.sigma_max={self.sigma_max}.")
        check_ends(self.sigma_max, self.sigma_data)
        if (teacher := self.teacher_model) and self.classes and self.drop and not teacher.drop:
            raise InputError(
                f"The teacher {self.teacher} was trained without dropping labels (model.drop 0): give --model.drop 0."
            )
        frozen = {"teacher": denoiser_loader(self.teacher)} if teacher else {}
        return game(self, self.generate, loss=partial(self.loss, steps), frozen=frozen)

    @property
    def module(self):
        return self.net.module(self.shape[2], self.classes)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes)}, {}

    @property
    def teacher_model(self) -> EDM | None:
        """The teacher's hyper-parameters. Raises InputError where its images or classes differ."""
        if not self.teacher:
            return None
        return teacher_of(self.teacher, EDM, self)

    def level_counts(self, steps: int) -> np.ndarray:
        """Return the number of noise levels in each stage of a training of `steps` steps, i64[stages]."""
        doublings = math.floor(math.log2(self.most / self.levels))
        return np.minimum(self.levels * 2 ** np.arange(max(min(doublings + 1, steps), 1)), self.most) + 1

    def levels_of(self, count: Array, i: Array) -> Array:
        """Return the i-th of `count` noise levels, f32, rising from sigma_min to sigma_max. 2023, section 5.1."""
        low, high = self.sigma_min ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return (low + i / (count - 1) * (high - low)) ** RHO

    def consistency_function(
        self, params: Params, x: Array, sigma: Array, label: Array | None, dropout: Key | None = None
    ) -> Array:
        """Return f(x, sigma f32[b]), f32[b h w c]. At sigma_min it is x."""
        total = jnp.sqrt(sigma**2 + self.sigma_data**2)
        above = sigma - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        c_out = self.sigma_data * above / total
        out = _nets.call(
            self.module, params["denoiser"], expand_like(x, 1 / total) * x, jnp.log(sigma) / 4, label, dropout=dropout
        )
        return expand_like(x, c_skip) * x + expand_like(x, c_out) * out

    def draw_levels(self, key: Key, count: Array, b: int) -> tuple[Array, Array]:
        """Return neighbouring noise levels f32[b] of `count`, the lower and the higher. 2024, equation 10."""
        i = jnp.arange(self.most)
        edge = lambda i: erf((jnp.log(self.levels_of(count, i)) - self.p_mean) / (math.sqrt(2) * self.p_std))  # noqa: E731
        share = edge(jnp.minimum(i + 1, count - 1)) - edge(jnp.minimum(i, count - 1))
        drawn = jax.random.categorical(key, jnp.log(jnp.maximum(share, 1e-30)), shape=(b,))
        return self.levels_of(count, drawn), self.levels_of(count, drawn + 1)

    def loss(self, steps: int, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, label = batch["image"], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("sigma", "eps", "hide", "dropout")}
        counts = jnp.asarray(self.level_counts(steps))
        count = counts[jnp.minimum(context.step * len(counts) // steps, len(counts) - 1)]
        low, high = self.draw_levels(keys["sigma"], count, len(x0))
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), self.shape)
        x = x0 + expand_like(x0, high) * eps
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        if teacher := self.teacher_model:
            below = teacher_step(teacher, context, x, high, low, label)
        else:
            below = x0 + expand_like(x0, low) * eps
        dropout = keys["dropout"] if self.net.dropout else None  # the same key for both calls, as in the paper
        target = jax.lax.stop_gradient(self.consistency_function(params, below, low, label, dropout))
        squared = jnp.square(self.consistency_function(params, x, high, label, dropout) - target).sum((1, 2, 3))  # [b]
        c = HUBER * math.sqrt(math.prod(self.shape))
        distance = jnp.sqrt(squared + c**2) - c
        return (distance / (high - low)).mean(), Aux({"distance": distance.mean(), "levels": jnp.float32(count)})

    def generate(self, params: Params, context: Context, keys: Key, given):
        """Return images, by `sampling.steps` times adding noise and applying f. 2023, algorithm 1."""
        check_labels(self.classes, given)
        label = given["label"] if self.classes else None
        start = rng.normal(jax.vmap(lambda key: rng.fold(key, "start"))(keys), self.shape)
        n = self.sampling.steps
        levels = self.levels_of(jnp.asarray(n + 1), jnp.arange(n, 0, -1))  # [n] falling from sigma_max
        x0 = jnp.zeros_like(start)

        def step(x0, at):
            i, sigma = at
            more = jnp.sqrt(jnp.maximum(sigma**2 - self.sigma_min**2, 0))
            noise = jnp.where(i > 0, noise_like(keys, i, x0), start)
            x = jnp.where(i > 0, x0 + more * noise, sigma * noise)
            return self.consistency_function(params, x, jnp.full(x.shape[0], sigma), label), None

        x0, _ = jax.lax.scan(step, x0, (jnp.arange(n), levels))
        return {"image": x0}


def teacher_step(teacher: EDM, context: Context, x: Array, high: Array, low: Array, label: Array | None) -> Array:
    """Return the teacher's ODE solution from x f32[b h w c] at level `high` to level `low`, f32[b], one Heun step."""
    nets, conditioning = {"denoiser": context.frozen["teacher"]}, with_label(label)
    denoise = lambda x, sigma: teacher.predict_x0(nets, context, x, sigma, conditioning)  # noqa: E731
    slope = (x - denoise(x, high)) / expand_like(x, high)
    gap = expand_like(x, low - high)
    ahead = x + gap * slope
    return x + gap * (slope + (ahead - denoise(ahead, low)) / expand_like(x, low)) / 2


PRESETS = {"consistency": row(Consistency(), 1_921_601, most=40, net=SMALL["dit"])}
