"""Masked convolutions: each pixel is computed from the pixels before it, of a whole image or pixel by pixel.

Pixels are in the order of reading: row by row, from the left to the right. The channels of a pixel are in their own
order; features belong to the image's channels in equal groups (van den Oord, Kalchbrenner and Kavukcuoglu 2016, "Pixel
Recurrent Neural Networks", section 3.4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.nn.conv import Pair, conv

Array = jax.Array


class Place(NamedTuple):
    """The part of an image that is computed: one pixel, or one row where `column` is None.

    row, column: i32[]; width: pixels of a row
    """

    row: Array
    column: Array | None
    width: int


def causal_mask(
    kernel: Pair, ins: int, outs: int, channels: int = 1, strict: bool = False, rows: bool = False, parts: int = 1
) -> np.ndarray:
    """Return the mask f32[kh kw ins outs] of a kernel: 1 for what is before the pixel in its centre, otherwise 0.

    channels: of the image, in groups of the inputs and of each of the `parts` of the outputs
    strict:   whether a channel of the pixel itself is hidden from the same channel (type A of the paper, or type B)
    rows:     whether the order is that of whole rows: a row sees those above it, and without `strict` itself
    """
    mask, (middle, centre) = np.zeros((*kernel, ins, outs), np.float32), (kernel[0] // 2, kernel[1] // 2)
    mask[:middle] = 1
    if rows:
        mask[middle] = not strict
        return mask
    group = lambda count, size: np.arange(count) % size * channels // size  # noqa: E731
    before, after = group(ins, ins)[:, None], group(outs, outs // parts)[None]
    mask[middle, :centre] = 1
    mask[middle, centre] = before < after if strict else before <= after
    return mask


class MaskedConv(nn.Module):
    """A convolution with `causal_mask` and a bias, x [b h w c] -> [b h w features].

    With a place it computes one pixel, [b 1 1 c] -> [b 1 1 features], or one row, [b 1 w c] -> [b 1 w features]. Then
    the collection "cache" holds its inputs of the last rows, as many as the kernel needs: it must be called for every
    place in order. A strict layer is a net's first one, and takes all that is known of the image, f32[b h w c].
    """

    features: int
    kernel_size: Pair
    channels: int = 1
    strict: bool = False
    rows: bool = False
    parts: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, place: Place | None = None) -> Array:
        (high, wide), d, ins = self.kernel_size, self.dilation, x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (high, wide, ins, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        mask = causal_mask((high, wide), ins, self.features, self.channels, self.strict, self.rows, self.parts)
        kernel, x = kernel * mask.astype(kernel.dtype), x.astype(kernel.dtype)
        # What is below, or in a kernel of one row to the right, is hidden: it is cut off.
        up, left = d * (high // 2), d * (wide // 2)
        right = left if high > 1 else 0
        kernel = kernel[: high // 2 + 1, : (left + right) // d + 1]
        if place is None:
            y = conv(x, kernel, padding=((up, 0), (left, right)), dilation=(d, d))
        else:
            known = self.seen(x, place, up, left, right)  # [b up/d+1 w+left+right c]
            if place.column is None:
                y = conv(known, kernel, padding="VALID", dilation=(1, d))  # [b 1 w f]
            else:
                y = known[:, :, ::d].reshape(len(x), -1) @ kernel.reshape(-1, self.features)  # [b f]
                y = y[:, None, None]
        return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)

    def seen(self, x: Array, place: Place, up: int, left: int, right: int) -> Array:
        """Return what the kernel covers at a place, its rows already apart by the dilation."""
        columns = 0 if place.column is None else place.column
        size = place.width + left + right if place.column is None else left + right + 1
        if self.strict:
            whole = jnp.pad(x, ((0, 0), (up, 0), (left, right), (0, 0)))
            start = (0, place.row, columns, 0)
            return jax.lax.dynamic_slice(whole, start, (len(x), up + 1, size, x.shape[3]))[:, :: self.dilation]
        if up + left + right == 0:
            return x
        shape = (len(x), up + 1, place.width + left + right, x.shape[3])
        cache = self.variable("cache", "inputs", jnp.zeros, shape, x.dtype)
        # Row i is in slot i modulo their number. Slots that are not yet written are the zeros above the image.
        cache.value = jax.lax.dynamic_update_slice(cache.value, x, (0, place.row % (up + 1), left + columns, 0))
        found = jax.lax.dynamic_slice_in_dim(cache.value, columns, size, 2)
        return jnp.take(found, (place.row + 1 + jnp.arange(0, up + 1, self.dilation)) % (up + 1), axis=1)
