"""The multimodal diffusion transformer, MM-DiT: Esser et al. 2024, "Scaling Rectified Flow Transformers".

Tokens of a text and patches of a noisy image are two streams, with weights of their own and one attention over both
(figure 2). Each stream is modulated as in DiT, by the time and the text as a whole. The last layer makes nothing of the
text. RMS norms of queries and keys are section 5.3.2's.

Sizes and the order of arrays are those of the authors' code. With 24 layers of width 1536, 24 heads, 2x2 patches of 16
channels, tokens of 4096 and texts of 2048 numbers, and no norms of queries and keys, it has 2,028,328,000 parameters
(Stable Diffusion 3 medium; without the fixed position embedding).
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from jaxgen.nn.backbones.dit import FREQUENCIES, SMALL, ZEROS, FinalLayer, check_sizes
from jaxgen.nn.conv import Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import (
    MLP,
    XAVIER,
    attention,
    from_patches,
    layer_norm,
    sin_cos_positions,
    stack_layers,
    to_patches,
)

Array = jax.Array


class MMDiT(nn.Module):
    """(x [b h w c], t f32[b], text [b m d], seen bool[b m], whole [b e]) -> f32[b h w features_out].

    text, whole: features of each token and of the text; seen: the tokens that count. t is embedded without scaling; the
    authors' t is 0 to 1000. Raises InputError for sizes that do not match.
    """

    features_out: int
    patch: int = 2
    width: int = 384
    depth: int = 6
    heads: int = 6
    qk_norm: bool = True

    @nn.compact
    def __call__(self, x: Array, t: Array, text: Array, seen: Array, whole: Array) -> Array:
        check_sizes(x, self.patch, self.width, self.depth, self.heads)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        c = ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="t_embedder")(t)  # [b width]
        y = nn.silu(Dense(self.width, kernel_init=SMALL, name="y_embedder_fc1")(whole))
        c = nn.silu(c + Dense(self.width, kernel_init=SMALL, name="y_embedder_fc2")(y))
        x = Dense(self.width, kernel_init=XAVIER, name="x_embedder")(to_patches(x, self.patch))  # [b n width]
        x = x + jnp.asarray(sin_cos_positions(rows, columns, self.width), x.dtype)[None]
        text = Dense(self.width, name="context_embedder")(text)  # [b m width]
        n = x.shape[1]
        keys = jnp.concatenate([jnp.ones((x.shape[0], n), bool), seen], 1)[:, None]  # [b 1 n+m]
        both = jnp.concatenate([x, text], 1)
        if self.depth > 1:
            both = stack_layers(JointBlock(self.heads, n, self.qk_norm, name="blocks"), self.depth - 1, both, c, keys)
        x = JointBlock(self.heads, n, self.qk_norm, last=True, name="last_block")(both, c, keys)
        x = FinalLayer(self.patch**2 * self.features_out, name="final_layer")(x, c)  # [b n p*p*c]
        return to_f32(from_patches(x, self.patch, rows))


class JointBlock(nn.Module):
    """A DiT block of an image's `count` patches and one of a text's tokens, with one attention over both.

    both [b count+m c] -> same; c [b d]; keys bool[b 1 count+m], the positions that are attended to. The last block
    gives the patches alone, [b count c].
    """

    heads: int
    count: int
    qk_norm: bool = True
    last: bool = False

    @nn.compact
    def __call__(self, both: Array, c: Array, keys: Array | None = None) -> Array:
        width = both.shape[-1]
        streams = {"x": both[:, : self.count], "context": both[:, self.count :]}
        modulated, queries, memories = {}, [], []
        for name, x in streams.items():
            ends = self.last and name == "context"  # it is attended to, and no more
            maps = Dense((2 if ends else 6) * width, kernel_init=ZEROS, name=f"{name}_adaLN_modulation_1")(c)
            modulated[name] = jnp.split(maps[:, None], 2 if ends else 6, -1)  # [b 1 width] each
            shift, scale = modulated[name][:2]
            y = layer_norm(f"{name}_norm1", affine=False)(x) * (1 + scale) + shift
            qkv = Dense(3 * width, kernel_init=XAVIER, name=f"{name}_qkv")(y)
            query, key, value = jnp.split(qkv, 3, -1)
            if self.qk_norm:
                key = self.normed(key, f"{name}_k_norm")
                query = query if ends else self.normed(query, f"{name}_q_norm")  # the last text asks for nothing
            queries.append(query)
            memories.append(jnp.concatenate([key, value], -1))
        mixed = attention(jnp.concatenate(queries, 1), jnp.concatenate(memories, 1), self.heads, keys)
        made = []
        for name, y in (("x", mixed[:, : self.count]), ("context", mixed[:, self.count :])):
            if len(modulated[name]) == 6:
                _, _, gate1, shift2, scale2, gate2 = modulated[name]
                x = streams[name] + gate1 * Dense(width, kernel_init=XAVIER, name=f"{name}_proj")(y)
                y = layer_norm(f"{name}_norm2", affine=False)(x) * (1 + scale2) + shift2
                made.append(x + gate2 * MLP(approximate=True, name=f"{name}_mlp")(y))
        return jnp.concatenate(made, 1)

    def normed(self, x: Array, name: str) -> Array:
        """Return x [b n c] with each head divided by its root mean square, times a learned scale."""
        heads = rearrange(x, "b n (h d) -> b n h d", h=self.heads)
        return rearrange(nn.RMSNorm(1e-6, name=name)(heads), "b n h d -> b n (h d)").astype(x.dtype)
