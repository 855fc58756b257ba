"""A video predictor: the next frames as a linear map of the frames before, at each pixel."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Ema, Learner, Phase, ramped


@dataclass(frozen=True)
class Predictor:
    past: int = 3
    future: int = 2
    side: int = 8

    def task(self, steps: int) -> Task:
        spec = lambda frames: ArraySpec("video", (frames, self.side, self.side, 1), rate=5.0)  # noqa: E731
        predict = lambda params, x: jnp.einsum("bthwc,tu->buhwc", x, params["predictor"]["mix"])  # noqa: E731

        def init(key, _):
            return {"predictor": {"mix": 0.1 * jax.random.normal(key, (self.past, self.future))}}, {}

        def loss(params, context, batch, key):
            return jnp.square(predict(params, batch["past"]) - batch["future"]).mean(), Aux()

        def apply(params, context, inputs, keys, scale=1.0) -> dict[str, Any]:
            return {"future": predict(params, inputs["past"])}

        inputs, outputs = {"past": spec(self.past)}, {"future": spec(self.future)}
        return Task(
            init,
            inputs | outputs,
            {"predictor": Learner(("predictor",), optax.adam(0.05))},
            (Phase("predictor", "predictor", loss),),
            (Ema("predictor", ramped(0.9)),),
            capabilities=(Transform(apply, inputs, outputs, subject="past"),),
        )


RUN = Run(
    Predictor(), data=Data("npz:videos.npz"), steps=8, batch=8, log=Log(every=2, samples=4, count=8), save=Save(4)
)
PRESETS = {"toy-video": Preset(RUN, RUN, 6)}
