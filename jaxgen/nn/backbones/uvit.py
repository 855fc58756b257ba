"""The U-ViT: Bao et al. 2023, "All are Worth Words: A ViT Backbone for Diffusion Models".

Time and label are tokens beside the patches of a noisy image; what leaves a layer of the first half is told again to
its mirror image in the second, by concatenation and a linear map (section 3.1); a 3x3 convolution comes last.

Sizes, initialisation (but that biases start at 0) and names of modules are those of the authors' PyTorch code,
baofff/U-ViT. As there S/2 of 32x32x3 without classes has 44,255,328 parameters, H/2 of 32x32x4 latents with 1000
classes and no last convolution 500,832,016; M/4 of 64x64x3 has 130,941,060, of which 768 are our null label's.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.nn.backbones.dit import FREQUENCIES, SMALL, check_sizes, label_or_null
from jaxgen.nn.conditional import Embed
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.embedding import ScalarEmbedding, sinusoid
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import Layer, from_patches, layer_norm, scan_layers, to_patches

Array = jax.Array
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's for convolutions
EPSILON = 1e-5  # of the norms
SIZES: dict[str, Any] = {  # table 1
    "S": {"width": 512, "depth": 13, "heads": 8},
    "S-deep": {"width": 512, "depth": 17, "heads": 8},
    "M": {"width": 768, "depth": 17, "heads": 12},
    "L": {"width": 1024, "depth": 21, "heads": 16},
    "H": {"width": 1152, "depth": 29, "heads": 16},
}


class UViT(nn.Module):
    """(x [b h w c], t f32[b], label i32[b], second f32[b]) -> f32[b h w features_out], of the size given at init.

    t is embedded as it comes: the authors' runs from 0 to 1000; its sinusoids are its token. Labels are from 0 to
    `classes`, which is the null label, that of all images where `label` is None. `second`, where the net was
    initialised with it, is another number (a step's size, another time), an MLP of which is added to the time's token.
    Raises InputError for sizes that don't fit each other, and for labels where there are no classes.
    """

    features_out: int
    patch: int = 2
    width: int = 512
    depth: int = 13  # layers: two halves and one between
    heads: int = 8
    classes: int = 0
    conv: bool = True  # a 3x3 convolution comes last

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        del train  # nothing is dropped
        check_sizes(x, self.patch, self.width, self.depth, self.heads)
        label = label_or_null(label, self.classes, t)
        if self.depth < 3 or self.depth % 2 == 0:
            raise InputError(f"A U-ViT has an odd number of layers, at least 3, not {self.depth}.")
        rows, half = x.shape[1] // self.patch, self.depth // 2
        x = Dense(self.width, kernel_init=UNIFORM, name="patch_embed")(to_patches(x, self.patch))  # [b n width]
        told = sinusoid(t, self.width).astype(x.dtype)  # [b width]
        if second is not None:
            told = told + ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="second_embedder")(second)
        tokens = [told[:, None], x]
        if self.classes:
            named = Embed(self.classes + 1, self.width, nn.initializers.normal(1.0), name="label_emb")(label)
            tokens = [named[:, None], *tokens]
        x = jnp.concatenate(tokens, 1)  # [b 1+n width], with classes 2+n
        place = self.param("pos_embed", SMALL, (1, *x.shape[1:]))
        x = x + place.astype(x.dtype)
        layer = partial(Layer, self.heads, SMALL, qkv_bias=False, epsilon=EPSILON)
        x, skips = scan_layers(layer(name="in_blocks"), half, x, keep=True)  # skips [half b n width]
        x = layer(name="mid_block")(x)
        x, _ = scan_layers(layer(name="out_blocks"), half, x, each=(skips[::-1],))
        x = layer_norm("norm", EPSILON)(x[:, len(tokens) - 1 :])  # [b n width]
        x = Dense(self.patch**2 * self.features_out, kernel_init=SMALL, name="decoder_pred")(x)
        x = from_patches(x, self.patch, rows)
        if self.conv:
            x = Conv(self.features_out, (3, 3), kernel_init=UNIFORM, name="final_layer")(x)
        return to_f32(x)
