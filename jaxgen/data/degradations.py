"""Degradation pipelines for restoration models: single degradations (degradation_ops.py) in the order of a camera.

x f32[b h w c] in [-1, 1]; keys Key[b], one per image: its degradation depends on its key alone. Strengths are f32[b].
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.core.errors import InputError, choose
from jaxgen.data import blur, degradation_ops
from jaxgen.data.degradation_ops import broadcast_like, fold_keys, uniform
from jaxgen.data.masks import MASKS
from jaxgen.data.old_photo import old_photo
from jaxgen.data.real_esrgan import real_esrgan
from jaxgen.nn.colour import eight_bit
from jaxgen.nn.resample import imresize

Array = jax.Array
Key = jax.Array
Span = tuple[float, float]  # smallest and largest value; each image draws uniformly in between
PIPELINES = "plain", "real-esrgan", "photo", "haze", "low-light", "grey"
LOW_LIGHT = {"gain": (0.5, 1.0), "gamma": (1.5, 5.0)}  # Lv et al.'s
SPANS = "blur", "motion", "shake", "noise", "poisson", "camera", "jpeg"


@dataclass(frozen=True)
class Degradation:
    """Degradation of clean images, in the order of the fields; a span of 0 to 0 skips a step.

    Blurs come before bicubic downsampling; the rest of the pipeline and all other steps come after it. "real-esrgan"
    downsamples by itself. A downsampled image has the levels of a file, as most publications train and test on files;
    those that compute with MATLAB's doubles throughout have `rounded` off, and inputs beyond black and white.
    """

    blur: Span = (0.0, 0.0)  # sigma of an isotropic Gaussian, in pixels
    motion: Span = (0.0, 0.0)  # length of linear camera motion, in pixels
    shake: Span = (0.0, 0.0)  # length of the path of a shaking hand, in pixels
    pipeline: Literal["plain", "real-esrgan", "photo", "haze", "low-light", "grey"] = "plain"
    noise: Span = (0.0, 0.0)  # sigma of Gaussian noise, on a scale of 255
    poisson: Span = (0.0, 0.0)  # factor of Poisson noise; 1: white is 255 photons
    camera: Span = (0.0, 0.0)  # variance of shot noise at white = 1, with a phone's read noise
    jpeg: Span = (0.0, 0.0)  # quality, from 1 to 100
    mask: Literal["none", "boxes", "strokes", "scratches", "text"] = "none"  # pixels replaced by middle grey
    rounded: bool = True  # whether a downsampled image is clipped and rounded to 8 bits, before the steps after it

    def check(self):
        """Raise InputError for an invalid span or an unknown name."""
        choose(self.pipeline, PIPELINES, "model.degradation.pipeline")
        choose(self.mask, ("none", *MASKS), "model.degradation.mask")
        for name in SPANS:
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf:
                raise InputError(f"The span model.degradation.{name} must be 0 <= low <= high, not {low} {high}.")
        low, high = self.jpeg
        if high and not 1 <= low <= high <= 100:
            raise InputError(
                f"The span model.degradation.jpeg must be qualities from 1 to 100 (0 0: no JPEG), not {low} {high}."
            )

    def __call__(self, x: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return {"degraded", "sigma"} and, if pixels are hidden, "mask".

        degraded: f32[b h/scale w/scale c]; JPEG and all pipelines but plain clip, noise does not
        sigma:    f32[b], of `noise`, on a scale of 255
        mask:     f32[b h/scale w/scale 1], 1 where pixels are hidden or destroyed
        """
        if x.shape[-1] not in (1, 3) and (self.jpeg[1] or self.pipeline != "plain"):
            raise InputError(f"JPEG and the pipelines need images of 1 or 3 channels, not {x.shape[-1]}.")
        strength = {name: uniform(fold_keys(keys, f"strength of {name}"), *getattr(self, name)) for name in SPANS}
        # A photograph without colour has noise without colour, in a file of three channels, too.
        plain = (x == x[..., :1]).all((1, 2, 3)) if x.shape[-1] > 1 else None  # bool[b]
        if self.blur[1]:
            x = blur.gaussian_blur(x, strength["blur"])
        if self.motion[1]:
            angle = uniform(fold_keys(keys, "angle"), 0, math.pi)
            x = blur.filter_images(x, blur.line_kernels(strength["motion"], angle, _kernel_side(self.motion[1])))
        if self.shake[1]:
            x = blur.filter_images(x, blur.shake_kernels(strength["shake"], keys, _kernel_side(self.shake[1])))
        if self.pipeline == "real-esrgan":
            x = real_esrgan(x, fold_keys(keys, "real-esrgan"), scale)
        elif scale != 1:
            x = self.downsampled(imresize(x, 1 / scale))
        extra = {"sigma": strength["noise"]}
        if self.pipeline == "photo":
            x, extra["mask"] = old_photo(x, fold_keys(keys, "photo"))
        elif self.pipeline == "haze":
            x = jnp.clip(degradation_ops.haze(x, fold_keys(keys, "haze")), -1, 1)
        elif self.pipeline == "low-light":
            gain, gamma = (uniform(fold_keys(keys, name), *span) for name, span in LOW_LIGHT.items())
            x = degradation_ops.low_light(x, gain, gamma)
        elif self.pipeline == "grey":
            x = jnp.clip(degradation_ops.grey(x), -1, 1)
        if self.noise[1]:
            x = degradation_ops.gaussian_noise(x, strength["noise"], keys, plain)
        if self.poisson[1]:
            x = degradation_ops.poisson_noise(x, strength["poisson"], fold_keys(keys, "photons"), plain)
        if self.camera[1]:
            read = degradation_ops.read_noise(strength["camera"], keys)
            x = degradation_ops.camera_noise(x, strength["camera"], read, fold_keys(keys, "sensor"), plain)
        if self.jpeg[1]:
            x = degradation_ops.jpeg(x, strength["jpeg"])
        if self.mask != "none":
            mask = MASKS[self.mask](fold_keys(keys, "mask"), (x.shape[1], x.shape[2]))
            x = x * (1 - broadcast_like(mask, x))
            extra["mask"] = jnp.maximum(mask, extra["mask"]) if "mask" in extra else mask
        return {"degraded": x, **extra}

    def downsampled(self, x: Array) -> Array:
        """Return a downsampled image as it is stored: clipped and rounded to 8 bits, or as it is."""
        return eight_bit(x) if self.rounded else x


def _kernel_side(length: float) -> int:
    """Return the side of a kernel that contains a path of this length around its centre."""
    return 2 * math.ceil(length / 2) + 3
