"""Metrics between outputs and targets, for each kind of array."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.metrics import poses, temporal
from jaxgen.metrics.metric import Metric
from jaxgen.metrics.pixels import MEASURES as PIXELS
from jaxgen.metrics.pixels import check_pairs, mean_of, parse, pixel_metric

PAIR_METRIC = {
    "image": "psnr_rgb",
    "video": "psnr_rgb",
    "audio": "snr",
    "pose": "mpjpe",
}  # defaults
SUMS = ("mse_pixel_sum", "mae_pixel_sum")
BY_FRAME = "_by_frame"  # behind the name of a metric of images
TEMPORAL = ("flicker", "flicker_error")  # of videos
PAIR_METRICS = (
    *PIXELS,
    "snr",
    "mpjpe",
    "pa_mpjpe",
    "acceleration_error",
    "mse",
    *TEMPORAL,
    *SUMS,
    *(f"{name}{BY_FRAME}" for name in (*SUMS, "psnr_rgb")),
)


def is_pair_metric(name: str) -> bool:
    """Return whether a name is a metric of pairs. Raises InputError for an invalid pixel metric."""
    name = name.removesuffix(BY_FRAME) if name.removesuffix(BY_FRAME) in SUMS else name
    if name.removesuffix(BY_FRAME).partition("_border")[0] in PIXELS:
        name = name.removesuffix(BY_FRAME)
        parse(name)
        return True
    return name in PAIR_METRICS


def pair_metric(name: str, spec: ArraySpec) -> Metric:
    """Return the metric whose update is (state, true, made [b ...], valid bool[b]) -> state.

    psnr_rgb, ssim_y, ...: of images and of the frames of videos
    snr:   signal-to-noise ratio in dB, the mean over examples of 10 log10(sum x^2 / sum (x - y)^2), of audio
    mpjpe: mean distance of joints, in the units of the data, of poses
    pa_mpjpe: the same after the best translation, rotation and scale of each frame
    acceleration_error: mean error of the joints' accelerations, in the units of the data by squared frames
    mse:   mean squared error, of any kind
    mse_pixel_sum, mae_pixel_sum: squares and absolute values of the errors of an image or frame, with values in [0, 1],
           summed over its pixels and channels; the mean over frames and examples, as OpenSTL reports them
    flicker: of the output alone, the mean change from frame to frame, of pixels in [0, 255]
    flicker_error: mean error of these changes, 0 where each frame has the same error
    psnr_rgb_by_frame, ...: a metric of images for each frame of videos, named psnr_rgb_frame1, psnr_rgb_frame2, ...
    Raises InputError if the metric is not defined for this kind of array.
    """
    means: dict[str, tuple[tuple[str, ...], Callable]] = {
        "snr": (("audio",), signal_to_noise),
        "mpjpe": (("pose",), poses.joint_distance),
        "pa_mpjpe": (("pose",), poses.aligned_distance),
        "acceleration_error": (("pose",), poses.acceleration_error),
        "mse": ((), lambda x, y: jnp.square(x - y).reshape(len(x), -1).mean(1)),
        "flicker": (("video",), lambda x, y: temporal.flicker(jnp.clip(y, -1, 1))),
        "flicker_error": (("video",), lambda x, y: temporal.flicker_error(x, jnp.clip(y, -1, 1))),
    }
    if name in means:
        kinds, measure = means[name]
        if kinds and spec.kind not in kinds:
            raise InputError(f"{name} is a metric of {' or '.join(kinds)}, not of {spec.kind}.")
        return mean_metric(name, measure)
    if spec.kind not in ("image", "video"):
        raise InputError(
            f"{name} is a metric of images and videos, not of {spec.kind}: ask for {PAIR_METRIC[spec.kind]}."
        )
    by_frame, stem = name.endswith(BY_FRAME), name.removesuffix(BY_FRAME)
    if by_frame and spec.kind != "video":
        raise InputError(f"The metric {name} is of videos, not of {spec.kind}: ask for {stem}.")
    if stem in SUMS:
        return _framed(frame_sum(stem), stem, spec, by_frame)
    if by_frame:
        measure, border = parse(stem)
        fn = lambda true, made: PIXELS[measure](true, jnp.clip(made, -1, 1), border)  # noqa: E731
        return _framed(fn, stem, spec, True)
    metric = pixel_metric(name)
    some = np.zeros((1, *map(int, spec.shape[-3:])), np.float32)
    check_pairs(some, some, (name,))

    def update(total, true, made, valid):
        made = jnp.clip(made, -1, 1)
        if spec.kind == "video":  # [b t h w c] -> [b*t h w c]
            valid = jnp.repeat(valid, true.shape[1])
            true, made = (x.reshape(-1, *x.shape[2:]) for x in (true, made))
        return metric.update(total, true, made, valid)

    return metric._replace(update=update)


def frame_sum(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return (true, made [... h w c]) -> [...], the sum over a frame of the errors' squares or absolute values."""
    power = 2 if name.startswith("mse") else 1
    return lambda true, made: jnp.power(jnp.abs(jnp.float32(true) - made) / 2, power).sum((-3, -2, -1))


def _framed(measure: Callable, name: str, spec: ArraySpec, by_frame: bool) -> Metric:
    """Return the mean over examples of a measure of frames [... h w c] -> [...]: over all frames, or for each one."""
    some = np.zeros((1, *map(int, spec.shape[-3:])), np.float32)
    check_pairs(some, some, () if name in SUMS else (name,))
    if not by_frame:
        metric = mean_of(lambda true, made: measure(true, made).reshape(len(true), -1).mean(1), (name,))
    else:
        names = tuple(f"{name}_frame{number + 1}" for number in range(int(spec.shape[0])))
        metric = mean_of(lambda true, made: list(measure(true, made).T), names)
    return metric


def mean_metric(name: str, measure: Callable) -> Metric:
    """Return the mean over examples of measure(true, made) f32[b]."""

    def update(total, true, made, valid):
        found = jnp.where(valid, measure(jnp.float32(true), jnp.float32(made)), 0)
        return {"count": total["count"] + valid.sum(), "sum": total["sum"] + found.sum()}

    def result(total):
        return {name: float(total["sum"]) / float(total["count"] or np.nan)}

    empty = lambda: {"count": jnp.zeros(()), "sum": jnp.zeros(())}  # noqa: E731
    return Metric(empty, update, lambda a, b: {k: a[k] + b[k] for k in a}, result)


def signal_to_noise(true, made):
    """Return the signal-to-noise ratio 10 log10(sum x^2 / sum (x - y)^2) in dB of [b ...], f32[b]."""
    axes = tuple(range(1, true.ndim))
    power, error = jnp.square(true).sum(axes), jnp.square(true - made).sum(axes)
    return 10 * jnp.log10(jnp.maximum(power, 1e-12) / jnp.maximum(error, 1e-12))
