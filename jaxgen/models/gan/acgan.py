"""ACGAN: Odena, Olah and Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017.

The generator is conditioned on the label. The discriminator is not: it has a head that classifies the image. Both nets
maximise the log-likelihood of the correct class, L_C of equation 3, on real and on generated images. L_S of equation 2
is the adversarial loss. The nets are DCGAN's; the paper's discriminator also has dropout. The learning rate is 5e-4;
the paper's are 1e-4 to 3e-4.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.config import Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.models.gan.cgan import CGANGenerator, row
from jaxgen.models.gan.dcgan import DCGAN, FAST, PLAIN
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.adversarial import AdversarialTask


@dataclass(frozen=True)
class ACGAN(DCGAN):
    """Hyper-parameters of an auxiliary-classifier DCGAN."""

    classes: int = 10  # number of classes
    weight: float = 1.0  # of L_C

    def task(self, steps: int) -> Task:
        """Return the Task."""
        del steps
        self.check()
        at_least(2, model__classes=self.classes)
        at_least(0, model__weight=self.weight)
        generator = CGANGenerator(self.generator(), self.classes)
        discriminator = ACGANDiscriminator(self.discriminator(features=True), self.classes)

        def heads_loss(heads, z, label, real):
            right = (heads["class"].argmax(1) == label).astype(jnp.float32)
            loss = optax.softmax_cross_entropy_with_integer_labels(heads["class"], label)  # [b]
            return self.weight * loss, {"classified": right.mean()}

        draw = self.draw(self.latent)
        return AdversarialTask(self.game, generator, discriminator, self.image, draw, self.classes, heads_loss).task()


class ACGANDiscriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b], {"class": logits f32[b classes]}."""

    net: nn.Module
    classes: int

    @nn.compact
    def __call__(self, x, label=None, *, train: bool):
        phi = self.net(x, train=train)  # [b n]
        source, classes = Dense(1, **PLAIN)(phi)[:, 0], Dense(self.classes, name="class")(phi)
        return to_f32(source), {"class": to_f32(classes)}


PRESETS: dict[str, Preset] = {"acgan": row(ACGAN(game=FAST), 577_354)}
