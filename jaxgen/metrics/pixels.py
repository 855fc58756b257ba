"""Pixel metrics against a reference: PSNR, SSIM, MS-SSIM and the mean absolute error.

The functions are pure and per image: a, b f32[... h w c] in [-1, 1] -> f32[...], after `border` pixels are shaved off
each side. The metrics are means over images, as super-resolution reports them: the mean of the PSNRs, not the PSNR of
the mean error. A name contains the protocol: `psnr_y_border4` is the PSNR of luma with 4 pixels shaved. Images are not
quantised; apply `eight_bit` of nn/colour.py first to measure what an 8-bit file would hold.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.core.errors import InputError, choose
from jaxgen.metrics.metric import Metric
from jaxgen.nn.colour import LUMA, eight_bit

Array = jax.Array

RANGE = 2.0  # of pixel values: white minus black
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III-C
POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2: finest scale first
SMALLEST_MS_SSIM = (WINDOW - 1) * 2 ** (len(POWERS) - 1) + 1  # 161: the coarsest image still contains a window
UNIFORM = 7  # the side of scikit-image's window
SMALLEST = {
    "ssim": WINDOW,
    "ms_ssim": SMALLEST_MS_SSIM,
    "ssim_uniform7": UNIFORM,
}  # smallest side of a measure; 1 for all others
PIXEL_AXES = (-3, -2, -1)


def luma(x: Array, rounded: bool = False) -> Array:
    """Return the luma of x [... h w c], [... h w 1], in the same units: -1 is level 0 and 1 is 255.

    For colour images, Y = 16 + 65.481 R + 128.553 G + 24.966 B of 255, with R, G, B in [0, 1] (ITU-R BT.601 in studio
    range, 16 to 235): as MATLAB's rgb2ycbcr for doubles; `rounded` gives its 8-bit result for uint8 images. Most
    published PSNRs use the unrounded luma. Grey images are returned unchanged, with the full range; their PSNR is up to
    20 lg(255 / 219) = 1.3 dB lower than that of the same image with three equal channels.
    Raises InputError for any other number of channels.
    """
    if x.shape[-1] not in (1, 3):
        raise InputError(f"Luma needs images of 1 or 3 channels, not {x.shape[-1]}.")
    if x.shape[-1] == 3:
        red, green, blue = x[..., :1], x[..., 1:2], x[..., 2:]  # [... h w 1]
        # With R = (x + 1) / 2 and Y = 127.5 (y + 1): 16 plus half the sum of the factors is 125.5.
        r, g, b = LUMA
        x = (r * red + g * green + b * blue + (2 * 125.5 - 255)) / 255
    return eight_bit(x) if rounded else x


def shave(x: Array, border: int) -> Array:
    """Return x [... h w c] without `border` pixels on each side."""
    return x[..., border : x.shape[-3] - border, border : x.shape[-2] - border, :]


def psnr(a: Array, b: Array, border: int = 0) -> Array:
    """Return the peak signal-to-noise ratio in dB, 10 lg(range^2 / mean (a - b)^2); infinite for equal images."""
    error = jnp.square(shave(a, border) - shave(b, border)).mean(PIXEL_AXES)
    return 10 * jnp.log10(RANGE**2 / error)


def mae(a: Array, b: Array, border: int = 0) -> Array:
    """Return mean |a - b| in the units of the images, in which white - black = 2."""
    return jnp.abs(shave(a, border) - shave(b, border)).mean(PIXEL_AXES)


def gaussian() -> np.ndarray:
    """Return the Gaussian window f64[11], of sum 1."""
    w = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    return w / w.sum()


def blur(x: Array) -> Array:
    """Return x [n h w 1] filtered by the window, valid part only: [n h-10 w-10 1]."""
    for shape in ((WINDOW, 1, 1, 1), (1, WINDOW, 1, 1)):
        kernel = jnp.asarray(gaussian().reshape(shape), x.dtype)
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
    return x


def similarity(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the mean of SSIM and of its contrast-structure term per channel, [... c] each.

    Wang et al. 2004, equations 6 to 13, with moments under a Gaussian window, without the factor N / (N - 1).
    """
    *lead, h, w, c = a.shape
    a, b = jnp.moveaxis(a, -1, -3), jnp.moveaxis(b, -1, -3)  # [... c h w]
    # As one batch with the examples outermost: a batch sharded over devices is not moved.
    maps = jnp.stack([a, b, a * a, b * b, a * b], -4).reshape(-1, h, w, 1)
    mu_a, mu_b, aa, bb, ab = jnp.moveaxis(blur(maps).reshape(*lead, 5, c, -1), -3, 0)  # [... c pixels] each
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    # Variances do not depend on the origin; with grey as the origin, little cancels. Means are relative to black: + 1.
    contrast = (2 * (ab - mu_a * mu_b) + c2) / ((aa - mu_a**2) + (bb - mu_b**2) + c2)
    mu_a, mu_b = mu_a + 1, mu_b + 1
    luminance = (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
    return (luminance * contrast).mean(-1), contrast.mean(-1)


def ssim(a: Array, b: Array, border: int = 0) -> Array:
    """Return the structural similarity, the mean over the channels; 1 for equal images. Sides of at least 11.

    Wang et al. 2004: Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, windows entirely inside the
    image, without downsampling.
    """
    return similarity(shave(a, border), shave(b, border))[0].mean(-1)


def uniform_ssim(a: Array, b: Array, border: int = 0, data_range: float = 1.0) -> Array:
    """Return the structural similarity under a uniform window of 7x7, the mean over the channels; sides of at least 7.

    As scikit-image computes it by default, of images in [0, 1] with this `data_range`: with the factor N / (N - 1),
    windows entirely inside the image. Published results of OpenSTL have a data_range of 2, scikit-image's former
    default for floats, which gives higher values.
    """
    a, b = shave(a, border), shave(b, border)
    window = (*(1 for _ in a.shape[:-3]), UNIFORM, UNIFORM, 1)
    mean = lambda x: lax.reduce_window(x, 0.0, lax.add, window, (1,) * x.ndim, "VALID") / UNIFORM**2  # noqa: E731
    # Variances do not depend on the origin; with grey as the origin, little cancels. The units are half of [-1, 1]'s.
    a, b = a / 2, b / 2
    mu_a, mu_b, unbiased = mean(a), mean(b), UNIFORM**2 / (UNIFORM**2 - 1)
    aa, bb, ab = (
        unbiased * (mean(x * y) - u * v) for x, y, u, v in ((a, a, mu_a, mu_a), (b, b, mu_b, mu_b), (a, b, mu_a, mu_b))
    )
    mu_a, mu_b = mu_a + 0.5, mu_b + 0.5  # relative to black
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    values = (2 * mu_a * mu_b + c1) * (2 * ab + c2) / ((mu_a**2 + mu_b**2 + c1) * (aa + bb + c2))
    return values.mean(PIXEL_AXES)


def halve(x: Array) -> Array:
    """Return x [... h w c] averaged over 2x2, [... ceil(h/2) ceil(w/2) c].

    Odd sides are first padded by a black line at the front, as in pytorch_msssim, where the padding counts in the mean.
    Wang's code mirrors and drops pixels instead.
    """
    h, w, c = x.shape[-3:]
    pad = [(0, 0)] * (x.ndim - 3) + [(h % 2, 0), (w % 2, 0), (0, 0)]
    x = jnp.pad(x, pad, constant_values=-1)
    return x.reshape(*x.shape[:-3], (h + 1) // 2, 2, (w + 1) // 2, 2, c).mean((-4, -2))


def ms_ssim(a: Array, b: Array, border: int = 0) -> Array:
    """Return the multi-scale structural similarity, the mean over the channels. Sides of at least 161.

    Wang, Simoncelli and Bovik 2003, equation 7, with their five exponents. Negative terms count as 0.
    """
    a, b = shave(a, border), shave(b, border)
    product: Array | float = 1.0
    for power in POWERS[:-1]:
        product = product * jax.nn.relu(similarity(a, b)[1]) ** power  # [... c]
        a, b = halve(a), halve(b)
    return (product * jax.nn.relu(similarity(a, b)[0]) ** POWERS[-1]).mean(-1)


def on_luma(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Return the measure fn(a, b, border) applied to the luma of both images."""
    return lambda a, b, border=0: fn(luma(a), luma(b), border)


def compensated_add(x: Array, y: Array) -> Array:
    """Return the sum of two pairs [2 n] of (sum, rounding error), with about twice the digits of f32."""
    total = x[0] + y[0]
    part = total - x[0]
    lost = (x[0] - (total - part)) + (y[0] - part)  # Knuth's exact error of the sum
    # An infinite sum needs no correction, and inf - inf would be NaN.
    return jnp.stack([total, jnp.where(jnp.isfinite(total), x[1] + y[1] + lost, 0)])


def mean_of(fn: Callable[..., Array | Sequence[Array]], names: Sequence[str]) -> Metric:
    """Return the metric of the means of fn over examples.

    fn: (arrays [b ...]) -> f32[b], or one f32[b] per name. update takes (state, *arrays, valid bool[b]).
    State: "count" i32[] and "sum" f32[2 n], with compensated summation: no loss over a hundred thousand batches.
    The mean over no examples is NaN.
    """

    def empty():
        return {"count": jnp.zeros((), jnp.int32), "sum": jnp.zeros((2, len(names)), jnp.float32)}

    def update(state, *arrays_and_valid):
        *arrays, valid = arrays_and_valid
        values = fn(*arrays)
        values = jnp.stack([values] if isinstance(values, jax.Array) else list(values))  # [n b]
        batch = jnp.where(valid[None], values, 0).sum(1, dtype=jnp.float32)  # [n]
        state_sum = compensated_add(state["sum"], jnp.stack([batch, jnp.zeros_like(batch)]))
        return {"count": state["count"] + valid.sum(dtype=jnp.int32), "sum": state_sum}

    def merge(a, b):
        return {"count": a["count"] + b["count"], "sum": compensated_add(jnp.asarray(a["sum"]), jnp.asarray(b["sum"]))}

    def result(state):
        count, total = int(state["count"]), np.asarray(state["sum"], np.float64).sum(0)
        return {name: float(x / count) if count else float("nan") for name, x in zip(names, total, strict=True)}

    return Metric(empty, update, merge, result)


MEASURES: dict[str, Callable[..., Array]] = {
    "psnr_rgb": psnr,
    "psnr_y": on_luma(psnr),
    "ssim_rgb": ssim,
    "ssim_y": on_luma(ssim),
    "ms_ssim_rgb": ms_ssim,
    "ssim_uniform7_range1": uniform_ssim,
    "ssim_uniform7_range2": partial(uniform_ssim, data_range=2.0),
    "mae_rgb": mae,
}
PIXELS: dict[str, Metric] = {name: mean_of(fn, (name,)) for name, fn in MEASURES.items()}


def parse(name: str) -> tuple[str, int]:
    """Return the measure and the border of a metric name. Raises InputError for an unknown name."""
    match = re.fullmatch(r"(.+?)(?:_border([1-9][0-9]*))?", name)
    stem, border = match.groups() if match else (name, None)
    return choose(stem, MEASURES, "pixel metric"), int(border or 0)


def pixel_metric(name: str) -> Metric:
    """Return the metric with a name from PIXELS, or with a border, such as `psnr_y_border4`."""
    stem, border = parse(name)
    return mean_of(partial(MEASURES[stem], border=border), (name,)) if border else PIXELS[stem]


def check_pairs(a: np.ndarray, b: np.ndarray, names: Iterable[str] = ()):
    """Raise InputError, on the host, if a and b [b h w c] cannot be compared by the metrics `names`."""
    if a.shape != b.shape or a.ndim != 4:
        raise InputError(f"Images to be compared must be [b h w c] and of equal size, not {a.shape} and {b.shape}.")
    for name in names:
        stem, border = parse(name)
        side, smallest = min(a.shape[1:3]), SMALLEST.get(stem.rpartition("_")[0], 1)
        if side - 2 * border < smallest:
            shaved = f" after {border} pixels are shaved off every side" if border else ""
            raise InputError(f"{name} needs images of at least {smallest}x{smallest}{shaved}, not {a.shape[1:3]}.")
        if stem.endswith("_y") and a.shape[3] not in (1, 3):
            raise InputError(f"{name} needs images of 1 or 3 channels, not {a.shape[3]}.")
    for x in (a, b):
        if not np.isfinite(x).all():
            raise InputError("Images to be compared must be finite, but there is a NaN or an infinity.")
        if x.size and not (x.min() >= -1.001 and x.max() <= 1.001):
            raise InputError(f"Images to be compared must be in [-1, 1], not from {x.min():.4g} to {x.max():.4g}.")
