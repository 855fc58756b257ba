"""SNGAN: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.

Every matrix of the discriminator is divided by its largest singular value (algorithm 1); residual nets, the hinge loss,
five updates of the discriminator to one of the generator, Adam with rate 2e-4 and betas 0 and 0.9. With classes the
class-conditional batch norm and the projection of Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018.
The nets are in sngan_nets.py. The authors' configurations for CIFAR-10 have 50,000 steps, and 128 images in an update
of the generator beside 64 in one of the discriminator; they add noise of a grey level to the data, and take no average.
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
    latent: int = 128  # numbers in z, from N(0, 1)
    width: int = 256  # channels of the generator
    critic_width: int = 128  # channels of the discriminator
    classes: int = 0  # labels are below it; 0: unconditional
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the image does not suit strides of 2."""
        del steps
        at_least(1, model__width=self.width, model__critic_width=self.critic_width, model__latent=self.latent)
        at_least(1, model__image=min(self.image))
        at_least(0, model__classes=self.classes)
        height, width, channels = self.image
        stages = count_stages(height, width)
        generator = SNGANGenerator((height >> stages, width >> stages), stages, self.width, channels, self.classes)
        discriminator = SNGANDiscriminator(self.critic_width, self.classes)
        return AdversarialTask(
            self.game, generator, discriminator, self.image, normal(self.latent), self.classes
        ).task()


def row(model: SNGAN, parameters: int) -> Preset:
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
        critic_width=8,
        classes=10 if model.classes else 0,
        game=replace(model.game, critics=2),
    )
    return Preset(run, tiny=tiny(small), parameters=parameters)


PRESETS = {
    "sngan": row(SNGAN(), 5_330_563),
    "sngan-projection": row(SNGAN(classes=10), 5_359_491),
}
