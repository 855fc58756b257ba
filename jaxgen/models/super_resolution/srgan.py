"""SRGAN: Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network".

SRResNet (srresnet.py) with a discriminator of enlarged and clean images (_discriminator.py). The content loss is a
perceptual distance, here ST-LPIPS (or LPIPS on another net: `game.backbone`) instead of the distance between VGG-19's
features. The adversarial loss is -log D(G(x)), with a weight of 1e-3. The first `game.start` steps have the squared
error of pixels and the perceptual distance only. The paper starts from a trained SRResNet; for this use `--start-from`
its run with `--model.game.start 0`. The squared error is kept, where the paper replaces it by VGG's features. The
schedule is a cosine, not a tenth of the rate from the middle on.
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
    """Hyper-parameters of SRGAN."""

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
