"""ESRGAN: Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks"; `real-esrgan` is it on
what cameras, compression and the web do to pictures, Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind
Super-Resolution with Pure Synthetic Data".

RRDBNet (rrdb.py) against SRGAN's critic (critic.py), which judges how much more real a clean picture is than the mean
of the others (the relativistic average). The restorer minimises L_percep + 5e-3 L_adv + 1e-2 L1, equation 3, with
ST-LPIPS in place of VGG-19's features. For the first `game.start` steps the critic does not count, in place of the
paper's start from a net trained by L1. Real-ESRGAN's own critic is a U-Net; here it is the same one as ESRGAN's.

Measured: not yet measured.
"""

from dataclasses import dataclass

from jaxgen.config import Preset
from jaxgen.core import Task
from jaxgen.data.degradations import Degradation
from jaxgen.errors import InputError, at_least
from jaxgen.models.restoration.supervised import Image, Recipe, restoration_task, row, tiny
from jaxgen.models.super_resolution.critic import Game
from jaxgen.models.super_resolution.rrdb import Net

GAME = Game("relativistic-average", 5e-3, 1.0, 1e-2, dense=100, start=10_000)


@dataclass(frozen=True)
class ESRGAN:
    """Hyper-parameters of an ESRGAN."""

    image: Image = (128, 128, 3)  # the clean patches that it is trained on: height, width, channels
    scale: int = 4  # 1, 2 or 4
    depth: int = 23  # blocks
    width: int = 64
    growth: int = 32  # channels that each convolution of a dense block adds
    game: Game = GAME
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe()

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__growth=self.growth)
        if self.scale not in (1, 2, 4):
            raise InputError(f"model.scale must be 1, 2 or 4, not {self.scale}.")
        return restoration_task(
            Net(self.scale, self.depth, self.width, self.growth, self.image[2]),
            self.image,
            self.recipe,
            self.degradation,
            channels=self.image[2],
            scales=(self.scale,),
            multiple=4 // self.scale,
            weight=self.game.pixel,
            critic=self.game.critic(self.image),
        )


def preset(image: Image, batch: int, degradation: Degradation, parameters: int) -> Preset:
    play = Game("relativistic-average", 0.1, 0, 1.0, width=4, dense=8)
    small = ESRGAN((32, 32, 3), 2, 1, 8, 4, play, degradation)
    return Preset(row(ESRGAN(image, degradation=degradation), 400_000, batch), tiny(small), parameters)


PRESETS = {
    "esrgan": preset((128, 128, 3), 16, Degradation(), 24_662_220),
    "real-esrgan": preset((256, 256, 3), 12, Degradation(pipeline="real-esrgan"), 34_492_620),
}
