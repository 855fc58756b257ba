"""pix2pixHD: Wang, Liu, Zhu, Tao, Kautz and Catanzaro 2018, "High-Resolution Image Synthesis and Semantic Manipulation
with Conditional GANs": its global generator and its critics.

Pairs, as in pix2pix (paired.py), but a residual generator of four halvings, critics at three sizes that play least
squares, and in place of the distance between pixels that between what the critics' layers say of both pictures. The
paper's further generator around this one, for 2048x1024, its encoder of instances and the distance between features
of a VGG, which it may add, are not built. The authors' code starts with two critics; the paper has three.

Measured: not yet measured.
"""

from dataclasses import dataclass, replace

from flax import linen as nn

from jaxgen.config import Preset, Run
from jaxgen.core import Array, Key, Task
from jaxgen.errors import at_least
from jaxgen.models.translation.game import Game
from jaxgen.models.translation.nets import Image, ResNet, check_sides
from jaxgen.models.translation.paired import HALF, JITTERED, Paired, check_pairs, row, tiny
from jaxgen.nn.patches import Form

GAME = Game(features=10.0, scales=3, form=Form(around=2))


@dataclass(frozen=True)
class Pix2PixHD:
    """Hyper-parameters of a pix2pixHD."""

    image: Image = (512, 1024, 3)
    width: int = 64  # channels of the generator's layer nearest to the picture
    downs: int = 4  # its halvings
    blocks: int = 9  # its residual blocks
    pixel: float = 0.0  # weight of the absolute distance
    game: Game = GAME

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be."""
        del steps
        at_least(1, model__width=self.width, model__downs=self.downs, model__blocks=self.blocks)
        check_sides(self.image, 1 << self.downs, 2)
        net = Global(ResNet(self.image[2], self.width, self.blocks, self.downs))
        return Paired(self.image, net, self.game, self.pixel, 1 << self.downs).task()

    def check_run(self, run: Run):
        check_pairs(run, "pix2pixhd")


class Global(nn.Module):
    """(x f32[b h w c], keys) -> f32[b h w channels]: a net that is told no noise."""

    net: ResNet

    @nn.compact
    def __call__(self, x: Array, keys: Key) -> Array:
        del keys
        return self.net(x)


SMALL = Pix2PixHD((16, 16, 3), 4, 1, 1, game=replace(GAME, scales=2, layers=1, width=4))
WHOLE = replace(JITTERED, crop="center")
PRESETS = {"pix2pixhd": Preset(row(Pix2PixHD(), 600_000, data=WHOLE, optim=HALF), tiny(SMALL), 190_746_694)}
