"""DeepFill v2: Yu, Lin, Yang, Shen, Lu and Huang 2019, "Free-Form Image Inpainting with Gated Convolution".

Every layer is a gated convolution: half of its channels, after a sigmoid, weight the other half. A first net makes a
coarse image. A second net refines it in two branches: one of dilated convolutions, and one that fills the hole with
known patches (contextual attention, Yu et al. 2018). Both nets are trained together. A discriminator of spectrally
normalised convolutions gives a hinge loss for every number of its last feature map. Layers and widths are those of the
authors' code: the generator has 4,052,478 parameters, 4.1 million in the paper.

A small net fills holes with the colours around them, but without detail; 1,000 steps are far too few.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.losses.gan import hinge
from jaxgen.losses.regularisation import init_spectral, spectral_normalise
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv, conv_transpose
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.hole_filling import Holes, composite, hole_filling, masked_batch
from jaxgen.tasks.restoration import Image, row, tiny

FREE_FORM = Holes(boxes=1, strokes=1)


@dataclass(frozen=True)
class GatedConvolutions:
    """Hyper-parameters of a DeepFill v2."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 24  # channels at full resolution; 4 times as many at the coarsest
    discriminator_width: int = 64  # channels of the discriminator's first layer
    discriminator_layers: int = 6  # its stride-2 layers
    holes: Holes = FREE_FORM
    absolute: float = 1.0  # weight of the L1 distances of the coarse and the refined image
    adversarial: float = 1.0  # weight of the adversarial loss
    learning_rate: float = 1e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
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
        # One stream: both phases get the same holes, so XLA fills them once a step.
        phases = (
            Phase("critic", "critic", self.discriminator_loss, stream="z"),
            Phase("restorer", "restorer", self.loss, stream="z"),
        )
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"critic": Learner(("critic",), adam), "restorer": Learner(("restorer",), adam)},
            phases=phases,
            ema=(Ema("restorer", ramped(0.999)),),
            capabilities=hole_filling(self.holes, self.paint, MULTIPLE, self.image[2]),
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

    def paint(self, params: Params, context: Context, given: Batch, keys: Key) -> Array:
        del keys
        return self.both(params, context, given)[1]

    def both(self, params: Params, context: Context, given: Batch) -> tuple[Array, Array]:
        """Return the coarse and the refined images, f32[b h w c] each."""
        nets: Any = variables("restorer", params, context.extra)
        return self.net.apply(nets, given["degraded"], given["mask"])  # pyright: ignore

    def logits_of(self, params: Params, context: Context, x: Array, mask: Array) -> tuple[Array, dict[str, Array]]:
        """Return the discriminator's logits f32[b n], and the updated vectors of the spectral norms."""
        weights, moved = spectral_normalise(params["critic"], context.extra["critic"]["spectral"])
        out: Any = self.discriminator.apply({"params": weights}, x, mask)
        return out, moved

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        filled = composite(given, self.both(params, context, given)[1])
        real, moved = self.logits_of(params, context, clean, given["mask"])
        fake, _ = self.logits_of(params, context, filled, given["mask"])
        value = hinge.discriminator(real, fake).mean()
        return value, Aux({"real": real.mean(), "fake": fake.mean()}, {"critic": {"spectral": moved}})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        coarse, fine = self.both(params, context, given)
        filled = composite(given, fine)
        fake, _ = self.logits_of(params, context, filled, given["mask"])
        pixel = [jnp.abs(image - clean).mean() for image in (coarse, fine)]
        adversarial = hinge.generator(fake, fake).mean()
        value = self.absolute * (pixel[0] + pixel[1]) + self.adversarial * adversarial
        return value, Aux({"coarse": pixel[0], "fine": pixel[1], "psnr": psnr(filled, clean).mean()})


MULTIPLE = 8  # two stride-2 stages, and one in the attention
glorot = nn.initializers.glorot_uniform()


class Gated(nn.Module):
    """x [b h w c] -> [b h' w' features]: elu(a) sigmoid(b), a and b halves of a convolution's channels. Section 3.1."""

    features: int
    kernel: int = 3
    stride: int = 1
    rate: int = 1
    up: bool = False  # upsample by repetition first

    @nn.compact
    def __call__(self, x: Array, activation=nn.elu) -> Array:
        k, s, rate = self.kernel, self.stride, self.rate
        pad = rate * (k - 1) // 2
        # The same padding on both sides; TensorFlow's "SAME" has more at the end with stride 2.
        how: Any = {"strides": (s, s), "padding": ((pad, pad), (pad, pad)), "dilation": (rate, rate)}
        conv = Conv(2 * self.features, (k, k), **how, kernel_init=glorot, name="conv")
        x = nearest_upsample(x) if self.up else x
        a, b = jnp.split(conv(x), 2, -1)
        return activation(a) * nn.sigmoid(b)


class DeepFillNet(nn.Module):
    """x f32[b h w channels], 0 where mask f32[b h w 1] is 1 -> the coarse and the refined whole image."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
        n = self.width

        def down(y: Array, name: str, widths: tuple[int, ...], last=nn.elu) -> Array:
            """Return y at a quarter of its height and width."""
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

        ones = jnp.ones_like(mask)  # marks the image's borders, where padding is 0
        y = down(jnp.concatenate([x, ones, mask], -1), "conv", (n, 2 * n, 2 * n, 4 * n, 4 * n, 4 * n))
        coarse = up(dilated(y, "conv"), "conv")
        hidden = jnp.broadcast_to(mask, x.shape)
        pasted = hidden * coarse + (1 - hidden) * x
        free = dilated(down(pasted, "xconv", (n, n, 2 * n, 2 * n, 4 * n, 4 * n)), "xconv")
        y = down(pasted, "pmconv", (n, n, 2 * n, 4 * n, 4 * n, 4 * n), nn.relu)
        y = contextual_attention(y, mask[:, ::4, ::4])
        y = Gated(4 * n, name="pmconv9")(y)
        y = Gated(4 * n, name="pmconv10")(y)
        return coarse, up(jnp.concatenate([free, y], -1), "allconv")


def patches(x: Array, size: int, stride: int, pad: tuple[int, int]) -> Array:
    """Return the windows of x [b h w c], zero-padded, [b n size size c]."""
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
    """Return x [b h w c] rebuilt from its own known 4x4 patches; mask f32[b h w 1] is 1 where x is not known.

    Matching uses every second pixel. Each 3x3 patch is compared with all known 3x3 patches by cosine similarity times
    the length of the query. Scores of neighbouring pairs of patches are added, along rows and along columns. A softmax
    of `scale` times the score weights the 4x4 patches, which overlap: four cover a pixel, fewer at the border, and the
    sum is divided by four, as in the authors' code. Hidden patches have score 0 in the softmax and weight 0 after it.
    The authors' resizing aligns corners, and so picks odd pixels beyond the middle; here it picks every second pixel.
    Yu et al. 2018, "Generative Image Inpainting with Contextual Attention", section 4.1.
    """
    b, h, w, c = x.shape
    raw = patches(x, 4, 2, (1, 1))  # [b m 4 4 c]
    queries = patches(x[:, ::2, ::2], 3, 1, (1, 1)).reshape(b, -1, 9 * c)  # [b n 9c]
    queries = to_f32(queries)
    length = jnp.sqrt(jnp.maximum((queries**2).sum(-1, keepdims=True), 1e-8))  # the root's gradient at 0 is infinite
    keys = queries / jnp.broadcast_to(length, queries.shape)
    scores = jnp.einsum("bnd,bmd->bnm", queries, keys)
    rows, columns = h // 2, w // 2
    scores = fuse(scores)
    turn = lambda s, i, j: (  # noqa: E731  from row-major to column-major order, or back
        s.reshape(b, i, j, i, j).transpose(0, 2, 1, 4, 3).reshape(b, i * j, i * j)
    )
    scores = turn(fuse(turn(scores, rows, columns)), columns, rows)
    valid = 1 - patches(mask[:, ::2, ::2], 3, 1, (1, 1)).max((2, 3, 4))  # [b m]
    known = jnp.broadcast_to(valid[:, None], scores.shape)
    weights = (nn.softmax(scale * scores * known, -1) * known).astype(x.dtype)  # [b n m]
    pasted = jnp.einsum("bnm,bmd->bnd", weights, raw.reshape(b, -1, 16 * c)).reshape(b, rows, columns, 4, 4, c)
    return overlap_add(pasted) / 4


def fuse(scores: Array) -> Array:
    """Return scores [b n m], to each added those of the next pairs: (i, j) + (i - 1, j - 1) + (i + 1, j + 1)."""
    wider = jnp.pad(scores, ((0, 0), (1, 1), (1, 1)))
    return scores + wider[:, :-2, :-2] + wider[:, 2:, 2:]


def overlap_add(x: Array) -> Array:
    """Return the sum of 4x4 windows at stride 2, x [b h w 4 4 c] -> [b 2h 2w c], without one pixel of border."""
    b, h, w, _, _, c = x.shape
    kernel = jnp.eye(16, dtype=x.dtype).reshape(16, 4, 4).transpose(1, 2, 0)[..., None]  # [4 4 16 1]
    planes = x.reshape(b, h, w, 16, c).transpose(0, 4, 1, 2, 3).reshape(b * c, h, w, 16)
    made = conv_transpose(planes, kernel, (2, 2), ((1, 1), (1, 1)))  # [b*c 2h 2w 1]
    return made.reshape(b, c, 2 * h, 2 * w).transpose(0, 2, 3, 1)


class SNPatchDiscriminator(nn.Module):
    """x f32[b h w c] and the mask -> logits f32[b n], one for each number of the last feature map. Section 3.3."""

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
