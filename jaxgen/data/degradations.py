"""What is done to a clean picture before it is to be mended: single damages (damage.py) in the order of a camera.

x f32[b h w c] in [-1, 1]; keys Key[b], one a picture, so that its damage depends on its key alone. Strengths are
f32[b].
"""

import math
from dataclasses import dataclass

import jax

from jaxgen.data import damage
from jaxgen.data.damage import drawn, folded
from jaxgen.errors import InputError
from jaxgen.nn.resample import imresize

Array = jax.Array
Key = jax.Array
Span = tuple[float, float]  # the least and the most; each picture's is drawn between them
SPANS = "blur", "motion", "shake", "noise", "poisson", "camera", "jpeg"


@dataclass(frozen=True)
class Degradation:
    """What is done to a clean picture, in this order; a span of 0 to 0 leaves a step out.

    It is made small after the blurs, bicubically.
    """

    blur: Span = (0.0, 0.0)  # isotropic Gaussian, its standard deviation in pixels
    motion: Span = (0.0, 0.0)  # the camera moves in a line, its length in pixels
    shake: Span = (0.0, 0.0)  # the hand shakes, its path's length in pixels
    noise: Span = (0.0, 0.0)  # Gaussian, its standard deviation of 255
    poisson: Span = (0.0, 0.0)  # photons counted, times this; 1: white is 255 of them
    camera: Span = (0.0, 0.0)  # the variance of photons counted where white is 1, with a phone's reading noise
    jpeg: Span = (0.0, 0.0)  # quality, from 1 to 100

    def check(self):
        """Raise InputError for a span that is none."""
        for name in SPANS:
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf:
                raise InputError(f"model.degradation.{name} must rise from at least 0, not be {low} {high}.")
        low, high = self.jpeg
        if high and not 1 <= low <= high <= 100:
            raise InputError(f"model.degradation.jpeg is a quality from 1 to 100 (0 0: none), not {low} {high}.")

    def __call__(self, x: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        """Return {"degraded": f32[b h/scale w/scale c], clipped by JPEG alone, "sigma": f32[b], the noise's of 255}."""
        strength = {name: drawn(folded(keys, name), *getattr(self, name)) for name in SPANS}
        sigma = drawn(folded(keys, "sigma"), *self.noise)
        if self.blur[1]:
            x = damage.gaussian_blur(x, strength["blur"])
        if self.motion[1]:
            angle = drawn(folded(keys, "angle"), 0, math.pi)
            x = damage.filtered(x, damage.line_kernels(strength["motion"], angle, _wide(self.motion[1])))
        if self.shake[1]:
            x = damage.filtered(x, damage.shake_kernels(strength["shake"], keys, _wide(self.shake[1])))
        if scale != 1:
            x = imresize(x, 1 / scale)
        if self.noise[1]:
            x = damage.gaussian_noise(x, sigma, keys)
        if self.poisson[1]:
            x = damage.poisson_noise(x, strength["poisson"], folded(keys, "photons"))
        if self.camera[1]:
            read = damage.read_noise(strength["camera"], keys)
            x = damage.camera_noise(x, strength["camera"], read, folded(keys, "sensor"))
        if self.jpeg[1]:
            x = damage.jpeg(x, strength["jpeg"])
        return {"degraded": x, "sigma": sigma}


def _wide(length: float) -> int:
    """Return the side of the kernel that holds a path of that length about its middle."""
    return 2 * math.ceil(length / 2) + 3
