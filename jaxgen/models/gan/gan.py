"""GAN: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, with two-layer perceptrons for both players.

The paper's game (algorithm 1) and both of its generator losses: "minimax", log(1 - D(G(z))), and "non-saturating",
-log D(G(z)), which section 3 prefers. The paper's MNIST discriminator has maxout units and its generator ReLU and
sigmoid; here, as in most of today's code, LeakyReLU 0.2, and tanh for pictures in [-1, 1].

Measured: the imported `mnist_gan_mlp_G` gets fid_lenet 61 +- 2 on MNIST (10,000 samples, 3 seeds; README, "Measure");
our own training is not yet measured.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen import rng
from jaxgen.config import Data, Log, Preset, Run, Save
from jaxgen.core import Aux, Ema, Learner, Phase, Task, ramped
from jaxgen.errors import at_least
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.conv import Dense
from jaxgen.nn.pool import flatten


@dataclass(frozen=True)
class GAN:
    """Hyper-parameters of a GAN of perceptrons."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    latent: int = 64  # numbers in z, from N(0, 1)
    hidden: int = 256  # units of each of two hidden layers
    loss: Literal["non-saturating", "minimax"] = "non-saturating"
    learning_rate: float = 2e-4
    beta1: float = 0.5

    def task(self, steps: int) -> Task:
        """Return the game."""
        del steps
        at_least(1, model__hidden=self.hidden, model__latent=self.latent, model__image=min(self.image))
        generator, discriminator = Generator(self.image, self.hidden), Discriminator(self.hidden)
        loss = LOSSES[self.loss]

        def init(key, spec):
            z, x = jnp.zeros((1, self.latent)), jnp.zeros((1, *self.image))
            params = {
                "generator": generator.init(rng.fold(key, "generator"), z)["params"],
                "discriminator": discriminator.init(rng.fold(key, "discriminator"), x)["params"],
            }
            return params, {}

        def judge(params, x) -> jax.Array:
            return discriminator.apply({"params": params["discriminator"]}, x)  # pyright: ignore[reportReturnType]

        def imagine(params, batch, key) -> jax.Array:
            z = rng.normal(jax.random.split(key, len(batch["image"])), (self.latent,))
            return generator.apply({"params": params["generator"]}, z)  # pyright: ignore[reportReturnType]

        def discriminator_loss(params, context, batch, key):
            real_logits, fake_logits = judge(params, batch["image"]), judge(params, imagine(params, batch, key))
            metrics = {"real": jax.nn.sigmoid(real_logits).mean(), "fake": jax.nn.sigmoid(fake_logits).mean()}
            return loss.discriminator(real_logits, fake_logits).mean(), Aux(metrics)

        def generator_loss(params, context, batch, key):
            return loss.generator(judge(params, imagine(params, batch, key))).mean(), Aux()

        def generate(params, context, keys, given):
            return {"image": generator.apply({"params": params["generator"]}, rng.normal(keys, (self.latent,)))}

        def adam():
            return optax.adam(self.learning_rate, b1=self.beta1)

        return Task(
            init=init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32)},
            learners={
                "discriminator": Learner(("discriminator",), adam()),
                "generator": Learner(("generator",), adam()),
            },
            phases=(
                Phase("discriminator", "discriminator", discriminator_loss, stream="z"),
                Phase("generator", "generator", generator_loss, stream="z"),
            ),
            ema=(Ema("generator", ramped(0.999)),),
            generate=generate,
        )


class Generator(nn.Module):
    """z f32[b latent] -> image f32[b h w c] in [-1, 1]."""

    image: tuple[int, int, int]
    hidden: int

    @nn.compact
    def __call__(self, z):
        height, width, channels = self.image
        x = nn.relu(Dense(self.hidden, name="layer_0")(z))
        x = nn.relu(Dense(self.hidden, name="layer_2")(x))
        x = Dense(height * width * channels, name="layer_4")(x)
        x = x.reshape(-1, channels, height, width)  # channels first, as `flatten` lays them
        return jnp.tanh(jnp.moveaxis(x, 1, 3).astype(jnp.float32))  # [b h w c]


class Discriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b]."""

    hidden: int

    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(Dense(self.hidden, name="layer_0")(flatten(x)), 0.2)
        x = nn.leaky_relu(Dense(self.hidden, name="layer_2")(x), 0.2)
        return Dense(1, name="layer_4")(x)[:, 0].astype(jnp.float32)


PRESETS = {
    "gan": Preset(
        Run(
            model=GAN(),
            data=Data("digits"),
            steps=20_000,
            batch=100,
            log=Log(every=100, samples=1000),
            save=Save(every=1000),
        ),
        tiny=Run(
            model=GAN(image=(8, 8, 1), latent=8, hidden=16),
            data=Data("digits"),
            steps=20,
            batch=16,
            log=Log(every=5, samples=10, count=16),
            save=Save(every=10),
        ),
        parameters=283_920 + 267_009,
    ),
}
