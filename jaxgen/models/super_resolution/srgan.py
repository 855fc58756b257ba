"""SRGAN: Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network".

SRResNet (srresnet.py) against a critic that tells enlarged images from clean ones (_discriminator.py). The content loss
is a perceptual distance, here ST-LPIPS (or LPIPS on another net: `game.backbone`) in place of the differences between
VGG-19's features, and a thousandth of -log D(G(x)) is added. For the first `game.start` steps the pixels' squared error
and the perceptual distance are all there is; the paper starts from a trained SRResNet, as does `--start-from` its run
with `--model.game.start 0`. The squared error stays, where the paper drops it for VGG's. The rate falls along a cosine,
in place of to a tenth halfway.
"""

from dataclasses import dataclass

from jaxgen.core.config import Optim, Preset, Run
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._discriminator import PerceptualGANConfig
from jaxgen.models.super_resolution._parts import factors
from jaxgen.models.super_resolution.srresnet import SRResNetModule
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny


@dataclass(frozen=True)
class SRGAN:
    """Hyper-parameters of an SRGAN."""

    image: Image = (96, 96, 3)  # clean training patches: height, width, channels
    scale: int = 4
    depth: int = 16  # blocks
    width: int = 64
    game: PerceptualGANConfig = PerceptualGANConfig(start=10_000)
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(loss="l2")

    def check_run(self, run: Run):
        del run
        self.game.check(self.image)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width)
        factors(self.scale)
        net = SRResNetModule(self.scale, self.depth, self.width, self.image[2])
        return RestorationTask(
            net,
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            scales=(self.scale,),
            pixel_weight=self.game.pixel,
            adversary=self.game.adversary(self.image),
        ).task()


SMALL = SRGAN((32, 32, 3), 2, 1, 8, PerceptualGANConfig(adversarial=0.1, perceptual=0, width=4, dense=8))
PRESETS = {"srgan": Preset(row(SRGAN(), 200_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), 25_110_999)}
