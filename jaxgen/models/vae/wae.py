"""WAE-MMD: Tolstikhin, Bousquet, Gelly and Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018.

A deterministic autoencoder that matches the distribution of its latents to N(0, I). It minimises
|x - g(f(x))|^2 + lambda MMD^2, with the unbiased estimate of MMD^2 between the latents f(x) of the batch and as many
samples of z, and the authors' kernel (jaxgen/losses/mmd.py). Differences from the authors' code: MLPs instead of
convolutions with batch norm, no pretraining of the encoder, no noise of 0.01 on its input, a linear last layer instead
of a sigmoid, and b1 = 0.9 for Adam instead of 0.5.
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
    # lambda. The authors' ratio on MNIST: they have lambda = 10 with 0.05 times the error of images in [0, 1].
    weight: float = 800.0
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        at_least(0, model__weight=self.weight)
        autoencoder = self.autoencoder
        phases = (Phase("autoencoder", "autoencoder", self.loss),)
        task = autoencoder.task(steps).having(*autoencoder.sampling(normal(self.latent)))
        return replace(task, phases=phases)

    def check_run(self, run: Run):
        """Raise InputError for a batch, or a part of it under accumulation, of fewer than 2 examples."""
        if (part := run.batch // run.compute.accumulate) < 2:
            raise InputError(f"The MMD compares pairs: batch / compute.accumulate must be at least 2, not {part}.")

    @property
    def autoencoder(self) -> Autoencoder:
        return Autoencoder(self.image, self.latent, self.nets, learning_rate=self.learning_rate)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        error, aux = self.autoencoder.loss(params, context, batch, key)
        latents = self.autoencoder.latents(params, batch["image"])  # XLA computes these once for both terms
        distance = mmd(latents, normal(self.latent)(jax.random.split(key, len(latents)), None))
        return error + self.weight * distance, Aux({**aux.metrics, "mmd": distance})


PRESETS = {"wae-mmd": row(WAE(), 955_992)}
