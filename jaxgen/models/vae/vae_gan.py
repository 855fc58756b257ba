"""VAE-GAN: Larsen, Soenderby, Larochelle and Winther, "Autoencoding beyond pixels using a learned similarity metric",
ICML 2016.

A VAE whose decoder is a GAN's generator, and whose likelihood is of what the discriminator sees in a picture: with
D_l the discriminator's last convolution and x~ ~ p(x | z), z ~ q(z | x), x_p ~ p(x | z_p), z_p ~ N(0, I),

    L_prior = KL(q(z | x) || N(0, I)),    L_llike = |D_l(x) - D_l(x~)|^2 / 2,
    L_GAN   = -log D(x) - log(1 - D(x~)) - log(1 - D(x_p)),

the encoder minimises L_prior + L_llike, the decoder gamma L_llike - L_GAN and the discriminator L_GAN, by RMSProp, one
after the other. As in the authors' code batch norm in the discriminator is over all three kinds of pictures, and of
decoder and discriminator one rests where the other has fallen behind.

Not as in their code (andersbll/autoencoding_beyond_pixels): there real pictures count as much as both made kinds, D_l
is what the last convolution gives before batch norm and ReLU (here after them), a layer of 512 units follows, encoder
and decoder have batch norm as well, and for CelebA's 64x64x3 gamma is 1e-6, and reconstructions are not judged.

Measured: on MNIST after 1,000 steps of 100, of three seeds (README, vae-quality): fid_lenet 129 and 88 and PSNR 16.1
and 16.9 dB, and 354 and 9.6 dB where it collapsed within 300 steps: the discriminator had won and rested, the code was
unused. Samples are strokes, reconstructions digits. Longer training is not yet measured.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.nn import sigmoid, softplus

from jaxgen import rng
from jaxgen.core import Array, Aux, Context, Key, Learner, Params, Phase, Task
from jaxgen.errors import at_least
from jaxgen.losses.elbo import active_units, kl_standard
from jaxgen.models.gan.dcgan import PLAIN
from jaxgen.models.gan.dcgan import Discriminator as Convolutions
from jaxgen.models.vae.nets import Image, Nets
from jaxgen.models.vae.vae import CONV, VAE, row
from jaxgen.nn.conv import Dense
from jaxgen.nn.stages import count_stages
from jaxgen.nn.wide import wide

EQUILIBRIUM = 0.68  # of each of L_GAN's terms, about log 2; the authors' code


class Terms(NamedTuple):
    """What the three players' losses are made of, f32[b] each, but for mean f32[b latent]."""

    mean: Array
    prior: Array
    llike: Array
    real: Array  # logits
    reconstructed: Array
    sampled: Array

    @property
    def gan(self) -> Array:
        return softplus(-self.real) + softplus(self.reconstructed) + softplus(self.sampled)


@dataclass(frozen=True)
class VAEGAN:
    """Hyper-parameters of a VAE-GAN."""

    image: Image = (32, 32, 1)  # height, width, channels
    latent: int = 32  # numbers in z
    nets: Nets = CONV  # of encoder and decoder; the discriminator's convolutions have their width
    gamma: float = 1e-3  # weight of L_llike beside L_GAN, for the decoder
    margin: float = 0.35  # by which a term of L_GAN may leave its equilibrium before a player rests
    learning_rate: float = 3e-4  # of RMSProp

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the nets can't make such pictures."""
        at_least(0, model__gamma=self.gamma, model__margin=self.margin)
        count_stages(*self.image[:2])  # the discriminator has convolutions whatever the others are
        nets = ("encoder", "decoder", "discriminator")
        losses = (self.encoder_loss, self.decoder_loss, self.discriminator_loss)
        return replace(
            self.vae.task(steps),
            init=self.init,
            learners={net: Learner((net,), optax.rmsprop(self.learning_rate, eps_in_sqrt=False)) for net in nets},
            phases=tuple(Phase(net, net, loss, stream="z") for net, loss in zip(nets, losses, strict=True)),
            log_prob=None,
        )

    @property
    def vae(self) -> VAE:
        """Its mean of a Bernoulli variable, 2 sigmoid - 1, is a tanh."""
        return VAE(self.image, self.latent, self.nets)

    @property
    def discriminator(self) -> "Discriminator":
        return Discriminator(Convolutions(self.nets.widths(self.image[:2]), 4, features=True))

    def init(self, key: Key, spec: Any = None):
        params, extra = self.vae.init(key, spec)
        judge = self.discriminator.init(rng.fold(key, "discriminator"), jnp.zeros((2, *self.image)))
        return {**params, "discriminator": judge["params"]}, extra

    def terms(self, params: Params, context: Context, batch, key: Key) -> Terms:
        x = batch["image"]
        mean, log_var = self.vae.posterior(params, batch)
        noise = lambda name: rng.normal(jax.random.split(rng.fold(key, name), len(x)), (self.latent,))  # noqa: E731
        z = jnp.concatenate([mean + jnp.exp(log_var / 2) * noise("posterior"), noise("prior")])  # [2b latent]
        pictures = jnp.concatenate([x, self.vae.synthesise(params, context, z, {})])  # [3b h w c]
        # Running statistics are kept nowhere: nothing reads them.
        (logits, features), _ = self.discriminator.apply(
            {"params": params["discriminator"]}, pictures, mutable=["batch_stats"]
        )
        seen, again, _ = jnp.split(features, 3)  # [b n]
        llike = 0.5 * ((seen - again) ** 2).sum(1)
        return Terms(mean, kl_standard(mean, log_var).sum(1), llike, *jnp.split(logits, 3))

    def turns(self, t: Terms) -> tuple[Array, Array]:
        """Return whether the decoder moves, and whether the discriminator does, bool[] each.

        The discriminator rests where the term of real pictures or that of made ones is too low, the decoder where one
        of them is too high; not both.
        """
        real, made = softplus(-t.real).mean(), (softplus(t.reconstructed) + softplus(t.sampled)).mean() / 2
        decoder = jnp.maximum(real, made) <= EQUILIBRIUM + self.margin
        discriminator = jnp.minimum(real, made) >= EQUILIBRIUM - self.margin
        return decoder | ~discriminator, discriminator | ~decoder

    def encoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t = self.terms(params, context, batch, key)
        metrics = {"kl": t.prior.mean(), "similarity": t.llike.mean(), "active_units": active_units(t.mean)}
        return (t.prior + t.llike).mean(), Aux(metrics)

    def decoder_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t = self.terms(params, context, batch, key)
        moves, _ = self.turns(t)
        return resting(self.gamma * t.llike - t.gan, moves).mean(), Aux({"moves": jnp.float32(moves)})

    def discriminator_loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        t = self.terms(params, context, batch, key)
        _, moves = self.turns(t)
        score = {name: sigmoid(getattr(t, name)).mean() for name in ("real", "reconstructed", "sampled")}
        return resting(t.gan, moves).mean(), Aux({**score, "moves": jnp.float32(moves)})


def resting(loss: Array, moves: Array) -> Array:
    """Return the loss f32[b], without a gradient where its player rests."""
    return jnp.where(moves, loss, jax.lax.stop_gradient(loss))


class Discriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b], and what they are made of, D_l f32[b n]."""

    net: Convolutions

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        features = self.net(x, train=True)
        return wide(Dense(1, name="out", **PLAIN)(features)[:, 0]), wide(features)


PRESETS = {"vae-gan": row(VAEGAN(), 694_529, measured="fid_lenet 88, 129, 354 on MNIST after 1,000 steps")}
