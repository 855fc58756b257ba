"""The U-ViT: Bao et al. 2023, "All are Worth Words: A ViT Backbone for Diffusion Models".

Time and label are tokens beside the patches of a noisy image. A long skip connection joins each layer of the first half
to its mirror layer in the second half, by concatenation and a linear map (section 3.1). A 3x3 convolution comes last.

Sizes, initialisation (except that biases start at 0) and module names are those of the authors' PyTorch code,
baofff/U-ViT. As there, S/2 for 32x32x3 without classes has 44,255,328 parameters, and H/2 for 32x32x4 latents with 1000
classes and no last convolution has 500,832,016; M/4 for 64x64x3 has 130,941,060, of which 768 belong to our null label.
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
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default for convolutions
EPSILON = 1e-5  # of the norms
SIZES: dict[str, Any] = {  # table 1
    "S": {"width": 512, "depth": 13, "heads": 8},
    "S-deep": {"width": 512, "depth": 17, "heads": 8},
    "M": {"width": 768, "depth": 17, "heads": 12},
    "L": {"width": 1024, "depth": 21, "heads": 16},
    "H": {"width": 1152, "depth": 29, "heads": 16},
}


class UViT(nn.Module):
    """(x [b h w c], t f32[b], label i32[b], second f32[b]) -> f32[b h w features_out], for the image size of init.

    t is embedded without scaling, the authors' t is 0 to 1000; its sinusoid is the time token. Labels are 0 ...
    `classes`; `classes` is the null label, which all images get if `label` is None. `second` is a second scalar (a step
    size, another time); an MLP of it is added to the time token; it must also be given at initialisation. Raises
    InputError for sizes that do not match, and for labels without classes.
    """

    features_out: int
    patch: int = 2
    width: int = 512
    depth: int = 13  # layers: two halves and a middle one
    heads: int = 8
    classes: int = 0
    conv: bool = True  # whether a 3x3 convolution comes last

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        del train  # there is no dropout
        check_sizes(x, self.patch, self.width, self.depth, self.heads)
        label = label_or_null(label, self.classes, t)
        if self.depth < 3 or self.depth % 2 == 0:
            raise InputError(f"A U-ViT has an odd number of layers, at least 3, not {self.depth}.")
        rows, half = x.shape[1] // self.patch, self.depth // 2
        x = Dense(self.width, kernel_init=UNIFORM, name="patch_embed")(to_patches(x, self.patch))  # [b n width]
        time = sinusoid(t, self.width).astype(x.dtype)  # [b width]
        if second is not None:
            time = time + ScalarEmbedding(FREQUENCIES, self.width, SMALL, name="second_embedder")(second)
        tokens = [time[:, None], x]
        if self.classes:
            token = Embed(self.classes + 1, self.width, nn.initializers.normal(1.0), name="label_emb")(label)
            tokens = [token[:, None], *tokens]
        x = jnp.concatenate(tokens, 1)  # [b 1+n width], with classes 2+n
        positions = self.param("pos_embed", SMALL, (1, *x.shape[1:]))
        x = x + positions.astype(x.dtype)
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
