"""CNN and LSTM: after Lin, Lin, Liang, Wang and Cheng 2017, "Recurrent 3D Pose Sequence Machines".

A convolutional net sees each frame, and long short-term memory (Hochreiter and Schmidhuber 1997) carries what it saw
from frame to frame: where an arm is hidden, its motion goes on. One LSTM runs forwards and one backwards, since a clip
is captured when it is over. The output of each frame are rotations as six numbers (Zhou et al. 2019) and a place. The
paper's net refines coordinates in several rounds; this is one round, and its encoder is small.

`capture-lstm`  16 frames of 64x64, 22 joints that turn
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.ranges import Count
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.nn.recurrent import LSTMCell
from jaxgen.tasks.motion_capture import TINY, Capture, FrameEncoder, capture_task, head, row


@dataclass(frozen=True)
class CaptureLSTM(Capture):
    """Hyper-parameters of a CNN and LSTM."""

    width: Count = 256  # of each LSTM's state
    backwards: bool = True  # a second LSTM reads the clip from its end

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        return capture_task(self, CaptureLSTMNet(self))


class CaptureLSTMNet(nn.Module):
    """Frames f32[b t h w c] -> numbers of a pose f32[b t 135] of each one."""

    model: CaptureLSTM

    @nn.compact
    def __call__(self, clip: Array, train: bool) -> Array:
        x = nn.relu(FrameEncoder(self.model.widths, self.model.features, name="encoder")(clip, train))  # [b t c]
        states = [run(LSTMCell(self.model.width, name="forwards"), x)]
        if self.model.backwards:
            states.append(run(LSTMCell(self.model.width, name="backwards"), x[:, ::-1])[:, ::-1])
        return head()(jnp.concatenate([x, *states], -1))


def run(cell: LSTMCell, x: Array) -> Array:
    """Return the outputs h f32[b t width] of a cell after each row of x f32[b t c]."""

    def step(cell: LSTMCell, state: tuple[Array, Array], x: Array):
        h, c = (new.astype(old.dtype) for new, old in zip(cell(state, x), state, strict=True))
        return (h, c), h

    start = jnp.zeros((len(x), cell.width), x.dtype)
    loop = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
    return loop(cell, (start, start), x)[1]


PRESETS = {"capture-lstm": row(CaptureLSTM(), CaptureLSTM(**TINY, width=8), 1_808_455)}
