"""IWAE: Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.

A VAE trained on L_k = E log 1/k sum_i p(x, z_i) / q(z_i | x) (equation 8), which increases with k towards log p(x).
The encoder's gradient is the paper's, or the doubly reparameterised one, which keeps its signal for large k (Tucker et
al. 2019, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives"). The widths are those of the authors'
code, yburda/iwae. Their layers have tanh, the last bias starts at the mean of the data, and the batch size is 20.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.nn import softmax

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params
from jaxgen.losses.elbo import active_units, kl_standard, normal_log_density
from jaxgen.metrics.likelihood import importance_weighted_bound
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.vae import VAE, row


@dataclass(frozen=True)
class IWAE(VAE):
    """Hyper-parameters of an importance-weighted autoencoder."""

    samples: Count = 50  # k: samples of z for each image
    gradient: Literal["iwae", "dreg"] = "dreg"  # the encoder's gradient estimator

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError also for settings of the KL's weight, which this bound does not have."""
        if self.beta != 1 or self.anneal or self.free_bits:
            raise InputError("The IWAE bound has no KL term: leave model.beta, model.anneal and model.free-bits unset.")
        return super().task(steps)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        del context
        mean, log_var = q = self.posterior(params, batch)
        noise = rng.normal(jax.random.split(key, len(mean)), (self.samples, self.latent))  # [b k latent]
        z = mean[None] + jnp.exp(log_var / 2)[None] * jnp.moveaxis(noise, 1, 0)  # [k b latent]

        def weights(params, q, z):
            log_q = jax.vmap(lambda z: normal_log_density((z - q[0]) * jnp.exp(-q[1] / 2)) - q[1] / 2)(z)
            return jax.vmap(lambda z, log_q: self.log_weight(params, batch, (), z, log_q))(z, log_q)  # [k b]

        log_w = weights(params, q, z) if self.gradient == "iwae" else doubly_reparameterised(weights, params, q, z)
        bound = importance_weighted_bound(log_w, jnp.zeros_like(log_w))  # [b]
        metrics = {
            "elbo": log_w.mean(),
            "bound": bound.mean(),
            "kl": kl_standard(mean, log_var).sum(1).mean(),
            "active_units": active_units(mean),
            "effective_samples": (1 / (softmax(log_w, 0) ** 2).sum(0)).mean(),
        }
        return -bound.mean(), Aux(metrics)


def doubly_reparameterised(weights: Callable[..., Array], params: Params, q: Any, z: Array) -> Array:
    """Return log_w = weights(params, q, z) f32[k b], with a doubly reparameterised gradient through z.

    Let w~ be the normalised weights. The bound's gradient is w~ d log_w through the parameters, as without this
    function; w~^2 d log_w / dz through each z f32[k b ...], so the gradient of each z is multiplied by its w~; and 0
    through q itself. Tucker et al. 2019.
    """

    @jax.custom_vjp
    def f(params, q, z):
        return weights(params, q, z)

    def forward(params, q, z):
        log_w, vjp = jax.vjp(lambda params, z: weights(params, q, z), params, z)
        return log_w, (softmax(log_w, 0), vjp, q)

    def backward(residuals, cotangent):
        normalised, vjp, q = residuals
        of_params, of_z = vjp(cotangent)
        return of_params, jax.tree.map(jnp.zeros_like, q), normalised[..., None] * of_z

    f.defvjp(forward, backward)
    return f(params, q, z)


PRESETS = {"iwae": row(IWAE(latent=50, nets=NetConfig(width=200, depth=2)), 425_284, samples=3)}
