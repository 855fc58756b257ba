"""TAU: Tan, Gao, Wu, Xu, Xia, Li and Li 2023, "Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive
Learning".

SimVP (simvp.py) whose translator weights channels, which are frames as well, by their means over the image. The loss
adds the differential divergence: the Kullback-Leibler divergence between the softmax of the changes from frame to frame
of prediction and truth (equation 6), by the weight 0.1 of the authors' settings.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.models.video import simvp
from jaxgen.models.video.simvp import simvp_task
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.video_prediction import Image, mean_squared, row

TEMPERATURE, SMALLEST = 0.1, 1e-12


@dataclass(frozen=True)
class TAU:
    """Hyper-parameters of a SimVP with temporal attention units."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    width: Count = 64  # channels of a frame's features
    stages: Count = 4  # convolutions of the encoder and of the decoder; every second one halves or doubles the size
    hidden: Count = 512  # channels of the translator
    depth: Count = 8  # its blocks
    divergence: float = 0.1  # weight of the differential divergence
    learning_rate: float = 1e-3
    ema: Decay = 0.999
    translator = "tau"

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps

        def distance(made: Array, true: Array) -> Array:
            return mean_squared(made, true) + self.divergence * differential_divergence(made, true)

        return simvp_task(self, distance)


def differential_divergence(made: Array, true: Array) -> Array:
    """Return the mean of p log(p / q) over the values of all changes, f32[b t h w c] twice -> f32[]; 0 for 2 frames.

    p and q are the softmax over each change of prediction and truth. Equations 4 to 6; as in the authors' code the sum
    over the values of a change is a mean.
    """
    if made.shape[1] <= 2:
        return jnp.zeros(())

    def softmax(x: Array) -> Array:
        change = (x[:, 1:] - x[:, :-1]).reshape(len(x), x.shape[1] - 1, -1)  # [b t-1 h*w*c]
        return jax.nn.softmax(change / TEMPERATURE, -1)

    p, q = softmax(to_f32(made)), softmax(true)
    return (p * jnp.log(p / (q + SMALLEST) + SMALLEST)).mean()


WEIGHT_NAMES = simvp.WEIGHT_NAMES
TINY = TAU(image=(16, 16, 1), past=4, future=3, width=4, stages=2, hidden=16, depth=2)
PRESETS = {"tau": row(TAU(), TINY, 44_656_001)}
