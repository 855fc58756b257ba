"""InfoGAN: Chen et al., "InfoGAN: Interpretable Representation Learning by Information Maximizing GANs", NeurIPS 2016.

The generator's input is noise and a latent code c: a category, and continuous numbers uniform in [-1, 1). Q, a head of
the discriminator, predicts the code of a generated image. Both nets maximise lambda L_I = lambda E log Q(c | G(z, c))
(equations 5 and 6), a lower bound of the mutual information. Q is a softmax for the category, and a Gaussian with
learned mean and variance for each number (section 6). The authors' MNIST run fixes the variance at 1, and uses
lambda = 1 for the numbers too. The code (ten categories, two numbers) and the learning rates are the paper's for
MNIST. The nets are DCGAN's.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.models.gan.cgan import row
from jaxgen.models.gan.dcgan import DCGAN, PLAIN, batch_norm
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import Prior
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig


@dataclass(frozen=True)
class InfoGAN(DCGAN):
    """Hyper-parameters of an InfoGAN. z is [noise, one-hot category, numbers]."""

    latent: int = 62  # size of the noise
    categories: int = 10  # number of categories of the code
    numbers: int = 2  # continuous numbers of the code
    weight: float = 1.0  # lambda of the category
    number_weight: float = 0.1  # lambda of the continuous numbers, smaller as their entropies are differential ones

    def task(self, steps: int) -> Task:
        """Return the Task."""
        del steps
        self.check()
        at_least(2, model__categories=self.categories)
        at_least(0, model__numbers=self.numbers, model__weight=self.weight, model__number_weight=self.number_weight)
        discriminator = InfoGANDiscriminator(self.discriminator(features=True), self.categories, self.numbers)

        def heads_loss(heads, z, label, real):
            """Return -lambda log Q(c|x) for generated images, and 0 for real images, which have no known code."""
            if real:
                return jnp.zeros(len(z)), {}
            category, numbers = jnp.split(z[:, self.latent :], [self.categories], axis=1)
            loss = -(jax.nn.log_softmax(heads["category"]) * category).sum(1)  # [b]
            right = (heads["category"].argmax(1) == category.argmax(1)).astype(jnp.float32)
            log_var = heads["log_var"]
            nats = 0.5 * (log_var + (numbers - heads["mean"]) ** 2 * jnp.exp(-log_var) + jnp.log(2 * jnp.pi)).sum(1)
            metrics = {"category": right.mean(), "numbers_nll": nats.mean()}
            return self.weight * loss + self.number_weight * nats, metrics

        generator = self.generator()
        return AdversarialTask(
            self.game, generator, discriminator, self.image, self.z_prior(), heads_loss=heads_loss
        ).task()

    def z_prior(self) -> Prior:
        """Return the prior of z; the truncation psi scales the noise and the continuous numbers."""
        noise = self.draw(self.latent)

        def draw(keys, psi=None):
            category_keys = jax.vmap(lambda key: rng.fold(key, "category"))(keys)
            category = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.categories))(category_keys)
            numbers = rng.uniform(jax.vmap(lambda key: rng.fold(key, "numbers"))(keys), (self.numbers,))
            if psi is not None:
                numbers = numbers * jnp.broadcast_to(psi[:, None], numbers.shape)
            return jnp.concatenate([noise(keys, psi), jax.nn.one_hot(category, self.categories), numbers], 1)

        return draw


class InfoGANDiscriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b], and Q's {"category" f32[b k], "mean" f32[b n], "log_var" f32[b n]}."""

    net: nn.Module
    categories: int
    numbers: int

    @nn.compact
    def __call__(self, x, label=None, *, train: bool):
        phi = self.net(x, train=train)  # [b n]
        source = Dense(1, **PLAIN)(phi)[:, 0]
        q = nn.leaky_relu(batch_norm(Dense(128, name="q_0", **PLAIN)(phi), train), 0.2)
        q = to_f32(Dense(self.categories + 2 * self.numbers, name="q_1")(q))
        category, mean, log_var = jnp.split(q, [self.categories, self.categories + self.numbers], axis=1)
        return to_f32(source), {"category": category, "mean": mean, "log_var": log_var}


PRESETS: dict[str, Preset] = {"infogan": row(InfoGAN(game=AdversarialConfig(generator_rate=1e-3)), 747_342)}
