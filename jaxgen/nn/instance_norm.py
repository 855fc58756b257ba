"""Instance normalisation: each image is normalised with its own statistics."""

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array


def standardise(x: Array, axes: tuple[int, ...] = (1, 2), epsilon: float = 1e-5) -> Array:
    """Return (x - mean) / sqrt(var + epsilon) of x [b h w c] over axes; statistics are f32, the result in x's dtype."""
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = y - y.mean(axes, keepdims=True)
    return (y * jax.lax.rsqrt((y * y).mean(axes, keepdims=True) + epsilon)).astype(x.dtype)


class InstanceNorm(nn.Module):
    """Normalise each channel of each image of x [b h w c] to mean 0 and variance 1; then * scale + bias if `affine`.

    Ulyanov, Vedaldi and Lempitsky 2016, equation 4. With `affine` it equals batch norm of a single image; the scale
    is initialised from N(1, 0.02), as in the authors' code of pix2pix.
    """

    affine: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = standardise(x, epsilon=self.epsilon)
        if not self.affine:
            return y
        shape = (x.shape[-1],)
        scale = self.param("scale", lambda *args: 1 + nn.initializers.normal(0.02)(*args), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        scale, bias = (jnp.broadcast_to(v.astype(x.dtype), x.shape) for v in (scale, bias))
        return y * scale + bias
