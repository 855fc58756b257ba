"""Text to image by flow matching: Esser et al. 2024, "Scaling Rectified Flow Transformers".

x_t = (1 - t) x0 + t eps; the net predicts the velocity eps - x0, at logit-normal training times (section 3.1). The net
is their MM-DiT, on pixels or on the latents of an autoencoder. In place of their three frozen text encoders stands a
small transformer that is trained with it, on the tokens of the run's own captions (data/tokeniser.py). A share of the
texts is dropped in training, for classifier-free guidance, and a negative text can stand in place of none.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count, Decay, Range
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params
from jaxgen.diffusion import schedules
from jaxgen.diffusion.grids import grid
from jaxgen.diffusion.schedules import expand_like
from jaxgen.models.text_to_image._text import SMALL_TEXT, TEXT, Text, drop_text
from jaxgen.nn.backbones.mmdit import MMDiT
from jaxgen.nn.backbones.text_encoder import counted
from jaxgen.tasks.denoising import Denoiser, Sampling, check_model, denoiser_of, game, generator, ode_log_prob, shape_of

GUIDED = Sampling("heun", 25, "time", guidance=3.0)
LOW, HIGH = 0.002, 1000.0  # range of sigma / alpha for the likelihood by the ODE


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the MM-DiT."""

    width: Count = 256  # of a token
    depth: Count = 6  # layers
    heads: Count = 4  # attention heads
    patch: Count = 2  # side of a patch in pixels
    qk_norm: bool = True  # norms of queries and keys

    def check(self):
        """Nothing beside the ranges: the net itself checks that images fit it."""

    def adam(self, learning_rate: Any):
        """Return Adam."""
        return optax.adam(learning_rate)


class TextDenoiser(nn.Module):
    """(x f32[b h w c], t f32[b], tokens i32[b n]) -> f32[b h w c]: a text encoder and an MM-DiT, trained together."""

    text: Text
    net: TransformerConfig

    @nn.compact
    def __call__(self, x: Array, t: Array, tokens: Array) -> Array:
        features, whole = self.text.encoder("text_encoder")(tokens)
        how = self.net
        net = MMDiT(x.shape[-1], how.patch, how.width, how.depth, how.heads, how.qk_norm, name="transformer")
        return net(x, t, features, counted(tokens), whole)


@dataclass(frozen=True)
class TextFlow:
    """Hyper-parameters of a flow of images with captions."""

    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    text: Text = TEXT
    net: TransformerConfig = TransformerConfig()
    shift: Annotated[float, Range(1e-3)] = 1.0  # factor on sigma / alpha, above 1 for larger images
    drop: Decay = 0.1  # share of texts dropped in training
    sampling: Sampling = GUIDED
    learning_rate: float = 5e-4  # of Adam
    ema: Decay = 0.9995  # decay of the EMA
    autoencoder: str = ""  # folder of a train.vae run, to model its latents; empty: model images

    shape = property(shape_of)
    classes = 0  # there are texts instead

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for settings that are invalid together."""
        del steps
        check_model(self)
        if self.sampling.guidance != 1 and not self.drop:
            raise InputError("Guidance needs a model that has learned images without a text too: model.drop is 0.")
        if self.sampling.guide or self.sampling.classifier:
            raise InputError("A model of texts has no guide and no classifier: use guidance and a negative text.")
        self.sampling.check(1, self.drop, "flow")
        d = self.denoiser
        log_prob = ode_log_prob(d, LOW, HIGH)
        return game(self, generator(d, self.sampling), log_prob, denoiser=d, conditions={"text": self.text.spec})

    @property
    def module(self) -> TextDenoiser:
        return TextDenoiser(self.text, self.net)

    @property
    def denoiser(self) -> Denoiser:
        how = self.sampling
        plain = schedules.rectified_flow()
        schedule = schedules.shifted(plain, self.shift) if self.shift != 1 else plain
        taus = grid(how.grid, how.steps, "flow", LOW, HIGH, schedule)
        return replace(denoiser_of(self, self.predict_x0, "flow", taus), null={"text": self.text.none})

    def init(self, key: Key, spec: Any = None):
        x, tokens = jnp.zeros((2, *self.shape)), jnp.zeros((2, self.text.context), jnp.int32)
        return {"denoiser": self.module.init(rng.fold(key, "denoiser"), x, jnp.zeros(2), tokens)["params"]}, {}

    def velocity(self, params: Params, x: Array, t: Array, tokens: Array) -> Array:
        """Return the net's velocity at x_t and times t f32[b], for texts i32[b n]."""
        found: Any = self.module.apply({"params": params["denoiser"]}, x, 1000 * t, tokens)
        return found

    def predict_x0(self, params: Params, context: Context, x: Array, tau: Array, conditioning: Batch) -> Array:
        """Return E[x0 | x, text] for x = (1 - tau) x0 + tau eps."""
        del context
        return x - expand_like(x, tau) * self.velocity(params, x, tau, conditioning["text"])

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        x0 = batch["image"]
        keys = {name: rng.fold(key, name) for name in ("t", "eps", "drop")}
        u = jax.nn.sigmoid(jax.random.normal(keys["t"], (len(x0),)))  # section 3.1, m = 0 and s = 1
        t = self.shift * u / (1 + (self.shift - 1) * u)  # (23)
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), self.shape)
        xt = (1 - expand_like(x0, t)) * x0 + expand_like(x0, t) * eps
        v = self.velocity(params, xt, t, drop_text(batch["text"], self.drop, keys["drop"]))
        return jnp.square(v - (eps - x0)).mean(), Aux()


SMALL = TransformerConfig(16, 2, 2, 2)
FEW = replace(GUIDED, steps=4)
PRESETS = {
    "text-flow": Preset(
        Run(
            TextFlow(),
            data=Data("scenes"),
            steps=50_000,
            batch=128,
            optim=Optim(warmup=500),
            log=Log(every=100, samples=2500, count=64),
            save=Save(every=1000),
        ),
        Run(
            TextFlow((8, 8, 3), SMALL_TEXT, SMALL, sampling=FEW, learning_rate=1e-3),
            data=Data("scenes"),
            steps=20,
            batch=16,
            log=Log(every=5, samples=10, count=16),
            save=Save(every=10),
        ),
        14_479_436,
    ),
}
