"""Gated PixelCNN: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", NIPS 2016.

Two stacks of masked convolutions: the vertical one sees the rows above a pixel, the horizontal one the pixels to the
left, and at each layer what the vertical one has found. So there is no blind spot (section 2.3, figure 2). Activations
are tanh(value) sigmoid(gate) (equation 2); with classes a label adds to both (equation 4). The paper gives no sizes for
MNIST; those of `pixelcnn-gated` are ours. Its output layers are those of the original PixelCNN.

`pixelcnn-dilated` is the net of weights that Phillip Lippe published for MNIST (UvA deep learning course, notebook 12):
3x3 kernels, dilations 1 2 1 4 1 2 1, and an ELU before the one output layer. `import --model pixelcnn-dilated` reads
its file.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, plain
from jaxgen.models.autoregressive._pixels import ConvPixelModel, row
from jaxgen.models.autoregressive.pixelcnn import check_groups
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.masked_conv import MaskedConv, Place
from jaxgen.nn.precision import to_f32


@dataclass(frozen=True)
class GatedPixelCNN(ConvPixelModel):
    """Hyper-parameters of a gated PixelCNN."""

    width: Count = 32  # features
    first: Count = 7  # side of the first kernel; odd
    kernel: Count = 5  # side of the others; odd
    dilations: tuple[Count, ...] = (1,) * 7  # of each layer
    head: int = 32  # features of a hidden output layer; 0: none
    classes: int = 0  # number of classes; 0: unconditional

    def check(self):
        check_groups(self.image[2], width=self.width, head=self.head)
        for name, side in (("first", self.first), ("kernel", self.kernel)):
            if side % 2 == 0:
                raise InputError(f"model.{name}={side} must be odd: a kernel has a centre.")
        if not self.dilations:
            raise InputError("model.dilations is empty: a net needs a layer.")

    @property
    def module(self) -> "GatedNet":
        parts = self.width, self.first, self.kernel, self.dilations, self.head
        return GatedNet(*parts, self.image[2], self.levels, self.classes)


def gated(x: Array) -> Array:
    """Return tanh(value) sigmoid(gate), [... 2c] -> [... c]."""
    value, gate = jnp.split(x, 2, -1)
    return jnp.tanh(value) * jax.nn.sigmoid(gate)


class GatedLayer(nn.Module):
    """One layer of both stacks. Figure 2 of the paper."""

    width: int
    kernel: int
    dilation: int
    channels: int
    classes: int

    def setup(self):
        conv = partial(MaskedConv, dilation=self.dilation)
        self.vertical = conv(2 * self.width, (self.kernel, self.kernel), rows=True)
        self.link = Conv(2 * self.width, (1, 1))
        self.horizontal = conv(2 * self.width, (1, self.kernel), self.channels, parts=2)
        self.out = MaskedConv(self.width, (1, 1), self.channels)
        if self.classes:
            self.label_vertical, self.label_horizontal = (Dense(2 * self.width, use_bias=False) for _ in range(2))

    def conditioned(self, x: Array, layer: str, label: Array | None) -> Array:
        if label is None:
            return x
        return x + getattr(self, layer)(jax.nn.one_hot(label, self.classes))[:, None, None].astype(x.dtype)

    def rows(self, v: Array, label: Array | None, place: Place | None) -> tuple[Array, Array]:
        """Return the vertical stack's features, and what they give to the horizontal one."""
        found = self.conditioned(self.vertical(v, place), "label_vertical", label)
        return gated(found), self.link(found)

    def pixels(self, h: Array, above: Array, label: Array | None, place: Place | None) -> Array:
        """Return the horizontal stack's features."""
        if place is not None:
            assert place.column is not None
            above = jax.lax.dynamic_slice_in_dim(above, place.column, 1, 2)  # [b 1 w 2c] -> [b 1 1 2c]
        return h + self.out(gated(self.conditioned(self.horizontal(h, place) + above, "label_horizontal", label)))


class GatedNet(nn.Module):
    """Values f32[b h w c] -> logits f32[b h w c levels]; with a place those of one pixel, [b 1 1 c levels]."""

    width: int
    first: int
    kernel: int
    dilations: tuple[int, ...]
    head: int
    channels: int
    levels: int
    classes: int

    def setup(self):
        self.vertical = MaskedConv(self.width, (self.first, self.first), strict=True, rows=True)
        self.horizontal = MaskedConv(self.width, (1, self.first), self.channels, strict=True)
        layer = partial(GatedLayer, self.width, self.kernel, channels=self.channels, classes=self.classes)
        self.layers = [layer(dilation) for dilation in self.dilations]
        if self.head:
            self.hidden = MaskedConv(self.head, (1, 1), self.channels)
        self.out = MaskedConv(self.channels * self.levels, (1, 1), self.channels)

    def __call__(self, x: Array, label: Array | None = None) -> Array:
        return self.pixels(x, self.rows(x, label), label)

    def rows(self, x: Array, label: Array | None = None, place: Place | None = None) -> tuple[Array, ...]:
        """Return what the vertical stack gives to each layer of the horizontal one, of the image or of one row."""
        v, links = self.vertical(x, place), []
        for layer in self.layers:
            v, link = layer.rows(v, label, place)
            links.append(link)
        return tuple(links)

    def pixels(
        self, x: Array, above: tuple[Array, ...], label: Array | None = None, place: Place | None = None
    ) -> Array:
        """Return the logits, of the image or of one pixel."""
        h = self.horizontal(x, place)
        for layer, link in zip(self.layers, above, strict=True):
            h = layer.pixels(h, link, label, place)
        h = nn.relu(self.hidden(nn.relu(h))) if self.head else nn.elu(h)
        logits = self.out(h)
        return to_f32(logits.reshape(*logits.shape[:3], self.channels, self.levels))


PUBLISHED = {
    "vertical": "VerticalStackConvolution_0.conv.Conv_0",
    "horizontal": "HorizontalStackConvolution_0.conv.Conv_0",
    "link": "Conv_0",
    "out": "Conv_1",
}


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the name and layout in the published file, which is Flax's, where the net has no hidden output layer."""
    if model.head:
        return plain(model, net, path, shape)
    *modules, leaf = path
    if len(modules) == 2:
        module = f"conv_{modules[0]}.{PUBLISHED.get(modules[1], modules[1])}"
    else:
        module = {"vertical": "conv_vstack.conv.Conv_0", "horizontal": "conv_hstack.conv.Conv_0", "out": "conv_out"}[
            modules[0]
        ]
    return f"{module}.{leaf}", SAME


WEIGHT_NAMES: Rule = weight_name
SMALL = {"width": 8, "dilations": (1, 2)}
PRESETS = {
    "pixelcnn-gated": row(GatedPixelCNN(), 478_848, **SMALL, first=3, kernel=3, head=8),
    "pixelcnn-dilated": row(
        GatedPixelCNN(width=64, first=3, kernel=3, dilations=(1, 2, 1, 4, 1, 2, 1), head=0), 852_160, **SMALL
    ),
}
