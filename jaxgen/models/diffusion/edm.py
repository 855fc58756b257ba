"""EDM: Karras, Aittala, Aila and Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022.

x = x0 + sigma eps. With F the net, D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), scaled so that the net's input
and target have variance 1 at every noise level (equation 7, table 1). The loss is lambda(sigma) |D - x0|^2 with
lambda = 1 / c_out^2 and log sigma ~ N(P_mean, P_std^2). Sampling uses Heun's method over the levels of equation 5.

Differences from the authors' training: their augmentations are not here, dropout (0.13 on CIFAR-10) is off, and a share
`drop` of labels is replaced by the null label, for classifier-free guidance.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay, Positive, Signed
from jaxgen.core.spec import kind_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.schedules import check_ends, expand_like, rectified_flow
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import row
from jaxgen.tasks.denoising import (
    Denoiser,
    Sampling,
    check_model,
    denoiser_of,
    drop_labels,
    game,
    generator,
    ode_log_prob,
    shape_of,
    with_label,
)


@dataclass(frozen=True)
class EDM:
    """Hyper-parameters of an EDM."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    sigma_data: Positive = 0.5  # standard deviation of the data
    p_mean: Signed = -1.2  # mean of log sigma in training
    p_std: Positive = 1.2  # standard deviation of log sigma in training
    sigma_min: Positive = 0.002  # lowest noise level of sampling
    sigma_max: Positive = 80.0  # highest noise level of sampling
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: Sampling = Sampling()
    learning_rate: float = 1e-3  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        self.check()
        d = self.denoiser
        return game(
            self,
            generator(d, self.sampling),
            ode_log_prob(d, self.sigma_min, self.sigma_max, self.sigma_data),
            denoiser=d,
        )

    def check(self):
        check_model(self)
        self.sampling.check(self.classes, self.drop, "ve")
        at_least(self.sigma_min, model__sigma_max=self.sigma_max)
        check_ends(self.sigma_max, self.sigma_data)

    @property
    def module(self):
        return self.net.module(self.shape[-1], self.classes)

    @property
    def denoiser(self) -> Denoiser:
        how = self.sampling
        if how.grid == "time":
            raise InputError(
                "An EDM's time is its noise level: model.sampling.grid must be karras, log-snr or cosine, not time."
            )
        taus = grid(how.grid, how.steps, "ve", self.sigma_min, self.sigma_max, rectified_flow())
        return denoiser_of(self, self.predict_x0, "ve", taus)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes)}, {}

    def predict_x0(
        self,
        params: Params,
        context: Context,
        x: Array,
        sigma: Array,
        conditioning: Batch,
        dropout: Key | None = None,
    ) -> Array:
        """Return D(x, sigma f32[b]), f32[b h w c]. Equation 7."""
        del context
        total = jnp.sqrt(sigma**2 + self.sigma_data**2)
        c_skip, c_out = (self.sigma_data / total) ** 2, sigma * self.sigma_data / total
        x_in, c_noise = expand_like(x, 1 / total) * x, jnp.log(sigma) / 4
        label = conditioning.get("label")
        out = _nets.call(self.module, params["denoiser"], x_in, c_noise, label, dropout=dropout)
        return expand_like(x, c_skip) * x + expand_like(x, c_out) * out

    def errors(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Array, Array]:
        """Return random noise levels for a batch, the squared errors at them, and the errors' weights, f32[b] each."""
        x0, label = batch[kind_of(self.shape)], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("sigma", "eps", "hide", "dropout")}
        sigma = jnp.exp(self.p_mean + self.p_std * jax.random.normal(keys["sigma"], x0.shape[:1]))
        x = x0 + expand_like(x0, sigma) * rng.normal(jax.random.split(keys["eps"], len(x0)), self.shape)
        label = drop_labels(label, self.classes, self.drop, keys["hide"])
        dropout = keys["dropout"] if self.net.dropout else None
        x0_hat = self.predict_x0(params, context, x, sigma, with_label(label), dropout)
        error = jnp.square(x0_hat - x0).mean(range(1, x0.ndim))  # [b]
        return sigma, error, (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        _, error, weight = self.errors(params, context, batch, key)
        return (weight * error).mean(), Aux({"squared_error": error.mean()})


PRESETS = {"edm": row(EDM(), 1_921_601), "edm-conditional": row(EDM(classes=10), 1_923_009)}
