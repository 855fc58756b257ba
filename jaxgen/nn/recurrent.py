"""Recurrent cells on vectors, with the gates, the biases and the names of PyTorch's."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.nn.conv import Dense


def uniform_within(width: int) -> nn.initializers.Initializer:
    """Return PyTorch's initial values of a cell: uniform within 1 / sqrt(width)."""
    draw = nn.initializers.uniform(2 * width**-0.5)
    return lambda *args: draw(*args) - width**-0.5


class GRUCell(nn.Module):
    """(h f32[b width], x f32[b n]) -> the next h. Cho et al. 2014; the reset gate acts after the matrix product."""

    width: int

    @nn.compact
    def __call__(self, h: Array, x: Array) -> Array:
        init = uniform_within(self.width)
        part = lambda name, of: jnp.split(  # noqa: E731
            Dense(3 * self.width, kernel_init=init, bias_init=init, name=name)(of), 3, -1
        )
        (r_x, z_x, n_x), (r_h, z_h, n_h) = part("ih", x), part("hh", h)  # [b width] each
        z, n = jax.nn.sigmoid(z_x + z_h), jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h)
        return (1 - z) * n + z * h


class LSTMCell(nn.Module):
    """((h, c) f32[b width] each, x f32[b n]) -> the next h and c. Gers et al. 2000."""

    width: int

    @nn.compact
    def __call__(self, state: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
        h, c = state
        init = uniform_within(self.width)
        part = lambda name, of: Dense(4 * self.width, kernel_init=init, bias_init=init, name=name)(of)  # noqa: E731
        i, f, g, o = jnp.split(part("ih", x) + part("hh", h), 4, -1)  # [b width] each
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
