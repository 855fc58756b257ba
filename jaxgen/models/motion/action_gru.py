"""Action GRU: Guo, Zuo, Wang, Zou, Sun, Deng, Gong and Cheng 2020, "Action2Motion: Conditioned Generation of 3D Human
Motions".

The classifier by which clips of motion are judged: two GRUs read the places of joints; the last state becomes 30
features, and these the classes. The features are those of the Frechet distance, the classes those of the accuracy.

`action-gru`  the CMU split: 60 frames at 25 a second, 8 actions
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from einops import rearrange
from flax import linen as nn

from jaxgen.core.capabilities import Classifier
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.spec import label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.recurrent import GRUCell
from jaxgen.tasks.classification import cross_entropy
from jaxgen.tasks.motion_generation import CMU_ACTIONS, RATE, row, space_of


@dataclass(frozen=True)
class ActionGRU:
    """Hyper-parameters of an action GRU."""

    skeleton: str = "cmu"  # cmu, deepmimic, smpl, or a file of a motion that has it
    unit: float = 0.0  # metres of one of its lengths; 0: the power of ten that makes it man-sized
    rate: float = RATE  # frames in a second
    frames: Count = 60  # of a clip
    classes: Count = CMU_ACTIONS  # actions
    width: Count = 128  # of the GRUs
    features: Count = 30
    learning_rate: float = 1e-3
    ema: Decay = 0.99

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__classes=self.classes)
        space = space_of(self)
        net = ActionGRUNet(self.width, self.features, self.classes)
        example = {"motion": space.format.spec(self.frames), "label": label_spec(self.classes)}

        def start(key: Key, _: Any):
            places = jnp.zeros((1, self.frames, 3 * len(space.format.skeleton)))
            return {"classifier": net.init(key, places)["params"]}, {}

        def classify(params: Params, context: Context, batch: Batch) -> dict[str, Array]:
            del context
            places = rearrange(space.format.places(batch["motion"]), "b t j d -> b t (j d)")
            return net.apply({"params": params["classifier"]}, places)  # pyright: ignore

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            del key
            logits = to_f32(classify(params, context, batch)["logits"])
            top1 = (logits.argmax(-1) == batch["label"]).mean(dtype=jnp.float32)
            return cross_entropy(logits, batch["label"]).mean(), Aux({"top1": top1})

        return Task(
            init=start,
            example=example,
            learners={"classifier": Learner(("classifier",), optax.adam(self.learning_rate))},
            phases=(Phase("classifier", "classifier", loss),),
            ema=(Ema("classifier", ramped(self.ema)),),
            capabilities=(Classifier(classify),),
        )


class ActionGRUNet(nn.Module):
    """Places f32[b t c] -> "logits" f32[b classes] and "features" f32[b features]."""

    width: int
    features: int
    classes: int

    @nn.compact
    def __call__(self, places: Array) -> dict[str, Array]:
        cells = GRUCell(self.width, name="gru_0"), GRUCell(self.width, name="gru_1")

        def read(_, state: tuple[Array, Array], x: Array):
            first = cells[0](state[0], x)
            return (first, cells[1](state[1], first)), None

        scan = nn.scan(read, variable_broadcast="params", split_rngs={"params": False}, in_axes=1)
        h = jnp.zeros((len(places), self.width), places.dtype)
        (_, h), _ = scan(self, (h, h), places)
        y = jnp.tanh(Dense(self.features, name="linear1")(h))
        return {"logits": Dense(self.classes, name="linear2")(y), "features": y}


SMALL = ActionGRU("deepmimic", frames=4, classes=3, width=8, features=4)
PRESETS = {"action-gru": row(ActionGRU(), SMALL, 196_886, 5_000, 64)}
