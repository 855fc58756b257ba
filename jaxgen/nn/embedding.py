"""Embeddings of a scalar such as the diffusion time: sinusoids, and an MLP of them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32

Array = jax.Array


def sinusoid(t: Array, width: int, period: float = 10_000.0) -> Array:
    """Return cos(t w_i), then sin(t w_i), w_i = period^(-2i / width), i = 0 ... width/2 - 1: f32[b] -> f32[b width].

    If `width` is odd, the last element is 0. Vaswani et al. 2017, section 3.5; the order is that of the code of
    Dhariwal and Nichol 2021.
    """
    half = width // 2
    slow = jnp.asarray(period ** -(np.arange(half) / max(half, 1)), jnp.float32)
    angles = to_f32(t)[:, None] * slow[None]  # [b width/2]
    found = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], 1)
    return jnp.pad(found, ((0, 0), (0, width % 2)))  # [b width]


class ScalarEmbedding(nn.Module):
    """W_2 silu(W_1 sinusoid(t)), f32[b] -> [b features]; the sinusoid is f32[b width]. Ho et al. 2020, appendix B."""

    width: int
    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, t: Array) -> Array:
        y = Dense(self.features, kernel_init=self.kernel_init, name="fc1")(sinusoid(t, self.width))
        return Dense(self.features, kernel_init=self.kernel_init, name="fc2")(nn.silu(y))
