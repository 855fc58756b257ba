"""R3GAN: Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024.

The loss is the relativistic one on pairs of a real and a generated image, with the penalties R1 and R2 (equation 4); it
converges locally (theorem 3.4). The nets are residual and have no normalisation (config E; _r3gan_nets.py). Adam has
beta1 = 0. The authors change gamma, the rate, beta2, an augmentation and the half-life of the moving average along a
cosine. Here they are constant, the first four at the first values of the authors' CIFAR-10 run, which is conditional
(--model.classes 10).

With gamma 0.3 to 5 a small discriminator wins at once: the generator collapses to a few modes.
"""

from dataclasses import dataclass

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.models.gan._r3gan_nets import R3GANDiscriminator, R3GANGenerator
from jaxgen.models.gan.dcgan import tiny
from jaxgen.nn.priors import normal
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

PAPER = AdversarialConfig(loss="relativistic", r1=0.05, r2=0.05, beta1=0.0, beta2=0.9, ema=0.9999)


@dataclass(frozen=True)
class R3GAN:
    """Hyper-parameters of an R3GAN."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    latent: int = 64  # size of z, from N(0, 1)
    width: int = 768  # channels of every stage
    blocks: int = 2  # residual blocks of each stage
    group: int = 16  # channels of each group of a block's grouped convolution
    expansion: int = 2  # channels of that convolution over those of the stage
    classes: int = 0  # number of classes; 0: unconditional
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that do not fit strides of 2."""
        del steps
        at_least(1, model__width=self.width, model__latent=self.latent, model__image=min(self.image))
        at_least(1, model__blocks=self.blocks, model__group=self.group, model__expansion=self.expansion)
        at_least(0, model__classes=self.classes)
        height, width, channels = self.image
        down = count_stages(height, width)
        stages = down + 1
        middle = self.width * self.expansion
        if middle % self.group:
            raise InputError(f"model.group={self.group} must be a divisor of {middle}, model.width x model.expansion.")
        each = ((self.width,) * stages, (self.blocks,) * stages, (middle // self.group,) * stages)
        base = (height >> down, width >> down)
        generator = R3GANGenerator(base, each[0], channels, *each[1:], self.expansion, self.classes)
        discriminator = R3GANDiscriminator(*each, self.expansion, self.classes, self.width)
        return AdversarialTask(
            self.game, generator, discriminator, self.image, normal(self.latent), self.classes
        ).task()


PRESETS = {
    "r3gan": Preset(
        Run(
            R3GAN(),
            data=Data("tfds:cifar10", flip=True),
            steps=400_000,
            batch=512,
            log=Log(every=100, samples=1000, count=100),
            save=Save(every=1000),
        ),
        tiny=tiny(R3GAN(image=(8, 8, 1), latent=8, width=8, blocks=1, group=8)),
        parameters=41_415_936,
    )
}
