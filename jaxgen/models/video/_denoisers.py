"""The denoisers of clips, chosen by configuration, and the presets of models with one."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.nn.backbones.adm_unet import UNet
from jaxgen.nn.backbones.latte import Latte


@dataclass(frozen=True)
class ClipBackbone(BackboneConfig):
    """Architecture of a denoiser of clips, factorised over space and time."""

    kind: Literal["unet", "latte"] = "unet"  # pyright: ignore[reportIncompatibleVariableOverride]
    width: Count = 64  # channels of the first resolution; of a transformer, channels of a token
    heads: Count = 8  # attention heads
    multipliers: tuple[Count, ...] = (1, 2, 4, 8)  # unet: channels per resolution as multiples of width, finest first
    attention: tuple[int, ...] = (8, 16, 32)  # unet: heights of the feature maps with attention

    def module(self, features_out: int, classes: int) -> nn.Module:
        """Return the net, (x f32[b t h w c], t, label, second, train) -> f32[b t h w features_out]."""
        if self.kind == "latte":
            return Latte(features_out, self.patch, self.width, self.depth, self.heads, classes)
        rest: dict[str, Any] = {"multipliers": self.multipliers, "attention": self.attention, "head_width": 0}
        rest |= {"depth": self.depth, "heads": self.heads, "classes": classes, "dropout": self.dropout}
        return ClipUNet(partial(UNet, features_out, self.width, **rest))


class ClipUNet(nn.Module):
    """x f32[b t h w c], times f32[b], labels i32[b] -> f32[b t h w features_out].

    A U-Net of frames, with attention over time after each attention over pixels. Ho et al. 2022, section 3.
    """

    make: Any  # (frames, name) -> the U-Net

    @nn.compact
    def __call__(
        self, x: Array, t: Array, label: Array | None = None, second: Array | None = None, train: bool = False
    ) -> Array:
        frames = x.shape[1]
        each = lambda v: None if v is None else jnp.repeat(v, frames)  # noqa: E731
        net = self.make(frames=frames, name="unet")
        made = net(x.reshape(-1, *x.shape[2:]), each(t), each(label), each(second), train)  # [b*t h w c]
        return made.reshape(*x.shape[:-1], -1)


def row(model: Any, small: Any, parameters: int, source: str = "moving-shapes", batch: int = 16) -> Preset:
    """Return a preset, and a tiny run."""
    data = Data(source)
    full = Run(
        model,
        data=data,
        steps=200_000,
        batch=batch,
        optim=Optim(warmup=1000),
        log=Log(100, 2500, 16),
        save=Save(1000),
    )
    return Preset(full, Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4)), parameters)
