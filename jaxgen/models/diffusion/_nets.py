"""The networks that any method can have: U-Net, DiT, U-ViT, EDM2's U-Net, by configuration."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.errors import at_least
from jaxgen.core.types import Array, Key
from jaxgen.nn.backbones.adm_unet import UNet
from jaxgen.nn.backbones.dit import DiT
from jaxgen.nn.backbones.mp_unet import MPUNet
from jaxgen.nn.backbones.uvit import UViT
from jaxgen.nn.magnitude import forced_weight_normalisation


@dataclass(frozen=True)
class BackboneConfig:
    """What a denoiser is made of."""

    kind: Literal["unet", "dit", "uvit", "edm2"] = "unet"
    width: int = 32  # channels next to the image; of a transformer, numbers in a token
    depth: int = 2  # residual blocks of each resolution; layers of a transformer
    heads: int = 4  # of attention
    multipliers: tuple[int, ...] = (1, 2, 2)  # unet, edm2: channels of each resolution, in widths, the finest first
    attention: tuple[int, ...] = (8,)  # unet, edm2: heights of the maps that have attention
    patch: int = 2  # dit, uvit: pixels of a patch's side
    dropout: float = 0.0  # unet, edm2
    bandwidth: float = 1.0  # edm2: of the frequencies that times are told by; 0.001 where they go to 1000, as a flow's

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
        """Return the net's optimizer, which leaves the weights of EDM2's normalised."""
        adam = optax.adam(learning_rate, b2=b2)
        return optax.chain(adam, forced_weight_normalisation()) if self.kind == "edm2" else adam

    def check(self):
        """Raise InputError for numbers that make no net. (The net itself says where images don't fit it.)"""
        at_least(1, model__net__width=self.width, model__net__depth=self.depth, model__net__heads=self.heads)
        at_least(1, model__net__patch=self.patch, model__net__multipliers=min(self.multipliers, default=0))
        at_least(0, model__net__dropout=self.dropout)
        at_least(1e-6, model__net__bandwidth=self.bandwidth)


def init(module: nn.Module, key: Key, image: tuple[int, ...], classes: int, second: bool = False) -> Any:
    """Return a net's parameters. Raises InputError where images don't fit it."""
    one, label = jnp.zeros(2), jnp.zeros(2, jnp.int32) if classes else None
    return module.init(key, jnp.zeros((2, *image)), one, label, one if second else None)["params"]


def call(
    module: nn.Module,
    params: Any,
    x: Array,
    t: Array,
    label: Array | None = None,
    second: Array | None = None,
    dropout: Key | None = None,
) -> Array:
    """Return what a net says; in training with a key for its dropout."""
    rngs = {} if dropout is None else {"dropout": dropout}
    found: Any = module.apply({"params": params}, x, t, label, second, train=dropout is not None, rngs=rngs)
    return found
