"""Zero-DCE: Guo, Li, Guo, Loy, Hou, Kwong and Cong 2020, "Zero-Reference Deep Curve Estimation for Low-Light Image
Enhancement".

A net of seven convolutions predicts eight curves for every pixel and channel, x <- x + a x (1 - x) with a in [-1, 1].
They brighten a dark image step by step and keep it in [0, 1]. As in the authors' code, Li-Chongyi/Zero-DCE, whose
weights can be imported, the net's output is -a. No bright images are needed: the losses ask for good exposure, grey
averages, the dark image's structure, and smooth curves. `degradation` darkens bright images first, for users without
dark ones; the pipeline `plain` leaves images unchanged.

Trained on small patches of flowers it applies nearly the same curve to every image, which overexposes the brighter
ones, although its loss is lower than that of the authors' weights.
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
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.data.degradations import Degradation
from jaxgen.nn.conv import Conv
from jaxgen.tasks.restoration import Image, row, tiny
from jaxgen.tasks.transforms import restoration

POOL, PATCH = 4, 16  # side in pixels of the regions of the spatial loss, and of the exposure loss


@dataclass(frozen=True)
class ZeroDCE:
    """Hyper-parameters of Zero-DCE; the weights are those of the authors' code."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 32
    curves: int = 8
    exposure: float = 0.6  # the target mean of a region, in [0, 1]
    spatial_weight: float = 1.0
    exposure_weight: float = 10.0
    colour_weight: float = 5.0
    smooth_weight: float = 200.0
    degradation: Degradation = Degradation(pipeline="low-light")
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__curves=self.curves)
        self.degradation.check()
        if self.image[2] != 3 or self.image[0] % PATCH or self.image[1] % PATCH:
            raise InputError(f"Zero-DCE needs colour images for training, with sides that are multiples of {PATCH}.")
        rate = optax.chain(optax.add_decayed_weights(self.weight_decay), optax.adam(self.learning_rate))
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"restorer": Learner(("restorer",), rate)},
            phases=(Phase("restorer", "restorer", self.loss),),
            ema=(Ema("restorer", ramped(0.999)),),
            capabilities=restoration(self.degradation, self.restore),
        )

    @property
    def net(self) -> "ZeroDCENet":
        return ZeroDCENet(self.width, 3 * self.curves)

    def init(self, key: Key, spec: Any = None):
        del spec
        return {"restorer": self.net.init(rng.fold(key, "restorer"), jnp.zeros((2, 16, 16, 3)))["params"]}, {}

    def brighten(self, params: Params, x: Array) -> tuple[Array, Array]:
        """Return the brightened image f32[b h w 3] in [0, 1], and the curves' a f32[b h w 3*curves]. Equation 3."""
        found: Any = self.net.apply({"params": params["restorer"]}, x)
        for a in jnp.split(-found, self.curves, -1):
            x = x + a * (x - x * x)
        return x, -found

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        given = self.degradation(batch["image"], jax.random.split(key, len(batch["image"])))
        dark = jnp.clip((given["degraded"] + 1) / 2, 0, 1)
        bright, a = self.brighten(params, dark)
        terms = {
            "spatial": spatial(bright, dark),
            "exposure": jnp.square(pooled(bright.mean(-1, keepdims=True), PATCH) - self.exposure).mean((1, 2, 3)),
            "colour": colour(bright),
            "smooth": smooth(jnp.float32(a)),  # differences of neighbours, which bf16 would round to 0
        }
        weights = self.spatial_weight, self.exposure_weight, self.colour_weight, self.smooth_weight
        cost = sum(w * term for w, term in zip(weights, terms.values(), strict=True))  # [b], equation 8
        return jnp.mean(cost), Aux({name: term.mean() for name, term in terms.items()})

    def restore(self, params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del context, keys, scale
        return 2 * self.brighten(params, jnp.clip((given["degraded"] + 1) / 2, 0, 1))[0] - 1


def pooled(x: Array, side: int) -> Array:
    """Return the means over squares of pixels, [b h w c] -> [b h/side w/side c]; incomplete squares are left out."""
    b, h, w, c = x.shape
    x = x[:, : h - h % side, : w - w % side]
    return x.reshape(b, h // side, side, w // side, side, c).mean((2, 4))


def spatial(bright: Array, dark: Array) -> Array:
    """Return the spatial consistency loss: the change of differences between neighbouring regions, f32[b]. Equation 4.

    Pixels beyond the border are black, as in the authors' code.
    """
    y, i = (jnp.pad(pooled(x.mean(-1, keepdims=True), POOL), ((0, 0), (1, 1), (1, 1), (0, 0))) for x in (bright, dark))
    total = jnp.zeros_like(y[:, 1:-1, 1:-1])
    for axis in (1, 2):
        for step in (1, -1):
            differences = [(x - jnp.roll(x, step, axis))[:, 1:-1, 1:-1] for x in (y, i)]
            total = total + jnp.square(differences[0] - differences[1])
    return total.mean((1, 2, 3))


def colour(x: Array) -> Array:
    """Return the distance between the channels' means, f32[b]: the root of a sum of fourth powers, as in their code."""
    red, green, blue = jnp.moveaxis(x.mean((1, 2)), -1, 0)  # [b] each
    return jnp.sqrt((red - green) ** 4 + (red - blue) ** 4 + (green - blue) ** 4 + 1e-12)


def smooth(a: Array) -> Array:
    """Return the total variation of the curves' maps, f32[b]: twice the mean squared step, as in their code."""
    down, across = jnp.square(a[:, 1:] - a[:, :-1]), jnp.square(a[:, :, 1:] - a[:, :, :-1])
    return 2 * (down.sum((1, 2, 3)) / down[0, ..., 0].size + across.sum((1, 2, 3)) / across[0, ..., 0].size)


class ZeroDCENet(nn.Module):
    """x f32[b h w 3] in [0, 1] -> f32[b h w features] in [-1, 1]: seven layers with skip connections."""

    width: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def conv(x: Array, features: int, i: int) -> Array:
            # The authors' initialisation: N(0, 0.02^2) for kernels, PyTorch's for biases.
            bias = partial(jax.random.uniform, minval=-((9 * x.shape[-1]) ** -0.5), maxval=(9 * x.shape[-1]) ** -0.5)
            init: dict[str, Any] = {"kernel_init": nn.initializers.normal(0.02), "bias_init": bias}
            return Conv(features, (3, 3), **init, name=f"e_conv{i}")(x)

        first = nn.relu(conv(x, self.width, 1))
        second = nn.relu(conv(first, self.width, 2))
        third = nn.relu(conv(second, self.width, 3))
        y = nn.relu(conv(third, self.width, 4))
        y = nn.relu(conv(jnp.concatenate([third, y], -1), self.width, 5))
        y = nn.relu(conv(jnp.concatenate([second, y], -1), self.width, 6))
        return jnp.tanh(conv(jnp.concatenate([first, y], -1), self.features, 7))


SMALL = ZeroDCE((32, 32, 3), width=8, curves=2)
PRESETS = {"zero-dce": Preset(row(ZeroDCE(), 50_000, 8, optim=Optim(clip=0.1)), tiny(SMALL), 79_416)}
