"""LeNet-5: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.

`variant="1998"` is the paper's network, section II.B: sub-sampling layers with a trainable coefficient and bias, C3
connected by table I, 1.7159 tanh(2 a / 3) as activation, an output of Euclidean radial basis functions (RBF) with fixed
target vectors, and the loss of equation 9. It has 60,000 trainable parameters, as in the paper. Differences from it:

- Target vectors: the paper uses 7x12 images of the characters. Here they are our own drawings of ten digits, and random
  signs for other numbers of classes, which the paper names as the alternative.
- Optimizer: SGD, in place of the stochastic diagonal Levenberg-Marquardt method.
- Input: -0.42 for the background and 2.82 for ink, in place of -0.1 and 1.175.
- Sub-sampling: the coefficients multiply a mean, not a sum, and start at 1.

`variant="relu"` is the network called LeNet-5 today: dense connections, ReLU, max pooling, softmax. 61,706 parameters.

Both take 32x32 images. Others are padded with black on every side ("pad", as the paper's 28x28 digits) or resampled.

The package has the weights of `relu` at 32x32, trained by this file:
`jaxgen/pretrained/weights/lenet_mnist.safetensors`.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from jaxgen.core.config import Data, Eval, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError
from jaxgen.core.task import Task
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.conv import Conv, Dense, conv
from jaxgen.nn.pool import max_pool
from jaxgen.tasks.classification import Numbers, Recipe, classifier_task

SIZE = 32
# Table I: the input maps from S2 of each map of C3.
TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
RUBBISH = 10.0  # j of equation 9: the penalty of the rubbish class
# Digits of 7x12 pixels. Two hexadecimal digits are a row of seven bits; the leftmost pixel is the highest bit.
DIGITS = (
    "001c22414141414141221c00 000818280808080808083e00 001c22410102040810207f00 003e4101010e010101413e00 "
    "0002060a1222427f02020200 007f4040407e010101413e00 001e2040407e414141413e00 007f01020204040808101000 "
    "003e4141413e414141413e00 003e4141413f010101023c00 "
)


@dataclass(frozen=True)
class LeNet5:
    """Hyper-parameters of LeNet-5."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    classes: int = 10
    variant: Literal["1998", "relu"] = "relu"
    fit: Literal["pad", "bilinear"] = "pad"  # method of resizing an image to 32x32
    mean: Numbers = (0.1307,)  # subtracted from intensities in [0, 1]: MNIST's mean
    std: Numbers = (0.3081,)
    recipe: Recipe = field(default_factory=Recipe)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images larger than 32x32 with fit="pad"."""
        del steps
        if self.fit == "pad" and max(self.image[:2]) > SIZE:
            raise InputError(f"LeNet-5 can't pad {self.image[0]}x{self.image[1]} to 32x32: write --model.fit bilinear.")
        mean, std = (v if len(v) > 1 else v * self.image[2] for v in (self.mean, self.std))
        black = tuple(-m / (s or 1) for m, s in zip(mean, std, strict=False))  # classifier_task checks mean and std
        normal = {"mean": self.mean, "std": self.std}
        if self.variant == "relu":
            return classifier_task(
                ReLULeNetModule(self.classes, self.fit, black), self.image, self.classes, self.recipe, normal
            )
        net = LeNet1998Module(self.classes, self.fit, black)
        return classifier_task(net, self.image, self.classes, self.recipe, normal, loss=rbf_loss)


def resize_or_pad(x: Array, fit: str, black: Numbers) -> Array:
    """[b h w c] -> [b 32 32 c].

    black: the normalised value of black in each channel
    """
    b, h, w, c = x.shape
    if fit == "bilinear":
        return jax.image.resize(x, (b, SIZE, SIZE, c), "bilinear", antialias=True)
    if max(h, w) > SIZE:
        raise InputError(f"A LeNet-5 with model.fit=pad takes images up to {SIZE}x{SIZE}, not {h}x{w}.")
    top, left = (SIZE - h) // 2, (SIZE - w) // 2
    whole = jnp.broadcast_to(jnp.asarray(black, x.dtype), (b, SIZE, SIZE, c))
    return lax.dynamic_update_slice(whole, x, (0, top, left, 0))


class ReLULeNetModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], ...}, without the softmax."""

    classes: int
    fit: str
    black: Numbers

    @nn.compact
    def __call__(self, x, train: bool):
        del train
        x = resize_or_pad(x, self.fit, self.black)  # [b 32 32 c]
        c1 = nn.relu(Conv(6, (5, 5), padding="VALID", name="c1")(x))  # [b 28 28 6]
        s2 = max_pool(c1, 2, 2)  # [b 14 14 6]
        c3 = nn.relu(Conv(16, (5, 5), padding="VALID", name="c3")(s2))  # [b 10 10 16]
        s4 = max_pool(c3, 2, 2)  # [b 5 5 16]
        c5 = nn.relu(Conv(120, (5, 5), padding="VALID", name="c5")(s4))[:, 0, 0]  # [b 120]
        f6 = nn.relu(Dense(84, name="f6")(c5))  # [b 84]
        logits = Dense(self.classes, name="f7")(f6).astype(jnp.float32)
        return {"c1": c1, "c3": c3, "c5": c5, "f6": f6, "logits": logits}


def uniform_by_fan_in(key, shape, dtype=jnp.float32):
    """Return weights uniform in +-2.4 / fan-in: the paper's appendix A."""
    bound = 2.4 / np.prod(shape[:-1])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def squash(a: Array) -> Array:
    """Return f(a) = 1.7159 tanh(2 a / 3), with f(1) = 1 and f(-1) = -1: equation 6."""
    return 1.7159 * jnp.tanh(2 / 3 * a)


class LeNet1998Module(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], ...}: minus the squared distance to each target vector."""

    classes: int
    fit: str
    black: Numbers

    @nn.compact
    def __call__(self, x, train: bool):
        del train
        x = resize_or_pad(x, self.fit, self.black)  # [b 32 32 c]
        plain = {"padding": "VALID", "kernel_init": uniform_by_fan_in}
        c1 = squash(Conv(6, (5, 5), **plain, name="c1")(x))  # [b 28 28 6]
        s2 = squash(SubSampling(name="s2")(c1))  # [b 14 14 6]
        c3 = squash(TableConv(name="c3")(s2))  # [b 10 10 16]
        s4 = squash(SubSampling(name="s4")(c3))  # [b 5 5 16]
        c5 = squash(Conv(120, (5, 5), **plain, name="c5")(s4))[:, 0, 0]  # [b 120]
        f6 = squash(Dense(84, kernel_init=uniform_by_fan_in, name="f6")(c5))  # [b 84]
        wide = f6.astype(jnp.float32)
        targets = jnp.asarray(rbf_targets(self.classes))
        distance = jnp.square(wide[:, None] - targets[None]).sum(-1)  # equation 7, [b classes]
        return {"c1": c1, "c3": c3, "c5": c5, "f6": f6, "logits": -distance}


class SubSampling(nn.Module):
    """The mean of each 2x2 window times a coefficient per channel, plus a bias: [b h w c] -> [b h/2 w/2 c]."""

    @nn.compact
    def __call__(self, x):
        b, h, w, c = x.shape
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))  # [b h/2 w/2 c]
        one = lambda v: jnp.broadcast_to(v.astype(x.dtype), x.shape)  # noqa: E731
        return x * one(scale) + one(bias)


class TableConv(nn.Module):
    """C3: a 5x5 convolution with a kernel for each of table I's 60 connections, [b h w 6] -> [b h-4 w-4 16]."""

    @nn.compact
    def __call__(self, x):
        inputs = np.concatenate(TABLE)
        outputs = np.repeat(np.arange(len(TABLE)), [len(row) for row in TABLE])
        fan_in = np.array([25 * len(row) for row in TABLE])[outputs]

        def init(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(2.4 / fan_in, dtype)[None, None]

        connections = self.param("kernel", init, (5, 5, len(inputs)))
        bias = self.param("bias", nn.initializers.zeros, (len(TABLE),))
        kernel = jnp.zeros((5, 5, 6, len(TABLE)), connections.dtype).at[:, :, inputs, outputs].set(connections)
        y = conv(x.astype(kernel.dtype), kernel, padding="VALID")
        return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


def rbf_loss(logits: Array, label: Array, smoothing: float = 0.0) -> Array:
    """Return y_label + log(e^-j + sum_i e^-y_i), y = -logits, f32[b]: cross-entropy with one more class. Equation 9."""
    del smoothing
    logits = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=-RUBBISH)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=-1)[:, 0]


def rbf_targets(classes: int) -> np.ndarray:
    """Return the fixed target vectors of F6, f32[classes 84] of -1 and 1."""
    if classes != 10:
        return np.random.RandomState(1998).choice([-1, 1], (classes, 84)).astype(np.float32)
    rows = np.frombuffer(bytes.fromhex(DIGITS.replace(" ", "")), np.uint8).reshape(10, 12, 1)
    bits = np.unpackbits(rows, axis=2)[:, :, 1:]  # [10 12 7]
    return (2.0 * bits.reshape(10, 84) - 1).astype(np.float32)


WEIGHT_NAMES = renamed(("^c", "convnet.c"), ("^f", "fc.f"), ("^s", "convnet.s"))


def preset(model: LeNet5, parameters: int) -> Preset:
    return Preset(
        Run(
            model=model,
            data=Data("digits", shift=2),
            steps=10_000,
            batch=128,
            optim=Optim(schedule="cosine", warmup=200),
            log=Log(every=100),
            save=Save(every=1000),
            eval=Eval(every=1000, batches=0, metrics=("accuracy",)),
        ),
        tiny=Run(model=model, steps=20, batch=16, log=Log(every=5), save=Save(every=10)),
        parameters=parameters,
    )


PRESETS = {
    "lenet5": preset(
        LeNet5(recipe=Recipe(learning_rate=0.05, weight_decay=5e-4)),
        61_706,
    ),
    "lenet5-1998": preset(
        LeNet5(variant="1998", recipe=Recipe(learning_rate=1e-3, weight_decay=0.0)),
        60_000,
    ),
}
