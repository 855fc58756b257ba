"""acRNN: Zhou, Li, Xiao, He, Huang and Li 2018, "Auto-Conditioned Recurrent Networks for Extended Complex Human Motion
Synthesis".

Three LSTMs predict the next frame from the one before. In training some frames are read from the data, and the next
ones are the net's own predictions, in turn: so it learns to go on from its own errors, and motions have any length.
One net knows one style, such as a dance; it goes on from a few given frames, in one way: it draws no noise.

The paper's frames are places of joints, here they are rotations (jaxgen/data/motion_clips).

`acrnn`  10 given frames and 90 more of the CMU split, 5 true ones and 5 own ones in turn
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.recurrent import LSTMCell
from jaxgen.tasks.motion_generation import RATE, motion_task, row, space_of, squared


@dataclass(frozen=True)
class ACRNN:
    """Hyper-parameters of an acRNN."""

    skeleton: str = "cmu"  # cmu, deepmimic, smpl, or a file of a motion that has it
    unit: float = 0.0  # metres of one of its lengths; 0: the power of ten that makes it man-sized
    rate: float = RATE  # frames in a second
    start: Count = 10  # frames that are given
    frames: Count = 90  # frames after them
    width: Count = 1024  # of the LSTMs
    depth: Count = 3  # LSTMs
    true: Count = 5  # frames of the data in turn
    own: int = 5  # frames of the net in turn
    learning_rate: float = 1e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        space = space_of(self)
        net = ACRNNNet(space.channels, self.width, self.depth)

        def init(key: Key) -> Params:
            x = jnp.zeros((1, 2, space.channels))
            return {"generator": net.init(key, x, np.ones(2, bool))["params"]}

        def loss(params: Params, context: Context, x: Array, clip: Array, label: Any, key: Key):
            del context, clip, label, key
            read = np.arange(x.shape[1] - 1) % (self.true + self.own) < self.true  # section 3.2, figure 2
            made = net.apply({"params": params["generator"]}, x[:, :-1], read)
            return squared(made, x[:, 1:]), {}  # pyright: ignore[reportArgumentType]

        def draw(params: Params, context: Context, keys: Key, given: Batch) -> dict[str, Array]:
            del context, keys
            known = given["start"]
            x = jnp.pad(known, ((0, 0), (0, self.frames - 1), (0, 0)))
            read = np.arange(x.shape[1]) < self.start
            made: Any = net.apply({"params": params["generator"]}, x, read)
            return {"motion": made[:, self.start - 1 :]}

        optimizer = optax.adam(self.learning_rate)
        return motion_task(self, space, init, loss, draw, optimizer, start=self.start, stochastic=False)


class ACRNNNet(nn.Module):
    """x f32[b t c], and whether each frame is read, bool[t], or the last prediction -> the next frames [b t c]."""

    channels: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Array, read: np.ndarray) -> Array:
        cells = [LSTMCell(self.width, name=f"lstm_{i}") for i in range(self.depth)]
        out = Dense(self.channels, name="decoder")

        def step(_, carry: tuple[Any, Array], now: tuple[Array, Array]):
            states, last = carry
            frame, true = now
            y, new = jnp.where(true, frame, last), []
            for cell, state in zip(cells, states, strict=True):
                new.append(jax.tree.map(to_f32, cell(state, y)))
                y = new[-1][0]
            y = to_f32(out(y))
            return (tuple(new), y), y

        zero = jnp.zeros((len(x), self.width))
        carry = tuple((zero, zero) for _ in cells), jnp.zeros(x[:, 0].shape)
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=0, out_axes=1)
        _, made = scan(self, carry, (x.swapaxes(0, 1), jnp.asarray(read)))
        return made


SMALL = ACRNN("deepmimic", start=2, frames=4, width=8, depth=1, true=1, own=2)
PRESETS = {"acrnn": row(ACRNN(), SMALL, 21_979_328, 100_000, 32)}
