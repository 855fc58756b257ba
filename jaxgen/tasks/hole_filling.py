"""What is common to models that fill in what is hidden: which holes they learn on, and that the rest stays as is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxgen.core.capabilities import Restorer
from jaxgen.core.errors import InputError
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.data import masks
from jaxgen.data.degradation_ops import broadcast_like, fold_keys, uniform

Paint = Callable[[Params, Context, Batch, Key], Array]  # (.., given, keys Key[b]) -> images f32[b h w c]
KINDS = ("boxes", "strokes", "scratches", "text")


@dataclass(frozen=True)
class Holes:
    """How likely a kind hides parts of an image, each by itself; where it falls to none of them, all do."""

    boxes: float = 0.0  # one
    strokes: float = 0.0
    scratches: float = 0.0
    text: float = 0.0
    side: tuple[float, float] = (0.375, 0.5)  # of a box, in shares of the image's

    def check(self):
        """Raise InputError for what can't be."""
        shares = [getattr(self, kind) for kind in KINDS]
        if not all(0 <= share <= 1 for share in shares) or not any(shares):
            raise InputError("The shares of model.holes are from 0 to 1, and not all of them 0.")
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise InputError(f"model.holes.side must rise within (0, 1], not be {self.side[0]} {self.side[1]}.")

    def __call__(self, keys: Key, size: tuple[int, ...]) -> Array:
        """Return masks f32[b h w 1], 1 where hidden; size is height and width."""
        height, width = size
        made = {**masks.MASKS, "boxes": partial(masks.boxes, most=1, side=self.side)}
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        shares = jnp.asarray([getattr(self, kind) for kind in kinds])
        u = uniform(fold_keys(keys, "kinds"), 0, 1, (len(kinds),))  # [b kinds]
        there = u < jnp.broadcast_to(shares, u.shape)
        there |= ~there.any(1, keepdims=True)
        found = [made[kind](fold_keys(keys, kind), (height, width)) for kind in kinds]
        hidden = [mask * broadcast_like(there[:, i], mask) for i, mask in enumerate(found)]
        return jnp.stack(hidden).max(0)


def covered(image: Array, mask: Array) -> dict[str, Array]:
    """Return what a model is given of an image: grey where it is hidden, whatever is there, and the mask."""
    hidden = jnp.broadcast_to(mask > 0, image.shape)
    return {"degraded": jnp.where(hidden, 0, image), "mask": (mask > 0).astype(image.dtype)}


def joined(given: Batch, made: Array) -> Array:
    """Return what was made where an image is hidden, and the image elsewhere, bit for bit."""
    hidden = jnp.broadcast_to(given["mask"] > 0, made.shape)
    return jnp.where(hidden, made, given["degraded"])


def restorer(holes: Holes, paint: Paint, multiple: int, channels: int) -> Restorer:
    """Return the restorer that asks for a mask and paints under it."""

    def degrade(image: Array, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del scale
        return covered(image, holes(keys, image.shape[1:3]))

    def restore(params: Params, context: Context, given: Batch, keys: Key, scale: float) -> Array:
        del scale
        given = covered(given["degraded"], given["mask"])
        return joined(given, paint(params, context, given, keys))

    # Whole: part of a hole shows nothing of what is around it.
    return Restorer(degrade, restore, (1,), ("mask",), multiple, (channels,), whole=True)


def lesson(holes: Holes, clean: Array, key: Key) -> dict[str, Array]:
    """Return clean images with holes, each by its own key."""
    return covered(clean, holes(jax.random.split(key, len(clean)), clean.shape[1:3]))
