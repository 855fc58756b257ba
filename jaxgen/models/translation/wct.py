"""WCT: Li, Fang, Yang, Wang, Lu and Yang 2017, "Universal Style Transfer via Feature Transforms".

A photograph's feature maps are whitened and given the style's covariance and mean (equations 1 and 2). The paper turns
the maps of five layers back into images with five decoders, one after the other; there are none for the backbone used
here. Instead, as our own choice, a canvas is optimised as in gatys.py, until its maps are near the transformed ones of
all layers at once; each layer's squared distance is divided by its target's variance. There is no training, and an
image takes as long as with Gatys et al. The paper's single pass through a decoder is available with a run of `adain`
(`python -m jaxgen stylize --with RUN --how wct`), at one layer.

Strength blends the transformed maps with the photograph's (equation 3; 0.6 in the authors' code, 1 here by default).
Several styles are blended in the same way, by weights or by regions of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch
from jaxgen.models.translation.gatys import canvas_task
from jaxgen.nn.resample import resize
from jaxgen.nn.style import colour, mean_covariance, whiten
from jaxgen.pretrained import backbones
from jaxgen.pretrained.backbones import Backbone
from jaxgen.tasks import style_transfer


@dataclass(frozen=True)
class WCT:
    """Hyper-parameters of WCT by optimisation of a canvas."""

    image: tuple[int, int, int] = (256, 256, 3)  # height, width, channels
    backbone: str = "vgg16"
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    smooth_weight: float = 0.3  # of the squared total variation beyond the content's
    learning_rate: float = 0.02

    def task(self, steps: int) -> Task:
        """Return the Task of a canvas with the frozen "styles" as targets. Raises InputError as Gatys does."""
        del steps
        self.check()
        load = partial(backbones.load, self.backbone)
        return canvas_task(self.image, self.loss, self.learning_rate, load, dict)

    def check(self):
        """Raise InputError for settings out of range."""
        backbones.check(self.backbone, self.layers, self.image)

    def targets(
        self,
        backbone: Backbone,
        styles: Sequence[Array],
        weights: Sequence[float] = (),
        masks: Array | None = None,
        content: Array | None = None,
        strength: float = 1.0,
    ) -> dict[str, Any]:
        """Return the transformed maps of content f32[1 h w 3]; the other arguments are those of Gatys.targets."""
        assert content is not None
        shares = np.asarray(weights or [1] * len(styles), np.float32)
        shares = shares / shares.sum()
        found = [backbone.features(x[None], self.layers) for x in styles]
        maps = []
        for place, code in enumerate(backbone.features(content, self.layers)):
            white, size = whiten(code), (code.shape[1], code.shape[2])
            parts = None if masks is None else resize(masks, size, "bilinear", edges="reflect")  # [n h w 1]
            mixed = jnp.zeros_like(code)
            for i, style in enumerate(found):
                part = shares[i] if parts is None else jnp.broadcast_to(parts[i][None], code.shape)
                mixed = mixed + part * colour(white, mean_covariance(style[place]))
            maps.append(strength * mixed + (1 - strength) * code)  # equation 3
        return {"maps": maps}

    def loss(self, canvas: Array, batch: Batch, backbone: Backbone, targets: Any) -> tuple[Array, dict[str, Array]]:
        """Return the loss f32[] of a canvas [1 h w 3], and its terms; batch["image"] is the content."""
        total = jnp.zeros(())
        for made, target in zip(backbone.features(canvas, self.layers), targets["maps"], strict=True):
            total = total + jnp.square(made - target).mean() / (target.var() + 1e-8)
        rough = style_transfer.roughness(canvas, batch["image"]).mean()
        return total + self.smooth_weight * rough, {"maps": total, "smooth": rough}
