"""MeanFlow: Geng, Deng, Bai, Kolter and He, "Mean Flows for One-step Generative Modeling", NeurIPS 2025.

The net predicts the mean velocity u(x_t, r, t) between two times r <= t of the flow x_t = (1 - t) x0 + t eps. By
definition (t - r) u is the integral of the velocity v. It follows that u = v - (t - r) du/dt (equation 6). The
total derivative du/dt, along (v, 0, 1) in (x, r, t), is one forward-mode derivative (jvp). With v = eps - x0 this is
the target, without gradient (equation 9). For most of a batch r = t, where the target is that of flow matching. The
squared error is weighted by 1 / (|error|^2 + c)^p, p = 1 (section 4.3).

Differences from the authors' code, Gsunshine/meanflow: there c is 0.01 (1e-3 in the paper and here), r differs from t
in exactly a quarter of a batch (here each example is drawn independently), Adam's b2 is 0.95, and guidance can be
learned with the mean velocity (not here).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.ranges import Decay, Share, Signed
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._few_step_sampling import FewStepSampling, few_step_generator
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.tasks.denoising import check_model, drop_labels, game, shape_of

FLOOR = 1e-3  # c


@dataclass(frozen=True)
class MeanFlow:
    """Hyper-parameters of a mean flow."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    p_mean: Signed = -0.4  # mean of logit t in training
    p_std: float = 1.0  # standard deviation of logit t in training
    apart: Share = 0.25  # probability that r differs from t in training
    power: float = 1.0  # p, the exponent of the adaptive loss weight
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: FewStepSampling = FewStepSampling()
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        check_model(self)
        return game(self, few_step_generator(self.mean_velocity, self.sampling.steps, self.shape, self.classes))

    @property
    def module(self):
        return self.net.module(self.shape[2], self.classes)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes, True)}, {}

    def mean_velocity(
        self,
        params: Params,
        context: Context,
        x: Array,
        t: Array,
        r: Array,
        label: Array | None,
        dropout: Key | None = None,
    ) -> Array:
        """Return u(x, r, t). The net's time inputs are t and t - r, from 0 to 1: its embedding must be smooth in t."""
        return _nets.call(self.module, params["denoiser"], x, t, label, t - r, dropout)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, label = batch["image"], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "apart", "eps", "hide", "dropout")}
        b = len(x0)
        pair = jax.nn.sigmoid(self.p_mean + self.p_std * jax.random.normal(keys["t"], (2, b)))
        t = pair.max(0)
        r = jnp.where(jax.random.bernoulli(keys["apart"], self.apart, (b,)), pair.min(0), t)
        eps = rng.normal(jax.random.split(keys["eps"], b), self.shape)
        xt, v = expand_like(x0, 1 - t) * x0 + expand_like(x0, t) * eps, eps - x0
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        dropout = keys["dropout"] if self.net.dropout else None
        f = lambda x, t, r: self.mean_velocity(params, context, x, t, r, label, dropout)  # noqa: E731
        u, along = jax.jvp(f, (xt, t, r), (v, jnp.ones(b), jnp.zeros(b)))
        target = jax.lax.stop_gradient(v - expand_like(x0, t - r) * along)
        squared = jnp.square(u - target)
        weight = jax.lax.stop_gradient((squared.sum((1, 2, 3)) + FLOOR) ** -self.power)
        error = squared.mean((1, 2, 3))  # [b]
        return (weight * squared.sum((1, 2, 3))).mean(), Aux({"squared_error": error.mean()})


PRESETS = {"meanflow": row(MeanFlow(), 1_942_337, net=SMALL["dit"])}
