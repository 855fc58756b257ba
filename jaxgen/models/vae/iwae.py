"""IWAE: Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.

A VAE trained on L_k = E log 1/k sum_i p(x, z_i) / q(z_i | x) (equation 8), which grows with k to log p(x). The
encoder's gradient is the paper's, or the doubly reparameterised one, whose signal does not vanish as k grows: Tucker et
al. 2019, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives".

Measured: not yet measured.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.nn import softmax

from jaxgen import rng
from jaxgen.core import Array, Aux, Context, Key, Params, Task
from jaxgen.errors import InputError, at_least
from jaxgen.losses.elbo import kl_standard
from jaxgen.metrics.likelihood import importance_weighted_bound
from jaxgen.models.vae.nets import Nets
from jaxgen.models.vae.vae import COLLAPSED, VAE, row


@dataclass(frozen=True)
class IWAE(VAE):
    """Hyper-parameters of an importance-weighted autoencoder."""

    samples: int = 50  # k: of z, for each picture
    gradient: Literal["iwae", "dreg"] = "dreg"  # the encoder's

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError also for weights of a KL, which its bound has not."""
        at_least(1, model__samples=self.samples)
        if self.beta != 1 or self.anneal or self.free_bits:
            raise InputError("The bound of an IWAE has no KL to weigh: model.beta, anneal and free-bits are a VAE's.")
        return super().task(steps)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        del context
        mean, log_var = self.posterior(params, batch)
        noise = rng.normal(jax.random.split(key, len(mean)), (self.samples, self.latent))  # [b k latent]
        z = mean[None] + jnp.exp(log_var / 2)[None] * jnp.moveaxis(noise, 1, 0)  # [k b latent]

        def weights(params, mean, log_var, z):
            return jax.vmap(lambda z: self.log_weight(params, batch, mean, log_var, z))(z)  # [k b]

        fixed = jax.lax.stop_gradient
        if self.gradient == "iwae":
            log_w = weights(params, mean, log_var, z)
            bound = importance_weighted_bound(log_w, jnp.zeros_like(log_w))  # [b]
        else:
            log_w = weights(params, *fixed((mean, log_var, z)))  # the decoder's way
            through_z = weights(*fixed((params, mean, log_var)), z)  # the encoder's, by its samples alone
            share = fixed(softmax(log_w, 0))
            gradient = (share * log_w + share**2 * through_z).sum(0)
            value = importance_weighted_bound(log_w, jnp.zeros_like(log_w))
            bound = gradient + fixed(value - gradient)
        kl = kl_standard(mean, log_var)  # [b latent]
        metrics = {
            "elbo": log_w.mean(),
            "bound": bound.mean(),
            "kl": kl.sum(1).mean(),
            "active_units": (kl.mean(0) > COLLAPSED).sum(dtype=jnp.float32),
            "effective_samples": (1 / (softmax(log_w, 0) ** 2).sum(0)).mean(),
        }
        return -bound.mean(), Aux(metrics)


PRESETS = {"iwae": row(IWAE(latent=50, nets=Nets(width=200, depth=2)), 425_284, samples=3)}
