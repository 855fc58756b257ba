"""VGAN: Vondrick, Pirsiavash and Torralba 2016, "Generating Videos with Scene Dynamics".

Two streams make a clip of one z: a still background b, by transposed convolutions over space, and a moving foreground
f, by such convolutions over time and space, with a mask m in [0, 1]. The clip is m f + (1 - m) b (equation 3). An L1
penalty keeps the mask sparse. The discriminator is a stack of strided convolutions over time and space. Sizes and
initial values are those of the authors' code for 32 frames of 64x64 pixels, except for the last layer of the
discriminator: one logit, not two classes.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.nn.conv import ConvTranspose
from jaxgen.nn.conv3d import Conv3D, ConvTranspose3D
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import normal
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig
from jaxgen.tasks.video_prediction import Image

WEIGHTS = nn.initializers.normal(0.01)
NONE: Any = ((0, 0),) * 3  # padding of time, height and width
ONE: Any = ((1, 1),) * 3


@dataclass(frozen=True)
class VGAN:
    """Hyper-parameters of a VGAN."""

    frames: Count = 32  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    latent: Count = 100  # size of z
    width: Count = 64  # channels of the layers next to the clip
    sparsity: float = 0.1  # weight of the mask's mean
    game: AdversarialConfig = AdversarialConfig()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for sizes that do not fit strides of 2."""
        del steps
        check_settings(self, "model.")
        stages = count_stages(*self.image[:2])
        if self.frames % (1 << stages):
            raise InputError(f"model.frames must be a multiple of {1 << stages} for this size, not {self.frames}.")
        widths = tuple(self.width << i for i in range(stages))
        base = (self.frames >> stages, self.image[0] >> stages, self.image[1] >> stages)
        generator = VGANGenerator(base, widths, self.image[2], self.sparsity)
        shape = (self.frames, *self.image)
        return AdversarialTask(self.game, generator, VGANDiscriminator(base, widths), shape, normal(self.latent)).task()


def norm(x: Array, train: bool, name: str, epsilon: float = 1e-5) -> Array:
    scale = lambda *args: 1 + nn.initializers.normal(0.02)(*args)  # noqa: E731
    return BatchNorm(epsilon=epsilon, scale_init=scale, name=name)(x, train)


class VGANGenerator(nn.Module):
    """z f32[b latent] -> clip f32[b t h w c] in [-1, 1]. Section 3.2, figure 1."""

    base: tuple[int, int, int]  # frames, height and width of the first maps
    widths: tuple[int, ...]
    channels: int
    sparsity: float

    @nn.compact
    def __call__(self, z: Array, label=None, keys=None, *, train: bool) -> Array:
        still = z[:, None, None]  # [b 1 1 latent]
        moving = z[:, None, None, None]  # [b 1 1 1 latent]
        for i, features in enumerate(reversed(self.widths)):
            flat, deep = ((2, 2), (2, 2, 2)) if i else ((1, 1), (1, 1, 1))
            side, sides = ((4, 4), (4, 4, 4)) if i else (self.base[1:], self.base)
            crop, crops = (ONE[1:], ONE) if i else (NONE[1:], NONE)
            still = ConvTranspose(features, side, flat, crop, kernel_init=WEIGHTS, name=f"static_{i}")(still)
            still = nn.relu(norm(still, train, f"static_norm_{i}"))  # [b 2h 2w c]
            moving = ConvTranspose3D(features, sides, deep, crops, kernel_init=WEIGHTS, name=f"video_{i}")(moving)
            moving = nn.relu(norm(moving, train, f"video_norm_{i}"))  # [b 2t 2h 2w c]
        double = lambda c, name: ConvTranspose3D(c, (4, 4, 4), (2, 2, 2), ONE, kernel_init=WEIGHTS, name=name)  # noqa: E731
        last = ConvTranspose(self.channels, (4, 4), (2, 2), ONE[1:], kernel_init=WEIGHTS, name="static_out")
        back = jnp.tanh(to_f32(last(still)))[:, None]  # [b 1 h w c]
        front = jnp.tanh(to_f32(double(self.channels, "video_out")(moving)))  # [b t h w c]
        mask = jax.nn.sigmoid(to_f32(double(1, "mask_out")(moving)))  # [b t h w 1]
        self.sow("losses", "mask", self.sparsity * mask.mean(range(1, mask.ndim)))
        mask, back = jnp.broadcast_to(mask, front.shape), jnp.broadcast_to(back, front.shape)
        return mask * front + (1 - mask) * back  # (3)


class VGANDiscriminator(nn.Module):
    """clip f32[b t h w c] -> logits f32[b]. Section 3.3."""

    base: tuple[int, int, int]  # frames, height and width of the last maps
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, label=None, *, train: bool) -> Array:
        for i, features in enumerate(self.widths):
            x = Conv3D(features, (4, 4, 4), (2, 2, 2), ONE, kernel_init=WEIGHTS, name=f"conv_{i}")(x)
            x = nn.leaky_relu(norm(x, train, f"norm_{i}", 1e-3) if i else x, 0.2)  # [b t/2 h/2 w/2 c]
        return to_f32(Conv3D(1, self.base, padding=NONE, kernel_init=WEIGHTS, name="out")(x))[:, 0, 0, 0, 0]


def row(model, small, parameters: int, steps: int = 100_000, batch: int = 32, clips: int = 16) -> Preset:
    """Return a preset of a model that generates clips, and a tiny run."""
    data = Data("moving-shapes")
    full = Run(model, data=data, steps=steps, batch=batch, log=Log(100, 1000, clips), save=Save(1000))
    return Preset(full, Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4)), parameters)


TINY = VGAN(frames=4, image=(8, 8, 3), latent=8, width=4, game=AdversarialConfig(learning_rate=1e-3))
PRESETS = {"vgan": row(VGAN(), TINY, 27_286_856, batch=64)}
