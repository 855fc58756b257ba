"""BigGAN: Brock, Donahue and Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019.

The nets (_biggan_nets.py) have SNGAN's residual blocks, a class embedding that all conditional batch norms share, a
hierarchical z (one part for the first layer and one for each block), self-attention (Zhang et al. 2019, "Self-Attention
GANs"), spectral normalisation and orthogonal initialisation. The loss is the hinge loss, with four updates of the
discriminator for each update of the generator. Samples can be drawn with truncated z.
Widths, rates, batch size and steps are those of the authors' PyTorch code for CIFAR-10. Its CIFAR-10 nets have no
shared embedding, no hierarchical z and no attention (here at 16x16), and their weights start from N(0, 0.02).
"""

from dataclasses import dataclass, replace

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.models.gan._biggan_nets import BigGANDiscriminator, BigGANGenerator
from jaxgen.models.gan.dcgan import tiny
from jaxgen.nn.priors import normal
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

PAPER = AdversarialConfig(loss="hinge", critics=4, spectral="both", beta1=0.0, ema=0.9999)


@dataclass(frozen=True)
class BigGAN:
    """Hyper-parameters of a BigGAN for small images."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    latent: int = 128  # size of z, from N(0, 1); a multiple of the number of blocks plus 1
    width: int = 256  # channels of the generator
    discriminator_width: int = 256  # channels of the discriminator
    classes: int = 10  # number of classes; 0: unconditional
    embedding: int = 128  # size of the class embedding
    attention: int = 16  # side of the feature maps with self-attention; 0: none
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for sizes of the image or z that the nets can't have."""
        del steps
        at_least(
            1, model__width=self.width, model__discriminator_width=self.discriminator_width, model__latent=self.latent
        )
        at_least(1, model__image=min(self.image), model__embedding=self.embedding)
        at_least(0, model__classes=self.classes, model__attention=self.attention)
        height, width, channels = self.image
        stages = count_stages(height, width)
        if self.latent % (stages + 1):
            raise InputError(
                f"model.latent={self.latent} must be a multiple of {stages + 1}, the generator's parts of z."
            )
        generator = BigGANGenerator(
            (height >> stages, width >> stages),
            (self.width,) * (stages + 1),
            channels,
            self.classes,
            self.attention,
            self.embedding,
        )
        discriminator = BigGANDiscriminator((self.discriminator_width,) * 4, 2, self.classes, self.attention)
        return AdversarialTask(
            self.game, generator, discriminator, self.image, normal(self.latent), self.classes
        ).task()


SMALL = BigGAN(
    image=(8, 8, 1),
    latent=8,
    width=8,
    discriminator_width=8,
    embedding=4,
    attention=4,
    game=replace(PAPER, critics=2),
)
PRESETS = {
    "biggan": Preset(
        Run(
            BigGAN(),
            data=Data("tfds:cifar10"),
            steps=125_000,
            batch=50,
            log=Log(every=100, samples=1000, count=100),
            save=Save(every=1000),
        ),
        tiny=tiny(SMALL),
        parameters=8_744_454,
    )
}
