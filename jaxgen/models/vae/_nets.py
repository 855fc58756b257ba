"""Image encoders and decoders that the models of this family share: MLPs, convolutions or residual blocks."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import at_least
from jaxgen.core.types import Array
from jaxgen.nn.conv import Conv, ConvTranspose, Dense
from jaxgen.nn.pool import flatten
from jaxgen.nn.precision import to_f32
from jaxgen.nn.stages import count_stages

Image = tuple[int, int, int]


@dataclass(frozen=True)
class NetConfig:
    """Architecture of an encoder and its decoder."""

    kind: Literal["mlp", "conv", "residual"] = "mlp"
    width: int = 400  # units of a hidden layer; channels of the first convolution, doubled at each stage
    depth: int = 1  # hidden layers of an MLP; residual blocks of each stage

    def check(self, image: Image):
        """Raise InputError for image sizes that these nets can't have."""
        at_least(1, model__nets__width=self.width, model__image=min(image))
        at_least(0, model__nets__depth=self.depth)
        if self.kind != "mlp":
            count_stages(*image[:2])

    def widths(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        """Return the channels of each downsampling stage for an image with these sides."""
        return tuple(self.width << i for i in range(count_stages(*sides)))

    @property
    def blocks(self) -> int:
        """Residual blocks of each stage."""
        return self.depth if self.kind == "residual" else 0


class ImageEncoder(nn.Module):
    """(image f32[b h w c], label i32[b] or None) -> {head: f32[b outputs]}."""

    nets: NetConfig
    heads: tuple[str, ...]
    outputs: int
    classes: int = 0

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None) -> dict[str, Array]:
        nets = self.nets
        y = None if label is None else jax.nn.one_hot(label, self.classes, dtype=x.dtype)  # [b classes]
        if nets.kind == "mlp":
            x = flatten(x)  # [b c*h*w]
            x = x if y is None else jnp.concatenate([x, y], 1)
            for i in range(nets.depth):
                x = nn.relu(Dense(nets.width, name=f"hidden_{i}")(x))
        else:
            if y is not None:  # one-hot planes
                x = jnp.concatenate([x, jnp.broadcast_to(y[:, None, None], (*x.shape[:3], self.classes))], 3)
            for i, features in enumerate(nets.widths(x.shape[1:3])):
                x = nn.relu(Conv(features, (4, 4), (2, 2), name=f"down_{i}")(x))  # [b h/2 w/2 c]
                for j in range(nets.blocks):
                    x = ResidualBlock(features, name=f"down_{i}_block_{j}")(x)
            x = flatten(x)
        return {name: to_f32(Dense(self.outputs, name=name)(x)) for name in self.heads}


class ImageDecoder(nn.Module):
    """(z f32[b latent], label i32[b] or None) -> f32[b h w channels], unbounded."""

    nets: NetConfig
    image: Image
    channels: int
    classes: int = 0

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None) -> Array:
        nets, (height, width, _) = self.nets, self.image
        if label is not None:
            z = jnp.concatenate([z, jax.nn.one_hot(label, self.classes, dtype=z.dtype)], 1)
        if nets.kind == "mlp":
            for i in range(nets.depth):
                z = nn.relu(Dense(nets.width, name=f"hidden_{i}")(z))
            x = Dense(height * width * self.channels, name="out")(z)
            return to_f32(
                jnp.moveaxis(x.reshape(-1, self.channels, height, width), 1, 3)
            )  # [b h w c], in the order of `flatten`
        widths = nets.widths((height, width))
        stages = len(widths)
        x = Dense((height >> stages) * (width >> stages) * widths[-1], name="in")(z)
        x = nn.relu(x.reshape(-1, height >> stages, width >> stages, widths[-1]))
        for i in reversed(range(stages)):
            for j in range(nets.blocks):
                x = ResidualBlock(widths[i], name=f"up_{i}_block_{j}")(x)
            if i:
                x = nn.relu(ConvTranspose(widths[i - 1], (4, 4), (2, 2), name=f"up_{i}")(x))  # [b 2h 2w c]
        return to_f32(ConvTranspose(self.channels, (4, 4), (2, 2), name="out")(x))


def first_matrix(decoder: Any, latent: int) -> Array:
    """Return the rows of z, [latent n], of the kernel of the decoder's first layer."""
    first = next(name for name in ("hidden_0", "in", "out") if name in decoder)
    return decoder[first]["kernel"][:latent]


class ResidualBlock(nn.Module):
    """x [b h w c] -> x + conv1x1(relu(conv3x3(relu(x)))). Van den Oord et al. 2017, section 4.1."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.relu(Conv(self.features, (3, 3), name="conv_0")(nn.relu(x)))
        return x + Conv(self.features, (1, 1), name="conv_1")(y)
