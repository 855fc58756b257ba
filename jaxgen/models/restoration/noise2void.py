"""Noise2Void: Krull, Buchholz and Jug 2019, "Noise2Void: Learning Denoising from Single Noisy Images".

Trained on noisy images alone, one copy of each. Of every box of pixels one is made blind: in the input a neighbour
stands in its place, and the net is asked for its noisy value, which it can only foretell from what is around. Where the
noise of pixels is independent and of mean 0, that is the clean value. Two things differ from the authors' code so that
the pixel is hidden altogether: its neighbour is never itself nor another blind pixel, and all channels hide together.

The batch's images are the noisy ones. `model.degradation` adds noise to clean ones instead, as in the paper's
experiment on BSD68, which is the preset's; of real noisy images give `--model.degradation.noise 0 0`. The noise is
then new at each step, whereas the paper draws it once. The net is CSBDeep's U-Net with batch norm, whose last layer
adds to the image; the rate falls along a cosine, not where the loss stops falling. It sees pixels from 0 to 1, not
less the set's mean over its deviation. Boxes of 8 make the 64 blind pixels of the paper; the authors' experiment on
BSD68 has boxes of 22. (`psnr` is that to the batch's pictures.)
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.data.degradations import Degradation
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import max_pool
from jaxgen.tasks.restoration import DegradeFn, Image, Recipe, RestorationTask, TrainingPair, row, tiny


@dataclass(frozen=True)
class Noise2Void:
    """Hyper-parameters of a denoiser that sees noisy images only."""

    image: Image = (64, 64, 1)  # the patches that it is trained on: height, width, channels
    width: int = 96  # channels next to the image, doubled at every resolution below
    depth: int = 2  # how often it is halved
    box: int = 8  # pixels of the side of a box, in which one pixel is blind
    radius: int = 2  # of the square around it from which its neighbour comes
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(loss="l2", learning_rate=4e-4)

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth, model__radius=self.radius)
        at_least(2, model__box=self.box)
        if self.recipe.loss not in ("l1", "l2") or self.recipe.frequency:
            raise InputError("The loss of blind pixels alone is l1 or l2, without frequencies.")
        height, width, channels = self.image
        if height % self.box or width % self.box:
            raise InputError(f"model.image is {height}x{width}: both sides must be multiples of model.box {self.box}.")
        return RestorationTask(
            Noise2VoidNet(self.width, self.depth, channels),
            self.image,
            self.recipe,
            self.degradation,
            channels=channels,
            multiple=2**self.depth,
            colour="each",
            make_pair=partial(blind_spot_pair, box=self.box, radius=self.radius),
        ).task()


def blind_spot_pair(noisy: Array, keys: Key, damaged: DegradeFn, *, box: int, radius: int) -> TrainingPair:
    """Return the lesson: images with blind pixels, and their noisy values as the answer. Equation 9."""
    given = damaged(noisy, keys)
    x = given["degraded"]
    shown, where = jax.vmap(partial(blinded, box=box, radius=radius))(x, keys)
    return TrainingPair(given | {"degraded": shown}, x, jnp.broadcast_to(where, x.shape))


def blinded(x: Array, key: Key, *, box: int, radius: int) -> tuple[Array, Array]:
    """Return x [h w c] with one blind pixel in every box, and where those are, f32[h w 1].

    In its place is one of the pixels at most `radius` away, in a row, a column or both, that is not blind.
    """
    h, w, _ = x.shape
    where_key, which_key = jax.random.split(key)
    places = jax.random.randint(where_key, (h // box, w // box), 0, box * box)
    blind = jax.nn.one_hot(places, box * box, dtype=x.dtype).reshape(h // box, w // box, box, box)
    blind = blind.swapaxes(1, 2).reshape(h, w, 1)
    side = 2 * radius + 1
    around = partial(windows, side=side)  # [h w side*side]
    free = around(1 - blind)[..., 0]  # 0 outside the image, too
    draws = jax.random.uniform(which_key, (h, w, side * side), minval=0.5)
    chosen = jax.nn.one_hot(jnp.argmax(draws * free, -1), side * side, dtype=x.dtype)  # [h w side*side]
    neighbour = (around(x) * jnp.broadcast_to(chosen[..., None], (h, w, side * side, x.shape[-1]))).sum(2)  # [h w c]
    mask = jnp.broadcast_to(blind, x.shape)
    return mask * neighbour + (1 - mask) * x, blind


def windows(x: Array, side: int) -> Array:
    """Return the pixels around each pixel of x [h w c], zeros outside: [h w side*side c]."""
    h, w, _ = x.shape
    wide = jnp.pad(x, ((side // 2, side // 2), (side // 2, side // 2), (0, 0)))
    return jnp.stack([wide[i : i + h, j : j + w] for i in range(side) for j in range(side)], 2)


class Noise2VoidNet(nn.Module):
    """x f32[b h w channels] -> the same without its noise; both sides can be halved `depth` times."""

    width: int
    depth: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def layer(x: Array, level: int, name: str) -> Array:
            y = conv(self.width * 2 ** max(level, 0), name)(x)
            return nn.relu(BatchNorm(momentum=0.99, epsilon=1e-3, name=f"norm_{name}")(y, train))

        y, skips = x, []
        for level in range(self.depth):
            y = layer(y, level, f"down_{level}_0")
            y = layer(y, level, f"down_{level}_1")  # [b h w width*2^level]
            skips.append(y)
            y = max_pool(y, 2, 2)  # [b h/2 w/2 c]
        y = layer(y, self.depth, "middle_0")
        y = layer(y, self.depth - 1, "middle_1")
        for level in reversed(range(self.depth)):
            y = jnp.concatenate([nearest_upsample(y), skips.pop()], -1)  # [b 2h 2w 2c]
            y = layer(y, level, f"up_{level}_0")
            y = layer(y, level - 1, f"up_{level}_1")
        return x + Conv(self.channels, (1, 1), name="out")(y)


def conv(features: int, name: str) -> Conv:
    return Conv(features, (3, 3), use_bias=False, kernel_init=nn.initializers.glorot_uniform(), name=name)


NOISY = Degradation(noise=(25, 25))


PRESETS = {
    "noise2void": Preset(
        row(Noise2Void(degradation=NOISY), 80_000, 128, optim=Optim(schedule="cosine")),
        tiny(Noise2Void((16, 16, 1), width=8, depth=1, box=4, degradation=NOISY)),
        2_990_209,
    )
}
