"""Layers that keep magnitudes: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models".

The magnitude of x is its root mean square. Where what comes in has magnitude 1, so has what goes out, on expectation:
weights have a fixed norm in use and in memory, and sums, concatenations and non-linearities are rescaled. There are no
biases; a learned gain starts at 0 (sections 2.2 to 2.5, appendix B).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from scipy.special import ndtri

from jaxgen.nn.conv import conv
from jaxgen.nn.precision import to_f32

Array = jax.Array
EPSILON = 1e-4  # added to the magnitude that is divided by
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def normalise(x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """Return x / (1e-4 + magnitude), the magnitude that over `axes`, in f32; over the channels it is pixel norm.

    Where x is 0, so are the result and the magnitude's derivative.
    """
    square = jnp.square(to_f32(x)).mean(axes, keepdims=True)
    return x / (EPSILON + jnp.sqrt(jnp.maximum(square, 1e-30))).astype(x.dtype)


def mp_silu(x: Array) -> Array:
    """Return silu(x) / 0.596, of magnitude 1 for x ~ N(0, 1). Equation 81."""
    return nn.silu(x) * (1 / 0.596)


def mp_sum(a: Array, b: Array, t: float = 0.5) -> Array:
    """Return ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), a and b [...]. Equation 88."""
    size = math.hypot(1 - t, t)
    return a * ((1 - t) / size) + b * (t / size)


def mp_cat(a: Array, b: Array, t: float = 0.5) -> Array:
    """Return a [... m] and b [... n] side by side, [... m+n], a with the weight 1 - t and b with t. Equation 103."""
    m, n = a.shape[-1], b.shape[-1]
    scale = math.sqrt(m + n) / math.hypot(1 - t, t)
    return jnp.concatenate([a * (scale * (1 - t) / math.sqrt(m)), b * (scale * t / math.sqrt(n))], -1)


def fourier(t: Array, width: int, bandwidth: float = 1.0) -> Array:
    """Return sqrt(2) cos(2 pi (f_i t + phase_i)), i = 0 ... width - 1, t f32[b] -> f32[b width]. Equation 75.

    The paper draws f from N(0, bandwidth^2) and phases from [0, 1) once; here they are the quantiles of the one, and
    lie along the golden ratio in the other, which is as even as can be and is nothing to be saved.
    """
    i = np.arange(width)
    f, phase = (np.asarray(a, np.float32)[None] for a in (bandwidth * ndtri((i + 0.5) / width), i * GOLDEN_RATIO % 1))
    return math.sqrt(2) * jnp.cos(2 * np.pi * (to_f32(t)[:, None] * f + phase))


class Conv(nn.Module):
    """A convolution of size x size pixels, x [b h w c] -> [b h w features] in its kernel's dtype. Equation 47."""

    features: int
    size: int = 3
    gain: bool = False  # whether there is a learned one

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = normalised_kernel(self, (self.size, self.size, x.shape[-1], self.features))
        return checkpoint_name(conv(x.astype(kernel.dtype), kernel), "conv")


class Dense(nn.Module):
    """A linear map of the last axis, x [... c] -> [... features] in its kernel's dtype. Equation 47."""

    features: int
    gain: bool = False  # whether there is a learned one

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = normalised_kernel(self, (x.shape[-1], self.features))
        return checkpoint_name(x.astype(kernel.dtype) @ kernel, "dense")


def normalised_kernel(module: Conv | Dense, shape: tuple[int, ...]) -> Array:
    """Return a layer's kernel as it is used: each output's weights of norm 1, or of the layer's gain if it has one."""
    kernel = module.param("kernel", lambda key, shape: normalise_kernel(jax.random.normal(key, shape)), shape)
    scale = 1 / math.sqrt(math.prod(shape[:-1]))
    if module.gain:
        scale = scale * module.param("gain", nn.initializers.zeros, ())
    return (normalise_kernel(to_f32(kernel)) * scale).astype(kernel.dtype)


def normalise_kernel(kernel: Array) -> Array:
    """Return [... c_in c_out] or, of a roll of layers, [depth ... c_in c_out], each output's weights of magnitude 1."""
    return normalise(kernel, tuple(range(kernel.ndim % 2, kernel.ndim - 1)))  # a dense kernel has 2 axes, others 4


def forced_weight_normalisation() -> optax.GradientTransformation:
    """Return the last link of an optimizer, which normalises every kernel that the ones before it have updated.

    So the weights can't grow, and an update turns them by an angle that depends on the learning rate alone (section
    2.3, equation 66). What is called "kernel" is a layer's here; gains are left as they are.
    """

    def update(updates, state, params=None):
        def one(path, update: Array, old: Array) -> Array:
            return normalise_kernel(old + update) - old if path[-1].key == "kernel" else update

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
