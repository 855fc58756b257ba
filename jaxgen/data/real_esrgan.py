"""The second-order degradation of Real-ESRGAN (Wang et al. 2021, section 3), with the constants of its configuration for x4.

Every image is resized twice by its own random factor. A compiled program cannot have varying sizes, so each image lies
in the first rows and columns of a canvas of the largest size. The rest of the canvas holds its last row and column (the
padding of JPEG) or its mirror image (the padding of blur), which gives the same values as images of the exact size. A
resizing is two products with matrices computed from the random sizes. Two differences from the published code: the
mirror axis is the edge of an image, not the middle of its last pixels; and JPEG rounds as libjpeg does.
"""  # noqa: E501

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.blur import (
    crop_kernels,
    filter_images,
    gaussian_kernels,
    identity_kernel,
    plateau_kernels,
    sinc_kernels,
)
from jaxgen.data.degradation_ops import (
    Key,
    broadcast_like,
    fold_keys,
    gaussian_noise,
    jpeg,
    photon_levels,
    poisson_noise,
    uniform,
)
from jaxgen.nn.colour import eight_bit

Array = jax.Array
Span = tuple[float, float]

SIDE = 21  # largest side of a kernel; sides are odd, from 7 to 21
KINDS = {  # probability of each kind; anisotropic kernels have two widths, generalised and plateau ones an exponent
    "iso": 0.45,
    "aniso": 0.25,
    "generalized_iso": 0.12,
    "generalized_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}
MODES = "area", "bilinear", "bicubic"  # of resizing, with equal probabilities
GREY_NOISE = 0.4  # probability that noise is equal in all channels
GAUSSIAN = 0.5  # probability that noise is Gaussian; else it is Poisson
SINC, LAST_SINC = 0.1, 0.8  # probabilities of an ideal low-pass filter as blur, and of one at the end
JPEG = 30.0, 95.0
GENERALIZED, PLATEAU = (0.5, 4.0), (1.0, 2.0)  # exponents, with equal probability below and above 1


class Stage(NamedTuple):
    """One of the two passes: blur, resize, noise, JPEG."""

    blurred: float  # probability
    sigma: Span  # of the blur, in pixels
    resize: tuple[float, float, float]  # probabilities of enlarging, shrinking, keeping the size
    factor: Span  # smallest and largest
    noise: Span  # sigma of Gaussian noise, on a scale of 255
    poisson: Span


FIRST = Stage(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3))
SECOND = Stage(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5))


def real_esrgan(x: Array, keys: Key, scale: float) -> Array:
    """Return x [b h w c] degraded and downsampled, [b ceil(h/scale) ceil(w/scale) c], quantised to 8 bits.

    The published training also sharpens the clean image first; the caller must do that.
    """
    _, h, w, _ = x.shape
    one, two, last = (fold_keys(keys, name) for name in ("first", "second", "last"))
    x = filter_images(x, blur_kernels(fold_keys(one, "blur"), FIRST))
    by = resize_factors(fold_keys(one, "factor"), FIRST)
    full = [jnp.full(len(x), n) for n in (h, w)]
    size = [jnp.maximum(jnp.floor(n * by), 1).astype(int) for n in (h, w)]
    canvas = math.ceil(h * FIRST.factor[1]), math.ceil(w * FIRST.factor[1])
    x = resize_each(x, full, size, canvas, fold_keys(one, "mode"), 1 / by)
    x = compress(add_noise(x, fold_keys(one, "noise"), FIRST), fold_keys(one, "jpeg"), size)

    kernels = blur_kernels(fold_keys(two, "blur"), SECOND)
    x = filter_images(extend(x, size, tuple(n + SIDE // 2 for n in canvas), "mirror"), kernels)[
        :, : canvas[0], : canvas[1]
    ]
    by = resize_factors(fold_keys(two, "factor"), SECOND)
    small = [jnp.maximum(jnp.floor(n / scale * by), 1).astype(int) for n in (h, w)]
    canvas = math.ceil(h / scale * SECOND.factor[1]), math.ceil(w / scale * SECOND.factor[1])
    x = resize_each(x, size, small, canvas, fold_keys(two, "mode"))
    x = add_noise(x, fold_keys(two, "noise"), SECOND)

    # Half of the images are compressed before the last resizing and low-pass filter, the other half after.
    early = uniform(fold_keys(last, "order"), 0, 1) < 0.5
    x = jnp.where(broadcast_like(early, x), compress(x, fold_keys(two, "jpeg"), small), x)
    end = math.ceil(h / scale), math.ceil(w / scale)
    size = [jnp.full(len(x), n) for n in end]
    x = filter_images(resize_each(x, small, size, end, fold_keys(last, "mode")), last_kernels(fold_keys(last, "sinc")))
    x = jnp.where(broadcast_like(early, x), x, compress(x, fold_keys(two, "jpeg"), size))
    return eight_bit(x)


def random_choice(keys: Key, odds: tuple[float, ...]) -> Array:
    """Return random indices i32[b] with the given relative probabilities."""
    bounds = jnp.asarray(np.cumsum(odds)[None, :-1] / sum(odds), jnp.float32)
    return (uniform(keys, 0, 1)[:, None] >= bounds).sum(1)


def interpolate(u: Array, span: Span) -> Array:
    """Return the linear interpolation in a span at u in [0, 1]."""
    return span[0] + u * (span[1] - span[0])


# ---------------------------------------------------------------- blur


def blur_kernels(keys: Key, stage: Stage) -> Array:
    """Return random kernels f32[b k k] of all kinds; the identity for images without blur."""
    which = uniform(fold_keys(keys, "which"), 0, 1, (3,))
    kind = random_choice(fold_keys(keys, "kind"), tuple(KINDS.values()))
    u = uniform(fold_keys(keys, "shape"), 0, 1, (6,))
    along = interpolate(u[:, 0], stage.sigma)
    across = jnp.where(kind % 2 == 0, along, interpolate(u[:, 1], stage.sigma))
    angle = interpolate(u[:, 2], (-math.pi, math.pi))
    generalized, plateau = (
        jnp.where(which[:, 0] < 0.5, interpolate(u[:, 3], (low, 1)), interpolate(u[:, 3], (1, high)))
        for low, high in (GENERALIZED, PLATEAU)
    )
    gaussian = gaussian_kernels(along, across, angle, jnp.where(kind < 2, 1.0, generalized), SIDE)
    kernels = jnp.where(
        broadcast_like(kind < 4, gaussian), gaussian, plateau_kernels(along, across, angle, plateau, SIDE)
    )
    side = sides(keys)
    low = jnp.where(side < 13, math.pi / 3, math.pi / 5)
    ideal = sinc_kernels(low + u[:, 4] * (math.pi - low), SIDE)
    kernels = crop_kernels(jnp.where(broadcast_like(which[:, 1] < SINC, ideal), ideal, kernels), side)
    return jnp.where(
        broadcast_like(which[:, 2] < stage.blurred, kernels), kernels, broadcast_like(identity_kernel(SIDE), kernels)
    )


def last_kernels(keys: Key) -> Array:
    """Return the last kernels f32[b k k]: ideal low-pass filters, or the identity."""
    kernels = crop_kernels(sinc_kernels(uniform(fold_keys(keys, "cutoff"), math.pi / 3, math.pi), SIDE), sides(keys))
    there = uniform(fold_keys(keys, "there"), 0, 1) < LAST_SINC
    return jnp.where(broadcast_like(there, kernels), kernels, broadcast_like(identity_kernel(SIDE), kernels))


def sides(keys: Key) -> Array:
    """Return random sides of kernels i32[b], 7, 9 ... 21, with equal probabilities."""
    return 7 + 2 * random_choice(fold_keys(keys, "side"), (1,) * 8)


# ---------------------------------------------------------------- noise and JPEG


def add_noise(x: Array, keys: Key, stage: Stage) -> Array:
    """Return x with Gaussian or Poisson noise, clipped."""
    which, strength = uniform(fold_keys(keys, "which"), 0, 1, (2,)), uniform(fold_keys(keys, "strength"), 0, 1)
    grey = which[:, 0] < GREY_NOISE
    # Both noises use the same uniform numbers; the choice between them does not depend on these.
    gaussian = gaussian_noise(x, interpolate(strength, stage.noise), keys, grey)
    photons = poisson_noise(x, interpolate(strength, stage.poisson), keys, grey, white_photons(x, grey))
    return jnp.clip(jnp.where(broadcast_like(which[:, 1] < GAUSSIAN, x), gaussian, photons), -1, 1)


def white_photons(x: Array, grey: Array) -> Array:
    """Return the number of photons of white, f32[b]: the next power of two of the number of levels of an image."""
    levels = photon_levels(x, grey).astype(int).reshape(len(x), -1)
    there = jax.vmap(lambda level: jnp.zeros(256).at[level].set(1))(levels)
    return 2 ** jnp.ceil(jnp.log2(there.sum(1)))


def compress(x: Array, keys: Key, size: list[Array]) -> Array:
    """Return x after JPEG, padded from the border of each image."""
    return jpeg(extend(x, size, x.shape[1:3], "edge"), uniform(keys, *JPEG))


# ---------------------------------------------------------------- resizing


def resize_factors(keys: Key, stage: Stage) -> Array:
    """Return random factors of resizing, f32[b]."""
    u, (low, high) = uniform(fold_keys(keys, "by"), 0, 1), stage.factor
    which = random_choice(fold_keys(keys, "way"), stage.resize)
    return jnp.select([which == 0, which == 1], [interpolate(u, (1, high)), interpolate(u, (low, 1))], 1.0)


def resize_each(
    x: Array, old: list[Array], new: list[Array], canvas: tuple[int, ...], keys: Key, step: Array | None = None
) -> Array:
    """Resize images of sizes `old`, in the first rows and columns of x [b H W c], to sizes `new` on another canvas.

    Beyond an image, its last row and column are repeated. step: distance of new pixels in old pixels.
    """
    mode = random_choice(keys, (1,) * len(MODES))
    rows, columns = (
        resize_weights(a, b, n, m, mode, a / b if step is None else step)
        for a, b, n, m in zip(old, new, x.shape[1:3], canvas, strict=True)
    )
    y = jnp.einsum("bhwc,bHh->bHwc", x, rows, precision="highest")
    return jnp.einsum("bhwc,bWw->bhWc", y, columns, precision="highest")


def resize_weights(old: Array, new: Array, n: int, m: int, mode: Array, step: Array) -> Array:
    """Return resizing weights f32[b m n] from the first `old` i32[b] of n pixels to the first `new` i32[b] of m.

    As PyTorch's interpolate: no antialiasing, cubic kernel with a = -3/4, repeated borders; "area" is the mean of all
    pixels that a new pixel touches.
    """
    old, new, mode, step = (a.reshape(-1, 1, 1) for a in (old, new, mode, step))  # [b 1 1]
    i, j = np.arange(m).reshape(1, -1, 1), np.arange(n).reshape(1, 1, -1)
    i, j = jnp.minimum(jnp.asarray(i), new - 1), jnp.asarray(j)
    touched = (j >= i * old // new) & (j * new < (i + 1) * old)  # [b m n]
    place = (i + 0.5) * step - 0.5  # [b m 1]
    linear = jnp.maximum(1 - jnp.abs(jnp.clip(place, 0, old - 1) - j), 0)
    linear = jnp.where(j < old, linear, 0)
    first = jnp.floor(place)
    cubic = jnp.zeros_like(linear)
    for tap in (-1, 0, 1, 2):
        hit = jnp.clip(first + tap, 0, old - 1) == j
        cubic += jnp.where(hit, _cubic(place - first - tap), 0)
    w = jnp.where(mode == 0, touched.astype(jnp.float32), jnp.where(mode == 1, linear, cubic))
    return w / w.sum(-1, keepdims=True)


def _cubic(t: Array) -> Array:
    """Return the cubic kernel of Keys with a = -3/4."""
    t = jnp.abs(t)
    near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
    return jnp.where(t <= 1, near, far)


def extend(x: Array, size: list[Array], canvas: tuple[int, ...], how: str) -> Array:
    """Pad images of sizes i32[b], in the first rows and columns of x [b H W c], to a canvas by "edge" or "mirror"."""
    places = []
    for n, m in zip(size, canvas, strict=True):
        i, n = jnp.broadcast_to(jnp.arange(m)[None], (len(n), m)), jnp.broadcast_to(n[:, None], (len(n), m))
        turned = i % (2 * n)
        places.append(jnp.minimum(i, n - 1) if how == "edge" else jnp.minimum(turned, 2 * n - 1 - turned))
    return jax.vmap(lambda x, rows, columns: x[rows][:, columns])(x, *places)
