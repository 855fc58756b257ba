"""The net of SPyNet (Ranjan and Black 2017), a spatial pyramid, which other models of video have as a part."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Array
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.nn.resample import resize, resize_corners
from jaxgen.nn.warping import warp

LEVELS, WIDTHS = 6, (32, 64, 32, 16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images in [0, 1]


class FlowPyramid(nn.Module):
    """first and second f32[b h w 3] in [0, 1] -> flow f32[b h w 2] with first(p) = second(p + flow(p)), in pixels.

    Section 3, figure 1. Images are resized to sides that halve so often, and the flow is scaled back. With `each` it
    returns the flows of all levels instead, the smallest first, of images with such sides.
    """

    levels: int = LEVELS
    widths: tuple[int, ...] = WIDTHS

    @nn.compact
    def __call__(self, first: Array, second: Array, each: bool = False) -> Any:
        (h, w), grain = first.shape[1:3], 2 ** (self.levels - 1)
        size = -(-h // grain) * grain, -(-w // grain) * grain
        flows = self.at_all_levels(_fitted(to_f32(first), size), _fitted(to_f32(second), size))
        if each:
            return flows
        flow = flows[-1]
        if size == (h, w):
            return flow
        ratio = jnp.broadcast_to(jnp.asarray([w / size[1], h / size[0]], flow.dtype), (*flow.shape[:1], h, w, 2))
        return resize(flow, (h, w), "bilinear", antialias=False, edges="reflect") * ratio

    @nn.nowrap
    def at_all_levels(self, first: Array, second: Array) -> list[Array]:
        """Return the flow at each level of the pyramid in its pixels, the smallest first. Equations 2 to 4."""
        pyramids = [[_normalised(x)] for x in (first, second)]
        for pyramid in pyramids:
            for _ in range(self.levels - 1):
                pyramid.insert(0, avg_pool(pyramid[0], 2, 2))
        flows: list[Array] = []
        for level, (a, b) in enumerate(zip(*pyramids, strict=True)):
            shape = a.shape[1:3]
            coarse = 2 * resize_corners(flows[-1], shape) if flows else jnp.zeros((*a.shape[:3], 2), a.dtype)
            x = jnp.concatenate([a, warp(b, coarse, "border"), coarse], -1)  # [b h w 8]
            flows.append(coarse + to_f32(Residual(self.widths, name=f"basic_module_{level}")(x)))
        return flows


class Residual(nn.Module):
    """The correction of a level's flow, x f32[b h w 8] -> f32[b h w 2]. Section 3.2."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate((*self.widths, 2)):
            x = Conv(width, (7, 7), kernel_init=UNIFORM, name=f"basic_module_{2 * i}")(nn.relu(x) if i else x)
        return x


def _normalised(x: Array) -> Array:
    mean, std = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape) for v in (MEAN, STD))
    return (x - mean) / std


def _fitted(x: Array, size: tuple[int, int]) -> Array:
    """Return images resampled to a size, without antialiasing, as the authors of BasicVSR do."""
    return x if x.shape[1:3] == size else resize(x, size, "bilinear", antialias=False, edges="reflect")
