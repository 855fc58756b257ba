"""Conditional GAN: Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014, also with projection.

Both nets are conditioned on the label y: min max V = E log D(x|y) + E log(1 - D(G(z|y))) (equation 2). The generator
gets y as a one-hot vector, concatenated to z. The discriminator gets it in one of two ways:
"concatenation": one-hot planes concatenated to the image, as in the paper
"projection":    the logit is y^T V phi(x) + psi(phi(x)), with an inner product of the features and an embedding of y
                 (Miyato and Koyama 2018, "cGANs with Projection Discriminator", equation 3)
The paper's nets are maxout perceptrons. Here they are DCGAN's.
"""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.models.gan.dcgan import DCGAN, FAST, PLAIN, WEIGHTS, tiny
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.adversarial import AdversarialTask


@dataclass(frozen=True)
class CGAN(DCGAN):
    """Hyper-parameters of a conditional DCGAN."""

    classes: int = 10  # number of classes
    condition: Literal["concatenation", "projection"] = "concatenation"  # how the discriminator gets the label

    def task(self, steps: int) -> Task:
        """Return the Task."""
        del steps
        self.check()
        at_least(2, model__classes=self.classes)
        generator = CGANGenerator(self.generator(), self.classes)
        discriminator = {
            "concatenation": lambda: ConcatenationDiscriminator(self.discriminator(), self.classes),
            "projection": lambda: ProjectionDiscriminator(self.discriminator(features=True), self.classes),
        }[self.condition]()
        return AdversarialTask(
            self.game, generator, discriminator, self.image, self.draw(self.latent), self.classes
        ).task()


class CGANGenerator(nn.Module):
    """(z f32[b latent], label i32[b]) -> image f32[b h w c]."""

    net: nn.Module
    classes: int

    @nn.compact
    def __call__(self, z, label, keys=None, *, train: bool):
        y = jax.nn.one_hot(label, self.classes, dtype=z.dtype)  # [b classes]
        return self.net(jnp.concatenate([z, y], 1), train=train)


class ConcatenationDiscriminator(nn.Module):
    """(image f32[b h w c], label i32[b]) -> logits f32[b]; the label is concatenated as one-hot planes."""

    net: nn.Module
    classes: int

    @nn.compact
    def __call__(self, x, label, *, train: bool):
        y = jax.nn.one_hot(label, self.classes, dtype=x.dtype)[:, None, None]  # [b 1 1 classes]
        planes = jnp.broadcast_to(y, (*x.shape[:3], self.classes))
        return self.net(jnp.concatenate([x, planes], 3), train=train)


class ProjectionDiscriminator(nn.Module):
    """(image f32[b h w c], label i32[b]) -> logits f32[b] = psi(phi(x)) + <embed(y), phi(x)>."""

    net: nn.Module
    classes: int

    @nn.compact
    def __call__(self, x, label, *, train: bool):
        phi = self.net(x, train=train)  # [b n]
        embedding = self.param("embedding", WEIGHTS, (self.classes, phi.shape[1]))[label].astype(phi.dtype)
        return to_f32(Dense(1, **PLAIN)(phi)[:, 0] + (embedding * phi).sum(1))


def row(model: DCGAN, parameters: int) -> Preset:
    """Return a preset on digits, with sample grids that have room for ten classes."""
    small = replace(model, image=(8, 8, 1), latent=8, width=4)
    run = Run(
        model=model,
        data=Data("digits"),
        steps=2000,
        batch=32,
        log=Log(every=50, samples=250, count=100),
        save=Save(every=500),
    )
    return Preset(run, tiny(small), parameters)


PRESETS = {
    "cgan": row(CGAN(game=FAST), 561_984),
    "cgan-projection": row(CGAN(condition="projection", game=FAST), 577_344),
}
