"""A transformer that encodes the tokens of a text (Vaswani et al. 2017), trained with the net that uses it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.conv import Dense
from jaxgen.nn.transformer import Layer, layer_norm, stack_layers

Array = jax.Array
WEIGHTS = nn.initializers.normal(0.02)


def counted(tokens: Array) -> Array:
    """Return which tokens i32[b n] are of the text, bool[b n]: those that are not 0, and always the first one."""
    first = jnp.arange(tokens.shape[1])[None] == 0
    return (tokens != 0) | first


class TextEncoder(nn.Module):
    """tokens i32[b n], 0 after the end -> features of each [b n width], and of the text as a whole [b features].

    Tokens attend to those of the text, so that a longer context changes nothing. The whole is a linear map of their
    mean; `features` 0: the mean itself.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    features: int = 0

    @nn.compact
    def __call__(self, tokens: Array) -> tuple[Array, Array]:
        n = tokens.shape[1]
        seen = counted(tokens)  # [b n]
        table = self.param("token_embedding", WEIGHTS, (self.vocabulary, self.width))
        places = self.param("position_embedding", WEIGHTS, (n, self.width))
        # A matrix product, not a look-up: on GPUs the gradient of a look-up is summed in an undefined order.
        x = jax.nn.one_hot(tokens, self.vocabulary, dtype=table.dtype) @ table + jnp.asarray(places)[None]  # [b n c]
        x = stack_layers(Layer(self.heads, name="layers"), self.depth, x, None, None, seen[:, None])
        x = layer_norm("norm")(x)
        share = (seen / seen.sum(1, keepdims=True)).astype(x.dtype)  # [b n]
        whole = jnp.einsum("bn,bnc->bc", share, x)
        return x, Dense(self.features, False, name="proj")(whole) if self.features else whole
