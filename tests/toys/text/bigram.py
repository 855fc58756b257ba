"""A bigram model of tokens: each token by the one before it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jaxgen.core.capabilities import Autoregressive, Density
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.spec import INTEGER, ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Learner, Phase
from jaxgen.tasks.autoregressive import token_generation


@dataclass(frozen=True)
class Bigram:
    length: int = 6
    vocabulary: int = 5

    def task(self, steps: int) -> Task:
        tokens = ArraySpec("tokens", (self.length,), INTEGER, count=self.vocabulary)

        def init(key, _):
            return {"table": 0.01 * jax.random.normal(key, (self.vocabulary + 1, self.vocabulary))}, {}

        def step(params, context, cache, token, position):  # row -1 of the table is that of the start
            return params["table"][token], cache

        def log_prob(params, context, batch, keys, samples=1):
            before = jnp.pad(batch["tokens"][:, :-1], ((0, 0), (1, 0)), constant_values=-1)
            logits = jax.nn.log_softmax(params["table"][before])  # [b n k]
            return jnp.take_along_axis(logits, batch["tokens"][..., None], 2).sum((1, 2))

        def loss(params, context, batch, key):
            return -log_prob(params, context, batch, None).mean(), Aux()

        model = Autoregressive(lambda *_: (), step, self.length)
        return Task(
            init,
            {"tokens": tokens},
            {"table": Learner(("table",), optax.adam(0.3))},
            (Phase("table", "table", loss),),
            capabilities=(model, token_generation(model, "tokens", tokens), Density(log_prob)),
        )


LOG, SAVE = Log(every=2, samples=4, count=4), Save(4)
RUN = Run(Bigram(), data=Data("npz:text.npz"), steps=8, batch=8, log=LOG, save=SAVE)
PRESETS = {"toy-text": Preset(RUN, RUN, 30)}
