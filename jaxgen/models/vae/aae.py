"""AAE: Makhzani, Shlens, Jaitly, Goodfellow and Frey, "Adversarial Autoencoders", 2016.

An autoencoder with adversarial training in latent space, which matches the distribution of its latents to the prior
p(z). In each step, after the reconstruction's update, a discriminator learns to distinguish z ~ p(z) from latents of
images, and then the encoder, as the generator, learns to make its latents look like samples of the prior. The encoder
is deterministic. p(z) is N(0, I), or a mixture of 10 Gaussians on a ring in the plane. The generator's loss is the
non-saturating one.
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

COMPONENTS, RADIUS, SIGMA = 10, 4.0, 0.5  # of the mixture; neighbouring means are 5 sigma apart


@dataclass(frozen=True)
class AAE:
    """Hyper-parameters of an adversarial autoencoder."""

    image: Image = (28, 28, 1)  # height, width, channels
    latent: int = 8  # size of z
    nets: NetConfig = NetConfig(depth=2)
    prior: Literal["normal", "mixture"] = "normal"  # of z; the mixture needs latent 2
    hidden: int = 400  # units of each of the discriminator's two hidden layers
    learning_rate: float = 1e-3  # of Adam, for the reconstruction
    game_rate: float = 2e-4  # of Adam, for the discriminator's and the generator's losses

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for sizes that the nets or the prior can't have."""
        at_least(1, model__hidden=self.hidden)
        if self.prior == "mixture" and self.latent != 2:
            raise InputError(f"model.prior=mixture has two dimensions: give --model.latent 2, not {self.latent}.")
        plain = self.autoencoder.task(steps).having(*self.autoencoder.sampling(self.draw))
        learner = lambda net: Learner((net,), optax.adam(self.game_rate, b1=0.5))  # noqa: E731
        return replace(
            plain,
            init=self.init,
            learners={**plain.learners, "discriminator": learner("discriminator"), "generator": learner("encoder")},
            phases=(
                *plain.phases,
                Phase("discriminator", "discriminator", self.discriminator_loss, stream="z"),
                Phase("generator", "generator", self.generator_loss, stream="z"),
            ),
        )

    @property
    def autoencoder(self) -> Autoencoder:
        return Autoencoder(self.image, self.latent, self.nets, learning_rate=self.learning_rate)

    @property
    def draw(self) -> Prior:
        return {"normal": normal(self.latent), "mixture": ring}[self.prior]

    def init(self, key: Key, spec: Any = None):
        params, extra = self.autoencoder.init(key, spec)
        z = jnp.zeros((2, self.latent))
        discriminator = LatentDiscriminator(self.hidden).init(rng.fold(key, "discriminator"), z)
        return {**params, "discriminator": discriminator["params"]}, extra

    def logits(self, params: Params, z: Array) -> Array:
        """Return the discriminator's logits f32[b] of z f32[b latent]."""
        return LatentDiscriminator(self.hidden).apply({"params": params["discriminator"]}, z)  # pyright: ignore[reportReturnType]

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        latents = self.autoencoder.latents(params, batch["image"])
        z = self.draw(jax.random.split(key, len(latents)), None)
        real, fake = self.logits(params, z), self.logits(params, latents)
        metrics = {"real": non_saturating.score(real).mean(), "fake": non_saturating.score(fake).mean()}
        return non_saturating.discriminator(real, fake).mean(), Aux(metrics)

    def generator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        fake = self.logits(params, self.autoencoder.latents(params, batch["image"]))
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
    """Return samples z f32[b 2] of the mixture; the truncation psi scales the distance to the component's mean."""
    component = jax.vmap(lambda key: jax.random.randint(rng.fold(key, "component"), (), 0, COMPONENTS))(keys)
    angle = 2 * jnp.pi / COMPONENTS * component
    offset = SIGMA * rng.normal(keys, (2,))
    offset = offset if psi is None else offset * psi[:, None]
    return RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1) + offset


PRESETS = {"aae": row(AAE(), 1_120_393, hidden=16)}
