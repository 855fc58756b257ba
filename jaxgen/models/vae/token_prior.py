"""A prior of tokens: a transformer that tells each one by those before it, as GPT-2 and Esser et al. 2021 do."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen import rng
from jaxgen.core import Array, Key, PyTree
from jaxgen.nn.conv import Dense
from jaxgen.nn.transformer import Layer, layer_norm, stack
from jaxgen.nn.wide import wide

WEIGHTS = nn.initializers.normal(0.02)


class TokenPrior(nn.Module):
    """tokens i32[b n] below `vocabulary` -> logits f32[b n vocabulary], those of token i by the tokens before it."""

    vocabulary: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        b, n = tokens.shape
        table = self.param("tokens", WEIGHTS, (self.vocabulary, self.width))
        start = self.param("start", WEIGHTS, (1, 1, self.width))
        before = jnp.concatenate([jnp.broadcast_to(start, (b, 1, self.width)), table[tokens[:, :-1]]], 1)  # [b n c]
        place = self.param("places", WEIGHTS, (1, n, self.width))
        x = before + jnp.broadcast_to(place, before.shape)
        x = stack(Layer(max(self.width // 32, 1), causal=True), self.depth, x)
        return wide(Dense(self.vocabulary, kernel_init=WEIGHTS, name="out")(layer_norm("norm")(x)))


def nats(logits: Array, tokens: Array) -> Array:
    """Return -log p of the tokens i32[b n] by their logits f32[b n vocabulary], f32[b]."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, tokens[..., None], 2)[..., 0].sum(1)


def sample(prior: TokenPrior, params: PyTree, keys: Key, count: int) -> Array:
    """Return tokens i32[b count], one after the other, each row by its own of keys Key[b]."""

    def one(tokens: Array, i: Array) -> tuple[Array, None]:
        logits: Any = prior.apply({"params": params}, tokens)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, i), row))(keys, logits[:, i])
        return tokens.at[:, i].set(drawn), None

    keys = jax.vmap(lambda key: rng.fold(key, "tokens"))(keys)
    return jax.lax.scan(one, jnp.zeros((len(keys), count), jnp.int32), jnp.arange(count))[0]
