"""Vision transformer parts: patches, position embeddings, attention, layers, and stacks of layers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from jaxgen.nn.conv import REMAT_POLICY, Dense

Array = jax.Array
XAVIER = nn.initializers.xavier_uniform()


def to_patches(x: Array, patch: int) -> Array:
    """Return the patches of images, in row-major order as their pixels: f32[b h w c] -> f32[b n p*p*c], n = h/p w/p."""
    return rearrange(x, "b (h p) (w q) c -> b (h w) (p q c)", p=patch, q=patch)


def from_patches(patches: Array, patch: int, rows: int) -> Array:
    """Return the images of patches, the inverse of `to_patches`: f32[b n p*p*c] -> f32[b h w c]; rows: of patches."""
    return rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", p=patch, q=patch, h=rows)


def sin_cos_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Return the fixed position embedding of a grid, f32[rows*columns width]; width is a multiple of 4.

    The first half encodes the column, the second half the row. A coordinate t is encoded as sin(t / 10000^(4 i /
    width)), i = 0 ... width/4 - 1, then the cosines. Vaswani et al. 2017; in two dimensions as in the code of He et al.
    2022.
    """
    row, column = np.divmod(np.arange(rows * columns), columns)  # [n]
    slow = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    angles = [t[:, None] * slow for t in (column, row)]  # [n width/4]
    return np.concatenate([f(t) for t in angles for f in (np.sin, np.cos)], 1).astype(np.float32)


def layer_norm(name: str, epsilon: float = 1e-6, affine: bool = True) -> nn.LayerNorm:
    """Return LayerNorm over the last axis with a two-pass variance: one pass loses digits when the mean is large."""
    return nn.LayerNorm(epsilon, use_bias=affine, use_scale=affine, use_fast_variance=False, name=name)


def self_attention(qkv: Array, heads: int, causal: bool = False) -> Array:
    """Return softmax(q k^T / sqrt(d)) v for each head, [b n 3*c] -> [b n c], d = c / heads; scores and softmax are f32.

    causal: a position attends to itself and the positions before it
    """
    n = qkv.shape[1]
    query, both = jnp.split(qkv, [qkv.shape[-1] // 3], -1)
    return attention(query, both, heads, jnp.asarray(np.tri(n, dtype=bool)) if causal else None)


def attention(query: Array, both: Array, heads: int, seen: Array | None = None, bias: Array | None = None) -> Array:
    """Return softmax(q k^T / sqrt(d)) v for each head: queries [b n c], keys and values [b m 2*c] -> [b n c].

    Keys and values are concatenated along the channels. seen: bool[n m], the positions that each query attends to;
    None: all of them; or bool[b n m], such as [b 1 m] for the keys that count. bias: f32[heads n m], added to the
    scores. Scores and softmax are f32.
    """
    query = rearrange(query, "b n (h d) -> b h n d", h=heads)
    key, value = rearrange(both, "b m (two h d) -> two b h m d", two=2, h=heads)
    query = query * query.shape[-1] ** -0.5  # scaling the scores instead would double the time of the gradient on a CPU
    scores = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + jnp.broadcast_to(bias[None], scores.shape)
    if seen is not None:
        rows = seen[None] if seen.ndim == 2 else seen
        scores = jnp.where(jnp.broadcast_to(rows[:, None], scores.shape), scores, -jnp.inf)
    weights = jax.nn.softmax(scores, -1).astype(value.dtype)
    return rearrange(jnp.einsum("bhnm,bhmd->bhnd", weights, value), "b h n d -> b n (h d)")


class Attention(nn.Module):
    """Multi-head self-attention, W softmax(q k^T / sqrt(d)) v, x [b n c] -> [b n c]; d = c / heads per head.

    Scores and softmax are f32. Causal: a position attends to itself and the positions before it. With `cached` > 0
    positions, x [b 1 c] is the input at position place i32[]; keys and values of earlier positions come from the
    collection "cache". seen: bool[b n n], which positions attend to which, in place of `causal`. Vaswani et al. 2017,
    "Attention Is All You Need".
    """

    heads: int
    kernel_init: Callable = XAVIER
    causal: bool = False
    qkv_bias: bool = True
    cached: int = 0

    @nn.compact
    def __call__(self, x: Array, place: Array | None = None, seen: Array | None = None) -> Array:
        c = x.shape[-1]
        qkv = Dense(3 * c, self.qkv_bias, self.kernel_init, name="qkv")(x)
        if self.cached and place is not None:
            cache = self.variable("cache", "both", jnp.zeros, (x.shape[0], self.cached, 2 * c), qkv.dtype)
            cache.value = jax.lax.dynamic_update_slice(cache.value, qkv[..., c:], (0, place, 0))
            mixed = attention(qkv[..., :c], cache.value, self.heads, (jnp.arange(self.cached) <= place)[None])
        elif seen is not None:
            mixed = attention(qkv[..., :c], qkv[..., c:], self.heads, seen)
        else:
            mixed = self_attention(qkv, self.heads, self.causal)
        return Dense(c, kernel_init=self.kernel_init, name="proj")(mixed)


class MLP(nn.Module):
    """W_2 gelu(W_1 x) with 4 c hidden features, x [b n c] -> [b n c]; the exact GELU or its tanh approximation."""

    kernel_init: Callable = XAVIER
    approximate: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        y = Dense(4 * c, kernel_init=self.kernel_init, name="fc1")(x)
        return Dense(c, kernel_init=self.kernel_init, name="fc2")(nn.gelu(y, approximate=self.approximate))


class Layer(nn.Module):
    """x <- x + attention(norm(x)), then x <- x + mlp(norm(x)), x [b n c] -> [b n c].

    With a skip [b n c], x is first replaced by a linear map of both (Bao et al. 2023, section 3.1). `cached`, `place`
    and `seen` are passed to the attention.
    """

    heads: int
    kernel_init: Callable = XAVIER
    causal: bool = False
    qkv_bias: bool = True
    epsilon: float = 1e-6  # of the norms
    cached: int = 0

    @nn.compact
    def __call__(
        self, x: Array, skip: Array | None = None, place: Array | None = None, seen: Array | None = None
    ) -> Array:
        norm1, norm2 = (layer_norm(name, self.epsilon) for name in ("norm1", "norm2"))
        if skip is not None:
            both = jnp.concatenate([x, skip], -1)  # [b n 2c]
            x = Dense(x.shape[-1], kernel_init=self.kernel_init, name="skip_linear")(both)
        attention = Attention(self.heads, self.kernel_init, self.causal, self.qkv_bias, self.cached, name="attn")
        x = x + attention(norm1(x), place, seen)
        return x + MLP(self.kernel_init, name="mlp")(norm2(x))


def stack_layers(layer: nn.Module, depth: int, x: Array, *shared: Array | None) -> Array:
    """Return x after `depth` identical layers (x, *shared) -> x with separate parameters, stacked: [depth ...].

    One compiled layer runs `depth` times: compile time does not grow with the depth.
    """
    return scan_layers(layer, depth, x, shared=shared)[0]


def scan_layers(
    layer: nn.Module, depth: int, x: Array, each: tuple = (), shared: tuple = (), keep: bool = False
) -> tuple[Array, Any]:
    """Return x after `depth` layers, and with `keep` the output of every layer, [depth ...].

    Layer i gets row i of `each`, and all of `shared`. The backward pass keeps the products of a layer and recomputes
    the rest (conv.REMAT_POLICY).
    """

    def body(layer, x: Array, each: tuple):
        x = nn.remat(lambda layer, x, each: layer(x, *each, *shared), policy=REMAT_POLICY, prevent_cse=False)(
            layer, x, each
        )
        return x, x if keep else None

    rngs: Any = {"params": True, "dropout": True}
    return nn.scan(body, variable_axes={"params": 0, "cache": 0}, split_rngs=rngs, length=depth)(layer, x, each)
