"""Single degradations except blur: noise, JPEG, haze, low light, greyscale. Pure functions that can be jitted.

x f32[b h w c] in [-1, 1], of 1 or 3 channels; keys Key[b], one per image: its degradation depends on its key alone;
strengths are f32[b], one per image. Results are not clipped unless stated.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.nn.resample import resize

Array = jax.Array
Key = jax.Array
Size = tuple[int, int]  # height, width

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B: ITU-R BT.601, as in JPEG and in Pillow's "L"


def fold_keys(keys: Key, name: str) -> Key:
    """Return the child key `name` of each of Key[b]."""
    return jax.vmap(lambda key: rng.fold(key, name))(keys)


def uniform(keys: Key, low: float, high: float, shape: tuple[int, ...] = ()) -> Array:
    """Return uniform random numbers in [low, high), f32[b *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, low, high))(keys)


def broadcast_like(a: Array, x: Array) -> Array:
    """Return a, f32[b] or f32[b ...] with sides that broadcast, in the shape of x [b ...]."""
    return jnp.broadcast_to(a.reshape(a.shape + (1,) * (x.ndim - a.ndim)), x.shape)


def luma(x: Array) -> Array:
    """Return the luma [b h w 1] of R, G, B [b h w 3]; a single channel is returned unchanged."""
    if x.shape[-1] == 1:
        return x
    return jnp.einsum("bhwc,c->bhw", x, jnp.asarray(LUMA), precision="highest")[..., None]


# ---------------------------------------------------------------- noise


def open_uniform(keys: Key, shape: tuple[int, ...], grey: Array | None = None) -> Array:
    """Return uniform numbers in (0, 1), f32[b *shape]; images with grey bool[b] share them between channels."""
    u = jnp.maximum(uniform(keys, 0, 1, shape), 2.0**-24)
    return u if grey is None else jnp.where(broadcast_like(grey, u), broadcast_like(u[..., :1], u), u)


def normal_quantile(u: Array) -> Array:
    """Return the quantile function of N(0, 1) at u."""
    return math.sqrt(2) * jax.scipy.special.erfinv(2 * u - 1)


def gaussian_noise(x: Array, sigma: Array, keys: Key, grey: Array | None = None) -> Array:
    """Return x + N(0, sigma^2), sigma on a scale of 255; images with grey bool[b] have equal noise in all channels."""
    u = open_uniform(fold_keys(keys, "noise"), x.shape[1:], grey)
    return x + broadcast_like(sigma / 127.5, x) * normal_quantile(u)


def poisson_quantile(u: Array, rate: Array) -> Array:
    """Return the quantile function of the Poisson distribution at u, of the shape of rate.

    For rates below 4 it sums the probabilities. Above, the Cornish-Fisher expansion is wrong by one photon in at most
    0.5 % of the draws. On a CPU jax.random.poisson is far slower.
    """
    low = jnp.minimum(rate, 4.0)

    def count(state: tuple[Array, Array, Array], weight: Array):
        few, p, total = state
        few, p = few + jnp.where(u > total, 1.0, 0.0), p * low * weight
        return (few, p, total + p), None

    p = jnp.exp(-low)
    weights = jnp.asarray(1 / np.arange(1.0, 19), jnp.float32)
    # Full unrolling is 8 times slower.
    (few, _, _), _ = jax.lax.scan(count, (jnp.zeros_like(u), p, p), weights, unroll=3)
    z, rate = normal_quantile(u), jnp.maximum(rate, 4.0)
    many = rate + jnp.sqrt(rate - 1 / 12) * z + (z * z - 1) / 6 + (z - z * z * z) / (72 * jnp.sqrt(rate))
    return jnp.where(rate > 4.0, jnp.floor(jnp.maximum(many, 0) + 0.5), few)


def photon_levels(x: Array, grey: Array | None = None) -> Array:
    """Return the integer levels 0 ... 255 of x; of its luma for images with grey bool[b]."""
    values = x if grey is None else jnp.where(broadcast_like(grey, x), broadcast_like(luma(x), x), x)
    return jnp.round((jnp.clip(values, -1, 1) + 1) * 127.5)


def poisson_noise(x: Array, scale: Array, keys: Key, grey: Array | None = None, white: Array | None = None) -> Array:
    """Return x plus `scale` times Poisson noise; white f32[b] is the number of photons of white, 255 by default.

    The variance is scale^2 v / white for v in [0, 1]. Images with grey bool[b] have the noise of their luma in all
    channels.
    """
    u = open_uniform(fold_keys(keys, "noise"), x.shape[1:], grey)
    value = photon_levels(x, grey) / 255
    photons = jnp.full_like(x, 255.0) if white is None else broadcast_like(white, x)
    return x + 2 * broadcast_like(scale, x) * (poisson_quantile(u, value * photons) / photons - value)


def camera_noise(x: Array, shot: Array, read: Array, keys: Key, grey: Array | None = None) -> Array:
    """Return x + N(0, shot v + read), v = (x + 1) / 2: shot noise and read noise of a camera.

    Images with grey bool[b] have equal draws in all channels.
    Foi et al. 2008, "Practical Poissonian-Gaussian Noise Modeling and Fitting", section II.
    """
    value = (jnp.clip(x, -1, 1) + 1) / 2
    variance = broadcast_like(shot, x) * value + broadcast_like(read, x)
    return x + 2 * jnp.sqrt(variance) * normal_quantile(open_uniform(fold_keys(keys, "noise"), x.shape[1:], grey))


def read_noise(shot: Array, keys: Key) -> Array:
    """Return the variance of the read noise f32[b] for shot noise f32[b], as measured on phone cameras.

    Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising", section 3.1 and equation 5.
    """
    mean = 2.18 * jnp.log(jnp.maximum(shot, 1e-12)) + 1.2
    return jnp.exp(mean + 0.26 * rng.normal(fold_keys(keys, "read"), ()))


# ---------------------------------------------------------------- JPEG

# ITU-T T.81, tables K.1 and K.2.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.full((8, 8), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_u, _i = np.mgrid[:8, :8]
DCT = np.where(_u == 0, math.sqrt(1 / 8), 0.5) * np.cos(
    (2 * _i + 1) * _u * math.pi / 16
)  # T.81, A.3.3: [frequency, pixel]
DCT2 = np.kron(DCT, DCT).astype(np.float32)  # of a block's 64 pixels, row by row


def jpeg(x: Array, quality: Array) -> Array:
    """Return x [b h w 1 or 3] after JPEG compression as in libjpeg and Pillow, quality f32[b] from 1 to 100, rounded.

    Chroma has half the height and width (4:2:0). Values are rounded to 8 bits where libjpeg rounds by default.
    """
    _, h, w, c = x.shape
    levels = jnp.round(jnp.clip((x + 1) * 127.5, 0, 255))
    quality = jnp.clip(jnp.round(quality), 1, 100)
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)  # percent
    tables = [jnp.asarray(t.reshape(1, 64), jnp.float32) for t in (LUMINANCE, CHROMINANCE)]
    light, colour = (jnp.clip(jnp.floor((scale[:, None] * t + 50) / 100), 1, 255) for t in tables)  # [b 64]
    if c == 1:
        return _quantise(levels[..., 0], light)[..., None] / 127.5 - 1
    red, green, blue = levels[..., 0], levels[..., 1], levels[..., 2]
    y = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = jnp.round(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue)
    cr = jnp.round(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue)
    y = _quantise(y, light)
    padded = jnp.pad(jnp.concatenate([cb, cr]), ((0, 0), (0, 0), (0, -w % 16)), "edge")  # as libjpeg
    chroma = _quantise(_subsample(padded), jnp.concatenate([colour, colour]))[..., : -(-w // 2)]
    cb, cr = jnp.split(_upsample(chroma)[:, :h, :w] - 128, 2)
    green = jnp.round(-0.344136286 * cb - 0.714136286 * cr)
    out = [y + jnp.round(1.402 * cr), y + green, y + jnp.round(1.772 * cb)]
    return jnp.clip(jnp.stack(out, -1), 0, 255) / 127.5 - 1


def _quantise(plane: Array, table: Array) -> Array:
    """Return a plane of levels [b h w] with the DCT of its blocks rounded to multiples of table [b 64]."""
    b, h, w = plane.shape
    padded = jnp.pad(plane - 128, ((0, 0), (0, -h % 8), (0, -w % 8)), "edge")
    blocks = padded.reshape(b, -(-h // 8), 8, -(-w // 8), 8).swapaxes(2, 3).reshape(b, -1, 64)
    waves = jnp.einsum("bni,ui->bnu", blocks, jnp.asarray(DCT2), precision="highest")
    step = jnp.broadcast_to(table[:, None], waves.shape)
    whole = jnp.sign(waves) * jnp.floor(jnp.abs(waves) / step + 0.5)  # halves are frequent and round away from 0
    blocks = jnp.einsum("bnu,ui->bni", whole * step, jnp.asarray(DCT2), precision="highest")
    padded = blocks.reshape(b, -(-h // 8), -(-w // 8), 8, 8).swapaxes(2, 3).reshape(padded.shape)
    return jnp.clip(jnp.floor(padded[:, :h, :w] + 128.5), 0, 255)  # halves round up


def _subsample(plane: Array) -> Array:
    """Return the means of 2 x 2 pixels, [b ceil(h/2) ceil(w/2)]; halves round down and up in alternate columns."""
    b, h, w = plane.shape
    padded = jnp.pad(plane, ((0, 0), (0, h % 2), (0, w % 2)), "edge")
    total = padded.reshape(b, -(-h // 2), 2, -(-w // 2), 2).sum((2, 4))
    bias = jnp.asarray(np.arange(total.shape[2]) % 2 + 1.0, jnp.float32).reshape(1, 1, -1)
    return jnp.floor((total + bias) / 4)


def _upsample(plane: Array) -> Array:
    """Return a plane enlarged by 2: each pixel is 3/4 of the nearest pixel and 1/4 of the next one, in both axes."""
    b, h, w = plane.shape
    padded = jnp.pad(plane, ((0, 0), (1, 1), (0, 0)), "edge")
    rows = jnp.stack([3 * plane + padded[:, :-2], 3 * plane + padded[:, 2:]], 2).reshape(b, 2 * h, w)
    padded = jnp.pad(rows, ((0, 0), (0, 0), (1, 1)), "edge")
    left, right = (3 * rows + padded[..., :-2] + 8) / 16, (3 * rows + padded[..., 2:] + 7) / 16
    return jnp.floor(jnp.stack([left, right], -1)).reshape(b, 2 * h, 2 * w)


# ---------------------------------------------------------------- haze, low light, greyscale


def haze(x: Array, keys: Key, depth: Array | None = None, light: Array | None = None) -> Array:
    """Return J t + A (1 - t), t = exp(-depth): Koschmieder's law, A = light f32[b].

    The default depth f32[b h w 1] is smooth, grows upwards and has a maximum of 0.5 to 2; A is from 0.7 to 1.
    """
    if depth is None:
        depth = broadcast_like(uniform(fold_keys(keys, "haze"), 0.5, 2.0), x[..., :1]) * depth_field(
            keys, (x.shape[1], x.shape[2])
        )
    if light is None:
        light = uniform(fold_keys(keys, "light"), 0.7, 1.0)
    t = broadcast_like(jnp.exp(-depth), x)
    return x * t + broadcast_like(2 * light - 1, x) * (1 - t)


def depth_field(keys: Key, size: Size) -> Array:
    """Return a smooth depth map f32[b h w 1] in [0, 1] that grows upwards, with hills."""
    hills = smooth_field(fold_keys(keys, "hills"), size, max(size) / 4)
    up = jnp.asarray(1 - (np.arange(size[0]) + 0.5) / size[0], jnp.float32).reshape(1, -1, 1, 1)
    return jnp.clip(0.25 + 0.5 * jnp.broadcast_to(up, hills.shape) + 0.2 * hills, 0, 1)


def smooth_field(keys: Key, size: Size, cell: float) -> Array:
    """Return a smooth random field f32[b h w 1], about N(0, 0.7^2), with structures about `cell` pixels wide."""
    grid = rng.normal(keys, (*(math.ceil(n / cell) + 1 for n in size), 1))
    return resize(grid, size, "bicubic", antialias=False, edges="reflect")


def low_light(x: Array, gain: Array, gamma: Array) -> Array:
    """Return gain v^gamma, v in [0, 1].

    Lv et al. 2021, "Attention Guided Low-Light Image Enhancement", equation 1, without alpha.
    """
    value = (jnp.clip(x, -1, 1) + 1) / 2
    return 2 * broadcast_like(gain, x) * value ** broadcast_like(gamma, x) - 1


def grey(x: Array) -> Array:
    """Return the luma of x [b h w c] in all channels."""
    return jnp.broadcast_to(luma(x), x.shape)
