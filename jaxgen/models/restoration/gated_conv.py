"""DeepFill v2: Yu, Lin, Yang, Shen, Lu and Huang 2019, "Free-Form Image Inpainting with Gated Convolution".

Every layer learns where to look: half of its channels, through a sigmoid, weigh the other half. A first net paints
roughly; a second repaints what that made, in two branches, one of dilated convolutions and one that puts what is hidden
together from patches that are known (contextual attention, Yu et al. 2018), all trained as one. A critic of spectrally
normalised convolutions judges every number of its last map by the hinge loss. Layers and widths are the authors'
code's: 4,052,478 numbers in the generator, the paper's 4.1 million.

A small net fills holes with the colours around them, but without detail; 1,000 steps are far too few.
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
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.losses.gan import hinge
from jaxgen.losses.regularisation import init_spectral, spectral_normalise
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv, conv_transpose
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.hole_filling import Holes, composite, masked_batch, restorer
from jaxgen.tasks.restoration import Image, row, tiny

FREE_FORM = Holes(boxes=1, strokes=1)


@dataclass(frozen=True)
class GatedConvolutions:
    """Hyper-parameters of a DeepFill v2."""

    image: Image = (256, 256, 3)  # the patches that it is trained on: height, width, channels
    width: int = 24  # channels next to the image, four times as many where it is smallest
    discriminator_width: int = 64  # channels of the critic's first layer
    discriminator_layers: int = 6  # its halvings
    holes: Holes = FREE_FORM
    absolute: float = 1.0  # weight of the distances of both nets' images
    adversarial: float = 1.0  # weight of the critic
    learning_rate: float = 1e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the game of two players. Raises InputError for sizes that can't be."""
        del steps
        at_least(
            1,
            model__image=min(self.image),
            model__width=self.width,
            model__discriminator_width=self.discriminator_width,
        )
        at_least(1, model__discriminator_layers=self.discriminator_layers)
        at_least(0, model__absolute=self.absolute, model__adversarial=self.adversarial)
        self.holes.check()
        if self.image[0] % MULTIPLE or self.image[1] % MULTIPLE:
            raise InputError(f"model.image is {self.image[0]}x{self.image[1]}: both sides must be multiples of 8.")
        adam = optax.adam(self.learning_rate, b1=0.5, b2=0.999)
        # One stream: both players meet the same holes, whose fillings are then made once a step.
        phases = (
            Phase("critic", "critic", self.discriminator_loss, stream="z"),
            Phase("restorer", "restorer", self.loss, stream="z"),
        )
        return Task(
            init=self.init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32)},
            learners={"critic": Learner(("critic",), adam), "restorer": Learner(("restorer",), adam)},
            phases=phases,
            ema=(Ema("restorer", ramped(0.999)),),
            restorer=restorer(self.holes, self.painted, MULTIPLE, self.image[2]),
        )

    @property
    def net(self) -> "DeepFillNet":
        return DeepFillNet(self.width, self.image[2])

    @property
    def discriminator(self) -> "SNPatchDiscriminator":
        return SNPatchDiscriminator(self.discriminator_width, self.discriminator_layers)

    def init(self, key: Key, spec: Any = None):
        del spec
        x, mask = jnp.zeros((2, *self.image)), jnp.zeros((2, *self.image[:2], 1))
        nets = {
            "restorer": self.net.init(key, x, mask)["params"],
            "critic": self.discriminator.init(rng.fold(key, "critic"), x, mask)["params"],
        }
        return nets, {"critic": {"spectral": init_spectral(rng.fold(key, "spectral"), nets["critic"])}}

    def painted(self, params: Params, context: Context, given: Batch, keys: Key) -> Array:
        del keys
        return self.both(params, context, given)[1]

    def both(self, params: Params, context: Context, given: Batch) -> tuple[Array, Array]:
        """Return the rough images and the refined ones, f32[b h w c] each."""
        nets: Any = variables("restorer", params, context.extra)
        return self.net.apply(nets, given["degraded"], given["mask"])  # pyright: ignore

    def judged(self, params: Params, context: Context, x: Array, mask: Array) -> tuple[Array, dict[str, Array]]:
        """Return logits f32[b n], and the vectors of the norms moved on."""
        weights, moved = spectral_normalise(params["critic"], context.extra["critic"]["spectral"])
        out: Any = self.discriminator.apply({"params": weights}, x, mask)
        return out, moved

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        filled = composite(given, self.both(params, context, given)[1])
        real, moved = self.judged(params, context, clean, given["mask"])
        fake, _ = self.judged(params, context, filled, given["mask"])
        value = hinge.discriminator(real, fake).mean()
        return value, Aux({"real": real.mean(), "fake": fake.mean()}, {"critic": {"spectral": moved}})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        rough, fine = self.both(params, context, given)
        filled = composite(given, fine)
        fake, _ = self.judged(params, context, filled, given["mask"])
        apart = [jnp.abs(made - clean).mean() for made in (rough, fine)]
        adversarial = hinge.generator(fake, fake).mean()
        value = self.absolute * (apart[0] + apart[1]) + self.adversarial * adversarial
        return value, Aux({"rough": apart[0], "fine": apart[1], "psnr": psnr(filled, clean).mean()})


MULTIPLE = 8  # two halvings, and attention's own
glorot = nn.initializers.glorot_uniform()


class Gated(nn.Module):
    """x [b h w c] -> [b h' w' features]: elu(a) sigmoid(b), a and b halves of a convolution's channels. Section 3.1."""

    features: int
    kernel: int = 3
    stride: int = 1
    rate: int = 1
    up: bool = False  # each pixel becomes 2x2 first

    @nn.compact
    def __call__(self, x: Array, activation=nn.elu) -> Array:
        k, s, rate = self.kernel, self.stride, self.rate
        pad = rate * (k - 1) // 2
        # Padded alike on both sides, where TensorFlow's "SAME" has more at the end of what it halves.
        how: Any = {"strides": (s, s), "padding": ((pad, pad), (pad, pad)), "dilation": (rate, rate)}
        conv = Conv(2 * self.features, (k, k), **how, kernel_init=glorot, name="conv")
        x = nearest_upsample(x) if self.up else x
        a, b = jnp.split(conv(x), 2, -1)
        return activation(a) * nn.sigmoid(b)


class DeepFillNet(nn.Module):
    """x f32[b h w channels] with zeros where mask f32[b h w 1] is 1 -> rough and fine images, both whole."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
        n = self.width

        def down(y: Array, name: str, widths: tuple[int, ...], last=nn.elu) -> Array:
            """Return y in a quarter of its height and width."""
            y = Gated(widths[0], 5, name=f"{name}1")(y)
            for i, features in enumerate(widths[1:]):
                activation = last if i + 2 == len(widths) else nn.elu
                y = Gated(features, stride=2 if i in (0, 2) else 1, name=f"{name}{i + 2}")(y, activation)
            return y

        def dilated(y: Array, name: str) -> Array:
            for i, rate in enumerate((2, 4, 8, 16)):
                y = Gated(4 * n, rate=rate, name=f"{name}{i + 7}")(y)
            return y

        def up(y: Array, name: str) -> Array:
            for i, (features, twice) in enumerate(((4, 0), (4, 0), (2, 1), (2, 0), (1, 1), (0.5, 0))):
                y = Gated(max(int(features * n), 1), up=bool(twice), name=f"{name}{i + 11}")(y)
            out = Conv(self.channels, (3, 3), kernel_init=glorot, name=f"{name}17")(y)
            return to_f32(jnp.tanh(out))

        ones = jnp.ones_like(mask)  # tells where the image ends
        y = down(jnp.concatenate([x, ones, mask], -1), "conv", (n, 2 * n, 2 * n, 4 * n, 4 * n, 4 * n))
        rough = up(dilated(y, "conv"), "conv")
        hidden = jnp.broadcast_to(mask, x.shape)
        pasted = hidden * rough + (1 - hidden) * x
        free = dilated(down(pasted, "xconv", (n, n, 2 * n, 2 * n, 4 * n, 4 * n)), "xconv")
        y = down(pasted, "pmconv", (n, n, 2 * n, 4 * n, 4 * n, 4 * n), nn.relu)
        y = contextual_attention(y, mask[:, ::4, ::4])
        y = Gated(4 * n, name="pmconv9")(y)
        y = Gated(4 * n, name="pmconv10")(y)
        return rough, up(jnp.concatenate([free, y], -1), "allconv")


def patches(x: Array, size: int, stride: int, pad: tuple[int, int]) -> Array:
    """Return the windows of x [b h w c] at every stride, zeros outside, [b n size size c]."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    rows, columns = ((side + sum(pad) - size) // stride + 1 for side in (h, w))
    found = [
        x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(found, 3).reshape(b, rows * columns, size, size, c)


def contextual_attention(x: Array, mask: Array, scale: float = 10.0) -> Array:
    """Return x [b h w c] put together from its own patches of 4x4 that are known, mask f32[b h w 1] 1 where it is not.

    Every second pixel is matched: 3x3 of them with all known 3x3, by the cosine times the length of what is sought;
    matches that lie next to each other in both help one another, along rows and along columns. A softmax of `scale`
    times that weighs the patches, which are laid over each other and halved twice, as in the authors' code: four lie on
    a pixel, fewer at the border. Hidden patches take part in the softmax as matches of 0, and are then left out. Their
    resizing lays corner pixels on each other, and so picks odd ones beyond the middle; here it is every second one.
    Yu et al. 2018, "Generative Image Inpainting with Contextual Attention", section 4.1.
    """
    b, h, w, c = x.shape
    raw = patches(x, 4, 2, (1, 1))  # [b m 4 4 c]
    sought = patches(x[:, ::2, ::2], 3, 1, (1, 1)).reshape(b, -1, 9 * c)  # [b n 9c]
    sought = to_f32(sought)
    length = jnp.sqrt(jnp.maximum((sought**2).sum(-1, keepdims=True), 1e-8))  # the root's slope at 0 is infinite
    keys = sought / jnp.broadcast_to(length, sought.shape)
    scores = jnp.einsum("bnd,bmd->bnm", sought, keys)
    rows, columns = h // 2, w // 2
    scores = fused(scores)
    turn = lambda s, i, j: (  # noqa: E731  places counted along columns instead of rows, or back
        s.reshape(b, i, j, i, j).transpose(0, 2, 1, 4, 3).reshape(b, i * j, i * j)
    )
    scores = turn(fused(turn(scores, rows, columns)), columns, rows)
    seen = 1 - patches(mask[:, ::2, ::2], 3, 1, (1, 1)).max((2, 3, 4))  # [b m]
    known = jnp.broadcast_to(seen[:, None], scores.shape)
    weights = (nn.softmax(scale * scores * known, -1) * known).astype(x.dtype)  # [b n m]
    laid = jnp.einsum("bnm,bmd->bnd", weights, raw.reshape(b, -1, 16 * c)).reshape(b, rows, columns, 4, 4, c)
    return overlaid(laid) / 4


def fused(scores: Array) -> Array:
    """Return scores [b n m] with those of the pairs before and after added: (i, j), (i - 1, j - 1), (i + 1, j + 1)."""
    wider = jnp.pad(scores, ((0, 0), (1, 1), (1, 1)))
    return scores + wider[:, :-2, :-2] + wider[:, 2:, 2:]


def overlaid(x: Array) -> Array:
    """Return the sum of windows of 4x4 two pixels apart, x [b h w 4 4 c] -> [b 2h 2w c], one pixel beyond cut off."""
    b, h, w, _, _, c = x.shape
    kernel = jnp.eye(16, dtype=x.dtype).reshape(16, 4, 4).transpose(1, 2, 0)[..., None]  # [4 4 16 1]
    planes = x.reshape(b, h, w, 16, c).transpose(0, 4, 1, 2, 3).reshape(b * c, h, w, 16)
    made = conv_transpose(planes, kernel, (2, 2), ((1, 1), (1, 1)))  # [b*c 2h 2w 1]
    return made.reshape(b, c, 2 * h, 2 * w).transpose(0, 2, 3, 1)


class SNPatchDiscriminator(nn.Module):
    """x f32[b h w c] beside the mask -> logits f32[b n], one for each number of the last map. Section 3.3."""

    width: int
    layers: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        x = jnp.concatenate([x, mask], -1)
        for i in range(self.layers):
            features = self.width * min(2**i, 4)
            x = Conv(features, (5, 5), (2, 2), kernel_init=glorot, name=f"conv{i + 1}")(x)
            x = nn.leaky_relu(x, 0.2)
        return to_f32(x.reshape(len(x), -1))


PRESETS = {
    "gated-conv": Preset(
        row(GatedConvolutions(), 1_000_000, 16),
        tiny(
            GatedConvolutions((32, 32, 3), 4, 4, 3, Holes(boxes=1, strokes=0.5, side=(0.25, 0.25)), learning_rate=1e-3)
        ),
        9_999_294,
    )
}
