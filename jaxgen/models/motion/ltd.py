"""LTD: Mao, Liu, Salzmann and Li 2019, "Learning Trajectory Dependencies for Human Motion Prediction".

Each coordinate of a joint over time is a node, known by its discrete cosine transform, in which the last pose is
repeated for the future. A graph convolutional network, which learns how the nodes depend on each other, adds to it.

`ltd`  25 joints of the CMU split, 10 frames to 25, 35 waves, as the authors train it on places
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from einops import rearrange
from flax import linen as nn

from jaxgen.core.config import Optim
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Parent, Share
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.data.known_skeletons import CMU_SEEN_PARENTS
from jaxgen.interop.weight_names import SAME, plain
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.recurrent import uniform_within
from jaxgen.tasks.motion_prediction import cosines, distance, held, prediction_task, row


@dataclass(frozen=True)
class LTD:
    """Hyper-parameters of an LTD."""

    parents: tuple[Parent, ...] = CMU_SEEN_PARENTS  # of each joint, the number of its parent; -1: the root
    past: Count = 10  # frames that are given
    future: Count = 25  # frames that are predicted
    waves: Count = 35  # of the discrete cosine transform, the slowest
    width: Count = 256  # features of a node
    depth: Count = 12  # residual blocks
    dropout: Share = 0.5
    unit: float = 1.0  # of the data's lengths, in one of the net's
    learning_rate: float = 5e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        frames = self.past + self.future
        if self.waves > frames:
            raise InputError(f"model.waves must be at most past + future, {frames}, not {self.waves}.")
        net = LTDNet(self.width, self.depth, self.dropout)
        waves = cosines(frames)[: self.waves]
        # 0.96 every second epoch of the CMU split, for 50 epochs.
        schedule = optax.exponential_decay(self.learning_rate, max(steps // 25, 1), 0.96, staircase=True)

        def whole(nets, past: Array, train: bool = False, key: Key | None = None):
            """Return past and future poses [b t+t' j 3], and new running statistics."""
            x = rearrange(held(past, frames), "b t j d -> b (j d) t") @ waves.T  # [b 3j waves]
            rngs = {} if key is None else {"dropout": key}
            if train:
                y, stats = net.apply(nets, x, True, mutable=["batch_stats"], rngs=rngs)
            else:
                y, stats = net.apply(nets, x), {}
            return rearrange(y @ waves, "b (j d) t -> b t j d", d=3), stats  # pyright: ignore

        def loss(nets, window: Array, context: Context, key: Key):
            made, stats = whole(nets, window[:, : self.past], context.train, key)
            return distance(made, window), stats  # equation 7, of the given frames as well

        init = (jnp.zeros((1, 3 * len(self.parents), self.waves)),)
        predict = lambda nets, past: whole(nets, past)[0][:, self.past :]  # noqa: E731
        return prediction_task(self, net, predict, loss, init, optax.adam(schedule))


class LTDNet(nn.Module):
    """x f32[b n waves] of n nodes -> the same after the network. Section 3.2."""

    width: int
    depth: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        y = Step(self.width, self.dropout, "gc1", "bn1")(x, train)
        for i in range(self.depth):
            block = y
            for number in (1, 2):
                block = Step(self.width, self.dropout, f"gcbs_{i}_gc{number}", f"gcbs_{i}_bn{number}")(block, train)
            y = y + block
        return x + GraphConv(x.shape[-1], name="gc7")(y)


def Step(width: int, dropout: float, conv: str, norm: str):
    """Return x [b n f] -> [b n width]: graph convolution, batch norm of each feature of each node, tanh, dropout."""

    def apply(x: Array, train: bool) -> Array:
        y = GraphConv(width, name=conv)(x)
        flat = BatchNorm(name=norm)(rearrange(y, "b n f -> b (n f)"), train)
        y = jnp.tanh(flat.reshape(y.shape))
        return nn.Dropout(dropout, deterministic=not train)(y)

    return apply


class GraphConv(nn.Module):
    """x f32[b n f] -> A x W + bias, where A f32[n n], how nodes depend on each other, is learned. Equation 5."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = uniform_within(self.features)
        weight = self.param("weight", init, (x.shape[-1], self.features))
        att = self.param("att", init, (x.shape[-2], x.shape[-2]))
        bias = self.param("bias", init, (self.features,))
        y = jnp.einsum("nm,bmf->bnf", att, x @ weight)
        return y + jnp.broadcast_to(bias, y.shape)


def WEIGHT_NAMES(model, net, path, shape):
    """The names of the authors' weights; their matrices have our layout."""
    name, _ = plain(model, net, path, shape)
    return name.replace("_gc", ".gc").replace("_bn", ".bn"), SAME


SMALL = LTD((-1, 0, 0, 2), 2, 3, 5, 8, 1)
PRESETS = {"ltd": row(LTD(), SMALL, 2_703_469, 25_000, 16, Optim(clip=1.0))}
