"""WGAN: Arjovsky, Chintala and Bottou, "Wasserstein GAN", ICML 2017; WGAN-GP: Gulrajani et al., NeurIPS 2017.

The critic estimates the Wasserstein distance between real and generated images. The estimate is the difference of the
critic's mean outputs. It needs a critic that is 1-Lipschitz.

Arjovsky et al.: the critic's weights are clipped to [-0.01, 0.01], and
RMSProp has rate 5e-5. The critic has batch norm, as in the authors' code. That code takes 100 updates of the critic
for each of the generator's first 25 updates and for every 500th.
Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017: a gradient penalty with weight 10, Adam with
rate 1e-4 and betas 0 and 0.9, and no batch norm in the critic.
Both take five updates of the critic for each update of the generator. The nets are DCGAN's. The same settings
(model.game) train any model of this family in these ways.
"""

from dataclasses import replace
from typing import Literal

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.models.gan.dcgan import DCGAN, tiny
from jaxgen.tasks.adversarial_config import AdversarialConfig

CLIPPED = AdversarialConfig(loss="wasserstein", critics=5, clip=0.01, optimizer="rmsprop", learning_rate=5e-5)
PENALTY = AdversarialConfig(
    loss="wasserstein", critics=5, gradient_penalty=10.0, learning_rate=1e-4, beta1=0.0, beta2=0.9
)


def row(game: AdversarialConfig, norm: Literal["batch", "none"], parameters: int) -> Preset:
    """Return the preset of a DCGAN with this training and this norm of the critic."""
    model = DCGAN(prior="normal", norm=norm, game=game)
    run = Run(
        model=model, data=Data("digits"), steps=2000, batch=32, log=Log(every=50, samples=250), save=Save(every=500)
    )
    small = replace(model, image=(8, 8, 1), latent=8, width=4, game=replace(game, critics=2))
    return Preset(run, tiny=tiny(small), parameters=parameters)


PRESETS = {
    "wgan": row(CLIPPED, "batch", 536_384),
    "wgan-gp": row(PENALTY, "none", 536_192),
}
