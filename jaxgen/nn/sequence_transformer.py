"""Transformers of sequences as Vaswani et al. 2017 have them: each norm follows its residual sum.

With the exact GELU, as in PyTorch's `nn.TransformerEncoderLayer(activation="gelu")`. Dropout acts on what each part
adds, and on the hidden features. A stack of layers is compiled once (`transformer.stack_layers`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.nn.conv import Dense
from jaxgen.nn.transformer import XAVIER, Attention, layer_norm

EPSILON = 1e-5


def positions(count: int, width: int) -> np.ndarray:
    """Return the sinusoids f32[count width] of positions 0, 1, ...: sine and cosine in turn. Section 3.5."""
    angles = np.arange(count)[:, None] * 10_000.0 ** (-np.arange(0, width, 2) / width)  # [count width/2]
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, -1)[:, :width].astype(np.float32)


class SequenceLayer(nn.Module):
    """x [b n c] -> [b n c]: attention to itself, to a memory [b c] where there is one, and a perceptron.

    The memory is a single token. Whatever attends to one token gets its value: so queries and keys are left out there.
    """

    heads: int
    hidden: int  # features of the perceptron
    dropout: float
    train: bool = False

    @nn.compact
    def __call__(self, x: Array, memory: Array | None = None) -> Array:
        drop = lambda y: nn.Dropout(self.dropout, deterministic=not self.train)(y)  # noqa: E731
        dense = lambda features, name: Dense(features, kernel_init=XAVIER, name=name)  # noqa: E731
        x = layer_norm("norm1", EPSILON)(x + drop(Attention(self.heads, name="self_attn")(x)))
        if memory is not None:
            y = dense(x.shape[-1], "memory_proj")(dense(x.shape[-1], "memory_value")(memory))  # [b c]
            x = layer_norm("norm2", EPSILON)(x + drop(jnp.broadcast_to(y[:, None], x.shape)))
        y = drop(jax.nn.gelu(dense(self.hidden, "linear1")(x), approximate=False))
        y = drop(dense(x.shape[-1], "linear2")(y))
        return layer_norm("norm3" if memory is not None else "norm2", EPSILON)(x + y)
