"""Deep image prior: Ulyanov, Vedaldi and Lempitsky 2018, "Deep Image Prior".

No training data are used. A net with fixed noise as its input is fitted to one degraded image. It fits the image's
structure before it fits the degradation, and is stopped in between. Where pixels are hidden, only the others are
compared; for super-resolution the output is downsampled before it is compared. The result is the average of the outputs
over the steps.

The net is the authors' hourglass with thin skip connections, 128 channels, five stride-2 stages and reflected borders.
It is their denoising net, used here for all tasks; they have another net for each inpainting image. The Lanczos kernel
for downsampling has three lobes, theirs two; they also go back some steps when the error jumps. The right number of
steps depends on the image's size: where the noise level is known, the fit stops when the error equals it.

For small images the preset's steps are too many: without `--sigma` the net fits the noise as well.
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

CHUNK = 20  # steps between two comparisons of the error with the noise
PIXELS = CHUNK * 64 * 64  # of all steps of one call, which nothing can stop


@dataclass(frozen=True)
class Prior:
    """Hyper-parameters of the fit and the net; the number of steps is that of the authors' denoising."""

    steps: int = 1800
    learning_rate: float = 0.01
    width: int = 128
    skip: int = 4
    depth: int = 5  # number of stride-2 downsampling stages
    noise: int = 32  # channels of the input noise
    jitter: float = 1 / 30  # deviation of the noise added to the input, redrawn at each step
    average: float = 0.99  # decay of the average of outputs

    def check(self, height: int, width: int):
        """Raise InputError for images that are too small, and settings out of range."""
        at_least(1, steps=self.steps, width=self.width, depth=self.depth)
        if min(height, width) < 2 << self.depth:
            least = 2 << self.depth
            raise InputError(f"A deep image prior needs images of {least}x{least} at least, not {height}x{width}.")

    def restore(
        self,
        image: Array,
        mask: Array | None,
        scale: float,
        key: Key,
        after: Callable[[int], bool | None] = lambda at: None,
        sigma: float = 0.0,
    ) -> np.ndarray:
        """Return the restored image f32[H W c] of an f32[h w c] in [-1, 1].

        mask: f32[h w 1], 1 where pixels are hidden and to be filled
        after: called with the number of steps taken; returns whether to stop with the answer so far
        sigma: the noise's standard deviation, of 255; the fit stops when the error falls to it
        Raises InputError where the image is too small.
        """
        h, w, c = image.shape
        size = round(h * scale), round(w * scale)
        self.check(*size)
        grain = 1 << self.depth
        whole = -(-size[0] // grain) * grain, -(-size[1] // grain) * grain
        net = DeepImagePriorNet(self.width, self.skip, self.depth, c)
        z = 0.1 * jax.random.uniform(rng.fold(key, "z"), (1, *whole, self.noise))
        known = jnp.ones((h, w, c)) if mask is None else jnp.broadcast_to(1 - mask, (h, w, c))
        target = (image + 1) / 2
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
                compared = made if scale == 1 else resize(made, (h, w), "lanczos3", edges="reflect")
                return (known * jnp.square(compared - target)).mean(), made

            (error, made), gradients = jax.value_and_grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradients, moments)
            kept = jnp.minimum(self.average, at / (at + 10))  # lower at first: a few steps may be enough
            mean = kept * mean + (1 - kept) * made
            return (optax.apply_updates(params, updates), moments, mean, at + 1), error

        call = next(n for n in range(CHUNK, 0, -1) if CHUNK % n == 0 and (n == 1 or n * size[0] * size[1] <= PIXELS))
        some = jax.jit(lambda carry: jax.lax.scan(step, carry, None, call), donate_argnums=0)
        carry, errors, taken = start(key), [], 0
        while taken < self.steps and (taken % CHUNK or not taken or np.mean(errors) > enough):
            errors = errors if taken % CHUNK else []
            carry, found = some(carry)
            errors, taken = [*errors, float(found.mean())], taken + call
            if after(min(taken, self.steps)):
                break
        answer = 2 * np.asarray(carry[2]) - 1
        if mask is not None and scale == 1:  # known pixels stay unchanged
            hidden = np.broadcast_to(np.asarray(mask), image.shape)
            answer = np.where(hidden > 0, answer, np.asarray(image))
        return answer


class DeepImagePriorNet(nn.Module):
    """z f32[1 h w k] -> f32[1 h w channels] in [0, 1]; both sides are multiples of 2^depth."""

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
        for skip in reversed(thin):
            x = resize(x, (skip.shape[1], skip.shape[2]), "bilinear")  # [1 2h 2w width]
            x = norm(jnp.concatenate([skip, x], -1))
            x = layer(layer(x, self.width), self.width, 1)
        return nn.sigmoid(conv(x, self.channels, 1))


def conv(x: Array, features: int, kernel: int, stride: int = 1) -> Array:
    """Return a convolution of x with reflected borders."""
    pad = kernel // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect")
    return Conv(features, (kernel, kernel), (stride, stride), "VALID", kernel_init=UNIFORM)(x)


def norm(x: Array) -> Array:
    """Return x normalised by this one image's statistics, with a scale and a bias: batch norm of a batch of one."""
    return nn.GroupNorm(None, 1, epsilon=1e-5, use_fast_variance=False)(x)
