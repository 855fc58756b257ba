"""VampPrior: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018.

The best prior for the bound is the mean of q(z | x) over the images. It is approached by a mixture of the encoder's
answers to K pseudo-inputs that are learned with everything else, p(z) = 1/K sum_k q(z | u_k). A u_k is an image of
sigmoids. One layer of latents; the nets of vae.py. In the authors' code (jmtomczak/vae_vampprior) a u_k is clipped to
[0, 1] and starts near 0, hidden layers are gated, log variances lie in [-6, 2], the KL's weight rises for 100 epochs,
gradients are normalised and Adam's rate is 5e-4.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array, Key, Params
from jaxgen.losses.elbo import normal_log_prob
from jaxgen.models.vae._nets import NetConfig
from jaxgen.models.vae.vae import VAE, row
from jaxgen.nn.priors import normal

DARK = 1.5  # the mean of the pseudo-inputs' logits, below 0: pixels of a fifth of white, and all unlike


@dataclass(frozen=True)
class VampPriorVAE(VAE):
    """Hyper-parameters of a VAE with a VampPrior."""

    components: int = 500  # K

    def check(self):
        super().check()
        at_least(1, model__components=self.components)
        if self.classes:
            raise InputError("A VampPrior is not told labels: leave model.classes at 0.")

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        logits = jax.random.normal(rng.fold(key, "prior"), (self.components, *self.image)) - DARK
        return {**params, "prior": {"pseudo_inputs": logits}}, extra

    def prior(self, params: Params) -> tuple[Array, Array]:
        """Return the mean and the log variance of q(z | u_k), f32[K latent]."""
        image = 2 * jax.nn.sigmoid(params["prior"]["pseudo_inputs"]) - 1
        return self.posterior(params, {"image": image})

    def log_prior(self, p: Any, z: Array) -> Array:
        log_p = jax.vmap(lambda z: normal_log_prob(jnp.broadcast_to(z[None], p[0].shape), p[0], p[1] / 2))(z)  # [b K]
        return jax.nn.logsumexp(log_p, axis=1) - jnp.log(self.components)

    def divergence(self, params: Params, q: Any, z: Array, log_q: Array) -> Array:
        return (log_q - self.log_prior(self.prior(params), z))[:, None]

    def entry(self) -> Latent:
        """Return how an image comes from noise: z's last number, uniform, says which component w is drawn from."""
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
