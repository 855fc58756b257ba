"""SRGAN's critic and what it makes of enlarged images: Ledig et al. 2017, section 2.1; Wang et al. 2018, section 3.2.

Convolutions, every second of stride 2, batch norm, and two dense layers: of patches of one size. SRGAN has eight, whose
sides are 3; ESRGAN's code ten or, of patches of 256, twelve, and sides of 4 where it halves.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, variables
from jaxgen.losses.gan import LOSSES
from jaxgen.metrics.lpips import lpips
from jaxgen.models.classifier.shift_tolerant import LAYERS
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import backbones, perceptual_distances
from jaxgen.tasks.restoration import Critic, Image


@dataclass(frozen=True)
class Game:
    """How a critic plays, and what its judgement weighs in the restorer's loss."""

    loss: Literal["non-saturating", "relativistic-average"] = "non-saturating"
    adversarial: float = 1e-3  # weight
    perceptual: float = 1.0  # weight of the distance between what a frozen net sees; 0: none
    pixel: float = 1.0  # weight of the distance between pixels
    width: int = 64  # of the critic's first layer
    dense: int = 1024  # of its last but one
    halvings: int = 4  # of the patch, by every second convolution
    kernel: int = 3  # the side of those
    learning_rate: float = 1e-4  # of Adam
    beta2: float = 0.999  # of Adam
    start: int = 0  # step from which the critic's judgement counts
    # the net whose features are compared: st-lpips or vgg16 (jaxgen[perceptual]), random, or a classifier's run folder
    backbone: str = "st-lpips"
    layers: tuple[str, ...] = LAYERS["vgg"]  # of any but ST-LPIPS: LPIPS without learned weights

    def critic(self, image: Image) -> Critic:
        """Return the critic of patches of this size. Raises InputError for sizes that can't be."""
        at_least(0, model__game__adversarial=self.adversarial, model__game__perceptual=self.perceptual)
        at_least(0, model__game__pixel=self.pixel, model__game__start=self.start)
        at_least(1, model__game__width=self.width, model__game__dense=self.dense, model__game__halvings=self.halvings)
        if self.kernel not in (3, 4):
            raise InputError(f"model.game.kernel must be 3 or 4, not {self.kernel}.")
        grain = 2**self.halvings
        if image[0] % grain or image[1] % grain:
            times = f"The critic halves patches {self.halvings} times"
            raise InputError(f"{times}: model.image {image[:2]} must be multiples of {grain}.")
        if self.perceptual and self.backbone == "st-lpips" and (image[2] != 3 or min(image[:2]) < 21):
            raise InputError("ST-LPIPS sees colour of at least 21x21: write --model.game.perceptual 0.")
        net, play = Net(self.width, self.dense, self.halvings, self.kernel), LOSSES[self.loss]

        def init(key: Key) -> tuple[Any, Any]:
            found = net.init(key, jnp.zeros((2, *image)), True)
            return found["params"], {"batch_stats": found["batch_stats"]}

        def judged(params: Params, context: Context, x: Array) -> tuple[Array, Any]:
            return net.apply(variables("critic", params, context.extra), x, True, mutable=["batch_stats"])

        def due(context: Context) -> Array:
            return (context.step >= self.start).astype(jnp.float32)

        def judge(params: Params, context: Context, made: Array, clean: Array, key: Key) -> tuple[Array, Aux]:
            del key
            real, _ = judged(params, context, clean)
            fake, stats = judged(params, context, made)
            metrics = {"real": play.score(real).mean(), "fake": play.score(fake).mean()}
            return due(context) * play.discriminator(real, fake).mean(), Aux(metrics, {"critic": stats})

        def cost(params: Params, context: Context, made: Array, clean: Array) -> tuple[Array, dict[str, Array]]:
            fake, _ = judged(params, context, made)
            real = judged(params, context, clean)[0] if play.both else fake
            caught = play.generator(real, fake)  # [b]
            total, metrics = self.adversarial * due(context) * caught, {"adversarial": caught.mean()}
            if self.perceptual:
                apart = self.apart(context.frozen["perceptual"], made, clean)
                total, metrics = total + self.perceptual * apart, metrics | {"perceptual": apart.mean()}
            return total, metrics

        load = perceptual_distances.st_lpips if self.backbone == "st-lpips" else partial(backbones.load, self.backbone)
        frozen = {"perceptual": load} if self.perceptual else {}
        adam = optax.adam(self.learning_rate, b2=self.beta2)
        return Critic(init, Learner(("critic",), adam), judge, cost, frozen)

    def check(self, image: Image):
        """Raise InputError for a backbone or layers that are not there: who only enlarges needs none of them."""
        if self.perceptual and self.backbone != "st-lpips":
            backbones.check(self.backbone, self.layers, image)

    def apart(self, backbone: Any, made: Array, clean: Array) -> Array:
        """Return the distance between what the backbone sees in both images, f32[b]."""
        if self.backbone == "st-lpips":
            return backbone(made, clean)
        ours, theirs = (backbone.features(x, self.layers) for x in (made, clean))
        return lpips(ours, theirs, [jnp.ones(x.shape[-1]) for x in ours])


class Net(nn.Module):
    """x f32[b h w c] in [-1, 1] -> logits f32[b]. Ledig et al. 2017, figure 4."""

    width: int
    dense: int
    halvings: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.leaky_relu(Conv(self.width, (3, 3), name="layer_0")(x), 0.2)
        for i in range(1, 2 * self.halvings):
            stride, side = (2, self.kernel) if i % 2 else (1, 3)
            pads, features = ((1, 1), (1, 1)), self.width * 2 ** min(i // 2, 3)
            x = Conv(features, (side, side), (stride, stride), pads, use_bias=False, name=f"layer_{i}")(x)
            x = nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x, train), 0.2)  # every second time [b h/2 w/2 features]
        x = nn.leaky_relu(Dense(self.dense, name="dense_0")(x.reshape(x.shape[0], -1)), 0.2)
        return to_f32(Dense(1, name="dense_1")(x)[:, 0])
