"""WAE-MMD: Tolstikhin, Bousquet, Gelly and Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018.

A deterministic autoencoder whose codes, taken together, lie as N(0, I): minimise |x - g(f(x))|^2 + lambda MMD^2,
between codes f(x) and z, the unbiased estimate over the batch with the authors' kernel (jaxgen/losses/mmd.py).
Perceptrons where their code has convolutions and batch norm; no pretraining of the encoder, no noise of 0.01 on what it
sees, a linear last layer where theirs is a sigmoid, and Adam's b1 0.9, where theirs is 0.5.
"""

from dataclasses import dataclass, replace

import jax

from jaxgen.core.config import Run
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params, Phase
from jaxgen.losses.mmd import mmd
from jaxgen.models.vae._nets import Image, NetConfig
from jaxgen.models.vae.autoencoder import Autoencoder
from jaxgen.models.vae.vae import row
from jaxgen.nn.priors import normal


@dataclass(frozen=True)
class WAE:
    """Hyper-parameters of a Wasserstein autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: int = 8  # size of z
    nets: NetConfig = NetConfig(depth=2)
    # lambda. The authors' 10 on MNIST is beside 0.05 times the error of images in [0, 1]: the same ratio.
    weight: float = 800.0
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        at_least(0, model__weight=self.weight)
        plain = self.autoencoder
        phases = (Phase("autoencoder", "autoencoder", self.loss),)
        return replace(plain.task(steps), phases=phases, **plain.sampled(normal(self.latent)))

    def check_run(self, run: Run):
        """Raise InputError for batches, or the parts that they are played in, that have no pairs for the MMD."""
        if (part := run.batch // run.compute.accumulate) < 2:
            raise InputError(
                f"The MMD compares pairs: a batch, or each part of it, needs at least 2 examples, not {part}."
            )

    @property
    def autoencoder(self) -> Autoencoder:
        return Autoencoder(self.image, self.latent, self.nets, learning_rate=self.learning_rate)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        error, aux = self.autoencoder.loss(params, context, batch, key)
        code = self.autoencoder.code(params, batch["image"])  # that of the error, which XLA sees: made once
        distance = mmd(code, normal(self.latent)(jax.random.split(key, len(code)), None))
        return error + self.weight * distance, Aux({**aux.metrics, "mmd": distance})


PRESETS = {"wae-mmd": row(WAE(), 955_992)}
