"""VAE-GAN: Larsen, Soenderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric",
ICML 2016.

A VAE whose decoder is also the generator of a GAN, and whose likelihood is defined on the discriminator's features.
With D_l the features of the discriminator's last convolution, x~ ~ p(x | z), z ~ q(z | x), x_p ~ p(x | z_p) and
z_p ~ N(0, I),

    L_prior = KL(q(z | x) || N(0, I)),    L_llike = |D_l(x) - D_l(x~)|^2 / 2,
    L_GAN   = -log D(x) - log(1 - D(x~)) - log(1 - D(x_p)),

the encoder minimises L_prior + L_llike, the decoder gamma L_llike - L_GAN, and the discriminator L_GAN, by RMSProp, one
after the other. As in the authors' code, the discriminator's batch norm is over the batch of all three kinds of images,
and either the decoder or the discriminator skips its update when the other one is too far behind.

As in the authors' code for faces, L_GAN has no term for reconstructions x~ by default. With `judge_reconstructions` it
has, as above, and samples are worse: the discriminator takes them for real less often than reconstructions, and there
the decoder's loss, log(1 - D), has almost no gradient.

Differences from the authors' code (andersbll/autoencoding_beyond_pixels): its D_l is the output of the last convolution
before batch norm and ReLU (here after them), it has layers of 1,024 and 512 units after the convolutions of encoder and
discriminator, and gamma is 1e-6 for CelebA's 64x64x3. Here the encoder and the discriminator have DCGAN's convolutions,
and the decoder is its generator. Without batch norm in encoder and decoder one seed of three collapsed within 200
steps: the decoder made one image only, the latents were unused, and the discriminator had won and was not updated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.nn import sigmoid, softplus

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec, Latent
from jaxgen.core.errors import at_least, check_labels
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase, variables
from jaxgen.losses.elbo import active_units, kl_standard
from jaxgen.models.gan.dcgan import DCGAN, PLAIN, DCGANDiscriminator
from jaxgen.models.vae._nets import Image
from jaxgen.models.vae.vae import preset
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import normal
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.transforms import example_generation

EQUILIBRIUM = 0.68  # value of each term of L_GAN at equilibrium, about log 2; from the authors' code


class Terms(NamedTuple):
    """The terms of the three nets' losses, f32[b] each, except mean f32[b latent]."""

    mean: Array  # of q(z | x)
    prior: Array  # L_prior
    llike: Array  # L_llike
    real: Array  # the discriminator's logits of real images
    reconstructed: Array  # ... of reconstructions x~
    sampled: Array  # ... of samples x_p


@dataclass(frozen=True)
class VAEGAN:
    """Hyper-parameters of a VAE-GAN."""

    image: Image = (32, 32, 1)  # height, width, channels
    latent: int = 32  # size of z
    width: int = 32  # channels of each net's layer next to the image, doubled at each stage
    gamma: float = 1e-3  # weight of L_llike in the decoder's loss, relative to L_GAN
    margin: float = 0.35  # distance of a term of L_GAN from its equilibrium at which a net skips its update
    judge_reconstructions: bool = False  # whether L_GAN has a term for reconstructions, as in the paper
    learning_rate: float = 3e-4  # of RMSProp

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        at_least(0, model__gamma=self.gamma, model__margin=self.margin)
        at_least(1, model__width=self.width, model__latent=self.latent, model__image=min(self.image))
        count_stages(*self.image[:2])
        losses = {"encoder": self.encoder_loss, "decoder": self.decoder_loss, "discriminator": self.discriminator_loss}
        latent = Latent(
            normal(self.latent),
            lambda params, context, z, given: z,
            self.synthesise,
            factors=lambda params, context: (params["decoder"]["Dense_0"]["kernel"],),
        )

        def generate(params, context, keys, given):
            return {"image": self.synthesise(params, context, latent.draw(keys, given.get("truncation")), given)}

        example = labelled(self.image, 0)
        return Task(
            init=self.init,
            example=example,
            learners={net: Learner((net,), optax.rmsprop(self.learning_rate, eps_in_sqrt=False)) for net in losses},
            phases=tuple(Phase(net, net, loss, stream="z") for net, loss in losses.items()),
            capabilities=(example_generation(generate, example), latent, Codec(self.encode, self.synthesise)),
        )

    @property
    def nets(self) -> DCGAN:
        """The DCGAN with the layers of the three nets."""
        return DCGAN(self.image, self.latent, self.width)

    @property
    def encoder(self) -> "VAEGANEncoder":
        return VAEGANEncoder(self.nets.discriminator(features=True), self.latent)

    @property
    def discriminator(self) -> "VAEGANDiscriminator":
        return VAEGANDiscriminator(self.nets.discriminator(features=True))

    def init(self, key: Key, spec: Any = None):
        x, z = jnp.zeros((2, *self.image)), jnp.zeros((2, self.latent))
        nets = {
            "encoder": self.encoder.init(rng.fold(key, "encoder"), x, train=False),
            "decoder": self.nets.generator().init(rng.fold(key, "decoder"), z, train=False),
            "discriminator": self.discriminator.init(rng.fold(key, "discriminator"), x),
        }
        params = {net: found.pop("params") for net, found in nets.items()}
        del nets["discriminator"]  # its running statistics are never read, so they are not kept
        return params, {net: stats for net, stats in nets.items() if stats}

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the mean of q(z | x), f32[b latent]."""
        mean, _ = self.encoder.apply(variables("encoder", params, context.extra), batch["image"], train=False)
        return mean

    def synthesise(self, params: Params, context: Context, z: Array, given) -> Array:
        """Return the image of z, f32[b h w c] in [-1, 1]."""
        check_labels(0, given)
        net = variables("decoder", params, context.extra)
        return self.nets.generator().apply(net, z, train=False)  # pyright: ignore[reportReturnType]

    def terms(self, params: Params, context: Context, batch, key: Key) -> tuple[Terms, Mapping[str, Any]]:
        """Return the terms, and for each net the new entry of extra with its running statistics."""
        x = batch["image"]
        variables_of = partial(variables, params=params, extra=context.extra)
        training: Any = {"train": context.train, "mutable": ["batch_stats"]}
        (mean, log_var), encoder_stats = self.encoder.apply(variables_of("encoder"), x, **training)
        noise = lambda name: rng.normal(jax.random.split(rng.fold(key, name), len(x)), (self.latent,))  # noqa: E731
        z = jnp.concatenate([mean + jnp.exp(log_var / 2) * noise("posterior"), noise("prior")])  # [2b latent]
        fake, decoder_stats = self.nets.generator().apply(variables_of("decoder"), z, **training)
        (logits, features), _ = self.discriminator.apply(
            {"params": params["discriminator"]}, jnp.concatenate([x, fake]), mutable=["batch_stats"]
        )  # of [3b h w c]
        of_real, of_reconstruction, _ = jnp.split(features, 3)  # [b n]
        llike = 0.5 * ((of_real - of_reconstruction) ** 2).sum(1)
        terms = Terms(mean, kl_standard(mean, log_var).sum(1), llike, *jnp.split(logits, 3))
        stats = {"encoder": encoder_stats, "decoder": decoder_stats}
        return terms, {net: {net: new} if new else {} for net, new in stats.items()}

    def fake_logits(self, t: Terms) -> tuple[Array, ...]:
        """Return the logits of the kinds of generated images that L_GAN has terms for."""
        return (t.reconstructed, t.sampled) if self.judge_reconstructions else (t.sampled,)

    def gan_loss(self, t: Terms) -> Array:
        """Return L_GAN, f32[b]."""
        return softplus(-t.real) + sum(map(softplus, self.fake_logits(t)))

    def updates_due(self, t: Terms) -> tuple[Array, Array]:
        """Return whether the decoder, and whether the discriminator, is updated, bool[] each.

        The discriminator skips its update if the term of real or that of generated images is too low, the decoder if
        one of them is too high. If both conditions hold, both are updated.
        """
        real, fake = softplus(-t.real).mean(), jnp.stack([softplus(x).mean() for x in self.fake_logits(t)]).mean()
        decoder = jnp.maximum(real, fake) <= EQUILIBRIUM + self.margin
        discriminator = jnp.minimum(real, fake) >= EQUILIBRIUM - self.margin
        return decoder | ~discriminator, discriminator | ~decoder

    def encoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, stats = self.terms(params, context, batch, key)
        metrics = {"kl": t.prior.mean(), "similarity": t.llike.mean(), "active_units": active_units(t.mean)}
        return (t.prior + t.llike).mean(), Aux(metrics, stats["encoder"])

    def decoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, stats = self.terms(params, context, batch, key)
        moves, _ = self.updates_due(t)
        loss = stop_gradient_unless(self.gamma * t.llike - self.gan_loss(t), moves).mean()
        return loss, Aux({"moves": jnp.float32(moves)}, stats["decoder"])

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, _ = self.terms(params, context, batch, key)
        _, moves = self.updates_due(t)
        score = {name: sigmoid(getattr(t, name)).mean() for name in ("real", "reconstructed", "sampled")}
        return stop_gradient_unless(self.gan_loss(t), moves).mean(), Aux({**score, "moves": jnp.float32(moves)})


def stop_gradient_unless(loss: Array, moves: Array) -> Array:
    """Return the loss f32[b], with no gradient if `moves` is false."""
    return jnp.where(moves, loss, jax.lax.stop_gradient(loss))


class VAEGANEncoder(nn.Module):
    """image f32[b h w c] -> mean and log variance of q(z | x), f32[b latent] each."""

    net: DCGANDiscriminator
    latent: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        x = self.net(x, train=train)
        mean, log_var = (to_f32(Dense(self.latent, name=name)(x)) for name in ("mean", "log_var"))
        return mean, log_var


class VAEGANDiscriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b], and the features D_l f32[b n]."""

    net: DCGANDiscriminator

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        features = self.net(x, train=True)
        return to_f32(Dense(1, name="out", **PLAIN)(features)[:, 0]), to_f32(features)


SMALL = VAEGAN(image=(8, 8, 1), latent=4, width=4)
PRESETS = {"vae-gan": preset(VAEGAN(), SMALL, 692_992, "digits")}
