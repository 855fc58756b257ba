"""Invertible layers. Each is a module (x, inverse=False) -> (y, log |det dy/dx| f32[b]); both ways in f32.

With inverse=True y is the layer's x, and the log-determinant that of the inverse.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.losses.elbo import sum_per_example
from jaxgen.nn.conv import Conv
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import layer_norm

Array = jax.Array
START = "start"  # the collection of values that the first batch chooses, and of those that are drawn once


def checkerboard(height: int, width: int, odd: bool) -> np.ndarray:
    """Return the mask f32[1 h w 1] of one colour of a checkerboard: `odd` is that of the pixel beside the corner."""
    sums = np.add.outer(np.arange(height), np.arange(width)) % 2
    return np.asarray(sums == odd, np.float32)[None, :, :, None]


def halves(channels: int, first: bool) -> np.ndarray:
    """Return the mask f32[1 1 1 c] of the first or the last half of the channels."""
    return np.asarray((np.arange(channels) < channels // 2) == first, np.float32)[None, None, None]


# ---- nets of couplings


def concat_elu(x: Array) -> Array:
    """Return ELU(x) and ELU(-x) side by side, [... c] -> [... 2c]."""
    return jnp.concatenate([nn.elu(x), nn.elu(-x)], -1)


class GatedConv(nn.Module):
    """x + value sigmoid(gate) of two convolutions, [b h w c] -> [b h w c]. Ho et al. 2019, "Flow++", section 3.4."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = Conv(self.width, (3, 3), name="first")(concat_elu(x))
        value, gate = jnp.split(Conv(2 * x.shape[-1], (1, 1), name="second")(concat_elu(h)), 2, -1)
        return x + value * nn.sigmoid(gate)


class GatedNet(nn.Module):
    """Gated convolutions with layer norms, [b h w c] -> [b h w features], 0 at the start."""

    features: int
    width: int
    depth: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = Conv(self.width, (3, 3), name="layer_0")(x)
        for i in range(1, 2 * self.depth, 2):
            h = layer_norm(f"layer_{i + 1}")(GatedConv(self.width, name=f"layer_{i}")(h))
        last = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, name=f"layer_{2 * self.depth + 2}")
        return last(concat_elu(h))


class ResidualNet(nn.Module):
    """Residual blocks, [b h w c] -> [b h w features], 0 at the start. Dinh et al. 2017, section 3.7."""

    features: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = Conv(self.width, (3, 3), name="first")(x)
        for i in range(self.depth):
            inner = nn.relu(Conv(self.width, (3, 3), name=f"block_{i}_1")(nn.relu(layer_norm(f"norm_{i}")(h))))
            h = h + Conv(self.width, (3, 3), name=f"block_{i}_2")(inner)
        return Conv(self.features, (1, 1), kernel_init=nn.initializers.zeros, name="last")(nn.relu(h))


# ---- layers


class Coupling(nn.Module):
    """y = mask x + (1 - mask) (x + t) exp(s), s and t a net's of mask x and of `given`. Dinh et al. 2017, equation 9.

    s is tanh(raw / a) a with a learned a for each channel, so that scales stay finite.
    """

    net: Any  # a module whose output is s and t, 2 c features
    mask: Any  # f32, broadcast against x

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False, given: Array | None = None) -> tuple[Array, Array]:
        kept, free = jnp.asarray(self.mask), jnp.asarray(1 - self.mask)
        size = jnp.exp(to_f32(self.param("scaling_factor", nn.initializers.zeros, x.shape[-1:])))[None, None, None]
        seen = x * kept
        out = to_f32(self.net(seen if given is None else jnp.concatenate([seen, given], -1)))
        raw, t = jnp.split(out, 2, -1)
        s, t = jnp.tanh(raw / size) * size * free, t * free
        log_det = sum_per_example(s)
        if inverse:
            return x * jnp.exp(-s) - t, -log_det
        return (x + t) * jnp.exp(s), log_det


class ActNorm(nn.Module):
    """A scale and a bias for each channel; its first batch comes out with mean 0 and variance 1. Glow, section 3.1.

    That batch's mean and deviation are kept beside the trained parameters, which start at 0: the net is the paper's.
    """

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        size = x.shape[-1:]
        bias = to_f32(self.param("bias", nn.initializers.zeros, size))
        logs = to_f32(self.param("logs", nn.initializers.zeros, size))
        mean, scale = self.variable(START, "mean", jnp.zeros, size), self.variable(START, "scale", jnp.ones, size)
        ready = self.variable(START, "ready", jnp.zeros, ())
        if self.is_mutable_collection(START) and not self.is_initializing():
            over = tuple(range(x.ndim - 1))
            found = jax.lax.stop_gradient(x)
            middle = found.mean(over)
            deviation = jnp.sqrt(jnp.square(found - jnp.expand_dims(middle, over)).mean(over) + 1e-6)
            mean.value = jnp.where(ready.value > 0, mean.value, middle)
            scale.value = jnp.where(ready.value > 0, scale.value, 1 / deviation)
            ready.value = jnp.ones(())
        wide = lambda v: jnp.expand_dims(to_f32(v), tuple(range(x.ndim - 1)))  # noqa: E731
        log_det = (logs + jnp.log(to_f32(scale.value))).sum() * np.prod(x.shape[1:-1])
        log_det = jnp.broadcast_to(log_det, x.shape[:1])
        if inverse:
            return (x * jnp.exp(-wide(logs)) - wide(bias)) / wide(scale.value) + wide(mean.value), -log_det
        return ((x - wide(mean.value)) * wide(scale.value) + wide(bias)) * jnp.exp(wide(logs)), log_det


class InvertibleConv(nn.Module):
    """A 1x1 convolution by W = P L (U + diag(s)), a rotation at the start. Glow, section 3.2, equation 10."""

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        c = x.shape[-1]
        shapes_only = (jnp.zeros((c, c)),) * 3
        p, lower, upper = self.rotation(c) if self.is_initializing() else shapes_only
        signs, logs, lower, upper = jnp.sign(jnp.diag(upper)), jnp.log(jnp.abs(jnp.diag(upper))), lower, upper
        p, signs = (
            self.variable(START, "permutation", lambda: p).value,
            self.variable(START, "sign", lambda: signs).value,
        )
        lower = to_f32(self.param("lower", lambda _: jnp.tril(lower, -1)))
        upper = to_f32(self.param("upper", lambda _: jnp.triu(upper, 1)))
        logs = to_f32(self.param("logs", lambda _: logs))
        left = jnp.tril(lower, -1) + jnp.eye(c)
        right = jnp.triu(upper, 1) + jnp.diag(to_f32(signs) * jnp.exp(logs))
        log_det = jnp.broadcast_to(logs.sum() * np.prod(x.shape[1:-1]), x.shape[:1])
        if not inverse:
            return x @ (to_f32(p) @ left @ right).T, log_det
        solve = jax.scipy.linalg.solve_triangular
        undone = solve(right, solve(left, to_f32(p).T, lower=True, unit_diagonal=True))
        return x @ undone.T, -log_det

    def rotation(self, size: int) -> tuple[Array, Array, Array]:
        """Return P, L and U of a random rotation."""
        drawn = jnp.linalg.qr(jax.random.normal(self.make_rng("params"), (size, size)))[0]
        p, lower, upper = jax.scipy.linalg.lu(drawn)
        return p, lower, upper
