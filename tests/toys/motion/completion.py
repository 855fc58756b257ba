"""Motion completion: all joints from a part of them, by one matrix."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Learner, Phase


@dataclass(frozen=True)
class Completion:
    frames: int = 6
    seen: int = 2
    joints: int = 4

    def task(self, steps: int) -> Task:
        spec = lambda joints: ArraySpec("pose", (self.frames, joints, 3), rate=12.0)  # noqa: E731
        inputs, outputs = {"seen": spec(self.seen)}, {"pose": spec(self.joints)}
        complete = lambda params, x: jnp.einsum("btjd,jk->btkd", x, params["net"])  # noqa: E731

        def init(key, _):
            return {"net": 0.1 * jax.random.normal(key, (self.seen, self.joints))}, {}

        def loss(params, context, batch, key):
            return jnp.square(complete(params, batch["seen"]) - batch["pose"]).mean(), Aux()

        def apply(params, context, inputs, keys, scale=1.0):
            return {"pose": complete(params, inputs["seen"])}

        return Task(
            init,
            inputs | outputs,
            {"net": Learner(("net",), optax.adam(0.05))},
            (Phase("net", "net", loss),),
            capabilities=(Transform(apply, inputs, outputs, subject="seen"),),
        )


RUN = Run(
    Completion(), data=Data("npz:motion.npz"), steps=8, batch=8, log=Log(every=2, samples=4, count=4), save=Save(4)
)
PRESETS = {"toy-motion": Preset(RUN, RUN, 8)}
