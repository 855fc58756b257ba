"""RealNVP of MNIST: after Dinh, Sohl-Dickstein and Bengio, "Density Estimation using Real NVP", ICLR 2017.

The nets of weights that Phillip Lippe published (UvA deep learning course, notebook 11): checkerboard couplings at one
resolution, whose nets are gated convolutions. In `realnvp-mnist-vardeq` four couplings, which also see the image, learn
the noise that is added to the levels (variational dequantisation: Ho et al. 2019, "Flow++"). `import --model
realnvp-mnist` reads the file.
"""

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.ranges import Count
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule
from jaxgen.models.normalising_flow._bijections import Coupling, GatedNet, checkerboard
from jaxgen.models.normalising_flow._flow import Flow, from_logits, row, to_logits

Array = jax.Array


@dataclass(frozen=True)
class RealNVPMNIST(Flow):
    """Hyper-parameters of a flow of checkerboard couplings at one resolution."""

    couplings: Count = 8
    width: Count = 32  # features of their nets
    noise_couplings: int = 0  # of the flow that makes the noise; 0: it is uniform
    noise_width: Count = 16  # features of their nets

    @property
    def learns_noise(self) -> bool:
        return self.noise_couplings > 0

    @property
    def module(self) -> "CheckerboardFlow":
        return CheckerboardFlow(
            self.image, self.couplings, self.width, self.noise_couplings, self.noise_width, self.alpha
        )


class CheckerboardFlow(nn.Module):
    """x f32[b h w c] -> (z f32[b n], log-determinant f32[b]); with inverse z -> (x, log-determinant)."""

    image: tuple[int, int, int]
    couplings: int
    width: int
    noise_couplings: int
    noise_width: int
    alpha: float

    def setup(self):
        height, wide, channels = self.image

        def make(count: int, width: int, name: str) -> list[Coupling]:
            masks = [checkerboard(height, wide, i % 2 == 0) for i in range(count)]
            return [Coupling(GatedNet(2 * channels, width), mask, name=f"{name}_{i}") for i, mask in enumerate(masks)]

        self.flow = make(self.couplings, self.width, "coupling")
        self.noise_flow = make(self.noise_couplings, self.noise_width, "noise")

    def __call__(self, x: Array, inverse: bool = False) -> tuple[Array, Array]:
        y = x.reshape(-1, *self.image)
        total = jnp.zeros(len(x))
        for coupling in reversed(self.flow) if inverse else self.flow:
            y, log_det = coupling(y, inverse)
            total = total + log_det
        return (y if inverse else y.reshape(len(x), -1)), total

    def noise(self, values: Array, u: Array) -> tuple[Array, Array]:
        """Return the noise that becomes of uniform noise u for an image, f32[b h w c], and its log q f32[b]."""
        x, log_det = to_logits(jnp.zeros_like(u), u, self.alpha, 1)
        for coupling in self.noise_flow:
            x, more = coupling(x, given=values)
            log_det = log_det + more
        u, more = from_logits(x, self.alpha)
        return u, -(log_det + more)

    def everything(self, x: Array) -> Any:
        """Use every net once: for their initialisation."""
        return self(x), self.noise(x, jnp.full(x.shape, 0.5))


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the name and layout in the published files, which are Flax's. Their first layer is the dequantisation."""
    name = ".".join(path)
    name = re.sub(r"^coupling_(\d+)", lambda found: f"flows_{int(found[1]) + 1}", name)
    name = re.sub(r"^noise_(\d+)", r"flows_0.var_flows_\1", name)
    name = name.replace(".net.", ".network.nn.").replace(".layer_", ".layers_")
    return name.replace(".first.", ".Conv_0.").replace(".second.", ".Conv_1."), SAME


WEIGHT_NAMES: Rule = weight_name
SMALL: dict[str, Any] = {"couplings": 2, "width": 4, "noise_width": 4}
PRESETS = {
    "realnvp-mnist": row(RealNVPMNIST(), 556_312, **SMALL),
    "realnvp-mnist-vardeq": row(RealNVPMNIST(noise_couplings=4), 628_388, **SMALL),
}
