"""GAN: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, with two multilayer perceptrons.

Implements algorithm 1 and both generator losses: "minimax", log(1 - D(G(z))), and "non-saturating", -log D(G(z)),
which section 3 recommends. Both nets have two hidden layers. The paper's MNIST discriminator has maxout units, its
generator ReLU and sigmoid units. Here, as in most current code, the discriminator has LeakyReLU 0.2 and the generator
ends in tanh, for images in [-1, 1].
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.conv import Dense
from jaxgen.nn.pool import flatten
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import normal
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig


@dataclass(frozen=True)
class GAN:
    """Hyper-parameters of a GAN of multilayer perceptrons."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    latent: int = 64  # size of z, from N(0, 1)
    hidden: int = 256  # units of each of two hidden layers
    game: AdversarialConfig = AdversarialConfig()  # --model.game.loss minimax is the paper's equation 1

    def task(self, steps: int) -> Task:
        """Return the Task."""
        del steps
        at_least(1, model__hidden=self.hidden, model__latent=self.latent, model__image=min(self.image))
        generator, discriminator = GANGenerator(self.image, self.hidden), GANDiscriminator(self.hidden)
        return AdversarialTask(self.game, generator, discriminator, self.image, normal(self.latent)).task()


class GANGenerator(nn.Module):
    """z f32[b latent] -> image f32[b h w c] in [-1, 1]."""

    image: tuple[int, int, int]
    hidden: int

    @nn.compact
    def __call__(self, z, label=None, keys=None, *, train: bool):
        height, width, channels = self.image
        x = nn.relu(Dense(self.hidden, name="layer_0")(z))
        x = nn.relu(Dense(self.hidden, name="layer_2")(x))
        x = Dense(height * width * channels, name="layer_4")(x)
        x = x.reshape(-1, channels, height, width)  # channels first, the order of `flatten`
        return jnp.tanh(to_f32(jnp.moveaxis(x, 1, 3)))  # [b h w c]


class GANDiscriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b]."""

    hidden: int

    @nn.compact
    def __call__(self, x, label=None, *, train: bool):
        x = nn.leaky_relu(Dense(self.hidden, name="layer_0")(flatten(x)), 0.2)
        x = nn.leaky_relu(Dense(self.hidden, name="layer_2")(x), 0.2)
        return to_f32(Dense(1, name="layer_4")(x)[:, 0])


WEIGHT_NAMES = renamed(("^layer\\.", ""))


PRESETS = {
    "gan": Preset(
        Run(
            model=GAN(),
            data=Data("digits"),
            steps=20_000,
            batch=100,
            log=Log(every=100, samples=1000),
            save=Save(every=1000),
        ),
        tiny=Run(
            model=GAN(image=(8, 8, 1), latent=8, hidden=16),
            data=Data("digits"),
            steps=20,
            batch=16,
            log=Log(every=5, samples=10, count=16),
            save=Save(every=10),
        ),
        parameters=283_920 + 267_009,
    ),
}
