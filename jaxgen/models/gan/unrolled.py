"""Unrolled GAN: Metz, Poole, Pfau and Sohl-Dickstein, "Unrolled Generative Adversarial Networks", ICLR 2017.

The generator minimises f(theta_G, theta_D^K(theta_G, theta_D)), where theta_D^K are the discriminator's parameters
after its next K updates, and differentiates through these updates (equations 6 to 9). --model.game.unroll K does this
for any model of this family; the preset uses DCGAN. The nets in this file are the authors' for two-dimensional data
(their published notebook): two hidden tanh layers in both nets, orthogonal weights with gain 1.4, unbounded outputs,
rates 1e-4 and 1e-3, and the minimax loss.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.models.gan.dcgan import DCGAN, tiny, weight_name
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import normal
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

AUTHORS = AdversarialConfig(loss="minimax", unroll=5, learning_rate=1e-4, generator_rate=1e-3)
ORTHOGONAL: dict[str, Any] = {"kernel_init": nn.initializers.orthogonal(1.4)}


@dataclass(frozen=True)
class UnrolledGAN:
    """Hyper-parameters of an unrolled GAN that generates points."""

    image: tuple[int, int, int] = (1, 1, 2)  # height, width, channels: a point is an image of one pixel
    latent: int = 256  # size of z, from N(0, 1)
    hidden: int = 128  # units of each hidden layer
    layers: int = 2  # hidden layers of each net
    game: AdversarialConfig = AUTHORS

    def task(self, steps: int) -> Task:
        """Return the Task."""
        del steps
        at_least(1, model__hidden=self.hidden, model__latent=self.latent, model__image=min(self.image))
        at_least(1, model__layers=self.layers)
        generator = UnrolledGenerator(self.image, self.hidden, self.layers)
        discriminator = UnrolledDiscriminator(self.hidden, self.layers)
        draw = normal(self.latent)
        return AdversarialTask(self.game, generator, discriminator, self.image, draw, clip=False).task()


class UnrolledGenerator(nn.Module):
    """z f32[b latent] -> points f32[b h w c], unbounded."""

    image: tuple[int, int, int]
    hidden: int
    layers: int

    @nn.compact
    def __call__(self, z, label=None, keys=None, *, train: bool):
        height, width, channels = self.image
        for _ in range(self.layers):
            z = jnp.tanh(Dense(self.hidden, **ORTHOGONAL)(z))
        x = Dense(height * width * channels, **ORTHOGONAL)(z)
        return to_f32(x.reshape(-1, *self.image))  # [b h w c]


class UnrolledDiscriminator(nn.Module):
    """points f32[b h w c] -> logits f32[b]."""

    hidden: int
    layers: int

    @nn.compact
    def __call__(self, x, label=None, *, train: bool):
        x = x.reshape(x.shape[0], -1)  # [b h*w*c]
        for _ in range(self.layers):
            x = jnp.tanh(Dense(self.hidden, **ORTHOGONAL)(x))
        return to_f32(Dense(1, **ORTHOGONAL)(x)[:, 0])


WEIGHT_NAMES = weight_name


PRESETS: dict[str, Preset] = {
    "unrolled": Preset(
        Run(
            model=DCGAN(width=32, game=AdversarialConfig(unroll=5, learning_rate=2e-4)),
            data=Data("digits"),
            steps=2000,
            batch=32,
            log=Log(every=50, samples=250),
            save=Save(every=500),
        ),
        tiny=tiny(DCGAN(image=(8, 8, 1), latent=8, width=4, game=AdversarialConfig(unroll=2))),
        parameters=536_384,
    ),
}
