"""Deep image prior: Ulyanov, Vedaldi and Lempitsky 2018, "Deep Image Prior".

Nothing is trained beforehand: a net whose input is fixed noise learns the one damaged image, and, being a net, learns
what is an image in it before it learns the damage. It is stopped in between. Where pixels are hidden only the others
are compared; where a larger image is wanted the answer is made small first. The answer is the average over the steps.

The net is the authors' hourglass with thin skip connections, 128 channels and five halvings, reflected borders: that of
their denoising for everything, where each of their images to be filled in has its own. Lanczos's kernel, by which the
answer is made small, has three lobes and theirs two; they also go back some steps where the error leaps. How long is
right depends on the image's size: where the noise is known, it is stopped when it is as far from the image as that.

For small images the preset's steps are many: without `--sigma` the net learns the noise as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.types import Array, Key
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import resize

CHUNK = 20  # steps between two looks at the progress


@dataclass(frozen=True)
class Prior:
    """How long and with what the image is learned; the steps are those of the authors' denoising."""

    steps: int = 1800
    learning_rate: float = 0.01
    width: int = 128
    skip: int = 4
    depth: int = 5  # how often it is halved
    noise: int = 32  # channels of the input
    jitter: float = 1 / 30  # of the input, drawn anew each step
    average: float = 0.99

    def check(self, height: int, width: int):
        """Raise InputError for an image that can't be halved so often, and settings that can't be."""
        at_least(1, steps=self.steps, width=self.width, depth=self.depth)
        if min(height, width) < 2 << self.depth:
            least = 2 << self.depth
            raise InputError(f"A deep image prior needs images of {least}x{least} at least, not {height}x{width}.")

    def mend(
        self,
        picture: Array,
        mask: Array | None,
        scale: float,
        key: Key,
        after: Callable[[int], Any] = lambda at: None,
        sigma: float = 0.0,
    ) -> np.ndarray:
        """Return the answer f32[H W c] to an image f32[h w c] in [-1, 1], what `mask` f32[h w 1] hides filled in.

        after: called with how many steps were taken
        sigma: the noise's standard deviation, of 255: what is learned beyond it is the noise, and the rest is left out
        Raises InputError where the image is too small.
        """
        h, w, c = picture.shape
        size = round(h * scale), round(w * scale)
        self.check(*size)
        grain = 1 << self.depth
        whole = -(-size[0] // grain) * grain, -(-size[1] // grain) * grain
        net = DeepImagePriorNet(self.width, self.skip, self.depth, c)
        z = 0.1 * jax.random.uniform(rng.fold(key, "z"), (1, *whole, self.noise))
        known = jnp.ones((h, w, c)) if mask is None else jnp.broadcast_to(1 - mask, (h, w, c))
        target = (picture + 1) / 2
        optimizer = optax.adam(self.learning_rate)

        @jax.jit
        def start(key: Key):
            params = net.init(rng.fold(key, "net"), z)
            return params, optimizer.init(params), jnp.zeros((*size, c)), jnp.zeros((), jnp.int32)

        enough = (sigma / 255) ** 2 * float(known.mean())

        def step(carry, _):
            params, moments, mean, at = carry
            noise = jax.random.normal(jax.random.fold_in(key, at), z.shape)

            def loss(params):
                out: Any = net.apply(params, z + self.jitter * noise)
                made = out[0, : size[0], : size[1]]
                seen = made if scale == 1 else resize(made, (h, w), "lanczos3", edges="reflect")
                return (known * jnp.square(seen - target)).mean(), made

            (apart, made), slopes = jax.value_and_grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(slopes, moments)
            kept = jnp.minimum(self.average, at / (at + 10))  # less at first: few steps may be enough
            mean = kept * mean + (1 - kept) * made
            return (optax.apply_updates(params, updates), moments, mean, at + 1), apart

        some = jax.jit(lambda carry: jax.lax.scan(step, carry, None, CHUNK), donate_argnums=0)
        carry, taken, apart = start(key), 0, np.inf
        while taken < self.steps and apart > enough:
            carry, found = some(carry)
            taken, apart = taken + CHUNK, float(found.mean())
            after(min(taken, self.steps))
        answer = 2 * np.asarray(carry[2]) - 1
        if mask is not None and scale == 1:  # what is known is known
            hidden = np.broadcast_to(np.asarray(mask), picture.shape)
            answer = np.where(hidden > 0, answer, np.asarray(picture))
        return answer


class DeepImagePriorNet(nn.Module):
    """z f32[1 h w k] -> f32[1 h w channels] in [0, 1]; both sides can be halved `depth` times."""

    width: int
    skip: int
    depth: int
    channels: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        def layer(x: Array, features: int, kernel: int = 3, stride: int = 1) -> Array:
            return nn.leaky_relu(norm(conv(x, features, kernel, stride)), 0.2)

        x, thin = z, []
        for _ in range(self.depth):
            thin.append(layer(x, self.skip, 1))
            x = layer(layer(x, self.width, 3, 2), self.width)  # [1 h/2 w/2 width]
        for beside in reversed(thin):
            x = resize(x, (beside.shape[1], beside.shape[2]), "bilinear")  # [1 2h 2w width]
            x = norm(jnp.concatenate([beside, x], -1))
            x = layer(layer(x, self.width), self.width, 1)
        return nn.sigmoid(conv(x, self.channels, 1))


def conv(x: Array, features: int, kernel: int, stride: int = 1) -> Array:
    """Return a convolution over mirrored borders."""
    pad = kernel // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect")
    return Conv(features, (kernel, kernel), (stride, stride), "VALID", kernel_init=UNIFORM)(x)


def norm(x: Array) -> Array:
    """Return x in the statistics of this one image, with a scale and a bias: batch norm of a batch of one."""
    return nn.GroupNorm(None, 1, epsilon=1e-5, use_fast_variance=False)(x)
