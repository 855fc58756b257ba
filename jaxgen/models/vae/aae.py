"""AAE: Makhzani, Shlens, Jaitly, Goodfellow and Frey, "Adversarial Autoencoders", 2016.

An autoencoder whose codes, taken together, are made to lie as the prior p(z) by a GAN's game on codes: after the
reconstruction's update a discriminator learns to tell z ~ p(z) from codes, and then the encoder, as the generator, to
pass for the prior. The encoder is deterministic; p(z) is N(0, I), or 10 normals on a ring in the plane. The generator's
loss is the non-saturating one.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase
from jaxgen.losses.gan import non_saturating
from jaxgen.models.vae._nets import Image, NetConfig
from jaxgen.models.vae.autoencoder import Autoencoder
from jaxgen.models.vae.vae import row
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import Prior, normal

COMPONENTS, RADIUS, SIGMA = 10, 4.0, 0.5  # of the mixture: neighbours are 5 sigma apart


@dataclass(frozen=True)
class AAE:
    """Hyper-parameters of an adversarial autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: int = 8  # size of z
    nets: NetConfig = NetConfig(depth=2)
    prior: Literal["normal", "mixture"] = "normal"  # of z; the mixture has latent 2
    hidden: int = 400  # units of each of the discriminator's two hidden layers
    learning_rate: float = 1e-3  # of Adam, for the reconstruction
    game_rate: float = 2e-4  # the same for discriminator and generator

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError where the nets can't make such images, or the prior such codes."""
        at_least(1, model__hidden=self.hidden)
        if self.prior == "mixture" and self.latent != 2:
            raise InputError(f"model.prior=mixture lies in the plane: give --model.latent 2, not {self.latent}.")
        plain = self.autoencoder.task(steps)
        player = lambda net: Learner((net,), optax.adam(self.game_rate, b1=0.5))  # noqa: E731
        return replace(
            plain,
            init=self.init,
            learners={**plain.learners, "discriminator": player("discriminator"), "generator": player("encoder")},
            phases=(
                *plain.phases,
                Phase("discriminator", "discriminator", self.discriminator_loss, stream="z"),
                Phase("generator", "generator", self.generator_loss, stream="z"),
            ),
            **self.autoencoder.sampled(self.draw),
        )

    @property
    def autoencoder(self) -> Autoencoder:
        return Autoencoder(self.image, self.latent, self.nets, learning_rate=self.learning_rate)

    @property
    def draw(self) -> Prior:
        return {"normal": normal(self.latent), "mixture": ring}[self.prior]

    def init(self, key: Key, spec: Any = None):
        params, extra = self.autoencoder.init(key, spec)
        judge = LatentDiscriminator(self.hidden).init(rng.fold(key, "discriminator"), jnp.zeros((2, self.latent)))
        return {**params, "discriminator": judge["params"]}, extra

    def logits(self, params: Params, z: Array) -> Array:
        return LatentDiscriminator(self.hidden).apply({"params": params["discriminator"]}, z)  # pyright: ignore[reportReturnType]

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        code = self.autoencoder.code(params, batch["image"])
        z = self.draw(jax.random.split(key, len(code)), None)
        real, fake = self.logits(params, z), self.logits(params, code)
        metrics = {"real": non_saturating.score(real).mean(), "fake": non_saturating.score(fake).mean()}
        return non_saturating.discriminator(real, fake).mean(), Aux(metrics)

    def generator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        fake = self.logits(params, self.autoencoder.code(params, batch["image"]))
        return non_saturating.generator(fake, fake).mean(), Aux()


class LatentDiscriminator(nn.Module):
    """z f32[b latent] -> logits f32[b]."""

    hidden: int

    @nn.compact
    def __call__(self, z: Array) -> Array:
        for i in range(2):
            z = nn.leaky_relu(Dense(self.hidden, name=f"hidden_{i}")(z), 0.2)
        return to_f32(Dense(1, name="out")(z)[:, 0])


def ring(keys: Key, psi: Array | None = None) -> Array:
    """Return z f32[b 2] of the mixture; psi narrows its normals."""
    component = jax.vmap(lambda key: jax.random.randint(rng.fold(key, "component"), (), 0, COMPONENTS))(keys)
    angle = 2 * jnp.pi / COMPONENTS * component
    offset = SIGMA * rng.normal(keys, (2,))
    offset = offset if psi is None else offset * psi[:, None]
    return RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1) + offset


PRESETS = {"aae": row(AAE(), 1_120_393, hidden=16)}
