"""ESRGAN: Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks"; `real-esrgan` trains
it on synthetic degradations of cameras, compression and the web: Wang et al. 2021, "Real-ESRGAN: Training Real-World
Blind Super-Resolution with Pure Synthetic Data".

RRDBNet (rrdb.py) with a discriminator like SRGAN's, but deeper (_discriminator.py). Its loss is a relativistic average:
how much more real a clean image is than the mean of the restored ones. The restoration net minimises L_percep + 5e-3
L_adv + 1e-2 L1 (equation 3). ST-LPIPS (or LPIPS on another net: `game.backbone`) replaces VGG-19's features, and L1 is
of pixels from 0 to 1; the authors' code halves L_adv. The first `game.start` steps have no adversarial loss. The paper
starts from a net trained by L1; for this use `--start-from` a run of `rrdb` with `--model.game.start 0`. The
schedule is a cosine, not steps.

Real-ESRGAN minimises L_percep + 0.1 L_adv + L1 at a constant rate, with a discriminator of single images. The paper's
discriminator is a U-Net; here it is ESRGAN's, for patches of 256. The clean images are not sharpened, as the paper's
targets are.
"""

from dataclasses import dataclass, replace

from jaxgen.core.config import Optim, Preset, Run
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.data.degradations import Degradation
from jaxgen.models.super_resolution._discriminator import PerceptualGANConfig
from jaxgen.models.super_resolution.rrdb import RRDBNet
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny

# Half of the authors' weights of L1: pixels are from -1 to 1 here.
GAME = PerceptualGANConfig(
    "relativistic-average", 5e-3, 1.0, 1e-2 / 2, dense=100, downsamplings=5, kernel=4, start=10_000
)
REAL_GAME = replace(GAME, loss="non-saturating", adversarial=0.1, pixel=1 / 2, downsamplings=6, beta2=0.99)


@dataclass(frozen=True)
class ESRGAN:
    """Hyper-parameters of ESRGAN."""

    image: Image = (128, 128, 3)  # clean training patches: height, width, channels
    scale: int = 4  # 1, 2 or 4
    depth: int = 23  # blocks
    width: int = 64
    growth: int = 32  # channels that each convolution of a dense block adds
    game: PerceptualGANConfig = GAME
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe()

    def check_run(self, run: Run):
        del run
        self.game.check(self.image)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__growth=self.growth)
        if self.scale not in (1, 2, 4):
            raise InputError(f"model.scale must be 1, 2 or 4, not {self.scale}.")
        return RestorationTask(
            RRDBNet(self.scale, self.depth, self.width, self.growth, self.image[2]),
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            scales=(self.scale,),
            multiple=4 // self.scale,
            pixel_weight=self.game.pixel,
            adversary=self.game.adversary(self.image),
        ).task()


def preset(model: ESRGAN, batch: int, parameters: int, **settings) -> Preset:
    game = replace(model.game, adversarial=0.1, perceptual=0, pixel=1.0, width=4, dense=8, downsamplings=4, start=0)
    small = ESRGAN((32, 32, 3), 2, 1, 8, 4, game, model.degradation)
    return Preset(row(model, 400_000, batch, **settings), tiny(small), parameters)


REAL = Degradation(pipeline="real-esrgan")
PRESETS = {
    "esrgan": preset(ESRGAN(), 16, 31_197_388, optim=Optim(schedule="cosine")),
    "real-esrgan": preset(
        ESRGAN((256, 256, 3), game=REAL_GAME, degradation=REAL, recipe=Recipe(beta2=0.99)), 48, 37_753_036
    ),
}
