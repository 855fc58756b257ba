"""Shared parts of inpainting models: random holes for training, and a restorer that keeps known pixels unchanged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxgen.core.capabilities import Degradation, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.data import masks
from jaxgen.data.degradation_ops import broadcast_like, fold_keys, uniform
from jaxgen.tasks.transforms import restoration

Paint = Callable[[Params, Context, Batch, Key], Array]  # (params, context, given, keys Key[b]) -> images f32[b h w c]
KINDS = ("boxes", "strokes", "scratches", "text")


@dataclass(frozen=True)
class Holes:
    """The probability of each kind of hole, drawn independently; an image that drew none of them gets all."""

    boxes: float = 0.0  # one box
    strokes: float = 0.0
    scratches: float = 0.0
    text: float = 0.0
    side: tuple[float, float] = (0.375, 0.5)  # range of a box's sides, as shares of the image's

    def check(self):
        """Raise InputError for settings out of range."""
        shares = [getattr(self, kind) for kind in KINDS]
        if not all(0 <= share <= 1 for share in shares) or not any(shares):
            raise InputError("The shares of model.holes must be from 0 to 1, and not all of them 0.")
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise InputError(f"model.holes.side must rise within (0, 1], not be {self.side[0]} {self.side[1]}.")

    def __call__(self, keys: Key, size: tuple[int, ...]) -> Array:
        """Return masks f32[b h w 1], 1 where hidden; size is height and width."""
        height, width = size
        draw = {**masks.MASKS, "boxes": partial(masks.boxes, most=1, side=self.side)}
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        shares = jnp.asarray([getattr(self, kind) for kind in kinds])
        u = uniform(fold_keys(keys, "kinds"), 0, 1, (len(kinds),))  # [b kinds]
        present = u < jnp.broadcast_to(shares, u.shape)
        present |= ~present.any(1, keepdims=True)
        found = [draw[kind](fold_keys(keys, kind), (height, width)) for kind in kinds]
        hidden = [mask * broadcast_like(present[:, i], mask) for i, mask in enumerate(found)]
        return jnp.stack(hidden).max(0)


def masked(image: Array, mask: Array) -> dict[str, Array]:
    """Return the inputs of an inpainting model: the image with hidden pixels set to grey, and the mask."""
    hidden = jnp.broadcast_to(mask > 0, image.shape)
    return {"degraded": jnp.where(hidden, 0, image), "mask": (mask > 0).astype(image.dtype)}


def composite(given: Batch, made: Array) -> Array:
    """Return `made` where an image is hidden, and the image itself elsewhere, bit for bit."""
    hidden = jnp.broadcast_to(given["mask"] > 0, made.shape)
    return jnp.where(hidden, made, given["degraded"])


def hole_filling(
    holes: Holes, paint: Paint, multiple: int, channels: int, stochastic: bool = False, size: tuple[int, ...] = ()
) -> tuple[Transform, Degradation]:
    """Return the Transform that paints the masked pixels only, and the Degradation that masks them."""

    def degrade(image: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        return masked(image, holes(keys, image.shape[1:3]))

    def restore(params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del scale
        given = masked(given["degraded"], given["mask"])
        return composite(given, paint(params, context, given, keys))

    # Whole images only: a tile inside a hole has no known pixels around it.
    return restoration(
        degrade,
        restore,
        conditions=("mask",),
        multiple=multiple,
        channels=(channels,),
        stochastic=stochastic,
        whole=True,
        size=size,
    )


def masked_batch(holes: Holes, clean: Array, key: Key) -> dict[str, Array]:
    """Return clean images with holes, each image's hole drawn by its own key."""
    return masked(clean, holes(jax.random.split(key, len(clean)), clean.shape[1:3]))
