"""IAF: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016.

A VAE whose posterior is a diagonal Gaussian sent through flows, z <- sigma z + (1 - sigma) m, where m and sigma =
sigmoid(s) of each number come from the numbers before it, and from what the encoder has to say (the paper's
numerically stable form). A flow's Jacobian is triangular: log q falls by sum log sigma. Each flow is a masked
autoencoder of one hidden layer (Germain et al. 2015, "MADE"); the order is reversed between two flows. Perceptrons and
one layer of latents, where the authors' code (openai/iaf) has a ladder of convolutions, and tells the encoder's word to
a flow's hidden layer alone, here to m and s as well.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import at_least
from jaxgen.core.types import Array, Key, Params
from jaxgen.models.vae._nets import ImageEncoder, NetConfig
from jaxgen.models.vae.vae import VAE, row
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32


@dataclass(frozen=True)
class IAF(VAE):
    """Hyper-parameters of a VAE with an inverse autoregressive flow."""

    flows: int = 2
    flow_width: int = 320  # hidden units of each flow; what the encoder tells them has as many numbers as z

    def check(self):
        super().check()
        at_least(1, model__flows=self.flows, model__flow_width=self.flow_width)

    @property
    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.nets, ("mean", "log_var", "told"), self.latent, self.classes)

    @property
    def flow(self) -> "InverseAutoregressiveFlows":
        return InverseAutoregressiveFlows(self.flows, self.flow_width)

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        z = jnp.zeros((2, self.latent))
        return {**params, "flow": self.flow.init(rng.fold(key, "flow"), z, z)["params"]}, extra

    def posterior(self, params: Params, batch) -> Any:
        """Return the mean and the log variance of the Gaussian, and what the flows are told, f32[b latent] each."""
        x = self.p.values(batch["image"])
        found: Any = self.encoder.apply({"params": params["encoder"]}, x, self.label_of(batch))
        return found["mean"], found["log_var"], found["told"]

    def draw(self, params: Params, q: Any, noise: Array) -> tuple[Array, Array]:
        mean, log_var, told = q
        z, log_q = super().draw(params, (mean, log_var), noise)
        flow: Any = self.flow.apply({"params": params["flow"]}, z, told)
        return flow[0], log_q - flow[1]

    def divergence(self, params: Params, q: Any, z: Array, log_q: Array) -> Array:
        return (log_q - self.log_prior((), z))[:, None]

    def centre(self, params: Params, q: Any) -> Array:
        """Return where q's Gaussian mean goes."""
        return self.draw(params, q, jnp.zeros_like(q[0]))[0]


class InverseAutoregressiveFlows(nn.Module):
    """(z, told f32[b d]) -> z f32[b d], log |det dz'/dz| f32[b]."""

    count: int
    width: int

    @nn.compact
    def __call__(self, z: Array, told: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros(len(z))
        for i in range(self.count):
            m, s = MADE(self.width, name=f"flow_{i}")(z, told)
            s = s + 2.0  # it starts near the identity
            z = jax.nn.sigmoid(s) * z + jax.nn.sigmoid(-s) * m
            log_det = log_det + jax.nn.log_sigmoid(s).sum(1)
            z = z[:, ::-1]
        return z, log_det


class MADE(nn.Module):
    """(z, told f32[b d]) -> m, s f32[b d], number i of which depends on the numbers before i of z, and on all told.

    Hidden unit j has a degree between 1 and d - 1: it sees the numbers up to it, and is seen by those after it.
    """

    width: int

    @nn.compact
    def __call__(self, z: Array, told: Array) -> tuple[Array, Array]:
        d = z.shape[1]
        place = np.arange(d)  # number i has degree i + 1
        degree = 1 + np.arange(self.width) % max(d - 1, 1)
        sees = np.float32(place[:, None] < degree[None])  # [d width]
        seen = np.float32(degree[:, None] <= place[None])  # [width d]
        init = nn.initializers.lecun_normal()
        hidden = self.param("hidden", init, (d, self.width)) * sees
        h = nn.elu(jnp.matmul(z.astype(hidden.dtype), hidden) + Dense(self.width, name="told")(told))  # [b width]
        out = []
        for name in ("m", "s"):
            kernel = self.param(name, init, (self.width, d)) * seen
            out.append(to_f32(jnp.matmul(h.astype(kernel.dtype), kernel) + Dense(d, name=f"{name}_told")(told)))
        return out[0], out[1]


NETS = NetConfig(width=200, depth=2)  # as `iwae`
PRESETS = {"vae-iaf": row(IAF(latent=50, nets=NETS), 574_174, flow_width=16)}
