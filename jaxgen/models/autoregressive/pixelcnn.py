"""PixelCNN: van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016.

A net of masked convolutions returns the distribution of each pixel's levels, given the pixels above it and to the
left (section 3). Stacked 3x3 kernels never see some of the pixels to the upper right, the blind spot, which
`pixelcnn-gated` does not have. Layers are those of table 1: a 7x7 convolution with mask A, residual blocks of figure 5
with mask B, and two 1x1 convolutions. The number of features is ours. Colours are in the order red, green, blue, each
given those before it.
"""

from dataclasses import dataclass
from functools import partial

from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.types import Array
from jaxgen.models.autoregressive._pixels import ConvPixelModel, row
from jaxgen.nn.masked_conv import MaskedConv, Place
from jaxgen.nn.precision import to_f32


@dataclass(frozen=True)
class PixelCNN(ConvPixelModel):
    """Hyper-parameters of a PixelCNN."""

    width: Count = 32  # features of a 3x3 convolution; twice as many between the blocks
    blocks: Count = 7  # residual blocks
    head: Count = 32  # features of the last hidden layer

    def check(self):
        check_groups(self.image[2], width=self.width, head=self.head)

    @property
    def module(self) -> "PixelCNNNet":
        return PixelCNNNet(self.width, self.blocks, self.head, self.image[2], self.levels)


def check_groups(channels: int, **sizes: int):
    """Raise InputError for numbers of features that can't be split into a group for each channel of the image."""
    for name, size in sizes.items():
        if size % channels:
            raise InputError(f"model.{name}={size} must be a multiple of the image's {channels} channels.")


class PixelCNNNet(nn.Module):
    """Values f32[b h w c] -> logits f32[b h w c levels]; with a place those of one pixel, [b 1 1 c levels]."""

    width: int
    blocks: int
    head: int
    channels: int
    levels: int

    def setup(self):
        conv = partial(MaskedConv, channels=self.channels)
        self.first = conv(2 * self.width, (7, 7), strict=True)
        self.down = [conv(self.width, (1, 1)) for _ in range(self.blocks)]
        self.middle = [conv(self.width, (3, 3)) for _ in range(self.blocks)]
        self.up = [conv(2 * self.width, (1, 1)) for _ in range(self.blocks)]
        self.hidden = conv(self.head, (1, 1))
        self.out = conv(self.channels * self.levels, (1, 1))

    def __call__(self, x: Array, label: Array | None = None) -> Array:
        return self.pixels(x)

    def rows(self, x: Array, label: Array | None = None, place: Place | None = None) -> tuple[()]:
        """Return (): nothing is computed by whole rows."""
        return ()

    def pixels(self, x: Array, above: tuple = (), label: Array | None = None, place: Place | None = None) -> Array:
        """Return the logits, of the image or of one pixel."""
        h = self.first(x, place)
        for down, middle, up in zip(self.down, self.middle, self.up, strict=True):
            h = h + up(nn.relu(middle(nn.relu(down(nn.relu(h))), place)))
        logits = self.out(nn.relu(self.hidden(nn.relu(h))))
        return to_f32(logits.reshape(*logits.shape[:3], self.channels, self.levels))


PRESETS = {"pixelcnn": row(PixelCNN(), 107_808, width=8, blocks=2, head=8)}
