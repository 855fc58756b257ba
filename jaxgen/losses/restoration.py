"""Losses between restored and clean images, per example: f32[b h w c] twice -> f32[b]."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jaxgen.core.types import Array


def l1(made: Array, clean: Array) -> Array:
    """Return mean |made - clean|."""
    return jnp.abs(made - clean).mean(range(1, clean.ndim))


def l2(made: Array, clean: Array) -> Array:
    """Return mean (made - clean)^2."""
    return jnp.square(made - clean).mean(range(1, clean.ndim))


def charbonnier(made: Array, clean: Array, epsilon: float = 1e-3) -> Array:
    """Return mean sqrt((made - clean)^2 + epsilon^2). Lai et al. 2017, section 3.2 (LapSRN)."""
    return jnp.sqrt(jnp.square(made - clean) + epsilon**2).mean(range(1, clean.ndim))


def negative_psnr(made: Array, clean: Array) -> Array:
    """Return the negative peak signal-to-noise ratio, 10 lg(mean (made - clean)^2 / 4 + 1e-8), of images in [-1, 1].

    Chen et al. 2022 (NAFNet's code): the constant keeps the logarithm finite for equal images.
    """
    return 10 * jnp.log10(l2(made, clean) / 4 + 1e-8)


def frequency(made: Array, clean: Array) -> Array:
    """Return mean |F(made - clean)| over real and imaginary parts of the two-dimensional Fourier transform.

    The transform is not normalised, as in MIMO-UNet's code (Cho et al. 2021, equation 9, with lambda = 0.1).
    """
    f = jnp.fft.rfft2(made - clean, axes=(1, 2))
    return (jnp.abs(f.real) + jnp.abs(f.imag)).mean(range(1, clean.ndim)) / 2


def laplacian(made: Array, clean: Array, levels: int = 5) -> Array:
    """Return the sum over the levels of a Laplacian pyramid of mean |made - clean|, of [b h w c] with even sides.

    Bojanowski et al. 2018 (GLO), without weights, as in RIFE's code: Burt and Adelson's filter, edges mirrored.
    """
    x, total = made - clean, jnp.zeros(len(clean))  # the pyramid is linear
    for _ in range(levels):
        down = _smoothed(x)[:, ::2, ::2]  # [b h/2 w/2 c]
        zeros = jnp.zeros_like(down)
        wide = jnp.stack([down, zeros], 3).reshape(*down.shape[:2], x.shape[2], x.shape[3])
        up = jnp.stack([wide, jnp.zeros_like(wide)], 2).reshape(x.shape)
        total = total + jnp.abs(x - 4 * _smoothed(up)).mean((1, 2, 3))
        x = down
    return total


def _smoothed(x: Array) -> Array:
    """Return x [b h w c] filtered by the binomial kernel of 5x5."""
    for axis in (1, 2):
        size = x.shape[axis]
        padded = jnp.pad(x, [(2, 2) if i == axis else (0, 0) for i in range(4)], mode="reflect")
        taps = (lax.slice_in_dim(padded, k, k + size, axis=axis) * (w / 16) for k, w in enumerate((1, 4, 6, 4, 1)))
        x = sum(taps, jnp.zeros_like(x))
    return x


def total_variation(x: Array) -> Array:
    """Return the anisotropic total variation per pixel: the sum of |x[i + 1] - x[i]| along both axes / size."""
    down, across = jnp.abs(x[:, 1:] - x[:, :-1]), jnp.abs(x[:, :, 1:] - x[:, :, :-1])
    return (down.sum((1, 2, 3)) + across.sum((1, 2, 3))) / x[0].size


PIXEL_LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "psnr": negative_psnr,
}
