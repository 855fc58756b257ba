"""DDPM: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020.

x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps at one of T times. The net predicts eps; the loss is
|eps - eps(x_t, t)|^2 (equation 14). With `variance="learned"` the net also predicts the variance of the reverse steps,
as an interpolation between the paper's two choices, trained with the variational bound: Nichol and Dhariwal 2021,
"Improved Denoising Diffusion Probabilistic Models", equations 15 and 16. Their cosine schedule is here too (they use
4,000 times and a learning rate of 1e-4). `predict` selects eps, x0 or v (Salimans and Ho 2022), each with its own
squared error.

The prediction at pure noise must be accurate to a thousandth: after a short training the samples are digits on grey.
The preset's learning rate needs a longer training than a rate of 1e-3.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.spec import kind_of
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params
from jaxgen.diffusion import schedules
from jaxgen.diffusion.grids import ddpm_timesteps, grid
from jaxgen.diffusion.parameterisations import from_x0, to_x0
from jaxgen.diffusion.schedules import expand_like
from jaxgen.losses.elbo import discretised_normal_log_prob, kl_normal, sum_per_example
from jaxgen.models.diffusion import _nets
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import row
from jaxgen.tasks.denoising import Denoiser, Sampling, check_model, denoiser_of, drop_labels, game, generator, shape_of

BOUND_WEIGHT = 0.001  # of the bound, in bits per dimension times T, relative to the squared error: the authors' code
DEFAULT_SAMPLING = Sampling("ddim", 50, "time", clip=True)


@dataclass(frozen=True)
class DDPM:
    """Hyper-parameters of a DDPM."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 0  # number of classes; 0: unconditional
    net: BackboneConfig = BackboneConfig()
    timesteps: Count = 1000  # number of times, T
    schedule: Literal["linear", "cosine"] = "linear"
    predict: Literal["eps", "x0", "v"] = "eps"
    variance: Literal["small", "large", "learned"] = "small"  # of a reverse step: beta~, beta, or an interpolation
    drop: Decay = 0.1  # share of labels replaced by the null label in training
    sampling: Sampling = DEFAULT_SAMPLING
    learning_rate: float = 2e-4  # of Adam
    ema: Decay = 0.9999  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        self.check()
        return game(self, generator(self.denoiser, self.sampling), self.log_prob, denoiser=self.denoiser)

    def check(self):
        check_model(self)
        schedules.check_ends(self.taus[-1])
        self.sampling.check(self.classes, self.drop, "ve")

    @property
    def module(self):
        return self.net.module(self.shape[-1] * (2 if self.variance == "learned" else 1), self.classes)

    @property
    def taus(self) -> np.ndarray:
        """sigma / alpha at each time, rising, f64[T]."""
        bar = schedules.alpha_bars(schedules.betas(self.schedule, self.timesteps))
        return np.sqrt((1 - bar) / bar)

    @property
    def denoiser(self) -> Denoiser:
        how, table = self.sampling, self.taus
        if how.grid == "time":
            taus = np.append(table[ddpm_timesteps(how.steps, self.timesteps)], 0.0)
        else:
            taus = grid(how.grid, how.steps, "ve", table[0], table[-1])
        predict_x0 = lambda *args: self.predict_x0_and_variance(*args)[0]  # noqa: E731
        both = None if self.variance == "small" else self.predict_x0_and_variance
        return denoiser_of(self, predict_x0, "ve", taus, both)

    def init(self, key: Key, spec: Any = None):
        return {"denoiser": _nets.init(self.module, rng.fold(key, "denoiser"), self.shape, self.classes)}, {}

    def net_output(self, params: Params, x: Array, t: Array, label: Array | None, key: Key | None = None):
        """Return the net's prediction at x_t and times t f32[b] from 0 to T - 1, and nu, for the variance."""
        dropout = key if self.net.dropout else None
        out = _nets.call(self.module, params["denoiser"], x, t * (1000 / self.timesteps), label, dropout=dropout)
        if self.variance == "learned":
            out, raw = jnp.split(out, 2, -1)
            return out, (raw + 1) / 2
        return out, jnp.full(x.shape, 0.0 if self.variance == "small" else 1.0)

    def predict_x0_and_variance(self, params: Params, context: Context, x: Array, tau: Array, conditioning: Batch):
        """Return E[x0 | x] and nu for x = x0 + tau eps. Between two of the T times, t is interpolated in log tau."""
        table = jnp.log(jnp.asarray(self.taus, jnp.float32))
        t = jnp.interp(jnp.log(tau), table, jnp.arange(self.timesteps, dtype=jnp.float32))
        alpha = 1 / jnp.sqrt(1 + tau**2)
        xt = expand_like(x, alpha) * x
        out, nu = self.net_output(params, xt, t, conditioning.get("label"))
        return to_x0(self.predict, out, xt, alpha, tau * alpha), nu

    def alpha_sigma(self, t: Array) -> tuple[Array, Array]:
        """Return alpha and sigma f32[b] at times i32[b]."""
        tau = jnp.asarray(self.taus, jnp.float32)[t]
        alpha = 1 / jnp.sqrt(1 + tau**2)
        return alpha, tau * alpha

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, names = batch[kind_of(self.shape)], ("t", "eps", "hide", "dropout")
        keys = {name: rng.fold(key, name) for name in names}
        t = jax.random.randint(keys["t"], x0.shape[:1], 0, self.timesteps)
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), self.shape)
        alpha, sigma = self.alpha_sigma(t)
        xt = expand_like(x0, alpha) * x0 + expand_like(x0, sigma) * eps
        label = drop_labels(batch["label"] if self.classes else None, self.classes, self.drop, keys["hide"])
        out, nu = self.net_output(params, xt, jnp.float32(t), label, keys["dropout"])
        error = jnp.square(out - from_x0(self.predict, x0, xt, alpha, sigma)).mean(range(1, x0.ndim))  # [b]
        metrics = {"squared_error": error.mean()}
        loss = error
        if self.variance == "learned":  # the bound trains the variance only, not the mean
            size, held = math.prod(self.shape), jax.lax.stop_gradient(out)
            term = self.bound_term(x0, to_x0(self.predict, held, xt, alpha, sigma), nu, t) / (size * math.log(2))
            loss = loss + BOUND_WEIGHT * self.timesteps * term
            metrics["bits_per_dimension"] = (self.timesteps * term).mean()
        return loss.mean(), Aux(metrics)

    def bound_term(self, x0: Array, x0_hat: Array, nu: Array, t: Array) -> Array:
        """Return the bound's term at times i32[b] in nats, f32[b], from the predicted x0 and nu [b h w c].

        KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)); at the first time -log p(x0 | x_1). Equations 5 and 7.
        """
        tau = np.concatenate([[0.0], self.taus])  # at x0, x_1, ...; means and deviations below are of x / alpha
        share = tau**2 / (1 + tau**2)
        left = (tau[:-1] / tau[1:]) ** 2
        with np.errstate(divide="ignore"):
            small = 0.5 * np.log(tau[:-1] ** 2 * (1 - left))  # log standard deviation of the posterior
            wider = 0.5 * np.log(share[1:] / share[:-1])  # log standard deviation by beta, minus the posterior's
        # At the first time beta~ is 0: that of the second time is used, in units of the image.
        first = 0.5 * np.log([share[1] / share[2] * (1 - (1 - share[2]) / (1 - share[1])), share[1]])
        small[0], wider[0] = first[0], first[1] - first[0]
        pick = lambda table: expand_like(x0, jnp.asarray(table, jnp.float32)[t])  # noqa: E731
        log_q, log_p = pick(small), pick(small) + nu * pick(wider)
        moved = pick(1 - left)
        kl = sum_per_example(kl_normal(moved * x0, log_q, moved * x0_hat, log_p))
        return jnp.where(t > 0, kl, -discretised_normal_log_prob(x0, x0_hat, log_p))

    def log_prob(self, params: Params, context: Context, batch, keys: Key, samples: int = 1) -> Array:
        """Return a lower bound of log P of 8-bit images in nats, f32[b]: equation 5, from `samples` of its T terms.

        One term is drawn from each of `samples` equal intervals of time. With T samples or more, the sum is exact.
        """
        x0, label = batch[kind_of(self.shape)], batch["label"] if self.classes else None
        count = min(samples, self.timesteps)

        def one(sum_, i):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            within = jax.vmap(lambda key: jax.random.uniform(rng.fold(key, "t")))(own)
            place = (i + within) if count < self.timesteps else jnp.full(x0.shape[:1], i + 0.5)
            t = jnp.int32(jnp.minimum(place * (self.timesteps / count), self.timesteps - 1))
            alpha, sigma = self.alpha_sigma(t)
            eps = rng.normal(jax.vmap(lambda key: rng.fold(key, "eps"))(own), self.shape)
            xt = expand_like(x0, alpha) * x0 + expand_like(x0, sigma) * eps
            out, nu = self.net_output(params, xt, jnp.float32(t), label)
            return sum_ + self.bound_term(x0, to_x0(self.predict, out, xt, alpha, sigma), nu, t), None

        bound, _ = jax.lax.scan(one, jnp.zeros(x0.shape[0]), jnp.arange(count))
        alpha, sigma = self.alpha_sigma(jnp.asarray(self.timesteps - 1))
        prior = sum_per_example(kl_normal(alpha * x0, jnp.full(x0.shape, jnp.log(sigma)), 0 * x0, 0 * x0))
        return -(bound * (self.timesteps / count) + prior)


IMPROVED = row(
    DDPM(schedule="cosine", variance="learned", classes=10), 1_923_298, net=BackboneConfig("unet", 8, 1, 2, (1, 2), ())
)
PRESETS = {"ddpm": row(DDPM(), 1_921_601), "ddpm-improved": IMPROVED}
