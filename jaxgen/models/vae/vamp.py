"""VampPrior: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018.

The optimal prior for the bound is the aggregated posterior, the mean of q(z | x) over the images. The VampPrior
approximates it by a mixture of posteriors of K pseudo-inputs, p(z) = 1/K sum_k q(z | u_k), which are learned together
with the nets. A pseudo-input u_k is an image of sigmoids. There is one layer of latents, with the nets of vae.py. In
the authors' code (jmtomczak/vae_vampprior) u_k is clipped to [0, 1] and starts near 0, hidden layers are gated, log
variances lie in [-6, 2], the weight of the KL increases for 100 epochs, gradients are normalised, and Adam's rate is
5e-4.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array, Key, Params
from jaxgen.losses.elbo import normal_log_prob
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.vae import VAE, row
from jaxgen.nn.priors import normal

DARK = 1.5  # the pseudo-inputs' logits start from N(-DARK, 1): dark images, all different


@dataclass(frozen=True)
class VampPriorVAE(VAE):
    """Hyper-parameters of a VAE with a VampPrior."""

    components: Count = 500  # K: number of pseudo-inputs

    def check(self):
        super().check()
        if self.classes:
            raise InputError("A VampPrior can't be conditioned on labels: leave model.classes at 0.")
        if self.free_bits:
            raise InputError("Free bits are those of each latent, and this KL has no such parts: give free-bits 0.")

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        logits = jax.random.normal(rng.fold(key, "prior"), (self.components, *self.image)) - DARK
        return {**params, "prior": {"pseudo_inputs": logits}}, extra

    def prior(self, params: Params) -> tuple[Array, Array]:
        """Return the mean and the log variance of each q(z | u_k), f32[K latent] each."""
        image = 2 * jax.nn.sigmoid(params["prior"]["pseudo_inputs"]) - 1
        return self.posterior(params, {"image": image})

    def log_prior(self, p: Any, z: Array) -> Array:
        log_p = jax.vmap(lambda z: normal_log_prob(jnp.broadcast_to(z[None], p[0].shape), p[0], p[1] / 2))(z)  # [b K]
        return jax.nn.logsumexp(log_p, axis=1) - jnp.log(self.components)

    def kl_divergence(self, params: Params, q: Any, z: Array, log_q: Array) -> Array:
        return (log_q.sum(1) - self.log_prior(self.prior(params), z))[:, None]

    def latent_space(self) -> Latent:
        """Return how latents are drawn, mapped and decoded: z's last number, uniform, selects the component of w."""
        noise = normal(self.latent)

        def draw(keys, psi=None):
            which = rng.uniform(jax.vmap(lambda key: rng.fold(key, "component"))(keys), (1,))
            return jnp.concatenate([noise(keys, psi), which], 1)

        def map_(params, context, z, given):
            mean, log_var = self.prior(params)
            k = jnp.clip(((z[:, -1] + 1) / 2 * self.components).astype(jnp.int32), 0, self.components - 1)
            return mean[k] + jnp.exp(log_var[k] / 2) * z[:, :-1]

        return Latent(draw, map_, self.synthesise, linear=True, factors=self.factors)


PRESETS = {"vae-vamp": row(VampPriorVAE(latent=40, nets=NetConfig(width=300, depth=2)), 1_080_464, components=5)}
