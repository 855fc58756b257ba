"""Magnitude-preserving layers: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models".

The magnitude of x is its root mean square. For inputs of magnitude 1, outputs have magnitude 1 in expectation: weights
have a fixed norm in use and in memory, and sums, concatenations and non-linearities are rescaled. There are no biases;
a learned gain starts at 0 (sections 2.2 to 2.5, appendix B).
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
EPSILON = 1e-4  # added to the magnitude in the denominator
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def normalise(x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """Return x / (1e-4 + magnitude), the magnitude taken over `axes` in f32; over the channels it is pixel norm.

    Where x is 0, the result and the derivative of the magnitude are 0.
    """
    square = jnp.square(to_f32(x)).mean(axes, keepdims=True)
    return x / (EPSILON + jnp.sqrt(jnp.maximum(square, 1e-30))).astype(x.dtype)


def mp_silu(x: Array) -> Array:
    """Return silu(x) / 0.596, which has magnitude 1 for x ~ N(0, 1). Equation 81."""
    return nn.silu(x) * (1 / 0.596)


def mp_sum(a: Array, b: Array, t: float = 0.5) -> Array:
    """Return ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), a and b [...]. Equation 88."""
    size = math.hypot(1 - t, t)
    return a * ((1 - t) / size) + b * (t / size)


def mp_cat(a: Array, b: Array, t: float = 0.5) -> Array:
    """Return the concatenation of a [... m] and b [... n], [... m+n], with weights 1 - t and t. Equation 103."""
    m, n = a.shape[-1], b.shape[-1]
    scale = math.sqrt(m + n) / math.hypot(1 - t, t)
    return jnp.concatenate([a * (scale * (1 - t) / math.sqrt(m)), b * (scale * t / math.sqrt(n))], -1)


def fourier(t: Array, width: int, bandwidth: float = 1.0) -> Array:
    """Return sqrt(2) cos(2 pi (f_i t + phase_i)), i = 0 ... width - 1, t f32[b] -> f32[b width]. Equation 75.

    The paper draws f from N(0, bandwidth^2) and phases from [0, 1) once. Here f are quantiles of that normal
    distribution, and phases are multiples of the golden ratio modulo 1: evenly spread, and nothing has to be saved.
    """
    i = np.arange(width)
    f, phase = (np.asarray(a, np.float32)[None] for a in (bandwidth * ndtri((i + 0.5) / width), i * GOLDEN_RATIO % 1))
    return math.sqrt(2) * jnp.cos(2 * np.pi * (to_f32(t)[:, None] * f + phase))


class Conv(nn.Module):
    """A convolution of size x size pixels, x [b h w c] -> [b h w features] in its kernel's dtype. Equation 47."""

    features: int
    size: int = 3
    gain: bool = False  # whether the layer has a learned gain

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = normalised_kernel(self, (self.size, self.size, x.shape[-1], self.features))
        return checkpoint_name(conv(x.astype(kernel.dtype), kernel), "conv")


class Dense(nn.Module):
    """A linear map of the last axis, x [... c] -> [... features] in its kernel's dtype. Equation 47."""

    features: int
    gain: bool = False  # whether the layer has a learned gain

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = normalised_kernel(self, (x.shape[-1], self.features))
        return checkpoint_name(x.astype(kernel.dtype) @ kernel, "dense")


def normalised_kernel(module: Conv | Dense, shape: tuple[int, ...]) -> Array:
    """Return the normalised kernel of a layer: the weights of each output have norm 1, or the layer's gain."""
    kernel = module.param("kernel", lambda key, shape: normalise_kernel(jax.random.normal(key, shape)), shape)
    scale = 1 / math.sqrt(math.prod(shape[:-1]))
    if module.gain:
        scale = scale * module.param("gain", nn.initializers.zeros, ())
    return (normalise_kernel(to_f32(kernel)) * scale).astype(kernel.dtype)


def normalise_kernel(kernel: Array) -> Array:
    """Normalise the weights of each output to magnitude 1: [... c_in c_out], or [depth ... c_in c_out] if scanned."""
    # A dense kernel has 2 axes, a convolution's has 4; scanned ones have one more.
    return normalise(kernel, tuple(range(kernel.ndim % 2, kernel.ndim - 1)))


def forced_weight_normalisation() -> optax.GradientTransformation:
    """Return the last transformation of an optimizer chain: it normalises every kernel after the update.

    The weights cannot grow, and an update rotates them by an angle that depends on the learning rate alone (section
    2.3, equation 66). It applies to parameters named "kernel"; gains are not changed.
    """

    def update(updates, state, params=None):
        def one(path, update: Array, old: Array) -> Array:
            return normalise_kernel(old + update) - old if path[-1].key == "kernel" else update

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
