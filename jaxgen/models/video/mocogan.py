"""MoCoGAN: Tulyakov, Liu, Yang and Kautz 2018, "MoCoGAN: Decomposing Motion and Content for Video Generation".

A clip is a walk through the latent space of images: each frame is made of [content, category, motion]. Content and
category are drawn once for a clip. Motion is the state of a recurrent net (a GRU), driven by fresh noise for each frame
(section 3.1). One discriminator judges a random frame of each clip, another whole clips (equation 5). Both judge
patches in the one and all of the clip in the other, as in the authors' code, whose sizes, noise on the discriminators'
inputs and names these are.

The category stands for the motion. With classes it is the label, which both nets learn to name, on real and on
generated clips, as in ACGAN. Without, it is drawn, and both nets maximise the mutual information of it and the clip, as
in InfoGAN. In the authors' code each net has only one of these terms, and Adam has weight decay.

z is [content, h0, e1, ... eT, category]: the first state and the noise of each frame.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, check_settings
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Key
from jaxgen.interop.weight_names import renamed
from jaxgen.models.gan.dcgan import PLAIN
from jaxgen.models.video.vgan import NONE, ONE, norm, row
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.conv3d import Conv3D
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import normal
from jaxgen.nn.recurrent import GRUCell
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig
from jaxgen.tasks.video_prediction import Image

TAPS = 4  # frames that a convolution of the video discriminator sees


class Parts(NamedTuple):
    """The parts of z, f32[b n] each: what they stand for is in the docstring of this module."""

    content: Array
    motion: Array  # h0 and e1, ... eT
    category: Array


@dataclass(frozen=True)
class MoCoGAN:
    """Hyper-parameters of a MoCoGAN."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    content: Count = 50  # size of the content
    motion: Count = 10  # size of the motion of a frame
    classes: int = 0  # number of labels; 0: the category is found without labels
    categories: int = 8  # number of categories without labels; 0: none
    width: Count = 64  # channels of the layers next to the clip
    noise: float = 0.1  # standard deviation of the noise on the inputs of the discriminators' layers
    weight: float = 1.0  # of the category's log-likelihood
    game: AdversarialConfig = AdversarialConfig()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for sizes that do not fit the nets."""
        del steps
        check_settings(self, "model.")
        stages = count_stages(*self.image[:2])
        if self.frames <= (TAPS - 1) * stages:
            least = (TAPS - 1) * stages + 1
            raise InputError(f"model.frames must be at least {least} for frames of this size, not {self.frames}.")
        if self.categories == 1 or self.classes == 1:
            raise InputError("model.categories and model.classes must be 0, or at least 2.")
        kinds, widths = self.kinds, tuple(self.width << i for i in range(stages))
        base = (self.image[0] >> stages, self.image[1] >> stages)
        generator = MoCoGANGenerator(self, base, widths)
        discriminator = MoCoGANDiscriminator(self.width, stages, base, kinds, self.noise)

        def heads_loss(heads, z, label, real: bool):
            """Return -log Q(category | clip); 0 for real clips without labels, whose category is not known."""
            if real and not self.classes:
                return jnp.zeros(len(z)), {}
            right = label if self.classes else self.parts(z).category.argmax(1)
            named = (heads["category"].argmax(1) == right).astype(jnp.float32).mean()
            loss = optax.softmax_cross_entropy_with_integer_labels(heads["category"], right)  # [b]
            return self.weight * loss, {"category": named}

        shape, loss = (self.frames, *self.image), heads_loss if kinds else None
        return AdversarialTask(self.game, generator, discriminator, shape, self.draw, self.classes, loss).task()

    @property
    def kinds(self) -> int:
        """The number of categories, with labels or without."""
        return self.classes or self.categories

    @property
    def drawn(self) -> int:
        """The number of categories of z."""
        return 0 if self.classes else self.categories

    def draw(self, keys: Key, psi: Array | None = None) -> Array:
        """Return z f32[b content+(frames+1)*motion+categories]."""
        z = normal(self.content + (self.frames + 1) * self.motion)(keys, psi)
        if not self.drawn:
            return z
        own = jax.vmap(lambda key: rng.fold(key, "category"))(keys)
        category = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.drawn))(own)
        return jnp.concatenate([z, jax.nn.one_hot(category, self.drawn)], 1)

    def parts(self, z: Array) -> Parts:
        """Return the parts of z."""
        ends = self.content, self.content + (self.frames + 1) * self.motion
        return Parts(*jnp.split(z, ends, 1))


class MoCoGANGenerator(nn.Module):
    """(z f32[b n], label i32[b]) -> clip f32[b t h w c] in [-1, 1]."""

    model: MoCoGAN
    base: tuple[int, int]  # height and width of the first maps
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, keys=None, *, train: bool) -> Array:
        model = self.model
        content, motion, category = model.parts(z)
        if label is not None:
            category = jax.nn.one_hot(label, model.classes, dtype=z.dtype)
        cell = GRUCell(model.motion, name="recurrent")
        walk = states(cell, motion.reshape(-1, model.frames + 1, model.motion))  # [b t motion]
        still = jnp.concatenate([content, category], 1)[:, None]  # [b 1 n]
        still = jnp.broadcast_to(still, (*walk.shape[:2], still.shape[-1]))
        x = jnp.concatenate([still, walk], -1)
        x = x.reshape(-1, 1, 1, x.shape[-1])  # [b*t 1 1 n]
        for i, features in enumerate(reversed(self.widths)):
            side, stride, crop = ((4, 4), (2, 2), ((1, 1), (1, 1))) if i else (self.base, (1, 1), NONE[1:])
            x = ConvTranspose(features, side, stride, crop, name=f"main_{3 * i}", **PLAIN)(x)  # [b*t 2h 2w c]
            x = nn.relu(norm(x, train, f"main_{3 * i + 1}"))
        last = ConvTranspose(
            model.image[2], (4, 4), (2, 2), ((1, 1), (1, 1)), name=f"main_{3 * len(self.widths)}", **PLAIN
        )
        return jnp.tanh(to_f32(last(x))).reshape(-1, model.frames, *model.image)


def states(cell: GRUCell, noise: Array) -> Array:
    """Return the states of a cell after the noise of each frame, f32[b t+1 d] -> f32[b t d]; the first is its start."""

    def step(cell: GRUCell, h: Array, e: Array) -> tuple[Array, Array]:
        h = cell(h, e).astype(h.dtype)
        return h, h

    loop = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
    return loop(cell, noise[:, 0], noise[:, 1:])[1]


class MoCoGANDiscriminator(nn.Module):
    """clip f32[b t h w c] -> logits {"image": f32[b h' w'], "video": f32[b t']}, {"category": f32[b kinds]}.

    In training the image discriminator sees one random frame of each clip.
    """

    width: int
    stages: int
    base: tuple[int, int]  # height and width of the last maps
    kinds: int
    noise: float

    @nn.compact
    def __call__(self, x: Array, label=None, *, train: bool):
        del label
        at = jnp.zeros(len(x), jnp.int32)
        if train:
            at = jax.random.randint(self.make_rng("noise"), at.shape, 0, x.shape[1])
        y = jnp.take_along_axis(x, at[:, None, None, None, None], 1)[:, 0]  # [b h w c]
        plan = {"kernel_size": (4, 4), "strides": (2, 2), "padding": ONE[1:], **PLAIN}
        for i in range(self.stages):
            last, name = i == self.stages - 1, f"image_main_{4 * i + (i == 0)}"
            y = Conv(1 if last else self.width << i, name=name, **plan)(self.noisy(y, train))  # [b h/2 w/2 c]
            if not last:
                y = nn.leaky_relu(norm(y, train, f"image_main_{4 * i + 1}") if i else y, 0.2)
        plan = {"strides": (1, 2, 2), "padding": (NONE[0], *ONE[1:]), **PLAIN}
        for i in range(self.stages):
            conv = Conv3D(self.width << i, (TAPS, 4, 4), name=f"video_main_{4 * i + (i == 0)}", **plan)
            x = conv(self.noisy(x, train))  # [b t-3 h/2 w/2 c]
            x = nn.leaky_relu(norm(x, train, f"video_main_{4 * i + 1}") if i else x, 0.2)
        side = min(TAPS, x.shape[1]), *self.base
        x = Conv3D(1 + self.kinds, side, padding=NONE, name=f"video_main_{4 * self.stages - 1}", **PLAIN)(x)
        x = to_f32(x)[:, :, 0, 0]  # [b t' 1+kinds]
        logits = {"image": to_f32(y)[..., 0], "video": x[..., 0]}
        return logits, {"category": x[..., 1:].mean(1)} if self.kinds else {}

    def noisy(self, x: Array, train: bool) -> Array:
        """Return x with noise, in training."""
        if not train or not self.noise:
            return x
        return x + self.noise * jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)


SMALL = MoCoGAN(frames=5, image=(8, 8, 3), content=6, motion=2, width=4, categories=2)
WEIGHT_NAMES = renamed((r"recurrent\.(ih|hh)\.(weight|bias)", r"recurrent.\2_\1"))
PRESETS = {
    "mocogan": row(MoCoGAN(), SMALL, 15_297_556),
    "mocogan-labels": row(MoCoGAN(classes=8), replace(SMALL, classes=8), 15_297_556),
}
