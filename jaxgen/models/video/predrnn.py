"""PredRNN: Wang, Long, Wang, Gao and Yu 2017, "PredRNN: Recurrent Neural Networks for Predictive Learning using
Spatiotemporal LSTMs".

Cells with two memories: one of each layer, as in an LSTM, and one that passes through all layers of a frame and then on
to the first layer of the next one (section 3, figure 2). Sizes, initial values and names are those of OpenSTL (Tan et
al. 2023): four layers of 128 channels on patches of 4x4 pixels, without layer norm and biases.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.interop.weight_names import renamed
from jaxgen.models.video._recurrent import SAMPLING, State, conv, from_features, stack_task, to_patches, zeros
from jaxgen.tasks.video_prediction import Image, row

sigmoid, tanh = jax.nn.sigmoid, jnp.tanh


@dataclass(frozen=True)
class PredRNN:
    """Hyper-parameters of a PredRNN."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    widths: tuple[Count, ...] = (128, 128, 128, 128)  # channels of each layer, all equal
    kernel: Count = 5  # side of the convolutions
    patch: Count = 4  # side of the patches that become channels
    sampling: str = SAMPLING[0]  # scheduled, reversed or none
    sampling_steps: Count = 50_000  # training steps until only own predictions are inputs
    learning_rate: float = 5e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        check_widths(self.widths)
        return stack_task(self, Stack(self.widths, self.kernel, self.patch))


def check_widths(widths: tuple[int, ...]):
    """Raise InputError for layers of several widths: one memory passes through all of them."""
    if len(set(widths)) > 1:
        raise InputError(f"model.widths must be equal, not {' '.join(map(str, widths))}: the layers share a memory.")


class Stack(nn.Module):
    """Layers of cells: state, frame f32[b h w channels] -> the next state, the next frame."""

    widths: tuple[int, ...]
    kernel: int
    patch: int

    def start(self, shape: tuple[int, ...], dtype) -> State:
        own = {f"{name}{i}": x for name in "hc" for i, x in enumerate(zeros(self.widths, shape, self.patch, dtype))}
        return own | {"m": zeros(self.widths[:1], shape, self.patch, dtype)[0]}

    @nn.compact
    def __call__(self, state: State, frame: Array) -> tuple[State, Array]:
        x = to_patches(frame, self.patch)
        after, memory = {}, state["m"]
        for i, width in enumerate(self.widths):
            cell = Cell(width, self.kernel, name=f"cell_list_{i}")
            x, c, memory = cell(x, state[f"h{i}"], state[f"c{i}"], memory)
            after |= {f"h{i}": x, f"c{i}": c}
        return after | {"m": memory}, from_features(x, self.patch, frame.shape[-1])


class Cell(nn.Module):
    """x f32[b h w c], h, c and m f32[b h w width] -> the next h, c and m. Equation 3: ST-LSTM."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, Array, Array]:
        part = lambda count, name, of: jnp.split(conv(count * self.width, self.kernel, name)(of), count, -1)  # noqa: E731
        i_x, f_x, g_x, i_z, f_z, g_z, o_x = part(7, "conv_x_0", x)  # [b h w width] each
        i_h, f_h, g_h, o_h = part(4, "conv_h_0", h)
        i_m, f_m, g_m = part(3, "conv_m_0", m)
        # The forget gates start open.
        c = sigmoid(f_x + f_h + 1) * c + sigmoid(i_x + i_h) * tanh(g_x + g_h)
        m = sigmoid(f_z + f_m + 1) * m + sigmoid(i_z + i_m) * tanh(g_z + g_m)
        both = jnp.concatenate([c, m], -1)  # [b h w 2 width]
        o = sigmoid(o_x + o_h + conv(self.width, self.kernel, "conv_o_0")(both))
        return o * tanh(conv(self.width, 1, "conv_last")(both)), c, m


WEIGHT_NAMES = renamed((r"^cell\.", ""))
TINY = PredRNN(image=(16, 16, 1), past=3, future=2, widths=(8, 8), kernel=3, sampling="reversed", sampling_steps=6)
PRESETS = {"predrnn": row(PredRNN(), TINY, 23_838_720)}
