"""A prior of tokens: a transformer that tells each one by those before it, as GPT-2 and Esser et al. 2021 do."""

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
    """tokens i32[b n] below `vocabulary` -> logits f32[b n vocabulary], those of token i by the tokens before it.

    With a place i32[] the tokens are i32[b 1], those before that place of n, and the logits [b 1 vocabulary] those of
    the place: what is kept of the places before comes from the collection "cache".
    """

    vocabulary: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, tokens: Array, place: Array | None = None, n: int = 0) -> Array:
        length = n or tokens.shape[1]
        table = self.param("tokens", WEIGHTS, (self.vocabulary, self.width))
        start = self.param("start", WEIGHTS, (1, 1, self.width))
        places = self.param("places", WEIGHTS, (1, length, self.width))
        first = jnp.broadcast_to(start, (tokens.shape[0], 1, self.width))
        if place is None:
            x = jnp.concatenate([first, table[tokens[:, :-1]]], 1)  # [b n c]
        else:
            x = jnp.where(place == 0, first, table[tokens])  # [b 1 c]
            places = jax.lax.dynamic_slice_in_dim(places, place, 1, 1)
        x = x + jnp.broadcast_to(places, x.shape)
        x = stack_layers(Layer(max(self.width // 32, 1), causal=True, cached=n), self.depth, x, None, place)
        return to_f32(Dense(self.vocabulary, kernel_init=WEIGHTS, name="out")(layer_norm("norm")(x)))


def nats(logits: Array, tokens: Array) -> Array:
    """Return -log p of the tokens i32[b n] by their logits f32[b n vocabulary], f32[b]."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, tokens[..., None], 2)[..., 0].sum(1)


def sample(prior: TokenPrior, params: PyTree, keys: Key, count: int) -> Array:
    """Return tokens i32[b count], one after the other, each row by its own of keys Key[b]."""

    def say(cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        found: Any = prior.apply({"params": params, **cache}, token[:, None], i, count, mutable=["cache"])
        return found[0][:, 0], found[1]  # [b vocabulary]

    def one(carry: tuple[PyTree, Array], i: Array) -> tuple[tuple[PyTree, Array], Array]:
        logits, cache = say(*carry, i)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, i), row))(keys, logits)
        return (cache, drawn), drawn

    keys = jax.vmap(lambda key: rng.fold(key, "tokens"))(keys)
    nothing = jnp.zeros(keys.shape[0], jnp.int32)
    shapes = jax.eval_shape(lambda: say({}, nothing, jnp.int32(0)))[1]
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    _, tokens = jax.lax.scan(one, (empty, nothing), jnp.arange(count))  # [count b]
    return tokens.T
