"""LIIF: Chen, Liu and Wang 2021, "Learning Continuous Image Representation with Local Implicit Image Function".

A perceptron predicts the colour at any point from EDSR's features. Its inputs are the 3x3 features around each of the
four nearest pixels, the distance to that pixel, and the size of the wanted pixel. Its four outputs are averaged with
weights by proximity. So one net enlarges by any factor, also by factors outside of training. In training each patch is
downsampled by its own factor, drawn from 1 to 4, and compared at 2,304 of its pixels (drawn independently, so that some
occur twice). Blur, if set, is applied after downsampling. The schedule is a cosine, not steps.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec, scaled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.data.degradations import Degradation
from jaxgen.losses.restoration import l1
from jaxgen.metrics.pixels import psnr
from jaxgen.models.super_resolution._parts import UNIFORM
from jaxgen.models.super_resolution.edsr import backbone
from jaxgen.nn import conv as convs
from jaxgen.nn.conv import Dense
from jaxgen.nn.resample import cubic
from jaxgen.tasks.restoration import Image, row, tiny
from jaxgen.tasks.transforms import restoration

LINES = 8  # rows of an image restored at once; more rows need more memory


@dataclass(frozen=True)
class LIIF:
    """Hyper-parameters of LIIF."""

    image: Image = (192, 192, 3)  # clean training patches: height, width, channels
    small: int = 48  # side of downsampled patches; the largest factor in training is image / small
    points: int = 2304  # pixels of a patch that are compared
    depth: int = 16  # blocks of the EDSR
    width: int = 64  # of the EDSR
    layers: int = 4  # of the perceptron, without the last one
    hidden: int = 256  # of the perceptron
    degradation: Degradation = Degradation()
    learning_rate: float = 1e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__small=self.small, model__points=self.points, model__depth=self.depth)
        at_least(1, model__width=self.width, model__layers=self.layers, model__hidden=self.hidden)
        self.degradation.check()
        if min(self.image[:2]) < self.small:
            height, width = self.image[:2]
            raise InputError(f"model.image is {height}x{width}, smaller than model.small, {self.small}.")
        return liif_task(self)


class LIIFNet(nn.Module):
    """x f32[b h w channels] in [-1, 1] -> its colours at points f32[b q 2], f32[b q channels]. Section 3."""

    model: LIIF

    def setup(self):
        m = self.model
        self.encoder = Encoder(m.depth, m.width)
        self.imnet = Perceptron(m.layers, m.hidden, m.width, m.image[2])

    def __call__(self, x: Array, at: Array, cell: Array) -> Array:
        return self.colours(self.features(x), at, cell)

    def features(self, x: Array) -> Array:
        """Return the perceptron's first layer applied to the features around each pixel, f32[b h w hidden]."""
        return self.imnet.convolve(self.encoder(x))

    def colours(self, features: Array, at: Array, cell: Array) -> Array:
        """Return the colours at points f32[b q 2], f32[b q channels], of pixels of the size f32[b 2].

        Points and sizes (vertical, horizontal) are in units where the image extends from -1 to 1.
        """
        size = jnp.asarray(features.shape[1:3], jnp.float32)
        at = (at + 1) / 2 * jnp.broadcast_to(size, at.shape) - 0.5  # in pixels; integers at the pixels' centres
        last = jnp.broadcast_to(jnp.asarray(features.shape[1:3]) - 1, at.shape)
        corners = jnp.asarray([(0, 0), (0, 1), (1, 0), (1, 1)])
        low = jnp.floor(at).astype(jnp.int32)
        places = jnp.stack([jnp.clip(low + jnp.broadcast_to(c, low.shape), 0, last) for c in corners], 1)  # [b 4 q 2]
        offset = 2 * (at[:, None] - places)  # x - v*
        wanted = jnp.broadcast_to((cell * jnp.broadcast_to(size, cell.shape))[:, None, None], offset.shape)
        around = jax.vmap(lambda x, place: x[place[..., 0], place[..., 1]])(features, places)  # [b 4 q hidden]
        colours = self.imnet(around, jnp.concatenate([offset, wanted], -1))  # (5), [b 4 q channels]
        # (4), rows and columns separately: on a line through the last pixels all four areas are 0.
        distance = (jnp.abs(offset) + 1e-9).reshape(at.shape[0], 2, 2, *at.shape[1:])  # [b down across q 2]
        down, across = distance[..., 0][:, ::-1], distance[..., 1][:, :, ::-1]  # to the opposite corners
        share = down / down.sum(1, keepdims=True) * (across / across.sum(2, keepdims=True))  # [b 2 2 q]
        return (colours * share.reshape(*colours.shape[:3], 1).astype(colours.dtype)).sum(1)


class Encoder(nn.Module):
    """EDSR without its upsampling layers, x f32[b h w c] -> f32[b h w width]."""

    depth: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return backbone(x, self.depth, self.width)


class Perceptron(nn.Module):
    """The colour at a point from features near it: linear layers with ReLU between them. Equation 1.

    The first layer's inputs are 3x3 features (equation 3) and four more numbers. It is the sum of a convolution of all
    features, gathered at the points, and a linear map of the four: the 9 c inputs of a point are never concatenated.
    """

    layers: int
    hidden: int
    width: int  # c, of the features
    channels: int

    def setup(self):
        self.layers_0 = First(self.width, self.hidden)
        for i in range(1, self.layers):
            setattr(self, f"layers_{2 * i}", Dense(self.hidden, kernel_init=UNIFORM))
        setattr(self, f"layers_{2 * self.layers}", Dense(self.channels, kernel_init=UNIFORM))

    def convolve(self, x: Array) -> Array:
        return self.layers_0.convolve(x)

    def __call__(self, around: Array, offsets: Array) -> Array:
        x = around + self.layers_0(offsets)
        for i in range(1, self.layers + 1):
            x = getattr(self, f"layers_{2 * i}")(nn.relu(x))
        return x


class First(nn.Module):
    """A linear map of 3x3 features and four more numbers, computed as the sum of two parts."""

    width: int
    hidden: int

    def setup(self):
        self.kernel = self.param("kernel", UNIFORM, (9 * self.width + 4, self.hidden))
        self.bias = self.param("bias", nn.initializers.zeros, (self.hidden,))

    def convolve(self, x: Array) -> Array:
        """x f32[b h w width] -> f32[b h w hidden]."""
        kernel = self.kernel[:-4].reshape(self.width, 3, 3, self.hidden).transpose(1, 2, 0, 3)
        return convs.conv(x.astype(kernel.dtype), kernel)

    def __call__(self, offsets: Array) -> Array:
        """offsets f32[... 4] -> f32[... hidden]."""
        y = offsets.astype(self.kernel.dtype) @ self.kernel[-4:]
        return y + jnp.broadcast_to(self.bias, y.shape)


def liif_task(model: LIIF) -> Task:
    """Return the Task: patches downsampled by their own factors, compared at random points. Section 4.1."""
    net, channels, small = LIIFNet(model), model.image[2], model.small

    def init(key: Key, spec: Any = None):
        del spec
        x, at = jnp.zeros((2, small, small, channels)), jnp.zeros((2, 3, 2))
        return {"restorer": net.init(key, x, at, jnp.ones((2, 2)))["params"]}, {"restorer": {}}

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        keys = jax.random.split(key, len(batch["image"]))
        x, at, target, cell = jax.vmap(partial(training_pair, model))(batch["image"], keys)
        x = model.degradation(x, keys)["degraded"]
        cell = jnp.broadcast_to(cell[:, None], (len(cell), 2))
        made: Any = net.apply(variables("restorer", params, context.extra), x, at, cell)  # [b q c]
        return l1(made, target).mean(), Aux({"psnr": psnr(made[:, None], target[:, None]).mean()})

    def restore(params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del keys
        x = given["degraded"]  # [b h w c]
        b, h, w = x.shape[:3]
        size = scaled((h, w), scale)
        call = partial(net.apply, variables("restorer", params, context.extra))
        features: Any = call(x, method="features")
        cell = jnp.broadcast_to(2 / jnp.asarray(size, jnp.float32), (b, 2))
        down, across = ((jnp.arange(n) + 0.5) * (2 / n) - 1 for n in size)

        def line(y: Array) -> Array:
            at = jnp.stack([jnp.full(across.shape, y), across], -1)  # [W 2]
            return call(features, jnp.broadcast_to(at, (b, *at.shape)), cell, method="colours")  # pyright: ignore

        return jnp.moveaxis(jax.lax.map(line, down, batch_size=LINES), 0, 1)  # [H b W c] -> [b H W c]

    return Task(
        init=init,
        example={"image": image_spec(model.image)},
        learners={"restorer": Learner(("restorer",), optax.adam(model.learning_rate))},
        phases=(Phase("restorer", "restorer", loss),),
        ema=(Ema("restorer", ramped(0.999)),),
        capabilities=restoration(model.degradation, restore, scales=(), channels=(channels,)),
    )


def training_pair(model: LIIF, clean: Array, key: Key) -> tuple[Array, Array, Array, Array]:
    """Return a downsampled patch f32[H W c], points f32[q 2], their colours f32[q c], and a pixel's size."""
    small = model.small
    factor = jax.random.uniform(rng.fold(key, "scale"), (), jnp.float32, 1, min(model.image[:2]) / small)
    side = jnp.round(factor * small)  # of the part that is downsampled
    place = jax.random.randint(rng.fold(key, "points"), (model.points, 2), 0, side.astype(jnp.int32))
    at = (place.astype(jnp.float32) + 0.5) / side * 2 - 1
    x = model.degradation.downsampled(downsampled(clean, side, small))
    return x, at, clean[place[:, 0], place[:, 1]], 2 / side


def downsampled(x: Array, side: Array, small: int) -> Array:
    """Return the first `side` rows and columns of x f32[h w c], bicubically downsampled, f32[small small c].

    Like `resize` of nn/resample.py, but `side` is a traced value.
    """

    def weights(n: int) -> Array:
        factor = side / small  # at least 1
        t = (jnp.arange(small)[:, None] + 0.5) - (jnp.arange(n)[None] + 0.5) / factor  # [small n]
        w = cubic(t, jnp) * (jnp.arange(n)[None] < side)
        return w / w.sum(1, keepdims=True)

    rows, columns = weights(x.shape[0]), weights(x.shape[1])
    y = jnp.einsum("hwc,Hh->Hwc", x, rows, precision="highest")
    return jnp.einsum("hwc,Ww->hWc", y, columns, precision="highest")


SMALL = LIIF((24, 24, 3), small=8, points=64, depth=1, width=8, layers=2, hidden=16, learning_rate=1e-3)
PRESETS = {"liif": Preset(row(LIIF(), 1_000_000, 16, optim=Optim(schedule="cosine")), tiny(SMALL), 1_567_299)}
