"""Noise2Void: Krull, Buchholz and Jug 2019, "Noise2Void: Learning Denoising from Single Noisy Images".

Training uses single noisy images. One pixel in every box of pixels is a blind spot: in the input it is replaced by a
neighbour, and the net predicts its noisy value, which it can only infer from the surroundings. If the noise is
independent between pixels with mean 0, the best prediction is the clean value. Two details differ from the authors'
code, so that the pixel is hidden completely: the replacing neighbour is never the pixel itself nor another blind spot,
and all channels of a pixel are hidden together.

The batch's images are the noisy ones. `model.degradation` adds noise to clean images instead, as in the paper's
experiment on BSD68 and in the preset; for real noisy images use `--model.degradation.noise 0 0`. The noise is redrawn
at each step, while the paper draws it once. The net is CSBDeep's U-Net with batch norm, with a residual connection from
the image. The schedule is a cosine, not a decay on plateaus. Pixels are from 0 to 1, not normalised by the set's mean
and deviation. Boxes of 8 give the 64 blind spots of the paper; the authors' experiment on BSD68 has boxes of 22.
(`psnr` compares with the batch's images.)
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
    """Hyper-parameters of a denoiser trained on single noisy images."""

    image: Image = (64, 64, 1)  # training patches: height, width, channels
    width: int = 96  # channels at full resolution, doubled at each stage
    depth: int = 2  # number of stride-2 downsampling stages
    box: int = 8  # side in pixels of the boxes, which have one blind spot each
    radius: int = 2  # of the square around it from which the neighbour is drawn
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(loss="l2", learning_rate=4e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth, model__radius=self.radius)
        at_least(2, model__box=self.box)
        if self.recipe.loss not in ("l1", "l2") or self.recipe.frequency:
            raise InputError("model.recipe.loss must be l1 or l2 for blind spots, without model.recipe.frequency.")
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


def blind_spot_pair(noisy: Array, keys: Key, degrade: DegradeFn, *, box: int, radius: int) -> TrainingPair:
    """Return a pair of images with blind spots and their noisy values as targets. Equation 9."""
    given = degrade(noisy, keys)
    x = given["degraded"]
    masked, blind = jax.vmap(partial(blinded, box=box, radius=radius))(x, keys)
    return TrainingPair(given | {"degraded": masked}, x, jnp.broadcast_to(blind, x.shape))


def blinded(x: Array, key: Key, *, box: int, radius: int) -> tuple[Array, Array]:
    """Return x [h w c] with one blind spot in every box, and a mask of them, f32[h w 1].

    A blind spot is replaced by a pixel at most `radius` rows and columns away that is not a blind spot.
    """
    h, w, _ = x.shape
    where_key, which_key = jax.random.split(key)
    places = jax.random.randint(where_key, (h // box, w // box), 0, box * box)
    blind = jax.nn.one_hot(places, box * box, dtype=x.dtype).reshape(h // box, w // box, box, box)
    blind = blind.swapaxes(1, 2).reshape(h, w, 1)
    side = 2 * radius + 1
    around = partial(windows, side=side)  # [h w side*side]
    free = around(1 - blind)[..., 0]  # 0 outside the image as well
    draws = jax.random.uniform(which_key, (h, w, side * side), minval=0.5)
    chosen = jax.nn.one_hot(jnp.argmax(draws * free, -1), side * side, dtype=x.dtype)  # [h w side*side]
    neighbour = (around(x) * jnp.broadcast_to(chosen[..., None], (h, w, side * side, x.shape[-1]))).sum(2)  # [h w c]
    mask = jnp.broadcast_to(blind, x.shape)
    return mask * neighbour + (1 - mask) * x, blind


def windows(x: Array, side: int) -> Array:
    """Return the window of pixels around each pixel of x [h w c], zero-padded: [h w side*side c]."""
    h, w, _ = x.shape
    wide = jnp.pad(x, ((side // 2, side // 2), (side // 2, side // 2), (0, 0)))
    return jnp.stack([wide[i : i + h, j : j + w] for i in range(side) for j in range(side)], 2)


class Noise2VoidNet(nn.Module):
    """x f32[b h w channels] -> the denoised image; both sides are multiples of 2^depth."""

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
