"""Dilated causal convolutions of sequences, of a whole one or sample by sample with a queue.

A queue holds the inputs that later samples depend on: a step costs the same at every place of a sequence.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.nn.conv import _biased


class CausalConv(nn.Module):
    """y_t = b + sum_j W_j x_(t - (k-1-j) d) of x f32[b t c]; before a sequence there are zeros.

    k is the size of the kernel W f32[k c features], d the dilation. The paper of WaveNet, section 2.1. With `symbols` x
    is i32[b t 1], numbers below it that stand for vectors of one 1 and c - 1 zeros; -1 is the vector of zeros.
    """

    features: int
    size: int = 2
    dilation: int = 1
    symbols: int = 0
    use_bias: bool = True
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, queue: Array | None = None, place: Array | None = None) -> Any:
        """Return y f32[b t features] of x f32[b t c].

        With a queue f32[(k-1)d b c] return y f32[b features] of the sample x f32[b c] at `place` i32[], and the new
        queue. It is a ring: the input of place p lies at p modulo its length, and zeros in it are those before a start.
        """
        init = nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
        kernel = self.param("kernel", init, (self.size, self.symbols or x.shape[-1], self.features))
        x = x if self.symbols else x.astype(kernel.dtype)
        if queue is None:
            length, back = x.shape[1], self.reach
            empty = -1 if self.symbols else 0
            padded = jnp.pad(x, ((0, 0), (back, 0), (0, 0)), constant_values=empty)  # [b back+t c]
            parts = [padded[:, j * self.dilation : j * self.dilation + length] for j in range(self.size)]
            y = self.product(parts, kernel)
            return _biased(self, y)
        assert place is not None
        past = lambda j: (place - (self.size - 1 - j) * self.dilation) % max(self.reach, 1)  # noqa: E731
        parts = [jax.lax.dynamic_index_in_dim(queue, past(j), 0, keepdims=False) for j in range(self.size - 1)]
        y = self.product([*parts, x], kernel)
        if self.reach:
            queue = jax.lax.dynamic_update_index_in_dim(queue, x.astype(queue.dtype), place % self.reach, 0)
        return _biased(self, y), queue

    def product(self, parts: list[Array], kernel: Array) -> Array:
        """Return the sum of each part f32[... c] times its part of the kernel."""
        if not self.symbols:
            return jnp.concatenate(parts, -1) @ kernel.reshape(-1, self.features)
        rows = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0)))  # the last row is that of -1
        first, *others = (jnp.take(rows[j], part[..., 0], 0, mode="wrap") for j, part in enumerate(parts))
        return sum(others, first)

    @property
    def reach(self) -> int:
        """The number of samples before its own that an output depends on."""
        return (self.size - 1) * self.dilation
