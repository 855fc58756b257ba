"""Context encoder: Pathak, Krähenbühl, Donahue, Darrell and Efros 2016, "Context Encoders: Feature Learning by
Inpainting", in the form of Iizuka, Simo-Serra and Ishikawa 2017, "Globally and Locally Consistent Image Completion".

A net fills holes. Its middle layers are dilated, so that each pixel has a wide receptive field around the hole. It
minimises the squared distance from the true pixels in the hole and an adversarial loss. The discriminator has two
branches, one for the whole image and one for the region around the hole, and outputs one logit. At first each net is
trained alone: the completion net until `start`, the discriminator from `discriminator_start` on.

Differences from the paper: The discriminator gets the same regions of real images, not other ones. The completion net
continues to train while the discriminator catches up (without gradients Adadelta would lose its averages). It minimises
-log D(C(x)), not log(1 - D(C(x))). Hidden pixels are middle grey, not the training set's mean.

A small net fills holes with the right colours, but blurred and with a seam.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, PyTree, ramped, variables
from jaxgen.losses.gan import non_saturating
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.conv import Conv, ConvTranspose, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.hole_filling import Holes, composite, hole_filling, masked_batch
from jaxgen.tasks.restoration import Image, row, tiny

BOX = Holes(boxes=1)
RATES = 2, 4, 8, 16  # of the dilated layers


@dataclass(frozen=True)
class ContextEncoder:
    """Hyper-parameters of a completion net with a global and a local discriminator."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 64  # channels at full resolution; 4 times as many at the coarsest
    discriminator_width: int = 64  # channels of the first layer of both branches
    discriminator_layers: int = 6  # stride-2 layers of the global branch; the local one has one less
    local: int = 128  # side in pixels of the local branch's region around the hole
    holes: Holes = BOX
    adversarial: float = 0.0004  # weight of the adversarial loss
    start: int = 100_000  # steps before the adversarial loss is added
    discriminator_start: int = 90_000  # steps before the discriminator is trained

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(
            1,
            model__image=min(self.image),
            model__width=self.width,
            model__discriminator_width=self.discriminator_width,
        )
        at_least(2, model__discriminator_layers=self.discriminator_layers)
        at_least(0, model__adversarial=self.adversarial, model__start=self.start)
        at_least(0, model__discriminator_start=self.discriminator_start)
        self.holes.check()
        height, width, channels = self.image
        if height % 4 or width % 4:
            raise InputError(f"model.image is {height}x{width}: both sides must be multiples of 4.")
        if not 1 <= self.local <= min(height, width):
            raise InputError(f"model.local must be from 1 to the image's {min(height, width)}, not {self.local}.")
        # One stream: both phases get the same holes, so XLA fills them once a step.
        phases = (
            Phase("critic", "critic", self.discriminator_loss, stream="z"),
            Phase("restorer", "restorer", self.loss, stream="z"),
        )
        adadelta = optax.adadelta(1.0, rho=0.95)  # Zeiler 2012; the rate is 1
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"critic": Learner(("critic",), adadelta), "restorer": Learner(("restorer",), adadelta)},
            phases=phases,
            ema=(Ema("restorer", ramped(0.999)),),
            capabilities=hole_filling(self.holes, self.paint, 4, channels),
        )

    @property
    def net(self) -> "ContextEncoderNet":
        return ContextEncoderNet(self.width, self.image[2])

    @property
    def discriminator(self) -> "GlobalLocalDiscriminator":
        return GlobalLocalDiscriminator(self.discriminator_width, self.discriminator_layers)

    def init(self, key: Key, spec: Any = None):
        del spec
        x, mask = jnp.zeros((2, *self.image)), jnp.zeros((2, *self.image[:2], 1))
        found = {
            "restorer": self.net.init(key, x, mask, train=False),
            "critic": self.discriminator.init(rng.fold(key, "critic"), x, around(x, mask, self.local)),
        }
        rest = {net: {k: v for k, v in nets.items() if k != "params"} for net, nets in found.items()}
        return {net: nets["params"] for net, nets in found.items()}, rest

    def paint(self, params: Params, context: Context, given: Batch, keys: Key) -> Array:
        del keys
        nets: Any = variables("restorer", params, context.extra)
        return self.net.apply(nets, given["degraded"], given["mask"], train=False)  # pyright: ignore

    def filled(self, params: Params, context: Context, given: Batch) -> tuple[Array, PyTree]:
        """Return images with filled holes, and the new running statistics."""
        nets = variables("restorer", params, context.extra)
        made, stats = self.net.apply(
            nets, given["degraded"], given["mask"], train=context.train, mutable=["batch_stats"]
        )
        return composite(given, made), stats  # pyright: ignore

    def logits_of(self, params: Params, context: Context, x: Array, mask: Array) -> tuple[Array, PyTree]:
        """Return the discriminator's logits f32[b], and its new running statistics."""
        nets = variables("critic", params, context.extra)
        return self.discriminator.apply(nets, x, around(x, mask, self.local), mutable=["batch_stats"])

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        real, _ = self.logits_of(params, context, clean, given["mask"])
        fake, stats = self.logits_of(params, context, self.filled(params, context, given)[0], given["mask"])
        value = non_saturating.discriminator(real, fake).mean()
        metrics = {"real": nn.sigmoid(real).mean(), "fake": nn.sigmoid(fake).mean()}
        return started(context, self.discriminator_start) * value, Aux(metrics, {"critic": stats})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        filled, stats = self.filled(params, context, given)
        fake, _ = self.logits_of(params, context, filled, given["mask"])
        pixel = distance(filled, clean, given["mask"]).mean()
        adversarial = non_saturating.generator(fake, fake).mean()
        value = pixel + started(context, self.start) * self.adversarial * adversarial
        metrics = {"hole": pixel, "adversarial": adversarial, "psnr": psnr(filled, clean).mean()}
        return value, Aux(metrics, {"restorer": stats})


def distance(filled: Array, clean: Array, mask: Array) -> Array:
    """Return the mean squared distance over hidden pixels f32[b], with pixels in [0, 1] as in the paper. Equation 2."""
    hidden = mask.sum((1, 2, 3)) * clean.shape[-1]
    return jnp.square((filled - clean) / 2).sum((1, 2, 3)) / jnp.maximum(hidden, 1)  # known pixels are equal


def started(context: Context, start: int) -> Array:
    return (context.step >= start).astype(jnp.float32)


def around(x: Array, mask: Array, side: int) -> Array:
    """Return square crops f32[b side side c] of x [b h w c], centred on the hole and inside the image."""

    def start(hidden: Array, size: int) -> Array:
        """Return the first row or column of each crop i32[b], hidden bool[b size]; the middle if none is hidden."""
        first = jnp.argmax(hidden, 1)
        last = size - 1 - jnp.argmax(hidden[:, ::-1], 1)
        return jnp.clip((first + last + 1 - side) // 2, 0, size - side)

    hidden = mask[..., 0] > 0
    rows, columns = start(hidden.any(2), x.shape[1]), start(hidden.any(1), x.shape[2])
    cut = lambda x, i, j: jax.lax.dynamic_slice(x, (i, j, 0), (side, side, x.shape[2]))  # noqa: E731
    return jax.vmap(cut)(x, rows, columns)


class ContextEncoderNet(nn.Module):
    """x f32[b h w channels], 0 where mask f32[b h w 1] is 1 -> the whole image; sides are multiples of 4. Table 1."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        n, y = self.width, jnp.concatenate([x, mask], -1)
        layers = [
            (n, 5, 1, 1),
            (2 * n, 3, 2, 1),
            (2 * n, 3, 1, 1),
            (4 * n, 3, 2, 1),
            (4 * n, 3, 1, 1),
            (4 * n, 3, 1, 1),
        ]
        layers += [(4 * n, 3, 1, rate) for rate in RATES] + [(4 * n, 3, 1, 1)] * 2
        for i, (features, k, s, rate) in enumerate(layers):
            conv = Conv(
                features, (k, k), (s, s), "SAME", (rate, rate), use_bias=False, kernel_init=he, name=f"conv_{i}"
            )
            y = nn.relu(BatchNorm(name=f"norm_{i}")(conv(y), train))  # [b h/4 w/4 4n] in the middle
        for i, features in enumerate((2 * n, n)):
            up = ConvTranspose(features, (4, 4), (2, 2), use_bias=False, kernel_init=he, name=f"up_{i}")
            y = nn.relu(BatchNorm(name=f"up_{i}_norm")(up(y), train))
            features = features if i == 0 else max(n // 2, 1)
            conv = Conv(features, (3, 3), use_bias=False, kernel_init=he, name=f"after_{i}")
            y = nn.relu(BatchNorm(name=f"after_{i}_norm")(conv(y), train))
        return to_f32(
            jnp.tanh(Conv(self.channels, (3, 3), name="out")(y))
        )  # the paper has a sigmoid, for pixels in [0, 1]


he = nn.initializers.he_normal()


class GlobalLocalDiscriminator(nn.Module):
    """The whole image f32[b h w c] and the region around the hole f32[b s s c] -> logits f32[b]. Table 2."""

    width: int
    layers: int

    @nn.compact
    def __call__(self, x: Array, part: Array) -> Array:
        features_of_both = []
        for name, y, layers in (("whole", x, self.layers), ("part", part, self.layers - 1)):
            for i in range(layers):
                features = self.width * min(2**i, 8)
                conv = Conv(features, (5, 5), (2, 2), use_bias=False, kernel_init=he, name=f"{name}_{i}")
                y = nn.relu(BatchNorm(name=f"{name}_{i}_norm")(conv(y), True))
            features_of_both.append(nn.relu(Dense(16 * self.width, name=f"{name}_out")(y.reshape(len(y), -1))))
        return to_f32(Dense(1, name="out")(jnp.concatenate(features_of_both, -1))[:, 0])


SMALL = ContextEncoder((16, 16, 3), 4, 4, 2, 8, start=0, discriminator_start=0)


PRESETS = {"context-encoder": Preset(row(ContextEncoder(), 500_000, 96), tiny(SMALL), 51_129_380)}
