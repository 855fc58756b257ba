"""VAE-GAN: Larsen, Soenderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric",
ICML 2016.

A VAE whose decoder is a GAN's generator, and whose likelihood is of what the discriminator sees in an image: with
D_l the discriminator's last convolution and x~ ~ p(x | z), z ~ q(z | x), x_p ~ p(x | z_p), z_p ~ N(0, I),

    L_prior = KL(q(z | x) || N(0, I)),    L_llike = |D_l(x) - D_l(x~)|^2 / 2,
    L_GAN   = -log D(x) - log(1 - D(x~)) - log(1 - D(x_p)),

the encoder minimises L_prior + L_llike, the decoder gamma L_llike - L_GAN and the discriminator L_GAN, by RMSProp, one
after the other. As in the authors' code batch norm in the discriminator is over all three kinds of images, and of
decoder and discriminator one rests where the other has fallen behind.

As their code has it for faces, reconstructions are not judged: with `judge_reconstructions`, the L_GAN above, samples
are the worse for it: they pass for real less often than reconstructions do, and the decoder's loss, log(1 - D), has
hardly a slope there.

Not as in their code (andersbll/autoencoding_beyond_pixels): there D_l is what the last convolution gives before batch
norm and ReLU (here after them), layers of 1,024 and 512 units follow the convolutions of encoder and discriminator, and
gamma is 1e-6 for CelebA's 64x64x3. Encoder and discriminator here are DCGAN's convolutions, the decoder its generator.
Without batch norm in encoder and decoder one seed of three collapsed within 200 steps: the decoder painted one image,
the code was unused, and the discriminator had won and rested.
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
from jaxgen.core.capabilities import Latent
from jaxgen.core.errors import at_least, check_labels
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

EQUILIBRIUM = 0.68  # of each of L_GAN's terms, about log 2; the authors' code


class Terms(NamedTuple):
    """What the three players' losses are made of, f32[b] each, but for mean f32[b latent]."""

    mean: Array
    prior: Array
    llike: Array
    real: Array  # logits
    reconstructed: Array
    sampled: Array


@dataclass(frozen=True)
class VAEGAN:
    """Hyper-parameters of a VAE-GAN."""

    image: Image = (32, 32, 1)  # height, width, channels
    latent: int = 32  # size of z
    width: int = 32  # channels of each net's layer next to the image, doubled inwards
    gamma: float = 1e-3  # weight of L_llike beside L_GAN, for the decoder
    margin: float = 0.35  # by which a term of L_GAN may leave its equilibrium before a player rests
    judge_reconstructions: bool = False  # whether L_GAN is of reconstructions too, as in the paper, or of samples alone
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

        return Task(
            init=self.init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32)},
            learners={net: Learner((net,), optax.rmsprop(self.learning_rate, eps_in_sqrt=False)) for net in losses},
            phases=tuple(Phase(net, net, loss, stream="z") for net, loss in losses.items()),
            generate=generate,
            latent=latent,
            encode=self.encode,
            decode=self.synthesise,
        )

    @property
    def nets(self) -> DCGAN:
        """What the three nets are made of."""
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
        del nets["discriminator"]  # its running statistics are kept nowhere: nothing reads them
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
        """Return the terms, and, by net, the new entry of extra that has its running statistics."""
        x = batch["image"]
        play = partial(variables, params=params, extra=context.extra)
        on: Any = {"train": True, "mutable": ["batch_stats"]}
        (mean, log_var), seeing = self.encoder.apply(play("encoder"), x, **on)
        noise = lambda name: rng.normal(jax.random.split(rng.fold(key, name), len(x)), (self.latent,))  # noqa: E731
        z = jnp.concatenate([mean + jnp.exp(log_var / 2) * noise("posterior"), noise("prior")])  # [2b latent]
        made, painting = self.nets.generator().apply(play("decoder"), z, **on)
        (logits, features), _ = self.discriminator.apply(
            {"params": params["discriminator"]}, jnp.concatenate([x, made]), mutable=["batch_stats"]
        )  # of [3b h w c]
        seen, again, _ = jnp.split(features, 3)  # [b n]
        llike = 0.5 * ((seen - again) ** 2).sum(1)
        terms = Terms(mean, kl_standard(mean, log_var).sum(1), llike, *jnp.split(logits, 3))
        return terms, {
            net: {net: stats} if stats else {} for net, stats in (("encoder", seeing), ("decoder", painting))
        }

    def made(self, t: Terms) -> tuple[Array, ...]:
        """Return the logits of what is judged beside real images."""
        return (t.reconstructed, t.sampled) if self.judge_reconstructions else (t.sampled,)

    def game(self, t: Terms) -> Array:
        """Return L_GAN, f32[b]."""
        return softplus(-t.real) + sum(map(softplus, self.made(t)))

    def turns(self, t: Terms) -> tuple[Array, Array]:
        """Return whether the decoder moves, and whether the discriminator does, bool[] each.

        The discriminator rests where the term of real images or that of made ones is too low, the decoder where one
        of them is too high; not both.
        """
        real, made = softplus(-t.real).mean(), jnp.stack([softplus(x).mean() for x in self.made(t)]).mean()
        decoder = jnp.maximum(real, made) <= EQUILIBRIUM + self.margin
        discriminator = jnp.minimum(real, made) >= EQUILIBRIUM - self.margin
        return decoder | ~discriminator, discriminator | ~decoder

    def encoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, stats = self.terms(params, context, batch, key)
        metrics = {"kl": t.prior.mean(), "similarity": t.llike.mean(), "active_units": active_units(t.mean)}
        return (t.prior + t.llike).mean(), Aux(metrics, stats["encoder"])

    def decoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, stats = self.terms(params, context, batch, key)
        moves, _ = self.turns(t)
        loss = resting(self.gamma * t.llike - self.game(t), moves).mean()
        return loss, Aux({"moves": jnp.float32(moves)}, stats["decoder"])

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t, _ = self.terms(params, context, batch, key)
        _, moves = self.turns(t)
        score = {name: sigmoid(getattr(t, name)).mean() for name in ("real", "reconstructed", "sampled")}
        return resting(self.game(t), moves).mean(), Aux({**score, "moves": jnp.float32(moves)})


def resting(loss: Array, moves: Array) -> Array:
    """Return the loss f32[b], without a gradient where its player rests."""
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
    """image f32[b h w c] -> logits f32[b], and what they are made of, D_l f32[b n]."""

    net: DCGANDiscriminator

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        features = self.net(x, train=True)
        return to_f32(Dense(1, name="out", **PLAIN)(features)[:, 0]), to_f32(features)


SMALL = VAEGAN(image=(8, 8, 1), latent=4, width=4)
PRESETS = {"vae-gan": preset(VAEGAN(), SMALL, 692_992, "digits")}
