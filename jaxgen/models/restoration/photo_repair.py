"""Repair of old photographs: a net that finds scratches, folds and stains, and a net that mends what it is shown.

After Wan, Zhang, Chen, Zhang, Chen, Liao and Wen 2020, "Bringing Old Photos Back to Life": damage is made on clean
images (data/old_photo.py: scratches, creases, stains, fading, grain), so that where it lies is known; the detector
learns that by the focal loss (Lin et al. 2017), as theirs does. The mender sees the image without what the detector
found, and how sure that is, and learns the clean image by L1. Both are U-Nets (unet.py), not the paper's latent
spaces.

On real old photographs grain, fading and thin cracks disappear. Cracks wider than those in training stay in part, and a
net trained on flowers makes the colours too strong.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.capabilities import Restorer
from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.data.degradations import Degradation
from jaxgen.losses.restoration import l1
from jaxgen.metrics.pixels import psnr
from jaxgen.models.restoration.unet import UNetModule
from jaxgen.tasks.restoration import Image, row, tiny


@dataclass(frozen=True)
class PhotoRepair:
    """Hyper-parameters of the repair of photographs."""

    image: Image = (256, 256, 3)  # the patches that it is trained on: height, width, channels
    width: int = 48  # of both nets
    depth: int = 5  # how often they halve an image
    degradation: Degradation = Degradation(pipeline="photo")
    gamma: float = 2.0  # of the focal loss: how little what is told apart already counts
    alpha: float = 0.75  # weight of damaged pixels, 1 - alpha of sound ones
    learning_rate: float = 3e-4

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be, and damage that has no place."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth)
        at_least(0, model__gamma=self.gamma, model__alpha=self.alpha)
        self.degradation.check()
        grain = 2**self.depth
        if self.image[0] % grain or self.image[1] % grain:
            raise InputError(f"model.image: both sides must be multiples of {grain}, not {self.image[:2]}.")
        if self.degradation.pipeline != "photo" and self.degradation.mask == "none":
            raise InputError("The detector needs damage that has a place: --model.degradation.pipeline photo has.")
        adam = optax.adam(self.learning_rate, b2=0.99)
        return Task(
            init=self.init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32)},
            learners={"detector": Learner(("detector",), adam), "restorer": Learner(("restorer",), adam)},
            phases=(
                Phase("detector", "detector", self.detection, stream="damage"),
                Phase("restorer", "restorer", self.loss, stream="damage"),
            ),
            ema=(Ema("detector", ramped(0.999)), Ema("restorer", ramped(0.999))),
            restorer=Restorer(self.degradation, self.restore, multiple=grain, channels=(self.image[2],)),
        )

    def net(self, channels: int) -> UNetModule:
        return UNetModule(self.width, self.depth, channels)

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, 2**self.depth, 2**self.depth, self.image[2]))
        seen = jnp.concatenate([x, x[..., :1]], -1)
        return {
            "detector": self.net(1).init(rng.fold(key, "detector"), x)["params"],
            "restorer": self.net(self.image[2]).init(rng.fold(key, "restorer"), seen)["params"],
        }, {}

    def found(self, params: Params, x: Array) -> Array:
        """Return the logits f32[b h w 1] of pixels being damaged."""
        out: Any = self.net(1).apply({"params": params["detector"]}, x)
        return out.astype(jnp.float32)

    def mended(self, params: Params, x: Array, damage: Array) -> Array:
        """Return the clean image of one, where `damage` f32[b h w 1] says how sure each pixel is lost."""
        sound = jnp.broadcast_to(1 - damage, x.shape) * x
        seen = jnp.concatenate([sound, damage], -1)
        out: Any = self.net(self.image[2]).apply({"params": params["restorer"]}, seen)
        return sound + out  # not x + out: it can't take away what it doesn't see

    def detection(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        given = self.damaged(batch, key)
        logits, damage = self.found(params, given["degraded"]), given["mask"]
        there, guessed = damage > 0.5, logits > 0
        overlap = (there & guessed).sum() / jnp.maximum((there | guessed).sum(), 1)
        return focal(logits, damage, self.gamma, self.alpha).mean(), Aux({"iou": overlap.astype(jnp.float32)})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        x, clean = self.damaged(batch, key)["degraded"], batch["image"]
        damage = jax.lax.stop_gradient(jax.nn.sigmoid(self.found(params, x)))
        made = self.mended(params, x, damage)
        return l1(made, clean).mean(), Aux({"psnr": psnr(made, clean).mean()})

    def damaged(self, batch: Batch, key: Key) -> dict[str, Array]:
        return self.degradation(batch["image"], jax.random.split(key, len(batch["image"])))

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del context, keys, scale
        x = given["degraded"]
        return self.mended(params, x, jax.nn.sigmoid(self.found(params, x)))


def focal(logits: Array, there: Array, gamma: float, alpha: float) -> Array:
    """Return the mean of -w (1 - p)^gamma log p, f32[b]: p is the right answer's probability, w alpha or 1 - alpha.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5.
    """
    log_p = there * jax.nn.log_sigmoid(logits) + (1 - there) * jax.nn.log_sigmoid(-logits)
    weight = there * alpha + (1 - there) * (1 - alpha)
    return -(weight * (1 - jnp.exp(log_p)) ** gamma * log_p).mean(range(1, logits.ndim))


SMALL = PhotoRepair((32, 32, 3), width=12, depth=2)
WHOLE = row(PhotoRepair(), 100_000, 8, optim=Optim(schedule="cosine"))


PRESETS = {"photo-repair": Preset(WHOLE, tiny(SMALL), 1_982_836)}
