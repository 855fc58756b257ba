"""Residual GRU: Martinez, Black and Romero 2017, "On Human Motion Prediction Using Recurrent Neural Networks".

One GRU reads the given poses and predicts the next ones, each from its own last one, by what is added to it. In
training it sees its own predictions as well (the sampling-based loss), so that it learns to recover from its errors.
The paper predicts angles; here they are the places of joints, as in the later literature.

`residual-gru`  25 joints of the CMU split, 10 frames to 25
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from einops import rearrange
from flax import linen as nn

from jaxgen.core.config import Optim
from jaxgen.core.ranges import Count, Decay, Parent
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.data.known_skeletons import CMU_SEEN_PARENTS
from jaxgen.nn.conv import Dense
from jaxgen.nn.recurrent import GRUCell
from jaxgen.tasks.motion_prediction import distance, prediction_task, row


@dataclass(frozen=True)
class ResidualGRU:
    """Hyper-parameters of a residual GRU."""

    parents: tuple[Parent, ...] = CMU_SEEN_PARENTS  # of each joint, the number of its parent; -1: the root
    past: Count = 10  # frames that are given
    future: Count = 25  # frames that are predicted
    width: Count = 1024  # of the GRU
    unit: float = 1000.0  # of the data's lengths, in one of the net's: millimetres to metres
    learning_rate: float = 1e-3
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        net = ResidualGRUNet(self.width, self.future)

        def predict(nets: Any, past: Array) -> Array:
            made = net.apply(nets, rearrange(past, "b t j d -> b t (j d)"))
            return rearrange(made, "b t (j d) -> b t j d", d=3)  # pyright: ignore

        def loss(nets: Any, window: Array, context: Context, key: Key):
            del context, key
            return distance(predict(nets, window[:, : self.past]), window[:, self.past :]), {}

        init = (jnp.zeros((1, self.past, 3 * len(self.parents))),)
        return prediction_task(self, net, predict, loss, init, optax.adam(self.learning_rate))


class ResidualGRUNet(nn.Module):
    """past f32[b t c] -> the `future` next poses [b future c]. Section 3, figure 3."""

    width: int
    future: int

    @nn.compact
    def __call__(self, past: Array) -> Array:
        cell, out = GRUCell(self.width, name="cell"), Dense(past.shape[-1], name="out")
        h = jnp.zeros((len(past), self.width), past.dtype)
        scan = lambda body, **more: nn.scan(  # noqa: E731
            body, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1, **more
        )

        def read(_, h: Array, x: Array):
            return cell(h, x), None

        def write(_, state: tuple[Array, Array], __):
            h, x = state
            h = cell(h, x)
            x = x + out(h)  # equation 4: a velocity
            return (h, x), x

        h, _ = scan(read)(self, h, past[:, :-1])
        _, made = scan(write, length=self.future)(self, (h, past[:, -1]), None)
        return made


SMALL = ResidualGRU((-1, 0, 0, 2), 2, 3, 8, 1.0)
PRESETS = {"residual-gru": row(ResidualGRU(), SMALL, 3_459_147, 100_000, 16, Optim(clip=5.0))}
