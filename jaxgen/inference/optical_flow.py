"""Optical flow by a trained net."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.core.types import Array, averaged
from jaxgen.inference.opening import open_trained

DEFAULT = "spynet-vimeo"  # in the catalogue of weights


@dataclass(frozen=True)
class FlowNet:
    """A net that finds optical flow.

    apply:     (variables, first and second f32[b h w c] in [-1, 1]) -> flow f32[b h w 2] in pixels, to the right and
               down, with first(p) = second(p + flow(p)); c is 1 or 3
    variables: arguments of a jitted function, lest they be compiled into it
    """

    apply: Callable[[Any, Array, Array], Array]
    variables: Any

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the flow f32[h w 2] between two frames f32[h w c]. A program for each size is compiled once."""
        return np.asarray(self._program(self.variables, jnp.asarray(first)[None], jnp.asarray(second)[None]))[0]

    @cached_property
    def _program(self) -> Callable[..., Array]:
        return jax.jit(self.apply)


def open_flow(name: str = DEFAULT, preset: str = "") -> FlowNet:
    """Return the net of a run, of a file of weights or of a name in the catalogue.

    preset: of a file of weights that does not state it, such as "spynet" for that part of BasicVSR's weights
    Raises InputError where it finds no flow.
    """
    opened = open_trained(name, preset, mesh=Mesh(data=1), with_frozen=False)
    transform, (params, context) = opened.task.find(Transform), averaged(opened.state, opened.frozen)

    def apply(variables: Any, first: Array, second: Array) -> Array:
        assert transform is not None
        pair = jnp.stack([first, second], 1)  # [b 2 h w c]
        pair = jnp.repeat(pair, 3, -1) if pair.shape[-1] == 1 else pair
        keys = jnp.zeros(len(pair), jnp.uint32)
        return transform.apply(variables, context, {"video": pair}, keys)["flow"]

    frame = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    try:
        found = transform is not None and tuple(transform.inputs) == ("video",)
        if not found or jax.eval_shape(apply, params, frame, frame).shape != (1, 64, 64, 2):
            raise KeyError
    except KeyError:
        instead = f"it needs a run of spynet, or weights such as {DEFAULT}"
        raise InputError(f"{name} finds no optical flow: {instead}.") from None
    return FlowNet(apply, params)
