"""PredRNN++: Wang, Gao, Long, Wang and Yu 2018, "PredRNN++: Towards A Resolution of the Deep-in-Time Dilemma in
Spatiotemporal Predictive Learning".

Causal LSTM cells, in which the memory of a frame depends on the memory of its layer (section 4.1), and a gradient
highway between the first and the second layer (section 4.2). Sizes, initial values and names are those of OpenSTL (Tan
et al. 2023): four layers of 128 channels on patches of 4x4 pixels, without layer norm and biases. As there, each cell
has a convolution that nothing reads (conv_o), which the 38.6 million parameters of OpenSTL's table contain and ours do
not.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.interop.weight_names import renamed
from jaxgen.models.video._recurrent import SAMPLING, State, conv, from_features, stack_task, to_patches, zeros
from jaxgen.models.video.predrnn import check_widths, sigmoid, tanh
from jaxgen.nn.conv import Conv
from jaxgen.tasks.video_prediction import Image, row


@dataclass(frozen=True)
class PredRNNPlus:
    """Hyper-parameters of a PredRNN++."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    widths: tuple[Count, ...] = (128, 128, 128, 128)  # channels of each layer, all equal
    kernel: Count = 5  # side of the convolutions
    patch: Count = 4  # side of the patches that become channels
    sampling: str = SAMPLING[0]  # scheduled, reversed or none
    sampling_steps: Count = 50_000  # training steps until only own predictions are inputs
    learning_rate: float = 1e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        check_widths(self.widths)
        if len(self.widths) < 2:
            raise InputError("model.widths needs at least two layers: the gradient highway is between the first two.")
        return stack_task(self, Stack(self.widths, self.kernel, self.patch))


class Stack(nn.Module):
    """Layers of cells: state, frame f32[b h w channels] -> the next state, the next frame. Figure 3."""

    widths: tuple[int, ...]
    kernel: int
    patch: int

    def start(self, shape: tuple[int, ...], dtype) -> State:
        own = {f"{name}{i}": x for name in "hc" for i, x in enumerate(zeros(self.widths, shape, self.patch, dtype))}
        return own | {name: zeros(self.widths[:1], shape, self.patch, dtype)[0] for name in "mz"}

    @nn.compact
    def __call__(self, state: State, frame: Array) -> tuple[State, Array]:
        x = to_patches(frame, self.patch)
        after, memory, highway = {}, state["m"], state["z"]
        for i, width in enumerate(self.widths):
            cell = Cell(width, self.kernel, name=f"cell_list_{i}")
            x, c, memory = cell(x, state[f"h{i}"], state[f"c{i}"], memory)
            after |= {f"h{i}": x, f"c{i}": c}
            if i == 0:
                x = highway = Highway(width, self.kernel, name="gradient_highway")(x, highway)
        return after | {"m": memory, "z": highway}, from_features(x, self.patch, frame.shape[-1])


class Cell(nn.Module):
    """x f32[b h w c], h, c and m f32[b h w width] -> the next h, c and m. Equation 1: causal LSTM."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, Array, Array]:
        part = lambda count, name, of: jnp.split(conv(count * self.width, self.kernel, name)(of), count, -1)  # noqa: E731
        i_x, f_x, g_x, i_z, f_z, g_z, o_x = part(7, "conv_x_0", x)  # [b h w width] each
        i_h, f_h, g_h, o_h = part(4, "conv_h_0", h)
        i_m, f_m, m_m = part(3, "conv_m_0", m)
        i_c, f_c, g_c = part(3, "conv_c_0", c)
        # The forget gates start open.
        c = sigmoid(f_x + f_h + f_c + 1) * c + sigmoid(i_x + i_h + i_c) * tanh(g_x + g_h + g_c)
        i_c, g_c, f_c, o_c = part(4, "conv_c2m_0", c)
        m = sigmoid(f_z + f_m + f_c + 1) * tanh(m_m) + sigmoid(i_z + i_m + i_c) * tanh(g_z + g_c)
        o = tanh(o_x + o_h + o_c + conv(self.width, self.kernel, "conv_om_0")(m))
        return o * tanh(conv(self.width, 1, "conv_last")(jnp.concatenate([c, m], -1))), c, m


class Highway(nn.Module):
    """x and z f32[b h w width] -> the next z. Equation 2: gradient highway unit."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, z: Array) -> Array:
        def gates(of: Array, name: str) -> Array:
            init, side = nn.initializers.uniform(0.002), (self.kernel, self.kernel)  # theirs: within 0.001 of 0
            shifted = lambda *args: init(*args) - 0.001  # noqa: E731
            return Conv(2 * self.width, side, use_bias=False, kernel_init=shifted, name=f"{name}_0")(of)

        p, s = jnp.split(gates(x, "x_concat") + gates(z, "z_concat"), 2, -1)  # [b h w width] each
        return sigmoid(s) * tanh(p) + (1 - sigmoid(s)) * z


WEIGHT_NAMES = renamed((r"^cell\.", ""))
TINY = PredRNNPlus(image=(16, 16, 1), past=3, future=2, widths=(8, 8), kernel=3, sampling_steps=6)
PRESETS = {"predrnn-plus": row(PredRNNPlus(), TINY, 35_307_520)}
