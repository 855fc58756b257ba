"""ADA: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix B and section 3.

Implements the augmentation pipeline, in which each transformation has probability p, and the controller that adjusts p
from the signs of the discriminator's logits. Constants, distributions and order are those of the authors' code
(stylegan2-ada-pytorch), with one difference. Their code pads the image with one reflection at each border, and zeros
outside it. Here the reflections are periodic, so the result for an image does not depend on the rest of the batch.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.nn import resample

Array = jax.Array
Key = jax.Array

GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")  # in the order in which they are applied
PIPES = {name: (name,) for name in GROUPS} | {"".join(g[0] for g in GROUPS[:n]): GROUPS[:n] for n in range(2, 7)}

# Low-pass filters H(z) of Daubechies' least asymmetric orthonormal wavelets.
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
CENTRE, PAD = 5, 3  # of SYM6: the index of the central tap, and the reach in pixels to both sides
POWER = np.array([10, 1, 1, 1]) / 13  # expected power of the four bands, a 1/f spectrum (appendix B)


class Parameters(NamedTuple):
    """The sampled parameters of each image; None for a group that is not in the pipe.

    inverse: f32[b 3 3], maps a pixel (x, y, 1) of the new image, counted from its centre, to a pixel of the old image
    color:   f32[b 3 4], from (red, green, blue, 1) to the new colour
    gains:   f32[b 4], the amplification of each band, from the lowest to the highest
    noise:   f32[b h w c]
    keep:    f32[b h w], 0 in the hole
    """

    inverse: Array | None = None
    color: Array | None = None
    gains: Array | None = None
    noise: Array | None = None
    keep: Array | None = None


def check_pipe(name: str) -> tuple[str, ...]:
    """Return a pipe's groups in order: "bgc" -> ("blit", "geom", "color"). Raises InputError for an unknown pipe."""
    return PIPES[choose(name, PIPES, "augmentation pipe")]


def augment(key: Key, x: Array, p: Array | float, pipe: str = "bgc") -> Array:
    """Return x f32[b h w c] in [-1, 1] augmented; each transformation of the pipe has probability p f32[].

    It is an affine function of x, so gradients of any order pass through it. The result is not clipped. At p = 0 it is
    the identity, up to the rounding of the resampling.
    Raises InputError for an unknown pipe, and for colour transformations of images with neither 1 nor 3 channels.
    Karras et al. 2020, appendix B.
    """
    return apply(x, draw(key, len(x), p, pipe, x.shape[1:]))


def draw(key: Key, batch: int, p: Array | float, pipe: str, image: tuple[int, ...]) -> Parameters:
    """Return parameters for a batch of images of shape image [h w c]; those of image i do not depend on the batch."""
    groups, (height, width, channels) = check_pipe(pipe), image
    if "color" in groups and channels not in (1, 3):
        raise InputError(f"The pipe {pipe!r} needs images of 1 or 3 channels, not {channels}.")
    p_rotate = 1 - jnp.sqrt(jnp.clip(1 - p, 0, 1))  # P(before or after) = p
    sides = jnp.array([width, height], jnp.float32)

    def one(key: Key) -> Parameters:
        def fold(name: str) -> tuple[Key, Key]:
            value, chance = jax.random.split(rng.fold(key, name))
            return value, chance

        def gate(key: Key, value: Array, neutral: float, p=p) -> Array:
            return jnp.where(jax.random.uniform(key, (), jnp.float32) < p, value, neutral)

        def uniform(name: str, low: float, high: float, shape=(), p=p) -> Array:
            value, chance = fold(name)
            return gate(chance, jax.random.uniform(value, shape, jnp.float32, low, high), 0, p)

        def normal(name: str, deviation: float, shape=()) -> Array:
            value, chance = fold(name)
            return gate(chance, deviation * jax.random.normal(value, shape, jnp.float32), 0)

        inverse, sampled = jnp.eye(3), {}
        if "blit" in groups:
            flip, turns = jnp.floor(uniform("flip", 0, 2)), jnp.floor(uniform("turns", 0, 4))
            inverse = inverse @ blit(flip, turns, jnp.round(sides * uniform("shift", -1 / 8, 1 / 8, (2,))))
        if "geom" in groups:
            before, after = (uniform(name, -np.pi, np.pi, p=p_rotate) for name in ("before", "after"))
            scale, aspect = jnp.exp2(normal("scale", 0.2)), jnp.exp2(normal("aspect", 0.2))
            inverse = inverse @ geometry(scale, before, aspect, after, sides * normal("move", 1 / 8, (2,)))
        if "blit" in groups or "geom" in groups:
            sampled["inverse"] = inverse
        if "color" in groups:
            gain, vivid = jnp.exp2(normal("contrast", 0.5)), jnp.exp2(normal("saturation", 1))
            hue, flip = uniform("hue", -np.pi, np.pi), jnp.floor(uniform("luma", 0, 2))
            sampled["color"] = color(normal("brightness", 0.2), gain, flip, hue, vivid)
        if "filter" in groups:
            sampled["gains"] = gains(jnp.exp2(jnp.stack([normal(f"band {i}", 1) for i in range(4)])))
        if "noise" in groups:
            pixels = jax.random.normal(rng.fold(key, "noise"), image, jnp.float32)
            sampled["noise"] = jnp.abs(normal("sigma", 0.1)) * pixels
        if "cutout" in groups:
            value, chance = fold("cutout")
            centre = jax.random.uniform(value, (2,), jnp.float32)
            sampled["keep"] = cutout(centre, gate(chance, jnp.float32(0.5), 0), height, width)
        return Parameters(**sampled)

    with jax.default_matmul_precision("highest"):  # TF32 is not exact enough for pixel positions
        return jax.vmap(one)(rng.sample_keys(key, jnp.arange(batch)))


def apply(x: Array, parameters: Parameters) -> Array:
    """Return x [b h w c] transformed with the parameters, in the order geometry, colour, filter, noise, cutout."""
    if parameters.inverse is not None:
        x = warp(x, parameters.inverse)
    if parameters.color is not None:
        x = recolor(x, parameters.color)
    if parameters.gains is not None:
        x = amplify(x, parameters.gains)
    if parameters.noise is not None:
        x = x + parameters.noise.astype(x.dtype)
    if parameters.keep is not None:
        x = x * parameters.keep.astype(x.dtype)[..., None]
    return x


# ---------------------------------------------------------------- the parameters of one image, from random numbers


def scaling(x: Array, y: Array | float) -> Array:
    """Return the matrix f32[3 3] that scales (x, y)."""
    return jnp.diag(jnp.stack([x, jnp.asarray(y, x.dtype), jnp.ones_like(x)]))


def rotation(angle: Array) -> Array:
    """Return the matrix f32[3 3] of a rotation, in radians."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def shifting(t: Array) -> Array:
    """Return the matrix f32[3 3] of a translation by t f32[2]."""
    return jnp.array([[1, 0, t[0]], [0, 1, t[1]], [0, 0, 1]])


def blit(flip: Array, turns: Array, shift: Array) -> Array:
    """Return the inverse f32[3 3] of: translation by whole pixels (x, y), rotation by `turns` quarters, x flip."""
    return scaling(1 - 2 * flip, 1) @ rotation(np.pi / 2 * turns) @ shifting(-shift)


def geometry(scale: Array, before: Array, aspect: Array, after: Array, shift: Array) -> Array:
    """Return the inverse f32[3 3] of: translation in pixels, rotation (radians), anisotropic scale, rotation, scale."""
    stretched = rotation(before) @ scaling(1 / aspect, aspect) @ rotation(after)
    return scaling(1 / scale, 1 / scale) @ stretched @ shifting(-shift)


def color(brightness: Array, contrast: Array, flip: Array, hue: Array, saturation: Array) -> Array:
    """Return the colour transformation f32[3 4].

    It adds the brightness. Then contrast multiplies the colour, flip (0 or 1) negates the luma, which is the component
    along v = (1, 1, 1) / sqrt 3, hue (radians) rotates the chroma, and saturation multiplies the chroma.
    """
    one, luma = jnp.eye(3), jnp.full((3, 3), 1 / 3)  # luma = v v^T
    chroma = one - luma
    cross = jnp.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3).astype(np.float32)  # cross product with v
    turn = one + (jnp.cos(hue) - 1) * chroma + jnp.sin(hue) * cross  # Rodrigues
    # Written as differences from the identity, so that neutral parameters give exactly the identity.
    linear = contrast * (one + (saturation - 1) * chroma) @ turn @ (one - 2 * flip * luma)
    return linear @ jnp.concatenate([one, jnp.full((3, 1), 1.0) * brightness], 1)


def gains(t: Array) -> Array:
    """Return the gains f32[4] of the bands: band i is multiplied by t[i], then all by one factor to keep the power.

    The factor restores the expected power after each of the four multiplications.
    """
    return t / jnp.sqrt(jnp.prod(1 + jnp.asarray(POWER, t.dtype) * (t**2 - 1)))


def cutout(centre: Array, side: Array, height: int, width: int) -> Array:
    """Return f32[h w], 0 inside a box around centre (x, y) with sides `side`, in units of the image's sides; else 1."""
    x, y = ((jnp.arange(n) + 0.5) / n for n in (width, height))
    outside = [jnp.abs(at - c) >= side / 2 for at, c in ((x, centre[0]), (y, centre[1]))]
    return (outside[0][None, :] | outside[1][:, None]).astype(jnp.float32)


# ---------------------------------------------------------------- the transformations


def mirror(i: np.ndarray, n: int) -> np.ndarray:
    """Return the index in 0 .. n - 1 of position i, with periodic reflection at the borders: 2 1 | 0 1 2 | 1 0."""
    i = i % max(2 * n - 2, 1)
    return np.minimum(i, np.maximum(2 * n - 2 - i, 0))


@lru_cache(maxsize=64)
def upsampling(n: int) -> np.ndarray:
    """Return the matrix f64[4n-3 n] that upsamples n reflected pixels by 2; pixel i goes to 2 i.

    The result is one period of the reflected signal, and one more pixel.
    """
    low = np.array(SYM6) / np.sum(SYM6)
    out = np.zeros((2 * max(2 * n - 2, 1) + 1, n))
    for j in range(len(out)):
        i = np.arange((j - 2 * PAD) // 2, (j + CENTRE) // 2 + 1)
        tap = j + CENTRE - 2 * i
        i, tap = i[tap < len(low)], tap[tap < len(low)]
        np.add.at(out[j], mirror(i, n), 2 * low[tap])
    return out


@lru_cache(maxsize=64)
def downsampling(n: int) -> np.ndarray:
    """Return the matrix f64[n 2(n+6)] that downsamples the range -PAD .. n + PAD by 2; it inverts the upsampling."""
    out = np.zeros((n, 2 * (n + 2 * PAD)))
    for i in range(n):
        out[i, 2 * (i + PAD) - CENTRE + np.arange(len(SYM6))] = np.array(SYM6) / np.sum(SYM6)
    return out


def warp(x: Array, inverse: Array) -> Array:
    """Return x [b h w c] resampled: pixel p is x at inverse [b 3 3] p, by bilinear sampling at twice the resolution."""
    (batch, height, width, channels), dtype = x.shape, jnp.promote_types(x.dtype, jnp.float32)
    fine = resample.apply_weights(x, upsampling(height), upsampling(width))  # [b 4h-3 4w-3 c]
    rows, columns = fine.shape[1:3]
    # The arrays below are [b 2h+12 2w+12] or have axes of 1. Matrix products would be slower, and inexact in TF32.
    half, m = ((width - 1) / 2, (height - 1) / 2), inverse.astype(dtype)[..., None, None]
    at_x, at_y = (
        jnp.asarray(np.arange(2 * (n + 2 * PAD)) / 2 - PAD - h, dtype)
        for n, h in zip((width, height), half, strict=True)
    )
    to = (m[:, i, 0] * at_x[None, None, :] + m[:, i, 1] * at_y[None, :, None] + m[:, i, 2] for i in (0, 1))
    u, v = (2 * (t + h) for t, h in zip(to, half, strict=True))
    # Reduce to one period in floating point: on a CPU the remainder of integers takes much longer.
    u, v = (t - n * jnp.floor(t / n) for t, n in ((u, columns - 1), (v, rows - 1)))
    left, top = (jnp.clip(jnp.floor(t), 0, n - 2) for t, n in ((u, columns), (v, rows)))
    a, b = (u - left)[..., None], (v - top)[..., None]  # weights of the right and the lower neighbours
    index = (jnp.arange(batch)[:, None, None] * rows + top.astype(jnp.int32)) * (columns - 1) + left.astype(jnp.int32)
    # Each row has two neighbouring pixels: half as many gathers, and half as many scatters in the backward pass.
    pairs = jnp.concatenate([fine[:, :, :-1], fine[:, :, 1:]], -1).reshape(-1, 2 * channels)
    upper, lower = (pairs.at[i].get(mode="promise_in_bounds") for i in (index, index + columns - 1))
    pair = (1 - b) * upper + b * lower
    sampled = (1 - a) * pair[..., :channels] + a * pair[..., channels:]  # [b 2h+12 2w+12 c]
    return resample.apply_weights(sampled.astype(x.dtype), downsampling(height), downsampling(width))  # [b h w c]


def recolor(x: Array, color: Array) -> Array:
    """Return x [b h w c] with color [b 3 4] applied to each pixel; c is 3, or 1: the mean of three channels."""
    if x.shape[-1] == 1:  # as three equal channels; only hue and saturation make them unequal, and those keep the mean
        mean = color.mean(1, keepdims=True)  # [b 1 4]
        color = jnp.concatenate([mean[..., :3].sum(-1, keepdims=True), mean[..., 3:]], -1)  # [b 1 2]
    color = color.astype(x.dtype)[:, None, None]  # [b 1 1 c c+1]
    terms = [color[..., i] * x[..., i : i + 1] for i in range(x.shape[-1])]
    return sum(terms, color[..., -1])


@lru_cache(maxsize=64)
def bands(n: int) -> np.ndarray:
    """Return f64[4 n n], the filters of n reflected pixels to four bands, an octave each; their sum is the identity."""
    low = np.array(SYM2)
    high = low * (-1) ** np.arange(len(low))  # H(-z)
    low, high = (np.convolve(f, f[::-1]) / 2 for f in (low, high))  # H(z) H(1/z) / 2, and for -z
    bank = [np.ones(1)]
    for _ in range(3):  # upsample by 2 and add one band above
        for i, f in enumerate(bank):
            spread = np.zeros(2 * len(f) - 1)
            spread[::2] = f
            bank[i] = np.convolve(spread, low)
        bank.append(high)
    out = np.zeros((4, n, n))
    for band, f in zip(out, bank, strict=True):
        reach = len(f) // 2
        for i in range(n):
            np.add.at(band[i], mirror(i + np.arange(-reach, reach + 1), n), f)
    return out


def amplify(x: Array, gains: Array) -> Array:
    """Return x [b h w c] with each of four bands multiplied by its gain [b 4], first vertically, then horizontally."""
    rows, columns = (
        jnp.eye(n, dtype=x.dtype)[None]
        + jnp.einsum("bk,kij->bij", gains.astype(x.dtype) - 1, jnp.asarray(bands(n), x.dtype), precision="highest")
        for n in x.shape[1:3]
    )  # [b h h], [b w w]
    y = jnp.einsum("bij,bjwc->biwc", rows, x, precision="highest")
    return jnp.einsum("bij,bhjc->bhic", columns, y, precision="highest")


# ---------------------------------------------------------------- the controller


class Controller:
    """Adjusts p to keep r_t = E[sign D(real)] at a target (Karras et al. 2020, section 3.1, equation 1).

    The state is a dictionary of f32[]: p, and the sum and the count of the signs since the last change of p.
    """

    @staticmethod
    def empty(p0: float = 0.0) -> dict[str, Array]:
        """Return the initial state. Raises InputError for a negative p0."""
        at_least(0, p=p0)
        return {"p": jnp.float32(p0), "sign_sum": jnp.float32(0), "count": jnp.float32(0)}

    @staticmethod
    def update(
        state: dict[str, Array],
        real_logits: Array,
        target: float = 0.6,
        every: int = 4,
        images_per_unit: float = 500_000,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the state after one minibatch, and the metrics p and r_t f32[] (of this minibatch).

        p <- max(p + sign(r_t - target) n / images_per_unit, 0)    every `every` minibatches, which have n images
        p has no upper limit, as in the authors' code. Above 1 it acts as 1, and takes time to decrease again.
        """
        signs = jnp.sign(real_logits.astype(jnp.float32))
        total, count = state["sign_sum"] + signs.sum(), state["count"] + signs.size
        due = count >= every * signs.size
        moved = jnp.maximum(state["p"] + jnp.sign(total / count - target) * count / images_per_unit, 0)
        p = jnp.where(due, moved, state["p"])
        state = {"p": p, "sign_sum": jnp.where(due, 0, total), "count": jnp.where(due, 0, count)}
        return state, {"p": p, "r_t": signs.mean()}
