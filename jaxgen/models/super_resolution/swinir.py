"""SwinIR: Liang, Cao, Sun, Zhang, Van Gool and Timofte 2021, "SwinIR: Image Restoration Using Swin Transformer".

Groups of transformer layers over pixels. Attention is inside windows of 8x8 pixels, shifted by half a window in every
second layer, with a bias by relative position. A convolution ends each group. `swinir` is the paper's classical net of
6 groups of 180 channels, `swinir-light` its lightweight net of 4 groups of 60 channels with a single sub-pixel
convolution. An image's sides must be multiples of the window. The authors' code has stochastic depth in training; here
there is none. The schedule is a cosine, not steps.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, renamed
from jaxgen.models.super_resolution._parts import centred, conv, factors, upsampled
from jaxgen.nn.conv import Dense
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.nn.transformer import layer_norm
from jaxgen.tasks.restoration import Image, Recipe, RestorationTask, row, tiny

NORMAL = nn.initializers.normal(0.02)  # the authors truncate it at 2, not at two deviations
EPSILON = 1e-5  # of the norms


@dataclass(frozen=True)
class SwinIR:
    """Hyper-parameters of SwinIR."""

    image: Image = (96, 96, 3)  # clean training patches: height, width, channels
    scale: int = 2
    groups: int = 6
    layers: int = 6  # of each group
    width: int = 180
    heads: int = 6
    window: int = 8
    ratio: int = 2  # hidden units of a layer's perceptron, as a multiple of its width
    features: int = 64  # channels of the last convolutions; 0: one convolution makes the image
    degradation: Degradation = Degradation()
    recipe: Recipe = Recipe(learning_rate=2e-4)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__groups=self.groups, model__layers=self.layers, model__width=self.width)
        at_least(1, model__heads=self.heads, model__ratio=self.ratio)
        at_least(2, model__window=self.window)
        at_least(0, model__features=self.features)
        if self.width % self.heads:
            raise InputError(f"model.width is {self.width}: it must be a multiple of the {self.heads} heads.")
        factors(self.scale)
        channels = self.image[2]
        net = SwinIRNet(self, channels)
        how = {"channels": channels, "scales": (self.scale,), "multiple": self.window}
        return RestorationTask(
            net, self.image, self.recipe, self.degradation, **how, pixels=centred(channels, 1.0)
        ).task()


class SwinIRNet(nn.Module):
    """x f32[b h w channels] -> f32[b h*scale w*scale channels]. Section 3.1, figure 2."""

    model: SwinIR
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        del train
        m = self.model
        first = conv(m.width, "conv_first")(x)  # (1), [b h w width]
        y = layer_norm("patch_norm", EPSILON)(first)
        for i in range(m.groups):
            y = Group(m.layers, m.heads, m.window, m.ratio, name=f"layers_{i}")(y)  # (3)
        y = first + conv(m.width, "conv_after_body")(layer_norm("norm", EPSILON)(y))  # (4)
        if not m.features:
            return depth_to_space(conv(self.channels * m.scale**2, "upsample_0")(y), m.scale)
        y = nn.leaky_relu(conv(m.features, "conv_before_upsample_0")(y), 0.01)
        return conv(self.channels, "conv_last")(upsampled(y, m.scale, "upsample"))


class Group(nn.Module):
    """Layers and a convolution with a residual connection, x f32[b h w c] -> f32[b h w c]. Section 3.2, RSTB."""

    layers: int
    heads: int
    window: int
    ratio: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i in range(self.layers):
            shift = self.window // 2 if i % 2 else 0
            y = Layer(self.heads, self.window, shift, self.ratio, name=f"blocks_{i}")(y)  # (5)
        return x + conv(x.shape[-1], "conv")(y)  # (6)


class Layer(nn.Module):
    """x <- x + attention(norm(x)), then x <- x + mlp(norm(x)), x f32[b h w c] -> f32[b h w c]. Equations 9 and 10."""

    heads: int
    window: int
    shift: int
    ratio: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _, h, w, c = x.shape
        side = {"p": self.window, "q": self.window}
        y = layer_norm("norm1", EPSILON)(x)
        if self.shift:
            y = jnp.roll(y, (-self.shift, -self.shift), (1, 2))
        y = rearrange(y, "b (h p) (w q) c -> b (h w) (p q) c", **side)  # [b n t c], n windows of t pixels
        # Sizes that are not known yet (jax.export) give a traced mask, which can't be kept.
        masks = neighbours if isinstance(h, int) and isinstance(w, int) else partial(neighbours.__wrapped__, xp=jnp)
        mask = masks(h, w, self.window, self.shift) if self.shift else None
        y = WindowAttention(self.heads, self.window, name="attn")(y, mask)
        y = rearrange(y, "b (h w) (p q) c -> b (h p) (w q) c", **side, h=h // self.window)
        if self.shift:
            y = jnp.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        y = Dense(c * self.ratio, kernel_init=NORMAL, name="mlp_fc1")(layer_norm("norm2", EPSILON)(x))
        return x + Dense(c, kernel_init=NORMAL, name="mlp_fc2")(nn.gelu(y, approximate=False))


class WindowAttention(nn.Module):
    """W softmax(q k^T / sqrt(d) + B) v in each window, x f32[b n t c] -> f32[b n t c]. Equations 7 and 8.

    B depends on the head and on the relative position of two of the t pixels. Scores and softmax are in f32. `mask`
    bool[n t t] is true where a pixel attends to another; None: everywhere.
    """

    heads: int
    window: int

    @nn.compact
    def __call__(self, x: Array, mask: Array | np.ndarray | None) -> Array:
        c = x.shape[-1]
        qkv = Dense(3 * c, kernel_init=NORMAL, name="qkv")(x)
        query, key, value = rearrange(qkv, "b n t (three h d) -> three b n h t d", three=3, h=self.heads)
        query = query * query.shape[-1] ** -0.5
        scores = jnp.einsum("bnhtd,bnhsd->bnhts", query, key, preferred_element_type=jnp.float32)
        places = ((2 * self.window - 1) ** 2, self.heads)
        table = self.param("relative_position_bias_table", NORMAL, places).astype(jnp.float32)
        bias = jnp.moveaxis(table[relative(self.window)], 2, 0)  # [h t t]
        scores = scores + jnp.broadcast_to(bias, scores.shape)
        if mask is not None:
            scores = jnp.where(jnp.broadcast_to(mask[None, :, None], scores.shape), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, -1).astype(value.dtype)
        mixed = rearrange(jnp.einsum("bnhts,bnhsd->bnhtd", weights, value), "b n h t d -> b n t (h d)")
        return Dense(c, kernel_init=NORMAL, name="proj")(mixed)


@lru_cache(maxsize=8)
def relative(window: int) -> np.ndarray:
    """Return the index of the relative position of each pair of pixels in a window, row by row, i32[t t]."""
    rows, columns = np.divmod(np.arange(window**2), window)
    down, across = (x[:, None] - x[None] + window - 1 for x in (rows, columns))
    return down * (2 * window - 1) + across


@lru_cache(maxsize=64)
def neighbours(h: int, w: int, window: int, shift: int, xp: Any = np) -> Any:
    """Return the attention mask of shifted windows, bool[n t t]. Liu et al. 2021 (Swin).

    Rolling brings opposite edges of the image into the last windows; pixels of different edges are masked.
    """
    parts = [(xp.arange(n) >= n - window).astype(int) + (xp.arange(n) >= n - shift) for n in (h, w)]
    region = parts[0][:, None] * 3 + parts[1][None]  # [h w]
    region = rearrange(region, "(h p) (w q) -> (h w) (p q)", p=window, q=window)  # [n t]
    return region[:, :, None] == region[:, None, :]


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """The plain rule with three modules more in between, and the table of places lies as ours."""
    group = r"^(layers\.\d+)\.blocks", r"\1.residual_group.blocks"
    rule = renamed(group, ("mlp_", "mlp."), ("^patch_norm", "patch_embed.norm"))
    name, layout = rule(model, net, path, shape)
    return name, SAME if path[-1] == "relative_position_bias_table" else layout


WEIGHT_NAMES: Rule = weight_name


def preset(model: SwinIR, batch: int, parameters: int) -> Preset:
    sizes: Any = {"groups": 1, "layers": 2, "width": 8, "heads": 2, "window": 4, "features": 8 if model.features else 0}
    small = SwinIR((16, 16, 3), **sizes, recipe=Recipe(learning_rate=1e-3))
    return Preset(row(model, 500_000, batch, optim=Optim(schedule="cosine")), tiny(small), parameters)


PRESETS = {
    "swinir": preset(SwinIR(), 32, 11_752_487),
    "swinir-light": preset(SwinIR((128, 128, 3), groups=4, width=60, features=0), 64, 910_152),
}
