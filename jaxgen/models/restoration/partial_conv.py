"""Partial convolutions: Liu, Reda, Shih, Wang, Tao and Catanzaro 2018, "Image Inpainting for Irregular Holes Using
Partial Convolutions".

A partial convolution uses known pixels only and divides by their share of its window. An output is known to the next
layer if its window held any known pixel, so holes close layer by layer. The net is a U-Net of these; skip connections
have their own masks. The output is compared inside and outside of the hole. Where `perceptual` or `style` is above 0, a
frozen net's features are compared as well: those of ST-LPIPS's VGG-16 before all five poolings (`pip install
jaxgen[perceptual]`), or of another `backbone` and `layers`. The paper has 0.05 and 120, on ImageNet's VGG-16 after its
first three poolings. Those weights are not available offline, and the paper's loss weights do not suit other features:
both are 0 here, in the published results too. As in the authors' code, pixels outside of the image count as unknown.

The paper's second phase, with the encoder's batch norm frozen, is not implemented: holes enter the statistics as zeros.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core.config import Preset, Run
from jaxgen.core.errors import at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.losses import perceptual as losses
from jaxgen.metrics.pixels import psnr
from jaxgen.models.classifier.shift_tolerant import LAYERS
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import max_pool
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import backbones
from jaxgen.tasks.hole_filling import Holes, composite, hole_filling, masked_batch
from jaxgen.tasks.restoration import Image, row, tiny

MaskedMap = tuple[Array, Array]  # x [b h w c], and known f32[b h w 1], 1 where x is known


IRREGULAR = Holes(boxes=0.25, strokes=0.75, scratches=0.25)


@dataclass(frozen=True)
class PartialConvolutions:
    """Hyper-parameters of a U-Net of partial convolutions."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 64  # channels of the first layer, doubled at each stage, up to 8 times as many
    depth: int = 8  # number of stride-2 downsampling stages
    holes: Holes = IRREGULAR
    hole: float = 6.0  # weight of the L1 distance inside the hole; the weight outside is 1
    perceptual: float = 0.0  # weight of the distance between features
    style: float = 0.0  # weight of the distance between their Gram matrices
    backbone: str = "vgg16"  # the net with these features; or random, or a classifier's run folder
    layers: tuple[str, ...] = LAYERS["vgg"]
    smooth: float = 0.1  # weight of the total variation in the hole
    learning_rate: float = 2e-4  # of Adam

    def check_run(self, run: Run):
        """Raise InputError for an unknown backbone or layer. Only training needs them, so `task` does not check."""
        del run
        if self.uses_features:
            backbones.check(self.backbone, self.layers, self.image)

    @property
    def uses_features(self) -> bool:
        return self.perceptual > 0 or self.style > 0

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__image=min(self.image), model__width=self.width, model__depth=self.depth)
        at_least(0, model__hole=self.hole, model__perceptual=self.perceptual, model__style=self.style)
        at_least(0, model__smooth=self.smooth)
        self.holes.check()
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"restorer": Learner(("restorer",), optax.adam(self.learning_rate))},
            phases=(Phase("restorer", "restorer", self.loss),),
            ema=(Ema("restorer", ramped(0.999)),),
            frozen={"backbone": partial(backbones.load, self.backbone)} if self.uses_features else {},
            capabilities=hole_filling(self.holes, self.paint, 1, self.image[2]),
        )

    @property
    def net(self) -> "PartialConvUNet":
        return PartialConvUNet(self.width, self.depth, self.image[2])

    def init(self, key: Key, spec: Any = None):
        del spec
        found = self.net.init(key, jnp.zeros((2, *self.image)), jnp.zeros((2, *self.image[:2], 1)), train=False)
        return {"restorer": found["params"]}, {"restorer": {k: v for k, v in found.items() if k != "params"}}

    def paint(self, params: Params, context: Context, given: Batch, keys: Key) -> Array:
        del keys
        nets: Any = variables("restorer", params, context.extra)
        return self.net.apply(nets, given["degraded"], given["mask"], train=False)  # pyright: ignore

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        nets, mask = variables("restorer", params, context.extra), given["mask"]
        out: Any = self.net.apply(nets, given["degraded"], mask, train=context.train, mutable=["batch_stats"])
        made, whole = out[0], composite(given, out[0])
        apart = jnp.abs(made - clean)
        inside = jnp.broadcast_to(mask, apart.shape)
        near, far = ((1 - inside) * apart).mean(), (inside * apart).mean()  # (1)
        rough = variation(whole, mask).mean()
        value = near + self.hole * far + self.smooth * rough
        metrics = {"hole": far, "known": near, "variation": rough, "psnr": psnr(whole, clean).mean()}
        if self.uses_features:
            see = partial(context.frozen["backbone"].features, layers=self.layers)
            ours, joint, theirs = (see(x) for x in (made, whole, clean))
            metrics["perceptual"] = (
                losses.feature_loss(ours, theirs) + losses.feature_loss(joint, theirs)
            ).mean()  # (2)
            metrics["style"] = (losses.style_loss(ours, theirs) + losses.style_loss(joint, theirs)).mean()  # (4), (5)
            value += self.perceptual * metrics["perceptual"] + self.style * metrics["style"]
        return value, Aux(metrics, {"restorer": out[1]})


def variation(x: Array, mask: Array) -> Array:
    """Return mean |x[i + 1] - x[i]|, vertical and horizontal, of pairs in the hole dilated by one pixel. Equation 6."""
    near = jnp.broadcast_to(max_pool(mask, 3, 1, 1), x.shape)
    down = near[:, 1:] * near[:, :-1] * jnp.abs(x[:, 1:] - x[:, :-1])
    across = near[:, :, 1:] * near[:, :, :-1] * jnp.abs(x[:, :, 1:] - x[:, :, :-1])
    return (down.sum((1, 2, 3)) + across.sum((1, 2, 3))) / x[0].size


class PartialConv(nn.Module):
    """Concatenated maps -> y [b h' w' features], and 1 where its window has a known pixel. Section 3.1.

    y = W (x m) n / sum(m) + b; n is the number of values in a window, m is 1 where x is known. y is 0 where m is 0.
    """

    features: int
    kernel: int
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, *parts: MaskedMap) -> MaskedMap:
        k, pad = self.kernel, self.kernel // 2
        x = jnp.concatenate([x * jnp.broadcast_to(known.astype(x.dtype), x.shape) for x, known in parts], -1)
        count = sum(x.shape[-1] * known for x, known in parts)  # known values of each pixel [b h w 1]
        shape = (1, k, k, 1), (1, self.stride, self.stride, 1), ((0, 0), (pad, pad), (pad, pad), (0, 0))
        count = jax.lax.reduce_window(count, np.float32(0), jax.lax.add, *shape)  # [b h' w' 1]
        known = (count > 0).astype(jnp.float32)
        size, stride, pads = (k, k), (self.stride, self.stride), ((pad, pad), (pad, pad))
        y = Conv(self.features, size, stride, pads, use_bias=False, kernel_init=he, name="conv")(x)
        y = y * jnp.broadcast_to(k * k * x.shape[-1] / jnp.maximum(count, 1), y.shape).astype(y.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)
        return y * jnp.broadcast_to(known, y.shape).astype(y.dtype), known


he = nn.initializers.he_normal()


class PartialConvUNet(nn.Module):
    """x f32[b h w channels], 0 where mask f32[b h w 1] is 1 -> the whole image, of any size."""

    width: int
    depth: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        part, skips = (x, 1 - mask), []
        for i in range(self.depth):
            skips.append(part)
            features, kernel = self.width * min(2**i, 8), (7, 5, 5)[i] if i < 3 else 3
            y, known = PartialConv(features, kernel, 2, use_bias=i == 0, name=f"down_{i}")(part)
            part = nn.relu(BatchNorm(name=f"down_{i}_norm")(y, train) if i else y), known
        for i in reversed(range(self.depth)):
            skip = skips[i]
            height, width = skip[0].shape[1:3]
            above = tuple(nearest_upsample(v)[:, :height, :width] for v in part)  # an odd side was rounded up
            features = self.width * min(2 ** (i - 1), 8) if i else self.channels
            y, known = PartialConv(features, 3, use_bias=i == 0, name=f"up_{i}")(above, skip)
            part = (nn.leaky_relu(BatchNorm(name=f"up_{i}_norm")(y, train), 0.2) if i else y), known
        return to_f32(part[0])


PRESETS = {
    "partial-conv": Preset(
        row(PartialConvolutions(), 500_000, 6),
        tiny(PartialConvolutions((16, 16, 3), 8, 3, Holes(boxes=1, strokes=1), learning_rate=2e-3)),
        32_859_796,
    )
}
