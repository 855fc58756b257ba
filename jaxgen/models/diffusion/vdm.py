"""VDM: Kingma, Salimans, Poole and Ho, "Variational Diffusion Models", NeurIPS 2021.

z_t = alpha x + sigma eps with sigma^2 = sigmoid(gamma(t)). gamma = -log SNR is a learned, increasing function of t. The
negative bound of log P of 8-bit images, in continuous time (equations 11, 12 and 17), is

    KL(q(z_1 | x) || N(0, I)) - E log p(x | z_0) + 1/2 E_{t, eps} gamma'(t) |eps - eps(z_t, gamma(t))|^2,

where p(x | z_0) is proportional to q(z_0 | x) over the levels of each pixel. The bound depends only on gamma at t = 0
and 1, and these two ends are trained with it. The shape of gamma between them is trained to minimise the variance of
the last term over random times (appendix I). The net's time input is gamma, not t, and the net has no downsampling
(appendix B). Its input includes sines and cosines of the pixels' finest bits (appendix C), and its output is added to
z.

Differences from the authors' code, google-research/vdm: there the optimizer is AdamW with b2 = 0.99 and a decay of
0.01, dropout is 0.1, gamma is a straight line for CIFAR-10 (`hidden=0`), and the weights of a gamma net start at 0.01,
so that gamma is nearly straight. Here they start at 1, and optimizer and dropout are those of the other models.

After a short training of a small net its samples are strokes that form no digits.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.lax import stop_gradient

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay, Signed
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.parameterisations import to_x0
from jaxgen.diffusion.schedules import check_ends, expand_like
from jaxgen.losses.elbo import kl_normal, sum_per_example
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import SMALL, row
from jaxgen.tasks.denoising import Denoiser, Sampling, check_model, denoiser_of, drop_labels, game, generator

LEVELS = 256


@dataclass(frozen=True)
class VDM:
    """Hyper-parameters of a variational diffusion model."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig(multipliers=(1,), depth=4, attention=())
    gamma_min: Signed = -13.3  # initial -log SNR of the lowest noise level
    gamma_max: Signed = 5.0  # initial -log SNR of the highest noise level
    hidden: int = 1024  # units of gamma's net; 0: a straight line between learned ends
    fourier: tuple[int, ...] = (7, 8)  # n of the inputs sin and cos (2^n pi z)
    drop: Decay = 0.0  # share of labels replaced by the null label in training
    sampling: Sampling = Sampling("ddpm", 250, "log-snr", clip=True)
    learning_rate: float = 2e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder = ""  # not supported: the bound is for images

    def task(self, steps: int) -> Task:
        """Return the training task: a phase of the denoiser, then one of the schedule. Raises InputError."""
        del steps
        check_model(self)
        self.sampling.check(self.classes, self.drop, "ve")
        if not self.gamma_min < self.gamma_max:
            raise InputError(f"model.gamma_min={self.gamma_min} must be below model.gamma_max={self.gamma_max}.")
        check_ends(math.exp(self.gamma_max / 2))
        adam = optax.adam(self.learning_rate)
        plain = game(self, generator(self.denoiser, self.sampling), self.log_prob, denoiser=self.denoiser)
        return replace(
            plain,
            learners={**plain.learners, "schedule": Learner(("schedule",), adam)},
            phases=(
                Phase("denoiser", "denoiser", self.loss, stream="t"),
                Phase("schedule", "schedule", self.schedule_loss, stream="t"),
            ),
        )

    @property
    def module(self):
        return self.net.module(self.image[2], self.classes)

    @property
    def schedule(self) -> "Gamma":
        return Gamma((self.gamma_min, self.gamma_max), self.hidden)

    @property
    def denoiser(self) -> Denoiser:
        how = self.sampling
        if how.grid == "time":
            raise InputError(
                "A VDM's time is learned: model.sampling.grid must be log-snr, karras or cosine, not time."
            )
        low, high = math.exp(self.gamma_min / 2), math.exp(self.gamma_max / 2)
        return denoiser_of(self, self.predict_x0, "ve", grid(how.grid, how.steps, "ve", low, high))

    def init(self, key: Key, spec: Any = None):
        seen = (*self.image[:2], self.image[2] * (1 + 2 * len(self.fourier)))
        net = _nets.init(self.module, rng.fold(key, "denoiser"), seen, self.classes)
        return {"denoiser": net, "schedule": self.schedule.init(rng.fold(key, "schedule"), jnp.zeros(2))["params"]}, {}

    def gamma(self, params: Params, t: Array) -> Array:
        """Return -log SNR at times f32[b]."""
        found: Any = self.schedule.apply({"params": params["schedule"]}, t)
        return found

    def predict_eps(
        self, params: Params, z: Array, gamma: Array, label: Array | None, dropout: Key | None = None
    ) -> Array:
        """Return the predicted eps of z at gamma f32[b]: z plus the net's output, as in the authors' code."""
        bits = (LEVELS - 1) / LEVELS * z  # scaled as by the authors: the finest sines are 0 at every level of a pixel
        fine = [f(2.0**n * jnp.pi * bits) for n in self.fourier for f in (jnp.sin, jnp.cos)]
        time = 1000 * (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        x = jnp.concatenate([z, *fine], 3)  # [b h w c(1+2n)]
        return z + _nets.call(self.module, params["denoiser"], x, time, label, dropout=dropout)

    def predict_x0(self, params: Params, context: Context, x: Array, tau: Array, conditioning: Batch) -> Array:
        """Return E[x0 | x] for x = x0 + tau eps."""
        del context
        alpha = 1 / jnp.sqrt(1 + tau**2)
        z = expand_like(x, alpha) * x
        return to_x0(
            "eps", self.predict_eps(params, z, 2 * jnp.log(tau), conditioning.get("label")), z, alpha, tau * alpha
        )

    def diffusion(
        self, params: Params, x: Array, t: Array, eps: Array, label: Array | None, dropout: Key | None = None
    ) -> Array:
        """Return 1/2 gamma'(t) |eps - eps(z_t)|^2 in nats, f32[b]. Its mean over t is the bound's diffusion term."""
        gamma, slope = jax.jvp(lambda t: self.gamma(params, t), (t,), (jnp.ones_like(t),))
        z = noisy(x, gamma, eps)
        return 0.5 * slope * sum_per_example(jnp.square(eps - self.predict_eps(params, z, gamma, label, dropout)))

    def boundary_terms(self, params: Params, x: Array, eps: Array) -> Array:
        """Return the bound's terms at t = 0 and 1, -log p(x | z_0) + KL(q(z_1 | x) || N(0, I)), f32[b]."""
        low, high = self.gamma(params, jnp.asarray([0.0, 1.0]))
        z = noisy(x, jnp.full(x.shape[0], low), eps)
        scale = jnp.exp(0.5 * low)  # standard deviation of z_0 / alpha around x
        levels = jnp.arange(LEVELS) / 127.5 - 1
        rescaled = z / jnp.sqrt(jax.nn.sigmoid(-low))
        gap = (rescaled[..., None] - jnp.broadcast_to(levels, (*x.shape, LEVELS))) / scale  # [b h w c 256]
        log_p = jax.nn.log_softmax(-0.5 * jnp.square(gap), -1)
        place = jnp.int32(jnp.round((x + 1) * 127.5))
        reconstruction = sum_per_example(jnp.take_along_axis(log_p, place[..., None], -1)[..., 0])
        alpha, log_sigma = jnp.sqrt(jax.nn.sigmoid(-high)), 0.5 * jax.nn.log_sigmoid(high)
        zeros = jnp.zeros_like(x)
        return sum_per_example(kl_normal(alpha * x, jnp.full(x.shape, log_sigma), zeros, zeros)) - reconstruction

    def training_draws(self, batch, key: Key):
        """Return the draws of both phases: images, stratified times in [0, 1), noise, labels, dropout's key."""
        x, label = batch["image"], batch["label"] if self.classes else None
        keys = {name: rng.fold(key, name) for name in ("t", "eps", "hide", "dropout")}
        t = (jax.random.uniform(keys["t"]) + jnp.arange(len(x)) / len(x)) % 1
        eps = rng.normal(jax.random.split(keys["eps"], len(x)), self.image)
        dropout = keys["dropout"] if self.net.dropout else None
        return x, t, eps, drop_labels(label, self.classes, self.drop, keys["hide"]), dropout

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x, t, eps, label, dropout = self.training_draws(batch, key)
        diffusion = self.diffusion(params, x, t, eps, label, dropout)
        ends = self.boundary_terms(params, x, eps)
        bits = math.prod(self.image) * math.log(2)
        metrics = {"diffusion": diffusion.mean() / bits, "ends": ends.mean() / bits}
        metrics["bits_per_dimension"] = metrics["diffusion"] + metrics["ends"]
        return diffusion.mean() / bits, Aux(metrics)

    def schedule_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """Return the loss of gamma: the bound trains its ends, the variance of the diffusion term trains its shape."""
        x, t, eps, label, dropout = self.training_draws(batch, key)
        own, bits = params["schedule"], math.prod(self.image) * math.log(2)
        constant = stop_gradient(own)
        by_ends = {**params, "schedule": {**constant, "ends": own["ends"]}}
        by_shape = {**params, "schedule": {**own, "ends": constant["ends"]}}
        bound = (
            self.diffusion(by_ends, x, t, eps, label, dropout) + self.boundary_terms(by_ends, x, eps)
        ).mean() / bits
        square = jnp.square(self.diffusion(by_shape, x, t, eps, label, dropout) / bits).mean() if self.hidden else 0.0
        low, high = own["ends"]
        return bound + square, Aux({"gamma_min": low, "gamma_max": high})

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return a lower bound of log P of 8-bit images in nats, f32[b], from `samples` stratified times."""
        x, label = batch["image"], batch["label"] if self.classes else None

        def one(sum_, i):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            t = (i + jax.vmap(lambda key: jax.random.uniform(rng.fold(key, "t")))(own)) / samples
            eps = rng.normal(jax.vmap(lambda key: rng.fold(key, "eps"))(own), self.image)
            return sum_ + self.diffusion(params, x, t, eps, label) + self.boundary_terms(params, x, eps), None

        found, _ = jax.lax.scan(one, jnp.zeros(x.shape[0]), jnp.arange(samples))
        return -found / samples


def noisy(x: Array, gamma: Array, eps: Array) -> Array:
    """Return z_t of images x at gamma f32[b]."""
    alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))
    return expand_like(x, alpha) * x + expand_like(x, sigma) * eps


class Gamma(nn.Module):
    """t f32[b] in [0, 1] -> -log SNR, increasing: a line, or the output of a net with positive weights. Appendix H."""

    start: tuple[float, float]  # initial values at t = 0 and 1
    hidden: int

    @nn.compact
    def __call__(self, t: Array) -> Array:
        low, high = self.param("ends", lambda key: jnp.asarray(self.start))
        share = self.share(jnp.concatenate([t, jnp.asarray([0.0, 1.0])])[:, None]) if self.hidden else t
        if self.hidden:
            share = (share[:-2] - share[-2]) / (share[-1] - share[-2])
        return low + (high - low) * share

    def share(self, t: Array) -> Array:
        """f32[n 1] -> f32[n], increasing."""
        line = Positive(1, name="l1")(t)
        bent = Positive(1, name="l3")(nn.sigmoid(Positive(self.hidden, name="l2")(line)) / self.hidden)
        return (line + bent)[:, 0]


class Positive(nn.Module):
    """A linear map with the absolute values of its weights, x [b n] -> [b features]."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.normal(1.0), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.normal(1.0), (self.features,))
        y = x @ abs(kernel).astype(x.dtype)
        return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


PRESETS = {"vdm": row(VDM(), 382_406, hidden=16, net=SMALL["dit"])}
