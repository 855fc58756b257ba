"""RealNVP: Dinh, Sohl-Dickstein and Bengio, "Density Estimation using Real NVP", ICLR 2017.

At each scale three couplings with checkerboard masks, a rearrangement of 2x2 pixels to channels, three couplings with
masks of channels; then half of the channels are done. The last scale has four checkerboard couplings (section 3.6,
figure 4). Nets have residual blocks, twice as wide after each rearrangement. In place of batch normalisation, in the
nets and after the couplings, there are layer norms, and the activation normalisation of Glow, which depend on no other
example of a batch. Sizes are ours.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay
from jaxgen.models.normalising_flow._bijections import ActNorm, Coupling, ResidualNet, checkerboard, halves
from jaxgen.models.normalising_flow._flow import Flow, row
from jaxgen.nn.shuffle import depth_to_space, space_to_depth

Array = jax.Array


@dataclass(frozen=True)
class RealNVP(Flow):
    """Hyper-parameters of a RealNVP."""

    alpha: Decay = 0.05  # of the logit of pixels: how far black and white are from the ends; 0: no logit
    scales: Count = 2
    width: Count = 32  # features of the nets of the first couplings
    depth: Count = 2  # residual blocks of a net

    def check(self):
        check_sides(self.image, self.scales - 1, "scales")

    @property
    def module(self) -> "RealNVPNet":
        return RealNVPNet(self.image, self.scales, self.width, self.depth)


def check_sides(image: tuple[int, int, int], times: int, setting: str):
    """Raise InputError for images whose sides can't be divided by two so many times."""
    if any(side % 2**times for side in image[:2]):
        raise InputError(
            f"model.image={image[0]}x{image[1]} can't be divided by two {times} times: see model.{setting}."
        )


class RealNVPNet(nn.Module):
    """x f32[b h w c] -> (z f32[b n], log-determinant f32[b]); with inverse z -> (x, log-determinant)."""

    image: tuple[int, int, int]
    scales: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        return self.scale(x.reshape(-1, *self.image) if not inverse else x, self.image, 0, inverse)

    def scale(self, x: Array, shape: tuple[int, int, int], level: int, inverse: bool) -> tuple[Array, Array]:
        """Return z of what enters a scale, or with inverse what entered it, and the log-determinant."""
        (height, width, channels), features = shape, self.width * 2**level
        last = level + 1 == self.scales
        boards = [checkerboard(height, width, i % 2 == 0) for i in range(4 if last else 3)]
        if last:
            y, total = self.couple(x.reshape(-1, *shape) if inverse else x, boards, features, f"board_{level}", inverse)
            return (y if inverse else y.reshape(len(y), -1)), total
        wide, inner = 4 * channels, (height // 2, width // 2, 2 * channels)
        groups = [halves(wide, i % 2 == 0) for i in range(3)]
        done = int(np.prod(inner))
        if not inverse:
            y, total = self.couple(x, boards, features, f"board_{level}", False)
            y, more = self.couple(space_to_depth(y, 2), groups, 2 * features, f"group_{level}", False)
            out, kept = jnp.split(y, 2, -1)
            z, rest = self.scale(kept, inner, level + 1, False)
            return jnp.concatenate([out.reshape(len(y), -1), z], 1), total + more + rest
        kept, rest = self.scale(x[:, done:], inner, level + 1, True)
        y = jnp.concatenate([x[:, :done].reshape(-1, *inner), kept], -1)
        y, more = self.couple(y, groups, 2 * features, f"group_{level}", True)
        y, total = self.couple(depth_to_space(y, 2), boards, features, f"board_{level}", True)
        return y, total + more + rest

    def couple(self, x: Array, masks: list, width: int, name: str, inverse: bool) -> tuple[Array, Array]:
        """Return x after couplings with these masks, each followed by a normalisation, and the log-determinant."""
        layers: list[Any] = []
        for i, mask in enumerate(masks):
            net = ResidualNet(2 * x.shape[-1], width, self.depth, parent=None)
            layers += [Coupling(net, mask, name=f"{name}_{i}"), ActNorm(name=f"{name}_{i}_norm")]
        total = jnp.zeros(len(x))
        for layer in reversed(layers) if inverse else layers:
            x, log_det = layer(x, inverse)
            total = total + log_det
        return x, total

    def everything(self, x: Array) -> Any:
        """Use every net once: for their initialisation."""
        return self(x)


PRESETS = {"realnvp": row(RealNVP(), 1_162_931, width=4, depth=1)}
