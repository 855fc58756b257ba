"""A linear autoencoder of short sounds with a class, whose latents are drawn from N(0, I)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Learner, Phase
from jaxgen.tasks.transforms import generation


@dataclass(frozen=True)
class Tones:
    length: int = 400
    latent: int = 4

    def task(self, steps: int) -> Task:
        sound, label = ArraySpec("audio", (self.length, 1), rate=8000.0), label_spec(2)

        def init(key, _):
            keys = jax.random.split(key, 2)
            return {
                "encoder": 0.01 * jax.random.normal(keys[0], (self.length, self.latent)),
                "decoder": 0.01 * jax.random.normal(keys[1], (2, self.latent, self.length)),
            }, {}

        def encode(params, context, batch):
            return batch["audio"][..., 0] @ params["encoder"]

        def decode(params, context, z, conditioning):
            return jnp.tanh(jnp.einsum("bd,bdt->bt", z, params["decoder"][conditioning["label"]]))[..., None]

        def loss(params, context, batch, key):
            made = decode(params, context, encode(params, context, batch), batch)
            return jnp.square(made - batch["audio"]).mean(), Aux()

        def generate(params, context, keys, inputs):
            return {"audio": decode(params, context, rng.normal(keys, (self.latent,)), inputs)}

        return Task(
            init,
            {"audio": sound, "label": label},
            {"both": Learner(("encoder", "decoder"), optax.adam(0.01))},
            (Phase("both", "both", loss),),
            capabilities=(
                generation(generate, {"audio": sound}, {"label": label}),
                Codec(encode, decode, ("label",)),
            ),
        )


LOG, SAVE = Log(every=2, samples=4, count=4), Save(4)
RUN = Run(Tones(), data=Data("npz:tones.npz"), steps=8, batch=8, log=LOG, save=SAVE)
PRESETS = {"toy-audio": Preset(RUN, RUN, 4 * 400 + 2 * 4 * 400)}
