"""The backbones of diffusion models, chosen by configuration: U-Net, DiT, U-ViT, EDM2's U-Net."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Count, Decay, Positive
from jaxgen.core.types import Array, Key
from jaxgen.nn.backbones.adm_unet import UNet
from jaxgen.nn.backbones.dit import DiT
from jaxgen.nn.backbones.mp_unet import MPUNet
from jaxgen.nn.backbones.uvit import UViT
from jaxgen.nn.magnitude import forced_weight_normalisation


@dataclass(frozen=True)
class BackboneConfig:
    """Architecture of a denoiser."""

    kind: Literal["unet", "dit", "uvit", "edm2"] = "unet"
    width: Count = 32  # channels of the first resolution; of a transformer, channels of a token
    depth: Count = 2  # residual blocks per resolution; of a transformer, layers
    heads: Count = 4  # attention heads
    multipliers: tuple[Count, ...] = (
        1,
        2,
        2,
    )  # unet, edm2: channels per resolution as multiples of width, finest first
    attention: tuple[int, ...] = (8,)  # unet, edm2: heights of the feature maps with attention
    patch: Count = 2  # dit, uvit: side of a patch in pixels
    dropout: Decay = 0.0  # unet, edm2
    bandwidth: Positive = 1.0  # edm2: of the Fourier features of time; 0.001 for times up to 1000, as in a flow

    def module(self, features_out: int, classes: int) -> nn.Module:
        """Return the net, (x, t, label, second, train) -> f32[b h w features_out]."""
        if self.kind in ("unet", "edm2"):
            rest: dict[str, Any] = {"multipliers": self.multipliers, "attention": self.attention, "head_width": 0}
            rest |= {"depth": self.depth, "heads": self.heads, "classes": classes, "dropout": self.dropout}
            if self.kind == "unet":
                return UNet(features_out, self.width, **rest)
            return MPUNet(features_out, self.width, bandwidth=self.bandwidth, **rest)
        net = DiT if self.kind == "dit" else UViT
        return net(features_out, self.patch, self.width, self.depth, self.heads, classes)

    def adam(self, learning_rate: float | optax.Schedule, b2: float = 0.999) -> optax.GradientTransformation:
        """Return Adam; for EDM2's net, with weights normalised after each update."""
        adam = optax.adam(learning_rate, b2=b2)
        return optax.chain(adam, forced_weight_normalisation()) if self.kind == "edm2" else adam

    def check(self):
        """Raise InputError for a net without a resolution. (The net itself checks that images fit it.)"""
        at_least(1, model__net__multipliers=min(self.multipliers, default=0))


# jit keeps their traces: samplers, losses and checks call one net many times, at the same shapes.
@partial(jax.jit, static_argnums=(0, 2, 3, 4))
def init(module: nn.Module, key: Key, image: tuple[int, ...], classes: int, second: bool = False) -> Any:
    """Return a net's parameters. Raises InputError where images don't fit it."""
    one, label = jnp.zeros(2), jnp.zeros(2, jnp.int32) if classes else None
    return module.init(key, jnp.zeros((2, *image)), one, label, one if second else None)["params"]


@partial(jax.jit, static_argnums=0)
def call(
    module: nn.Module,
    params: Any,
    x: Array,
    t: Array,
    label: Array | None = None,
    second: Array | None = None,
    dropout: Key | None = None,
) -> Array:
    """Return the output of a net. In training, `dropout` is its key."""
    rngs = {} if dropout is None else {"dropout": dropout}
    found: Any = module.apply({"params": params}, x, t, label, second, train=dropout is not None, rngs=rngs)
    return found
