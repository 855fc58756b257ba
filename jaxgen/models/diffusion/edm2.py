"""EDM2: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and Improving the Training Dynamics of
Diffusion Models", CVPR 2024, config G.

EDM with a net whose activations, weights and updates keep their magnitudes (nn/magnitude_unet.py), and with a loss that
is as large at every noise level: a second net learns its logarithm there, u(sigma), and

    lambda(sigma) / exp(u(sigma)) |D(x, sigma) - x0|^2 + u(sigma)

is minimised (equation 21); sampling has no use for u. The learning rate rises for `ramp` steps and after `decay` steps
falls with the square root of their number; with weights of a fixed norm nothing else makes updates smaller. The
paper's averages, whose width is chosen after training, are those of optim.ema_widths. Unless `drop` says so no labels
are hidden: the paper guides by a second, unconditional net. `p_mean`, `p_std` and `decay` are those for latents of
512x512 images; for the pixels of 64x64 ones the authors take -0.8, 1.6 and 35,000.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Optim, Save
from jaxgen.core.errors import at_least
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
    """Hyper-parameters of an EDM2: those of an EDM, some with other values, and its learning rate's course."""

    net: BackboneConfig = BackboneConfig("edm2")
    p_mean: float = -0.4
    p_std: float = 1.0
    drop: float = 0.0
    sampling: Sampling = Sampling(steps=32)
    learning_rate: float = 0.01  # of Adam, at its highest
    ramp: int = 4_883  # steps over which it rises from 0; 0: none. The paper's 10 million images, 2048 in a batch
    decay: int = 70_000  # steps after which it falls as 1 / sqrt(steps); 0: never

    def task(self, steps: int) -> Task:
        """Return the game: one learner has both nets. Raises InputError where they can't make such images."""
        at_least(0, model__ramp=self.ramp, model__decay=self.decay)
        learner = Learner(("denoiser", "uncertainty"), self.net.adam(self.rate, b2=0.99))
        return replace(super().task(steps), learners={"denoiser": learner})

    def rate(self, step: Any) -> Array:
        """Return the learning rate of a step. Section 2.3, and the authors' `learning_rate_schedule`."""
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
        found = weighted * jnp.exp(-u) + u  # equation 21
        return found.mean(), Aux({"squared_error": error.mean(), "weighted_error": weighted.mean()})


class Uncertainty(nn.Module):
    """u f32[b] of c_noise f32[b]."""

    features: int = 128

    @nn.compact
    def __call__(self, t: Array) -> Array:
        return to_f32(Dense(1, name="linear")(fourier(t, self.features)))[:, 0]


PLAIN = row(EDM2(classes=10, ramp=500, decay=5_000), 1_688_182, ramp=0, learning_rate=0.01)
OWN = replace(PLAIN.run, optim=Optim(ema_widths=(0.05, 0.1)), save=Save(averages=2500))  # its rate rises by itself
PRESETS = {"edm2": replace(PLAIN, run=OWN)}
