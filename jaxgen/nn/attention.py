"""Self-attention over the pixels of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgen.core.errors import InputError
from jaxgen.nn.conv import Conv
from jaxgen.nn.pool import max_pool


class PixelAttention(nn.Module):
    """x + gamma W_v softmax(f(x) g(x)^T) h(x), x [b h w c] -> [b h w c]; initially the identity (gamma = 0).

    f (queries) and g (keys) have c / 8 channels, h (values) has c / 2, at least one each. All are 1x1 convolutions
    without a bias; keys and values are max-pooled over 2x2 pixels. Scores are not scaled; their softmax is f32. Raises
    InputError for images below 2x2 pixels. Zhang et al. 2019, "Self-Attention Generative Adversarial Networks",
    equations 1 to 3; the pooling and c / 2 follow the authors' code.
    """

    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        if min(h, w) < 2:
            raise InputError(f"Attention needs at least 2x2 pixels, not {h}x{w}.")

        def conv(features: int, name: str) -> Conv:
            return Conv(max(features, 1), (1, 1), use_bias=False, kernel_init=self.kernel_init, name=name)

        query = conv(c // 8, "query")(x).reshape(b, h * w, -1)  # [b n c/8]
        key = max_pool(conv(c // 8, "key")(x), 2, 2)  # [b h/2 w/2 c/8]
        value = max_pool(conv(c // 2, "value")(x), 2, 2)  # [b h/2 w/2 c/2]
        key, value = (v.reshape(b, (h // 2) * (w // 2), -1) for v in (key, value))  # [b m c/8], [b m c/2]
        scores = jnp.einsum("bnc,bmc->bnm", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores, -1).astype(value.dtype)  # (1)
        mixed = jnp.einsum("bnm,bmc->bnc", weights, value).reshape(b, h, w, -1)  # [b h w c/2]
        out = conv(c, "out")(mixed)  # (2)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        return x + gamma.astype(out.dtype) * out  # (3)
