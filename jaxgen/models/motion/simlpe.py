"""siMLPe: Guo, Du et al. 2023, "Back to MLP: A Simple Baseline for Human Motion Prediction".

Linear layers over time and over the coordinates of all joints, and layer normalisation; there is no other nonlinearity.
The net sees the discrete cosine transform of the poses, and predicts what is added to the last one.

`simlpe`      the paper's Human3.6M setting: 22 joints, 50 frames to 10
`simlpe-cmu`  25 joints of the CMU split, 10 frames to 25, as the literature has it

A net maps as many frames as it is given to as many. Where more are predicted than are given, the last pose is repeated
to the whole length first, as LTD has it. In training half of the windows run backwards.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import linen as nn

from jaxgen.core.ranges import Count, Decay, Parent
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.data.known_skeletons import CMU_SEEN_PARENTS, H36M_SEEN_PARENTS
from jaxgen.interop.weight_names import renamed
from jaxgen.nn.conv import Dense
from jaxgen.nn.recurrent import uniform_within
from jaxgen.tasks.motion_prediction import cosines, distance, held, prediction_task, row

NEAR_ZERO = nn.initializers.variance_scaling(1e-16, "fan_avg", "uniform")  # Xavier's, times 1e-8


@dataclass(frozen=True)
class SiMLPe:
    """Hyper-parameters of a siMLPe."""

    parents: tuple[Parent, ...] = H36M_SEEN_PARENTS  # of each joint, the number of its parent; -1: the root
    past: Count = 50  # frames that are given
    future: Count = 10  # frames that are predicted
    depth: Count = 48  # blocks
    unit: float = 1000.0  # of the data's lengths, in one of the net's: millimetres to metres
    backwards: bool = True  # half of the windows run backwards in training
    learning_rate: float = 3e-4  # a thirtieth of it in the last quarter of the steps
    decay: float = 1e-4  # of the weights, within the gradient
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        frames = self.past if self.future <= self.past else self.past + self.future
        shown = slice(None, self.future) if self.future <= self.past else slice(self.past, None)
        net = SiMLPeNet(self.depth)

        def predict(nets, past: Array) -> Array:
            whole = held(past, frames)
            x = rearrange(whole, "b t j d -> b t (j d)")
            y: Any = net.apply(nets, cosines(frames) @ x)
            made = cosines(frames).T @ y  # [b frames 3j]
            return past[:, -1:] + rearrange(made, "b t (j d) -> b t j d", d=3)[:, shown]  # equations 1 and 9

        def loss(nets, window: Array, context: Context, key: Key):
            if self.backwards and context.train:
                turned = jax.random.bernoulli(key, 0.5, (len(window), 1, 1, 1))
                window = jnp.where(turned, window[:, ::-1], window)
            made, true = predict(nets, window[:, : self.past]), window[:, self.past :]
            value = distance(made, true)  # equation 10
            if self.future > 1:
                value += distance(jnp.diff(made, axis=1), jnp.diff(true, axis=1))  # equation 11: velocities
            return value, {}

        schedule = optax.piecewise_constant_schedule(self.learning_rate, {int(0.75 * steps): 1 / 30})
        adam = optax.chain(optax.add_decayed_weights(self.decay), optax.adam(schedule))
        init = (jnp.zeros((1, frames, 3 * len(self.parents))),)
        return prediction_task(self, net, predict, loss, init, adam)


class SiMLPeNet(nn.Module):
    """x f32[b n c], waves of coordinates -> those of what is added to the last pose. Section 3, figure 2."""

    depth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, init = x.shape[-1], uniform_within(x.shape[-1])
        y = Dense(c, kernel_init=init, bias_init=init, name="motion_fc_in")(x).swapaxes(1, 2)  # [b c n]
        for i in range(self.depth):
            y = Block(name=f"motion_mlp_mlps_{i}")(y)
        return Dense(c, kernel_init=NEAR_ZERO, name="motion_fc_out")(y.swapaxes(1, 2))  # [b n c]


class Block(nn.Module):
    """x f32[b c n] plus its normalised linear map over the n waves. Equation 8."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[1]
        y = Dense(x.shape[2], kernel_init=NEAR_ZERO, name="fc0_fc")(x)
        alpha = self.param("norm0_alpha", nn.initializers.ones, (1, c, 1))
        beta = self.param("norm0_beta", nn.initializers.zeros, (1, c, 1))
        y = y - y.mean(1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(1, keepdims=True) + self.epsilon)  # over the coordinates
        return x + y * alpha + beta


# motion_mlp_mlps_3/fc0_fc is theirs motion_mlp.mlps.3.fc0.fc
WEIGHT_NAMES = renamed((r"motion_mlp_mlps", "motion_mlp.mlps"), (r"fc0_fc", "fc0.fc"), (r"norm0_", "norm0."))
SMALL: Any = {"parents": (-1, 0, 0, 2), "depth": 2, "unit": 1.0}
PRESETS = {
    "simlpe": row(SiMLPe(), SiMLPe(past=4, future=2, **SMALL), 137_580, 40_000, 256),
    "simlpe-cmu": row(SiMLPe(CMU_SEEN_PARENTS, 10, 25), SiMLPe(past=2, future=3, **SMALL), 79_080, 40_000, 256),
}
