"""IAF: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016.

A VAE with a posterior that is a diagonal Gaussian, transformed by flows z <- sigma z + (1 - sigma) m (the paper's
numerically stable form). m and sigma = sigmoid(s) of each number depend on the numbers before it and on h, a further
output of the encoder. The Jacobian of a flow is triangular, so log q decreases by sum log sigma. Each flow is a masked
autoencoder with one hidden layer (Germain et al. 2015, "MADE"), and the order of the numbers is reversed between two
flows. The nets are MLPs with one layer of latents. The authors' code (openai/iaf) has several layers of convolutional
latents, and gives h to the hidden layer of a flow only, here also to m and s.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array, Key, Params
from jaxgen.interop.weight_names import LAYOUTS, Layout, Path, Rule, plain
from jaxgen.losses.elbo import normal_log_density
from jaxgen.models.vae._nets import ImageEncoder, NetConfig
from jaxgen.models.vae.vae import VAE, row
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32


@dataclass(frozen=True)
class IAF(VAE):
    """Hyper-parameters of a VAE with an inverse autoregressive flow."""

    flows: Count = 2  # number of flows
    flow_width: Count = 320  # hidden units of each flow; h is as large as z

    @property
    def encoder(self) -> ImageEncoder:
        # The head of h is called "told" in saved runs.
        return ImageEncoder(self.nets, ("mean", "log_var", "told"), self.latent, self.classes)

    @property
    def flow(self) -> "InverseAutoregressiveFlows":
        return InverseAutoregressiveFlows(self.flows, self.flow_width)

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        z = jnp.zeros((2, self.latent))
        return {**params, "flow": self.flow.init(rng.fold(key, "flow"), z, z)["params"]}, extra

    def posterior(self, params: Params, batch) -> Any:
        """Return the mean and the log variance of the Gaussian, and h, f32[b latent] each."""
        x = self.p.values(batch["image"])
        found: Any = self.encoder.apply({"params": params["encoder"]}, x, self.label_of(batch))
        return found["mean"], found["log_var"], found["told"]

    def sample_posterior(self, params: Params, q: Any, noise: Array) -> tuple[Array, Array]:
        mean, log_var, h = q
        z, log_q = super().sample_posterior(params, (mean, log_var), noise)
        flow: Any = self.flow.apply({"params": params["flow"]}, z, h)
        order = slice(None, None, -1 if self.flows % 2 else 1)  # each flow reverses it
        return flow[0], log_q[:, order] - flow[1]

    def kl_divergence(self, params: Params, q: Any, z: Array, log_q: Array) -> Array:
        return log_q - normal_log_density(z)

    def posterior_mean(self, params: Params, q: Any) -> Array:
        """Return the Gaussian's mean after the flows."""
        return self.sample_posterior(params, q, jnp.zeros_like(q[0]))[0]


class InverseAutoregressiveFlows(nn.Module):
    """(z f32[b d], h f32[b d]) -> z' f32[b d], the terms of log |det dz'/dz| of each number of z', f32[b d]."""

    count: int
    width: int

    @nn.compact
    def __call__(self, z: Array, h: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros_like(z)
        for i in range(self.count):
            m, s = MADE(self.width, name=f"flow_{i}")(z, h)
            s = s + 2.0  # so that the flow starts near the identity
            z = jax.nn.sigmoid(s) * z + jax.nn.sigmoid(-s) * m
            log_det = (log_det + jax.nn.log_sigmoid(s))[:, ::-1]
            z = z[:, ::-1]
        return z, log_det


class MADE(nn.Module):
    """(z f32[b d], h f32[b d]) -> m, s f32[b d]; their number i depends on h and on the numbers of z before i.

    Each hidden unit has a degree between 1 and d - 1. It depends on the first `degree` numbers of z, and only the
    outputs after them depend on it.
    """

    width: int

    @nn.compact
    def __call__(self, z: Array, h: Array) -> tuple[Array, Array]:
        d = z.shape[1]
        index = np.arange(d)  # number i has degree i + 1
        degree = 1 + np.arange(self.width) % max(d - 1, 1)
        input_mask = np.float32(index[:, None] < degree[None])  # [d width]
        output_mask = np.float32(degree[:, None] <= index[None])  # [width d]
        init = nn.initializers.lecun_normal()
        # The names "told", "m_told" and "s_told" are those of saved runs.
        kernel = self.param("hidden", init, (d, self.width)) * input_mask
        y = nn.elu(jnp.matmul(z.astype(kernel.dtype), kernel) + Dense(self.width, name="told")(h))  # [b width]
        out = []
        for name in ("m", "s"):
            kernel = self.param(name, init, (self.width, d)) * output_mask
            out.append(to_f32(jnp.matmul(y.astype(kernel.dtype), kernel) + Dense(d, name=f"{name}_told")(h)))
        return out[0], out[1]


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """The plain rule; the masked kernels are [in out], as those of dense layers, and PyTorch has [out in]."""
    name, layout = plain(model, net, path, shape)
    return name, LAYOUTS[2] if path[-1] in ("hidden", "m", "s") else layout


WEIGHT_NAMES: Rule = weight_name


NETS = NetConfig(width=200, depth=2)  # as `iwae`
PRESETS = {"vae-iaf": row(IAF(latent=50, nets=NETS), 574_174, flow_width=16)}
