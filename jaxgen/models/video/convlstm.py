"""ConvLSTM: Shi, Chen, Wang, Yeung, Wong and Woo 2015, "Convolutional LSTM Network: A Machine Learning Approach for
Precipitation Nowcasting".

A stack of LSTM cells whose products of matrices are convolutions (equation 3). Sizes, initial values and names are
those of OpenSTL's ConvLSTM-S (Tan et al. 2023): four layers of 128 channels on patches of 4x4 pixels, one stack in
place of the paper's encoder and forecaster, no peepholes and no biases. The 15.0 million parameters that OpenSTL states
for it contain 3.4 million of two convolutions in each cell that its code makes and never uses; they are not here.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.interop.weight_names import renamed
from jaxgen.models.video._recurrent import SAMPLING, State, conv, from_features, stack_task, to_patches, zeros
from jaxgen.tasks.video_prediction import Image, row


@dataclass(frozen=True)
class ConvLSTM:
    """Hyper-parameters of a ConvLSTM."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    widths: tuple[Count, ...] = (128, 128, 128, 128)  # channels of each layer
    kernel: Count = 5  # side of the convolutions
    patch: Count = 4  # side of the patches that become channels
    sampling: str = SAMPLING[0]  # scheduled, reversed or none
    sampling_steps: Count = 50_000  # training steps until only own predictions are inputs
    learning_rate: float = 5e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        return stack_task(self, Stack(self.widths, self.kernel, self.patch))


class Stack(nn.Module):
    """Layers of cells: state, frame f32[b h w channels] -> the next state, the next frame."""

    widths: tuple[int, ...]
    kernel: int
    patch: int

    def start(self, shape: tuple[int, ...], dtype) -> State:
        return {f"{name}{i}": x for name in "hc" for i, x in enumerate(zeros(self.widths, shape, self.patch, dtype))}

    @nn.compact
    def __call__(self, state: State, frame: Array) -> tuple[State, Array]:
        x = to_patches(frame, self.patch)
        after = {}
        for i, width in enumerate(self.widths):
            x, cell = Cell(width, self.kernel, name=f"cell_list_{i}")(x, state[f"h{i}"], state[f"c{i}"])
            after |= {f"h{i}": x, f"c{i}": cell}
        return after, from_features(x, self.patch, frame.shape[-1])


class Cell(nn.Module):
    """x f32[b h w c], h and c f32[b h w width] -> the next h and c. Equation 3."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        gates = conv(4 * self.width, self.kernel, "conv_x_0")(x) + conv(4 * self.width, self.kernel, "conv_h_0")(h)
        i, f, g, o = jnp.split(gates, 4, -1)  # [b h w width] each
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


WEIGHT_NAMES = renamed((r"^cell\.", ""))
TINY = ConvLSTM(image=(16, 16, 1), past=3, future=2, widths=(8, 8), kernel=3, sampling_steps=6)
PRESETS = {"convlstm": row(ConvLSTM(), TINY, 11_675_648)}
