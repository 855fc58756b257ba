"""Harmonisation: Sofiiuk, Popenova and Konushin 2021, "Foreground-aware Semantic Representations for Image
Harmonization".

The colours of a pasted part become those of its surroundings. A region of an image is recoloured. The net gets the
whole image and the region's mask, and its output is added inside the region. The loss is the paper's
foreground-normalised squared error over the region, in which small regions count as much as large ones. Regions are
boxes and brush strokes, and the net is this zoo's U-Net: unlike the paper there are no object outlines and no
pretrained semantic features. The rate is constant; the authors' falls to a tenth from the 160th of 180 epochs on.
`python -m jaxgen compose --how harmonise` uses this model.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.data.degradation_ops import broadcast_like, fold_keys, luma, uniform
from jaxgen.metrics.pixels import psnr
from jaxgen.models.restoration import unet
from jaxgen.tasks.hole_filling import Holes
from jaxgen.tasks.restoration import Image, row, tiny
from jaxgen.tasks.transforms import restoration

PARTS = Holes(boxes=0.5, strokes=0.75, side=(0.2, 0.7))


@dataclass(frozen=True)
class Harmonisation:
    """Hyper-parameters of a harmonisation net."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 48  # channels of the encoder; the decoder has twice as many
    depth: int = 5  # number of stride-2 downsampling stages
    parts: Holes = PARTS  # the recoloured regions
    strength: float = 1.0  # of the recolouring
    smallest: float = 100.0  # in pixels; smaller regions count less
    learning_rate: float = 1e-3  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth, model__smallest=self.smallest)
        self.parts.check()
        if self.image[2] != 3:
            raise InputError(f"Harmonisation needs images of 3 channels: model.image can't have {self.image[2]}.")
        if not 0 < self.strength <= 1:
            raise InputError(f"model.strength must be in (0, 1], not {self.strength}.")
        multiple = 2**self.depth
        if self.image[0] % multiple or self.image[1] % multiple:
            raise InputError(f"model.image {self.image[:2]} must be multiples of {multiple}.")
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"restorer": Learner(("restorer",), optax.adam(self.learning_rate))},
            phases=(Phase("restorer", "restorer", self.loss),),
            ema=(Ema("restorer", ramped(0.999)),),
            # Whole images only: the colours come from outside of the region.
            capabilities=restoration(self.pasted, self.restore, conditions=("region",), multiple=multiple, whole=True),
        )

    @property
    def net(self) -> unet.UNetModule:
        return unet.UNetModule(self.width, self.depth, 3)

    def init(self, key: Key, spec: Any = None):
        del spec
        return {"restorer": self.net.init(key, jnp.zeros((2, *self.image[:2], 4)))["params"]}, {}

    def pasted(self, clean: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return images f32[b h w 3] with a recoloured region, and the region's mask f32[b h w 1]."""
        del scale
        region = self.parts(keys, clean.shape[1:3])
        other = recoloured(clean, fold_keys(keys, "colours"), self.strength)
        return {"degraded": jnp.where(jnp.broadcast_to(region > 0, clean.shape), other, clean), "region": region}

    def made(self, params: Params, context: Context, given: Batch) -> Array:
        """Return images f32[b h w 3], changed in the region only."""
        x, region = given["degraded"], given["region"].astype(jnp.float32)
        nets: Any = variables("restorer", params, context.extra)
        change: Any = self.net.apply(nets, jnp.concatenate([x, region], -1))
        return x + jnp.broadcast_to(region, x.shape) * change.astype(jnp.float32)

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del keys, scale
        return self.made(params, context, given)

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = self.pasted(clean, jax.random.split(key, len(clean)))
        made, region = self.made(params, context, given), given["region"]
        error = jnp.square(made - clean).mean(-1, keepdims=True).sum((1, 2, 3))
        value = error / jnp.maximum(region.sum((1, 2, 3)), self.smallest)  # f32[b]
        metrics = {"psnr": psnr(made, clean).mean(), "psnr_before": psnr(given["degraded"], clean).mean()}
        return value.mean(), Aux(metrics)


def recoloured(x: Array, keys: Key, strength: float = 1.0) -> Array:
    """Return images f32[b h w 3] in [-1, 1] with random gamma, gains, saturation and brightness, each by its key.

    At strength 1 the gamma is from 1/1.8 to 1.8, each channel's gain from 0.7 to 1.4, the saturation from 0.4 to 1.6,
    and the brightness changes by up to 0.15 of white.
    """
    low, high = jnp.log(jnp.asarray([1 / 1.8, 0.7, 0.7, 0.7])), jnp.log(jnp.asarray([1.8, 1.4, 1.4, 1.4]))
    u = uniform(fold_keys(keys, "light"), 0, 1, (4,))  # [b 4]
    factors = jnp.exp(strength * (jnp.broadcast_to(low, u.shape) + u * jnp.broadcast_to(high - low, u.shape)))
    y = jnp.power(jnp.clip((x + 1) / 2, 1e-4, 1), broadcast_like(factors[:, 0], x)) * broadcast_like(
        factors[:, None, None, 1:], x
    )
    grey = jnp.broadcast_to(luma(y), y.shape)
    saturation = 1 + strength * uniform(fold_keys(keys, "saturation"), -0.6, 0.6)
    y = grey + broadcast_like(saturation, y) * (y - grey)
    y = y + broadcast_like(strength * uniform(fold_keys(keys, "brightness"), -0.15, 0.15), y)
    return jnp.clip(2 * y - 1, -1, 1)


SMALL = Harmonisation((16, 16, 3), width=12, depth=2, smallest=4, learning_rate=2e-3)
PRESETS = {"harmonisation": Preset(row(Harmonisation(), 100_000, 8), tiny(SMALL), 992_211)}
