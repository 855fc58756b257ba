"""The diffusion transformer, DiT: Peebles and Xie 2023, "Scalable Diffusion Models with Transformers".

A transformer over patches of a noisy image. Every layer is conditioned on time and label by adaLN-zero (section 3.2):
linear maps of their embedding shift and scale the inputs of attention and MLP, and gate their outputs. Gates and the
last layer are initialised with 0: an initial layer is the identity, the initial output is 0. SiT (Ma et al. 2024) is
the same network with another loss.

Sizes, initialisation and module names (except the layers of the time MLPs) are those of the authors' PyTorch code,
facebookresearch/DiT. With 2x2 patches of 32x32x4 latents, 8 channels out and 1000 classes S, B, L and XL have
32,865,056, 130,315,808, 457,840,672 and 674,834,720 parameters (without the fixed position embedding).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError, at_least
from jaxgen.nn.conditional import Embed
from jaxgen.nn.conv import Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import (
    MLP,
    XAVIER,
    Attention,
    from_patches,
    layer_norm,
    sin_cos_positions,
    stack_layers,
    to_patches,
)

Array = jax.Array
SMALL = nn.initializers.normal(0.02)
ZEROS = nn.initializers.zeros
FREQUENCIES = 256  # length of the sinusoid of a scalar
SIZES: dict[str, Any] = {  # table 1
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


class DiT(nn.Module):
    """(x [b h w c], t f32[b], label i32[b], second f32[b]) -> f32[b h w features_out]; images of any shape.

    t is embedded without scaling; the authors' t is 0 to 1000. Labels are 0 ... `classes`; `classes` is the null label,
    which all images get if `label` is None. `second` is a second scalar (a step size, another time), embedded like t;
    it must also be given at initialisation. Raises InputError for sizes that do not match, and for labels without
    classes.
    """

    features_out: int
    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    classes: int = 0

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        del train  # there is no dropout
        check_sizes(x, self.patch, self.width, self.depth, self.heads)
        label = label_or_null(label, self.classes, t)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        c = ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="t_embedder")(t)  # [b width]
        if second is not None:
            c = c + ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="second_embedder")(second)
        if self.classes:
            c = c + Embed(self.classes + 1, self.width, SMALL, name="y_embedder")(label)
        c = nn.silu(c)
        x = Dense(self.width, kernel_init=XAVIER, name="x_embedder")(to_patches(x, self.patch))  # [b n width]
        x = x + jnp.asarray(sin_cos_positions(rows, columns, self.width), x.dtype)[None]
        x = stack_layers(Block(self.heads, name="blocks"), self.depth, x, c)
        x = FinalLayer(self.patch**2 * self.features_out, name="final_layer")(x, c)  # [b n p*p*c]
        return to_f32(from_patches(x, self.patch, rows))


class Block(nn.Module):
    """x <- x + gate attention(m(x)), then x <- x + gate mlp(m(x)), m(x) = norm(x) (1 + scale) + shift; [b n c] -> same.

    Shifts, scales and gates are linear maps of c [b d]. Figure 3, "DiT Block with adaLN-Zero".
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array, c: Array) -> Array:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulations(6, x.shape[-1], c)
        y = layer_norm("norm1", affine=False)(x) * (1 + scale1) + shift1
        x = x + gate1 * Attention(self.heads, name="attn")(y)
        y = layer_norm("norm2", affine=False)(x) * (1 + scale2) + shift2
        return x + gate2 * MLP(approximate=True, name="mlp")(y)


class FinalLayer(nn.Module):
    """W (norm(x) (1 + scale) + shift), x [b n width] -> [b n features]; shift and scale are linear maps of c [b d]."""

    features: int

    @nn.compact
    def __call__(self, x: Array, c: Array) -> Array:
        shift, scale = modulations(2, x.shape[-1], c)
        x = layer_norm("norm_final", affine=False)(x) * (1 + scale) + shift
        return Dense(self.features, kernel_init=ZEROS, name="linear")(x)


def modulations(count: int, width: int, c: Array) -> list[Array]:
    """Return `count` linear maps of c [b d], each [b 1 width], initialised with 0; to be called within a module."""
    found = Dense(count * width, kernel_init=ZEROS, name="adaLN_modulation_1")(c)
    return jnp.split(found[:, None], count, -1)


def label_or_null(label: Array | None, classes: int, t: Array) -> Array:
    """Return labels i32[b], or the null label if `label` is None. Raises InputError for labels without classes."""
    if label is not None and not classes:
        raise InputError("This transformer takes no labels: its `classes` is 0.")
    return jnp.full(t.shape, classes) if label is None else label


def check_sizes(x: Array, patch: int, width: int, depth: int, heads: int):
    """Raise InputError if patches do not tile images x [b h w c], or the heads do not divide the width."""
    at_least(1, patch=patch, width=width, depth=depth, heads=heads)
    if x.shape[1] % patch or x.shape[2] % patch:
        raise InputError(f"Patches of {patch}x{patch} don't tile a {x.shape[1]}x{x.shape[2]} image.")
    if width % 4 or width % heads:
        raise InputError(f"A transformer's width must be a multiple of 4 and of its {heads} heads, not {width}.")
