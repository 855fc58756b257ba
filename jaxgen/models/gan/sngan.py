"""SNGAN: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.

Each weight matrix of the discriminator is divided by its largest singular value (algorithm 1). The nets are residual
(_sngan_nets.py). The loss is the hinge loss, with five updates of the discriminator for each update of the generator,
and Adam has rate 2e-4 and betas 0 and 0.9. A conditional model has the class-conditional batch norm and the projection
discriminator of Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018.
The authors' configurations for CIFAR-10 have 50,000 steps, with 128 images in an update of the generator and 64 in one
of the discriminator. They add uniform noise of one grey level to the data, and keep no moving average.
"""

from dataclasses import dataclass, replace

from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.models.gan._sngan_nets import SNGANDiscriminator, SNGANGenerator
from jaxgen.models.gan.dcgan import tiny
from jaxgen.nn.priors import normal
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

PAPER = AdversarialConfig(loss="hinge", critics=5, spectral="discriminator", beta1=0.0, beta2=0.9, ema=0.9999)


@dataclass(frozen=True)
class SNGAN:
    """Hyper-parameters of an SNGAN."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    latent: int = 128  # size of z, from N(0, 1)
    width: int = 256  # channels of the generator
    discriminator_width: int = 128  # channels of the discriminator
    classes: int = 0  # number of classes; 0: unconditional
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that do not fit strides of 2."""
        del steps
        at_least(
            1, model__width=self.width, model__discriminator_width=self.discriminator_width, model__latent=self.latent
        )
        at_least(1, model__image=min(self.image))
        at_least(0, model__classes=self.classes)
        height, width, channels = self.image
        stages = count_stages(height, width)
        generator = SNGANGenerator((height >> stages, width >> stages), stages, self.width, channels, self.classes)
        discriminator = SNGANDiscriminator(self.discriminator_width, self.classes)
        return AdversarialTask(
            self.game, generator, discriminator, self.image, normal(self.latent), self.classes
        ).task()


def row(model: SNGAN, parameters: int) -> Preset:
    """Return a preset on CIFAR-10."""
    run = Run(
        model,
        data=Data("tfds:cifar10"),
        steps=100_000,
        batch=64,
        optim=Optim(schedule="linear"),
        log=Log(every=100, samples=1000, count=100),
        save=Save(every=1000),
    )
    small = replace(
        model,
        image=(8, 8, 1),
        latent=8,
        width=8,
        discriminator_width=8,
        classes=10 if model.classes else 0,
        game=replace(model.game, critics=2),
    )
    return Preset(run, tiny=tiny(small), parameters=parameters)


PRESETS = {
    "sngan": row(SNGAN(), 5_330_563),
    "sngan-projection": row(SNGAN(classes=10), 5_359_491),
}
