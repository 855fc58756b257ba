"""Style as statistics of feature maps: AdaIN, whitening and colouring, conditional instance norm. x is [b h w c]."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.precision import to_f32

Array = jax.Array


class Moments(NamedTuple):
    """Mean and standard deviation of each channel of a feature map, f32[b 1 1 c] each."""

    mean: Array
    std: Array


class MeanCovariance(NamedTuple):
    """Mean f32[b 1 1 c] and covariance f32[b c c] of the channels over the positions of a feature map."""

    mean: Array
    covariance: Array


def mean(x: Array, share: Array | None = None) -> Array:
    """Return the mean of each map, f32[b 1 1 c]; share f32[b h w 1] are the weights of the positions, of sum 1."""
    if share is None:
        return x.mean((1, 2), keepdims=True)
    return (x * jnp.broadcast_to(share, x.shape)).sum((1, 2), keepdims=True)


def moments(x: Array, epsilon: float = 1e-5, share: Array | None = None) -> Moments:
    """Return mean and sqrt(variance + epsilon) of each map; `share` as in `mean`.

    Huang and Belongie 2017, equations 5 and 6.
    """
    x = to_f32(x)
    middle = mean(x, share)
    variance = mean(jnp.square(x - jnp.broadcast_to(middle, x.shape)), share)
    return Moments(middle, jnp.sqrt(variance + epsilon))


def adain(x: Array, style: Moments, own: Moments | None = None) -> Array:
    """Return sigma(s) (x - mu(x)) / sigma(x) + mu(s). Huang and Belongie 2017, equation 8.

    own: the moments of x; give those of the whole map if x is only a part of it
    """
    own = moments(x) if own is None else own
    factor = style.std / own.std
    return to_f32(x) * jnp.broadcast_to(factor, x.shape) + jnp.broadcast_to(style.mean - factor * own.mean, x.shape)


def mean_covariance(x: Array, share: Array | None = None) -> MeanCovariance:
    """Return mean and covariance, (1 / h w) sum (x - mean)(x - mean)^T; `share` as in `mean`."""
    x = to_f32(x)
    middle = mean(x, share)
    f = x - jnp.broadcast_to(middle, x.shape)
    weighed = f / (x.shape[1] * x.shape[2]) if share is None else f * jnp.broadcast_to(share, f.shape)
    return MeanCovariance(middle, jnp.einsum("bhwi,bhwj->bij", weighed, f, precision="highest"))


def matrix_power(covariance: Array, exponent: float, tolerance: float = 1e-6) -> Array:
    """Return a power of a symmetric matrix [... c c], restricted to eigenvalues above `tolerance` times the largest.

    Smaller eigenvalues are dominated by the rounding of f32, an eighth of that, and contribute 0; Li et al. 2017 also
    drop small singular values.
    """
    values, vectors = jnp.linalg.eigh(covariance)  # [... c], [... c c]
    kept = values > tolerance * values[..., -1:]
    scaled = jnp.where(kept, jnp.power(jnp.where(kept, values, 1), exponent), 0)
    return jnp.einsum("...ik,...k,...jk->...ij", vectors, scaled, vectors, precision="highest")


def whiten(x: Array, whole: Array | None = None, share: Array | None = None) -> Array:
    """Return x whitened to mean 0 and unit covariance, C^(-1/2) (x - mean). Li et al. 2017, equation 1.

    It is applied twice: in f32 the small eigenvalues of C have errors of some hundredths; after the first pass C is
    nearly the identity, and the errors are gone.

    whole: the map that x is a part of
    share: weights of the positions of `whole`, f32[b h w 1] of sum 1; None: equal weights
    """
    x = to_f32(x)
    whole = x if whole is None else to_f32(whole)
    for _ in range(2):
        own = mean_covariance(whole, share)
        root = matrix_power(own.covariance, -0.5)
        x, whole = (
            jnp.einsum("bij,bhwj->bhwi", root, f - jnp.broadcast_to(own.mean, f.shape), precision="highest")
            for f in (x, whole)
        )
    return x


def colour(white: Array, style: MeanCovariance) -> Array:
    """Return whitened features with the covariance and mean of a style. Li et al. 2017, equation 2."""
    y = jnp.einsum("bij,bhwj->bhwi", matrix_power(style.covariance, 0.5), white, precision="highest")
    return y + jnp.broadcast_to(style.mean, y.shape)


class StyleNorm(nn.Module):
    """Conditional instance norm of x [b h w c], (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Each style has its own scale and bias; mix f32[b styles] are the weights of the styles, None if there is one.
    Ulyanov et al. 2016; Dumoulin et al. 2017, equation 5. Statistics are f32, the result has x's dtype. With a mutable
    collection "whole" the module stores its statistics there; with a given collection "whole" it uses the stored ones
    instead of x's: the statistics of a whole image, for a tile of it (Chen et al. 2022, "Towards Ultra-Resolution
    Neural Style Transfer via Thumbnail Instance Normalization").
    """

    styles: int = 1
    epsilon: float = 1e-3
    start: float = 1.0  # initial value of the scales

    @nn.compact
    def __call__(self, x: Array, mix: Array | None = None) -> Array:
        c = x.shape[-1]
        shape = (c,) if self.styles == 1 else (self.styles, c)
        scale = self.param("scale", nn.initializers.constant(self.start), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        if self.styles > 1:
            assert mix is not None
            scale, bias = (jnp.matmul(mix, v, precision="highest")[:, None, None] for v in (scale, bias))  # [b 1 1 c]
        else:
            scale, bias = scale[None, None, None], bias[None, None, None]
        if self.has_variable("whole", "mean"):
            own = Moments(self.get_variable("whole", "mean"), self.get_variable("whole", "std"))
        else:
            own = moments(x, self.epsilon)
            if self.is_mutable_collection("whole") and not self.is_initializing():
                self.put_variable("whole", "mean", own.mean)
                self.put_variable("whole", "std", own.std)
        factor = scale / own.std
        y = to_f32(x) * jnp.broadcast_to(factor, x.shape) + jnp.broadcast_to(bias - factor * own.mean, x.shape)
        return y.astype(x.dtype)
