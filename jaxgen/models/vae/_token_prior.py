"""An autoregressive transformer prior of tokens, as in GPT-2 and Esser et al. 2021."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.types import Array, Key, PyTree
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import Layer, layer_norm, stack_layers

WEIGHTS = nn.initializers.normal(0.02)


class TokenPrior(nn.Module):
    """tokens i32[b n] below `vocabulary` -> logits f32[b n vocabulary]; those of token i depend on the tokens before i.

    With a position i32[], one step of decoding: tokens i32[b 1] are those before this position, the logits are
    [b 1 vocabulary], and the earlier positions' keys and values come from the collection "cache", of length n.
    """

    vocabulary: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, tokens: Array, position: Array | None = None, n: int = 0) -> Array:
        length = n or tokens.shape[1]
        table = self.param("tokens", WEIGHTS, (self.vocabulary, self.width))
        start = self.param("start", WEIGHTS, (1, 1, self.width))
        positions = self.param("places", WEIGHTS, (1, length, self.width))  # the names are those of saved runs
        first = jnp.broadcast_to(start, (tokens.shape[0], 1, self.width))
        if position is None:
            x = jnp.concatenate([first, table[tokens[:, :-1]]], 1)  # [b n c]
        else:
            x = jnp.where(position == 0, first, table[tokens])  # [b 1 c]
            positions = jax.lax.dynamic_slice_in_dim(positions, position, 1, 1)
        x = x + jnp.broadcast_to(positions, x.shape)
        x = stack_layers(Layer(max(self.width // 32, 1), causal=True, cached=n), self.depth, x, None, position)
        return to_f32(Dense(self.vocabulary, kernel_init=WEIGHTS, name="out")(layer_norm("norm")(x)))


def negative_log_likelihood(logits: Array, tokens: Array) -> Array:
    """Return -log p in nats, f32[b], of tokens i32[b n] with logits f32[b n vocabulary]."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, tokens[..., None], 2)[..., 0].sum(1)


def sample_tokens(prior: TokenPrior, params: PyTree, keys: Key, count: int) -> Array:
    """Return sampled tokens i32[b count], one position after another; each row has its own key of Key[b]."""

    def next_logits(cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        found: Any = prior.apply({"params": params, **cache}, token[:, None], i, count, mutable=["cache"])
        return found[0][:, 0], found[1]  # [b vocabulary]

    def sample_one(carry: tuple[PyTree, Array], i: Array) -> tuple[tuple[PyTree, Array], Array]:
        logits, cache = next_logits(*carry, i)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, i), row))(keys, logits)
        return (cache, drawn), drawn

    keys = jax.vmap(lambda key: rng.fold(key, "tokens"))(keys)
    no_tokens = jnp.zeros(keys.shape[0], jnp.int32)
    shapes = jax.eval_shape(lambda: next_logits({}, no_tokens, jnp.int32(0)))[1]
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    _, tokens = jax.lax.scan(sample_one, (empty, no_tokens), jnp.arange(count))  # [count b]
    return tokens.T
