"""SRGAN's critic and what it makes of enlarged pictures: Ledig et al. 2017, section 2.1; Wang et al. 2018, section 3.2.

Eight convolutions, every second of stride 2, batch norm, and two dense layers: of patches of one size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen import perceptual
from jaxgen.core import Array, Aux, Context, Key, Learner, Params, variables
from jaxgen.errors import InputError, at_least
from jaxgen.losses.gan import LOSSES
from jaxgen.models.restoration.supervised import Critic, Image
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.wide import wide


@dataclass(frozen=True)
class Game:
    """How a critic plays, and what its judgement weighs in the restorer's loss."""

    loss: Literal["non-saturating", "relativistic-average"] = "non-saturating"
    adversarial: float = 1e-3  # weight
    perceptual: float = 1.0  # weight of the distance ST-LPIPS, which needs jaxgen[perceptual]; 0: none
    pixel: float = 1.0  # weight of the distance between pixels
    width: int = 64  # of the critic's first layer
    dense: int = 1024  # of its last but one
    learning_rate: float = 1e-4  # of Adam
    start: int = 0  # step from which the critic's judgement counts

    def critic(self, image: Image) -> Critic:
        """Return the critic of patches of this size. Raises InputError for sizes that can't be."""
        at_least(0, model__game__adversarial=self.adversarial, model__game__perceptual=self.perceptual)
        at_least(0, model__game__pixel=self.pixel, model__game__start=self.start)
        at_least(1, model__game__width=self.width, model__game__dense=self.dense)
        if image[0] % 16 or image[1] % 16:
            raise InputError(f"The critic halves patches four times: model.image {image[:2]} must be multiples of 16.")
        if self.perceptual and (image[2] != 3 or min(image[:2]) < 21):
            raise InputError("ST-LPIPS sees colour of at least 21x21: write --model.game.perceptual 0.")
        net, play = Net(self.width, self.dense), LOSSES[self.loss]

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
                apart = context.frozen["perceptual"](made, clean)
                total, metrics = total + self.perceptual * apart, metrics | {"perceptual": apart.mean()}
            return total, metrics

        frozen = {"perceptual": lambda: perceptual.st_lpips("alex")} if self.perceptual else {}
        return Critic(init, Learner(("critic",), optax.adam(self.learning_rate)), judge, cost, frozen)


class Net(nn.Module):
    """x f32[b h w c] in [-1, 1] -> logits f32[b]. Ledig et al. 2017, figure 4."""

    width: int
    dense: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.leaky_relu(Conv(self.width, (3, 3), name="layer_0")(x), 0.2)
        for i in range(1, 8):
            strides = (2, 2) if i % 2 else (1, 1)
            pads, features = ((1, 1), (1, 1)), self.width * 2 ** (i // 2)
            x = Conv(features, (3, 3), strides, pads, use_bias=False, name=f"layer_{i}")(x)
            x = nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x, train), 0.2)  # every second time [b h/2 w/2 features]
        x = nn.leaky_relu(Dense(self.dense, name="dense_0")(x.reshape(x.shape[0], -1)), 0.2)
        return wide(Dense(1, name="dense_1")(x)[:, 0])
