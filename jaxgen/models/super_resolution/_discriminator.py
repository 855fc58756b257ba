"""SRGAN's discriminator and the adversarial and perceptual losses: Ledig et al. 2017, section 2.1; Wang et al. 2018,
section 3.2.

Convolutions, every second one of stride 2, batch norm, and two dense layers, for patches of one size. SRGAN has eight
convolutions with kernels of 3x3; ESRGAN's code has ten or, for patches of 256, twelve, and kernels of 4x4 at stride 2.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, variables
from jaxgen.losses.gan import LOSSES
from jaxgen.metrics.lpips import lpips
from jaxgen.models.classifier.shift_tolerant import LAYERS
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import backbones, perceptual_distances
from jaxgen.tasks.restoration import AdversarialLoss, Image


@dataclass(frozen=True)
class PerceptualGANConfig:
    """Hyper-parameters of the discriminator, and the weights of the restoration net's losses."""

    loss: Literal["non-saturating", "relativistic-average"] = "non-saturating"
    adversarial: float = 1e-3  # weight of the adversarial loss
    perceptual: float = 1.0  # weight of the perceptual distance; 0: none
    pixel: float = 1.0  # weight of the pixel loss
    width: int = 64  # channels of the discriminator's first layer
    dense: int = 1024  # units of its last but one layer
    downsamplings: int = 4  # number of stride-2 convolutions
    kernel: int = 3  # side of their kernels
    learning_rate: float = 1e-4  # of Adam
    beta2: Decay = 0.999  # of Adam
    start: int = 0  # steps without an adversarial loss
    # the net whose features are compared: st-lpips or vgg16 (jaxgen[perceptual]), random, or a classifier's run folder
    backbone: str = "st-lpips"
    layers: tuple[str, ...] = LAYERS["vgg"]  # of any backbone but st-lpips: LPIPS without learned weights

    def adversary(self, image: Image) -> AdversarialLoss:
        """Return the losses with a discriminator of patches of this size. Raises InputError for bad settings."""
        at_least(0, model__game__adversarial=self.adversarial, model__game__perceptual=self.perceptual)
        at_least(0, model__game__pixel=self.pixel, model__game__start=self.start)
        at_least(
            1,
            model__game__width=self.width,
            model__game__dense=self.dense,
            model__game__downsamplings=self.downsamplings,
        )
        if self.kernel not in (3, 4):
            raise InputError(f"model.game.kernel must be 3 or 4, not {self.kernel}.")
        multiple = 2**self.downsamplings
        if image[0] % multiple or image[1] % multiple:
            times = f"The discriminator halves patches {self.downsamplings} times"
            raise InputError(f"{times}: model.image {image[:2]} must be multiples of {multiple}.")
        if self.perceptual and self.backbone == "st-lpips" and (image[2] != 3 or min(image[:2]) < 21):
            raise InputError(
                "ST-LPIPS compares colour images of at least 21x21: write --model.game.perceptual 0 for others."
            )
        net, gan = SRGANDiscriminator(self.width, self.dense, self.downsamplings, self.kernel), LOSSES[self.loss]

        def init(key: Key) -> tuple[Any, Any]:
            found = net.init(key, jnp.zeros((2, *image)), True)
            return found["params"], {"batch_stats": found["batch_stats"]}

        def logits_of(params: Params, context: Context, x: Array) -> tuple[Array, Any]:
            return net.apply(variables("critic", params, context.extra), x, True, mutable=["batch_stats"])

        def started(context: Context) -> Array:
            return (context.step >= self.start).astype(jnp.float32)

        def discriminator_loss(
            params: Params, context: Context, restored: Array, clean: Array, key: Key
        ) -> tuple[Array, Aux]:
            del key
            real, _ = logits_of(params, context, clean)
            fake, stats = logits_of(params, context, restored)
            metrics = {"real": gan.score(real).mean(), "fake": gan.score(fake).mean()}
            return started(context) * gan.discriminator(real, fake).mean(), Aux(metrics, {"critic": stats})

        def restorer_loss(
            params: Params, context: Context, restored: Array, clean: Array
        ) -> tuple[Array, dict[str, Array]]:
            fake, _ = logits_of(params, context, restored)
            real = logits_of(params, context, clean)[0] if gan.both else fake
            adversarial = gan.generator(real, fake)  # [b]
            value = self.adversarial * started(context) * adversarial
            metrics = {"adversarial": adversarial.mean()}
            if self.perceptual:
                distance = self.perceptual_distance(context.frozen["perceptual"], restored, clean)
                value, metrics = value + self.perceptual * distance, metrics | {"perceptual": distance.mean()}
            return value, metrics

        load = perceptual_distances.st_lpips if self.backbone == "st-lpips" else partial(backbones.load, self.backbone)
        frozen = {"perceptual": load} if self.perceptual else {}
        adam = optax.adam(self.learning_rate, b2=self.beta2)
        return AdversarialLoss(init, Learner(("critic",), adam), discriminator_loss, restorer_loss, frozen)

    def check(self, image: Image):
        """Raise InputError for an unknown backbone or layer. Only training needs them, so `task` does not check."""
        if self.perceptual and self.backbone != "st-lpips":
            backbones.check(self.backbone, self.layers, image)

    def perceptual_distance(self, backbone: Any, restored: Array, clean: Array) -> Array:
        """Return the distance between the backbone's features of both images, f32[b]."""
        if self.backbone == "st-lpips":
            return backbone(restored, clean)
        ours, theirs = (backbone.features(x, self.layers) for x in (restored, clean))
        return lpips(ours, theirs, [jnp.ones(x.shape[-1]) for x in ours])


class SRGANDiscriminator(nn.Module):
    """x f32[b h w c] in [-1, 1] -> logits f32[b]. Ledig et al. 2017, figure 4."""

    width: int
    dense: int
    downsamplings: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.leaky_relu(Conv(self.width, (3, 3), name="layer_0")(x), 0.2)
        for i in range(1, 2 * self.downsamplings):
            stride, side = (2, self.kernel) if i % 2 else (1, 3)
            pads, features = ((1, 1), (1, 1)), self.width * 2 ** min(i // 2, 3)
            x = Conv(features, (side, side), (stride, stride), pads, use_bias=False, name=f"layer_{i}")(x)
            x = nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x, train), 0.2)  # every second time [b h/2 w/2 features]
        x = nn.leaky_relu(Dense(self.dense, name="dense_0")(x.reshape(x.shape[0], -1)), 0.2)
        return to_f32(Dense(1, name="dense_1")(x)[:, 0])
