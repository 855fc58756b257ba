"""EDM2: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and Improving the Training Dynamics of
Diffusion Models", CVPR 2024, config G.

EDM with a net that preserves the magnitudes of activations, weights and updates (nn/backbones/mp_unet.py), and with a
loss of equal size at every noise level. A second net learns the logarithm of the loss, u(sigma). The training loss is

    lambda(sigma) / exp(u(sigma)) |D(x, sigma) - x0|^2 + u(sigma)                         (equation 21)

Sampling does not use u. The learning rate rises for `ramp` steps, and after `decay` steps it falls as 1 / sqrt(steps):
the weights have a fixed norm, so that nothing else makes the relative updates smaller. The paper's EMAs, with a width
that is chosen after training, are set by optim.ema_widths. By default no labels are dropped (`drop`): the paper guides
by a second, unconditional net, here by a run with `classes=0` (`sampling.guide`). `p_mean`, `p_std` and `decay` are
those for latents of 512x512 images; for pixels of 64x64 images the authors use -0.8, 1.6 and 35,000.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Optim, Save
from jaxgen.core.ranges import Decay, Positive, Signed
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion._presets import row
from jaxgen.models.diffusion.edm import EDM
from jaxgen.nn.magnitude import Dense, fourier
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.denoising import Sampling


@dataclass(frozen=True)
class EDM2(EDM):
    """Hyper-parameters of an EDM2: those of an EDM, some with other defaults, and a learning-rate schedule."""

    net: BackboneConfig = BackboneConfig("edm2")
    p_mean: Signed = -0.4
    p_std: Positive = 1.0
    drop: Decay = 0.0
    sampling: Sampling = Sampling(steps=32)
    learning_rate: float = 0.01  # of Adam, the highest
    ramp: int = 4_883  # warm-up steps; 0: none. The paper's 10 million images, in batches of 2048
    decay: int = 70_000  # steps after which the rate falls as 1 / sqrt(steps); 0: never

    def task(self, steps: int) -> Task:
        """Return the training task: one learner for both nets. Raises InputError for invalid settings."""
        learner = Learner(("denoiser", "uncertainty"), self.net.adam(self.rate, b2=0.99))
        return replace(super().task(steps), learners={"denoiser": learner})

    def rate(self, step: Any) -> Array:
        """Return the learning rate at a step. Section 2.3, and the authors' `learning_rate_schedule`."""
        risen = jnp.minimum(step / self.ramp, 1) if self.ramp else 1
        late = jnp.maximum(step / self.decay, 1) if self.decay else 1
        return self.learning_rate * risen / jnp.sqrt(late)

    def init(self, key: Key, spec: Any = None):
        params, extra = super().init(key, spec)
        params["uncertainty"] = Uncertainty().init(rng.fold(key, "uncertainty"), jnp.zeros(2))["params"]
        return params, extra

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        sigma, error, weight = self.errors(params, context, batch, key)
        weighted = weight * error
        u: Any = Uncertainty().apply({"params": params["uncertainty"]}, jnp.log(sigma) / 4)
        loss = weighted * jnp.exp(-u) + u  # equation 21
        return loss.mean(), Aux({"squared_error": error.mean(), "weighted_error": weighted.mean()})


class Uncertainty(nn.Module):
    """u, the logarithm of the loss: c_noise f32[b] -> f32[b]."""

    features: int = 128

    @nn.compact
    def __call__(self, t: Array) -> Array:
        return to_f32(Dense(1, name="linear")(fourier(t, self.features)))[:, 0]


PLAIN = row(EDM2(classes=10, ramp=500, decay=5_000), 1_688_182, ramp=0, learning_rate=0.01)
OWN = replace(PLAIN.run, optim=Optim(ema_widths=(0.05, 0.1)), save=Save(averages=2500))  # the model has its own warm-up
PRESETS = {"edm2": replace(PLAIN, run=OWN)}
