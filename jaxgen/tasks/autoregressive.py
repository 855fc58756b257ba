"""Sequences of tokens, drawn one after the other by an Autoregressive capability."""

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Autoregressive, Transform
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.core.types import Array, Batch, Context, Key, Params


def draw_tokens(
    model: Autoregressive, params: Params, context: Context, conditioning: Batch, keys: Key, temperature: float = 1.0
) -> Array:
    """Return tokens i32[b length], each drawn from softmax(logits / temperature) given those before it.

    Row i depends on its own of keys Key[b] only.
    """
    count = keys.shape[0]

    def one(carry, i):
        cache, token = carry
        logits, cache = model.step(params, context, cache, token, i)
        own = jax.vmap(lambda key: rng.fold(jax.random.fold_in(key, i), "token"))(keys)
        token = jax.vmap(jax.random.categorical)(own, logits / temperature).astype(jnp.int32)
        return (cache, token), token

    start = model.init_cache(params, context, conditioning, count), jnp.full(count, -1, jnp.int32)
    _, tokens = jax.lax.scan(one, start, jnp.arange(model.length))
    return tokens.T  # [length b] -> [b length]


def token_generation(model: Autoregressive, name: str, output: ArraySpec, inputs: Example = {}) -> Transform:  # noqa: B006
    """Return the Transform that draws a model's token sequences, as its output `name`."""

    def apply(params: Params, context: Context, inputs: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        return {name: draw_tokens(model, params, context, inputs, keys)}

    return Transform(apply, inputs, {name: output}, stochastic=True)
