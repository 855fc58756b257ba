"""What is done to a clean image before it is to be mended: single damages (damage.py) in the order of a camera.

x f32[b h w c] in [-1, 1]; keys Key[b], one an image, so that its damage depends on its key alone. Strengths are
f32[b].
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
from jaxgen.nn.resample import imresize

Array = jax.Array
Key = jax.Array
Span = tuple[float, float]  # the least and the most; each image's is drawn between them
PIPELINES = "plain", "real-esrgan", "photo", "haze", "low-light", "grey"
LOW_LIGHT = {"gain": (0.5, 1.0), "gamma": (1.5, 5.0)}  # Lv et al.'s
SPANS = "blur", "motion", "shake", "noise", "poisson", "camera", "jpeg"


@dataclass(frozen=True)
class Degradation:
    """What is done to a clean image, in this order; a span of 0 to 0 leaves a step out.

    The blurs come before it is made small, bicubically ("real-esrgan" does that in its own way); the rest of the
    pipeline and all else come after.
    """

    blur: Span = (0.0, 0.0)  # isotropic Gaussian, its standard deviation in pixels
    motion: Span = (0.0, 0.0)  # the camera moves in a line, its length in pixels
    shake: Span = (0.0, 0.0)  # the hand shakes, its path's length in pixels
    pipeline: Literal["plain", "real-esrgan", "photo", "haze", "low-light", "grey"] = "plain"
    noise: Span = (0.0, 0.0)  # Gaussian, its standard deviation of 255
    poisson: Span = (0.0, 0.0)  # photons counted, times this; 1: white is 255 of them
    camera: Span = (0.0, 0.0)  # the variance of photons counted where white is 1, with a phone's reading noise
    jpeg: Span = (0.0, 0.0)  # quality, from 1 to 100
    mask: Literal["none", "boxes", "strokes", "scratches", "text"] = "none"  # what is hidden, under middle grey

    def check(self):
        """Raise InputError for a span that is none, or an unknown name."""
        choose(self.pipeline, PIPELINES, "model.degradation.pipeline")
        choose(self.mask, ("none", *MASKS), "model.degradation.mask")
        for name in SPANS:
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf:
                raise InputError(f"The span model.degradation.{name} must rise from at least 0, not be {low} {high}.")
        low, high = self.jpeg
        if high and not 1 <= low <= high <= 100:
            raise InputError(
                f"The span model.degradation.jpeg is of qualities from 1 to 100 (0 0: none), not {low} {high}."
            )

    def __call__(self, x: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return "degraded", "sigma" and, where anything is hidden, "mask".

        degraded: f32[b h/scale w/scale c], clipped by JPEG and every pipeline but plain, not by noise
        sigma:    f32[b], of `noise`, of 255
        mask:     f32[b h/scale w/scale 1], 1 where pixels are hidden or destroyed
        """
        if x.shape[-1] not in (1, 3) and (self.jpeg[1] or self.pipeline != "plain"):
            raise InputError(f"JPEG and the pipelines damage images of 1 or 3 channels, not of {x.shape[-1]}.")
        strength = {name: uniform(fold_keys(keys, f"strength of {name}"), *getattr(self, name)) for name in SPANS}
        if self.blur[1]:
            x = blur.gaussian_blur(x, strength["blur"])
        if self.motion[1]:
            angle = uniform(fold_keys(keys, "angle"), 0, math.pi)
            x = blur.filter_images(x, blur.line_kernels(strength["motion"], angle, _wide(self.motion[1])))
        if self.shake[1]:
            x = blur.filter_images(x, blur.shake_kernels(strength["shake"], keys, _wide(self.shake[1])))
        if self.pipeline == "real-esrgan":
            x = real_esrgan(x, fold_keys(keys, "real-esrgan"), scale)
        elif scale != 1:
            x = imresize(x, 1 / scale)
        told = {"sigma": strength["noise"]}
        if self.pipeline == "photo":
            x, told["mask"] = old_photo(x, fold_keys(keys, "photo"))
        elif self.pipeline == "haze":
            x = jnp.clip(degradation_ops.haze(x, fold_keys(keys, "haze")), -1, 1)
        elif self.pipeline == "low-light":
            gain, gamma = (uniform(fold_keys(keys, name), *span) for name, span in LOW_LIGHT.items())
            x = degradation_ops.low_light(x, gain, gamma)
        elif self.pipeline == "grey":
            x = jnp.clip(degradation_ops.grey(x), -1, 1)
        if self.noise[1]:
            x = degradation_ops.gaussian_noise(x, strength["noise"], keys)
        if self.poisson[1]:
            x = degradation_ops.poisson_noise(x, strength["poisson"], fold_keys(keys, "photons"))
        if self.camera[1]:
            read = degradation_ops.read_noise(strength["camera"], keys)
            x = degradation_ops.camera_noise(x, strength["camera"], read, fold_keys(keys, "sensor"))
        if self.jpeg[1]:
            x = degradation_ops.jpeg(x, strength["jpeg"])
        if self.mask != "none":
            mask = MASKS[self.mask](fold_keys(keys, "mask"), (x.shape[1], x.shape[2]))
            x = x * (1 - broadcast_like(mask, x))
            told["mask"] = jnp.maximum(mask, told["mask"]) if "mask" in told else mask
        return {"degraded": x, **told}


def _wide(length: float) -> int:
    """Return the side of the kernel that holds a path of that length about its middle."""
    return 2 * math.ceil(length / 2) + 3
