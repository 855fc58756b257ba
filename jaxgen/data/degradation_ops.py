"""Single damages but blur: noise, JPEG, haze, darkness, lost colour. Pure functions, jitted with what uses them.

x f32[b h w c] in [-1, 1], of 1 or 3 channels; keys Key[b], one an image, so that its damage depends on its key alone;
strengths are f32[b], one an image. Nothing is clipped unless it says so.
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
    """Return the child of each of Key[b] that is called `name`."""
    return jax.vmap(lambda key: rng.fold(key, name))(keys)


def uniform(keys: Key, low: float, high: float, shape: tuple[int, ...] = ()) -> Array:
    """Return numbers uniform in [low, high), f32[b *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, low, high))(keys)


def broadcast_like(a: Array, x: Array) -> Array:
    """Return a, f32[b] or f32[b ...] of sides 1 or those of x [b ...], in the shape of x."""
    return jnp.broadcast_to(a.reshape(a.shape + (1,) * (x.ndim - a.ndim)), x.shape)


def luma(x: Array) -> Array:
    """Return Y [b h w 1] of R, G, B [b h w 3]; one channel is its own."""
    if x.shape[-1] == 1:
        return x
    return jnp.einsum("bhwc,c->bhw", x, jnp.asarray(LUMA), precision="highest")[..., None]


# ---------------------------------------------------------------- noise


def open_uniform(keys: Key, shape: tuple[int, ...], grey: Array | None = None) -> Array:
    """Return numbers in (0, 1), f32[b *shape]; where grey bool[b] is true, the same for all channels."""
    u = jnp.maximum(uniform(keys, 0, 1, shape), 2.0**-24)
    return u if grey is None else jnp.where(broadcast_like(grey, u), broadcast_like(u[..., :1], u), u)


def normal_quantile(u: Array) -> Array:
    """Return the N(0, 1) number below which lies the share u of all."""
    return math.sqrt(2) * jax.scipy.special.erfinv(2 * u - 1)


def gaussian_noise(x: Array, sigma: Array, keys: Key, grey: Array | None = None) -> Array:
    """Return x with N(0, sigma^2) added to every number, sigma of 255; to all channels the same where grey bool[b]."""
    u = open_uniform(fold_keys(keys, "noise"), x.shape[1:], grey)
    return x + broadcast_like(sigma / 127.5, x) * normal_quantile(u)


def poisson_quantile(u: Array, rate: Array) -> Array:
    """Return the Poisson number below which lies the share u of all, both of one shape.

    Rates below 4 add up the probabilities; above, the Cornish-Fisher expansion is wrong, by one photon, in 0.5 % of the
    draws at most. jax.random.poisson is far slower on a CPU.
    """
    low = jnp.minimum(rate, 4.0)

    def count(state: tuple[Array, Array, Array], weight: Array):
        few, p, total = state
        few, p = few + jnp.where(u > total, 1.0, 0.0), p * low * weight
        return (few, p, total + p), None

    p = jnp.exp(-low)
    weights = jnp.asarray(1 / np.arange(1.0, 19), jnp.float32)
    (few, _, _), _ = jax.lax.scan(count, (jnp.zeros_like(u), p, p), weights, unroll=3)  # in one go 8 times as slow
    z, rate = normal_quantile(u), jnp.maximum(rate, 4.0)
    many = rate + jnp.sqrt(rate - 1 / 12) * z + (z * z - 1) / 6 + (z - z * z * z) / (72 * jnp.sqrt(rate))
    return jnp.where(rate > 4.0, jnp.floor(jnp.maximum(many, 0) + 0.5), few)


def photon_levels(x: Array, grey: Array | None = None) -> Array:
    """Return the levels from 0 to 255, whole numbers, whose photons are counted: of the luma where grey bool[b]."""
    seen = x if grey is None else jnp.where(broadcast_like(grey, x), broadcast_like(luma(x), x), x)
    return jnp.round((jnp.clip(seen, -1, 1) + 1) * 127.5)


def poisson_noise(x: Array, scale: Array, keys: Key, grey: Array | None = None, white: Array | None = None) -> Array:
    """Return x and `scale` times the noise of counting photons, of which 1 makes white f32[b], or else 255.

    With v in [0, 1] the variance is scale^2 v / white. Where grey bool[b], the luma's noise is that of all channels.
    """
    u = open_uniform(fold_keys(keys, "noise"), x.shape[1:], grey)
    value = photon_levels(x, grey) / 255
    photons = jnp.full_like(x, 255.0) if white is None else broadcast_like(white, x)
    return x + 2 * broadcast_like(scale, x) * (poisson_quantile(u, value * photons) / photons - value)


def camera_noise(x: Array, shot: Array, read: Array, keys: Key) -> Array:
    """Return x with N(0, shot v + read) added, v the number in [0, 1]: photons are counted and the sensor is read.

    Foi et al. 2008, "Practical Poissonian-Gaussian Noise Modeling and Fitting", section II.
    """
    value = (jnp.clip(x, -1, 1) + 1) / 2
    variance = broadcast_like(shot, x) * value + broadcast_like(read, x)
    return x + 2 * jnp.sqrt(variance) * normal_quantile(open_uniform(fold_keys(keys, "noise"), x.shape[1:]))


def read_noise(shot: Array, keys: Key) -> Array:
    """Return the variance of the reading noise f32[b] that goes with shot f32[b], as measured on phones' cameras.

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
    """Return x [b h w 1 or 3] as libjpeg (and so Pillow) saves and reads it, quality f32[b] from 1 to 100, rounded.

    Chroma has half the height and width (4:2:0). All is rounded to 8 bits where libjpeg's default does it.
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
    wide = jnp.pad(jnp.concatenate([cb, cr]), ((0, 0), (0, 0), (0, -w % 16)), "edge")  # as libjpeg
    chroma = _quantise(_subsample(wide), jnp.concatenate([colour, colour]))[..., : -(-w // 2)]
    cb, cr = jnp.split(_upsample(chroma)[:, :h, :w] - 128, 2)
    green = jnp.round(-0.344136286 * cb - 0.714136286 * cr)
    out = [y + jnp.round(1.402 * cr), y + green, y + jnp.round(1.772 * cb)]
    return jnp.clip(jnp.stack(out, -1), 0, 255) / 127.5 - 1


def _quantise(plane: Array, table: Array) -> Array:
    """Return a plane of levels [b h w] after its blocks' DCT is rounded to multiples of table [b 64]."""
    b, h, w = plane.shape
    wide = jnp.pad(plane - 128, ((0, 0), (0, -h % 8), (0, -w % 8)), "edge")
    blocks = wide.reshape(b, -(-h // 8), 8, -(-w // 8), 8).swapaxes(2, 3).reshape(b, -1, 64)
    waves = jnp.einsum("bni,ui->bnu", blocks, jnp.asarray(DCT2), precision="highest")
    step = jnp.broadcast_to(table[:, None], waves.shape)
    whole = jnp.sign(waves) * jnp.floor(jnp.abs(waves) / step + 0.5)  # halves go away from 0, and are frequent
    blocks = jnp.einsum("bnu,ui->bni", whole * step, jnp.asarray(DCT2), precision="highest")
    wide = blocks.reshape(b, -(-h // 8), -(-w // 8), 8, 8).swapaxes(2, 3).reshape(wide.shape)
    return jnp.clip(jnp.floor(wide[:, :h, :w] + 128.5), 0, 255)  # halves go up


def _subsample(plane: Array) -> Array:
    """Return each 2 x 2 pixels' mean [b ceil(h/2) ceil(w/2)]; halves go down and up in turn from column to column."""
    b, h, w = plane.shape
    wide = jnp.pad(plane, ((0, 0), (0, h % 2), (0, w % 2)), "edge")
    total = wide.reshape(b, -(-h // 2), 2, -(-w // 2), 2).sum((2, 4))
    bias = jnp.asarray(np.arange(total.shape[2]) % 2 + 1.0, jnp.float32).reshape(1, 1, -1)
    return jnp.floor((total + bias) / 4)


def _upsample(plane: Array) -> Array:
    """Return a plane twice as high and wide: each pixel is 3/4 of its own and 1/4 of the next one's, in both axes."""
    b, h, w = plane.shape
    wide = jnp.pad(plane, ((0, 0), (1, 1), (0, 0)), "edge")
    rows = jnp.stack([3 * plane + wide[:, :-2], 3 * plane + wide[:, 2:]], 2).reshape(b, 2 * h, w)
    wide = jnp.pad(rows, ((0, 0), (0, 0), (1, 1)), "edge")
    left, right = (3 * rows + wide[..., :-2] + 8) / 16, (3 * rows + wide[..., 2:] + 7) / 16
    return jnp.floor(jnp.stack([left, right], -1)).reshape(b, 2 * h, 2 * w)


# ---------------------------------------------------------------- air, light, colour


def haze(x: Array, keys: Key, depth: Array | None = None, light: Array | None = None) -> Array:
    """Return J t + A (1 - t), t = exp(-depth): Koschmieder's law. Depth f32[b h w 1] is smooth, the light f32[b] greyish.

    Unless given, depth grows upwards, with hills, to between 0.5 and 2 where it is greatest; A is from 0.7 to 1.
    """  # noqa: E501
    if depth is None:
        depth = broadcast_like(uniform(fold_keys(keys, "haze"), 0.5, 2.0), x[..., :1]) * depth_field(
            keys, (x.shape[1], x.shape[2])
        )
    if light is None:
        light = uniform(fold_keys(keys, "light"), 0.7, 1.0)
    t = broadcast_like(jnp.exp(-depth), x)
    return x * t + broadcast_like(2 * light - 1, x) * (1 - t)


def depth_field(keys: Key, size: Size) -> Array:
    """Return how far each pixel is, smooth, f32[b h w 1] in [0, 1]: the upper, the further, but for hills."""
    hills = smooth_field(fold_keys(keys, "hills"), size, max(size) / 4)
    up = jnp.asarray(1 - (np.arange(size[0]) + 0.5) / size[0], jnp.float32).reshape(1, -1, 1, 1)
    return jnp.clip(0.25 + 0.5 * jnp.broadcast_to(up, hills.shape) + 0.2 * hills, 0, 1)


def smooth_field(keys: Key, size: Size, cell: float) -> Array:
    """Return a smooth field f32[b h w 1] of about N(0, 0.7^2), its hills about `cell` pixels wide."""
    grid = rng.normal(keys, (*(math.ceil(n / cell) + 1 for n in size), 1))
    return resize(grid, size, "bicubic", antialias=False, edges="reflect")


def low_light(x: Array, gain: Array, gamma: Array) -> Array:
    """Return gain v^gamma, v in [0, 1].

    Lv et al. 2021, "Attention Guided Low-Light Image Enhancement", equation 1, alpha left out.
    """
    value = (jnp.clip(x, -1, 1) + 1) / 2
    return 2 * broadcast_like(gain, x) * value ** broadcast_like(gamma, x) - 1


def grey(x: Array) -> Array:
    """Return x [b h w c] without its colour, in as many channels."""
    return jnp.broadcast_to(luma(x), x.shape)
