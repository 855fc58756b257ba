"""Latte's transformer: Ma et al. 2024, "Latte: Latent Diffusion Transformer for Video Generation", section 3.

Blocks of DiT see the tokens of a frame and the frames of a token in turn (variant 1). Sizes and initial values are
those of the authors' code.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.types import Array
from jaxgen.nn.backbones.dit import FREQUENCIES, SMALL, Block, FinalLayer, check_sizes, label_or_null
from jaxgen.nn.conditional import Embed
from jaxgen.nn.conv import Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import XAVIER, from_patches, scan_layers, sin_cos_positions, to_patches


class Latte(nn.Module):
    """x f32[b t h w c], times f32[b], labels i32[b] -> f32[b t h w features_out].

    As DiT (nn/backbones/dit.py), with half of the `depth` blocks over space and half over time.
    """

    features_out: int
    patch: int
    width: int
    depth: int
    heads: int
    classes: int = 0

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        del train  # there is no dropout
        check_sizes(x[:, 0], self.patch, self.width, self.depth, self.heads)
        if self.depth % 2:
            raise InputError(f"A Latte has as many blocks over time as over space: an even depth, not {self.depth}.")
        label = label_or_null(label, self.classes, t)
        frames, rows, columns = x.shape[1], x.shape[2] // self.patch, x.shape[3] // self.patch
        c = ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="t_embedder")(t)  # [b width]
        if second is not None:
            c = c + ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="second_embedder")(second)
        if self.classes:
            c = c + Embed(self.classes + 1, self.width, SMALL, name="y_embedder")(label)
        c = nn.silu(c)
        patches = to_patches(x.reshape(-1, *x.shape[2:]), self.patch)  # [b*t n p*p*c]
        y = Dense(self.width, kernel_init=XAVIER, name="x_embedder")(patches)
        y = y + jnp.asarray(sin_cos_positions(rows, columns, self.width), y.dtype)[None]
        first = (jnp.arange(self.depth // 2) == 0).astype(y.dtype)  # only the first pair adds the position in time
        y, _ = scan_layers(Pair(self.heads, frames, name="blocks"), self.depth // 2, y, (first,), (c,))
        y = FinalLayer(self.patch**2 * self.features_out, name="final_layer")(y, jnp.repeat(c, frames, 0))
        y = from_patches(y, self.patch, rows)  # [b*t h w c]
        return to_f32(y.reshape(*x.shape[:-1], -1))


class Pair(nn.Module):
    """A block over space and a block over time, x [b*t n width] and c [b width] -> x.

    added: [], 1 where the position in time is added between the two, 0 elsewhere
    """

    heads: int
    frames: int

    @nn.compact
    def __call__(self, x: Array, added: Array, c: Array) -> Array:
        t, n = self.frames, x.shape[1]
        x = Block(self.heads, name="space")(x, jnp.repeat(c, t, 0))
        x = rearrange(x, "(b t) n c -> (b n) t c", t=t)
        x = x + added * jnp.asarray(time_positions(t, x.shape[-1]), x.dtype)[None]
        x = Block(self.heads, name="time")(x, jnp.repeat(c, n, 0))
        return rearrange(x, "(b n) t c -> (b t) n c", n=n)


def time_positions(frames: int, width: int) -> np.ndarray:
    """Return the fixed embedding of the frames, f32[frames width]: sines, then cosines, of t / 10000^(2 i / width)."""
    angles = np.arange(frames)[:, None] * 10000.0 ** -(np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
