"""Repair of old photographs: after Wan, Zhang, Chen, Zhang, Chen, Liao and Wen 2020, "Bringing Old Photos Back to
Life".

A net detects scratches, folds and stains, and another one restores the image. Clean images are degraded on the fly
(data/old_photo.py: scratches, creases, stains, fading, grain), so that the damaged pixels are known. The detector
learns them with the focal loss (Lin et al. 2017), as theirs does. The restoration net gets the image without the
detected pixels, and the detector's probabilities, and is trained by L1. Both are U-Nets (unet.py), not the paper's
latent spaces.

On real old photographs grain, fading and thin cracks disappear. Cracks wider than those in training stay in part, and a
net trained on flowers makes the colours too strong.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.data.degradations import Degradation
from jaxgen.losses.restoration import l1
from jaxgen.metrics.pixels import psnr
from jaxgen.models.restoration.unet import UNetModule
from jaxgen.tasks.restoration import Image, row, tiny
from jaxgen.tasks.transforms import restoration


@dataclass(frozen=True)
class PhotoRepair:
    """Hyper-parameters of a detector and a restoration net for old photographs."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 48  # of both nets
    depth: int = 5  # stride-2 stages of both nets
    degradation: Degradation = Degradation(pipeline="photo")
    gamma: float = 2.0  # of the focal loss: how much pixels that are classified well are down-weighted
    alpha: float = 0.75  # weight of damaged pixels; that of intact pixels is 1 - alpha
    learning_rate: float = 3e-4

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range, and for degradations without a mask."""
        del steps
        at_least(1, model__width=self.width, model__depth=self.depth)
        at_least(0, model__gamma=self.gamma, model__alpha=self.alpha)
        self.degradation.check()
        multiple = 2**self.depth
        if self.image[0] % multiple or self.image[1] % multiple:
            raise InputError(f"model.image: both sides must be multiples of {multiple}, not {self.image[:2]}.")
        if self.degradation.pipeline != "photo" and self.degradation.mask == "none":
            raise InputError("The detector needs a degradation with a mask: write --model.degradation.pipeline photo.")
        adam = optax.adam(self.learning_rate, b2=0.99)
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"detector": Learner(("detector",), adam), "restorer": Learner(("restorer",), adam)},
            phases=(
                Phase("detector", "detector", self.detection, stream="damage"),
                Phase("restorer", "restorer", self.loss, stream="damage"),
            ),
            ema=(Ema("detector", ramped(0.999)), Ema("restorer", ramped(0.999))),
            capabilities=restoration(self.degradation, self.restore, multiple=multiple, channels=(self.image[2],)),
        )

    def net(self, channels: int) -> UNetModule:
        return UNetModule(self.width, self.depth, channels)

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, 2**self.depth, 2**self.depth, self.image[2]))
        inputs = jnp.concatenate([x, x[..., :1]], -1)
        return {
            "detector": self.net(1).init(rng.fold(key, "detector"), x)["params"],
            "restorer": self.net(self.image[2]).init(rng.fold(key, "restorer"), inputs)["params"],
        }, {}

    def detect(self, params: Params, x: Array) -> Array:
        """Return the logits f32[b h w 1] of damaged pixels."""
        out: Any = self.net(1).apply({"params": params["detector"]}, x)
        return out.astype(jnp.float32)

    def repair(self, params: Params, x: Array, damage: Array) -> Array:
        """Return the restored image; `damage` f32[b h w 1] is the probability that a pixel is damaged."""
        intact = jnp.broadcast_to(1 - damage, x.shape) * x
        inputs = jnp.concatenate([intact, damage], -1)
        out: Any = self.net(self.image[2]).apply({"params": params["restorer"]}, inputs)
        return intact + out  # not x + out: the net does not get the damaged pixels, so it could not remove them

    def detection(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        given = self.degrade(batch, key)
        logits, damage = self.detect(params, given["degraded"]), given["mask"]
        true, detected = damage > 0.5, logits > 0
        overlap = (true & detected).sum() / jnp.maximum((true | detected).sum(), 1)
        return focal(logits, damage, self.gamma, self.alpha).mean(), Aux({"iou": overlap.astype(jnp.float32)})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        x, clean = self.degrade(batch, key)["degraded"], batch["image"]
        damage = jax.lax.stop_gradient(jax.nn.sigmoid(self.detect(params, x)))
        made = self.repair(params, x, damage)
        return l1(made, clean).mean(), Aux({"psnr": psnr(made, clean).mean()})

    def degrade(self, batch: Batch, key: Key) -> dict[str, Array]:
        return self.degradation(batch["image"], jax.random.split(key, len(batch["image"])))

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del context, keys, scale
        x = given["degraded"]
        return self.repair(params, x, jax.nn.sigmoid(self.detect(params, x)))


def focal(logits: Array, damage: Array, gamma: float, alpha: float) -> Array:
    """Return the mean of -w (1 - p)^gamma log p, f32[b]; p is the true class's probability, w is alpha or 1 - alpha.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5.
    """
    log_p = damage * jax.nn.log_sigmoid(logits) + (1 - damage) * jax.nn.log_sigmoid(-logits)
    weight = damage * alpha + (1 - damage) * (1 - alpha)
    return -(weight * (1 - jnp.exp(log_p)) ** gamma * log_p).mean(range(1, logits.ndim))


SMALL = PhotoRepair((32, 32, 3), width=12, depth=2)
WHOLE = row(PhotoRepair(), 100_000, 8, optim=Optim(schedule="cosine"))


PRESETS = {"photo-repair": Preset(WHOLE, tiny(SMALL), 1_982_836)}
