"""Completion VAE: after Zheng, Cham and Cai 2019, "Pluralistic Image Completion".

A conditional VAE completes images in several ways. One encoder processes the visible part of an image or, in training,
the hidden part. The visible part gives a prior p(z | visible), the hidden part a posterior q(z | hidden); z is a small
feature map. An image decoded from a z of the posterior must equal the original; an image decoded from a z of the prior
must equal it in the visible part. The posterior is kept near N(0, s^2), where s falls with the visible share of the
image. The prior is fitted to the posterior, through which no gradient of this term flows. Other keys draw another z and
give other completions.

This model is simpler than the paper's. There is no discriminator. The decoder gets the encoder's feature maps of the
visible part by concatenation, where the paper uses attention. It makes one image where theirs makes four sizes of it;
their code sums the distances over these, and gives the divergences four times the weight. The blocks have no spectral
and no instance norm, start from Glorot's initialisation, and upsample by repetition where theirs learn it. The encoder
also gets the mask. The posterior's divergence is the paper's, KL(q || N(0, s^2)); the authors' code has the reverse.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.lax import stop_gradient

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, ramped, variables
from jaxgen.data.degradation_ops import broadcast_like, fold_keys
from jaxgen.losses.elbo import kl_normal
from jaxgen.metrics.pixels import psnr
from jaxgen.nn.backbones.adm_unet import nearest_upsample
from jaxgen.nn.conv import Conv
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.hole_filling import Holes, composite, hole_filling, masked_batch
from jaxgen.tasks.restoration import Image, row, tiny

MIXED = Holes(boxes=0.5, strokes=0.5)


@dataclass(frozen=True)
class CompletionVAE:
    """Hyper-parameters of a conditional VAE that completes images."""

    image: Image = (256, 256, 3)  # training patches: height, width, channels
    width: int = 32  # channels next to the image, doubled at each resolution below, up to four times as many
    depth: int = 5  # number of downsampling stages
    latent: int = 128  # channels of z
    holes: Holes = MIXED
    absolute: float = 20.0  # weight of the L1 distances of pixels
    divergence: float = 20.0  # weight of both divergences, each a mean over z
    learning_rate: float = 1e-4  # of Adam

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__image=min(self.image), model__width=self.width, model__depth=self.depth)
        at_least(1, model__latent=self.latent)
        at_least(0, model__absolute=self.absolute, model__divergence=self.divergence)
        self.holes.check()
        (height, width, channels), multiple = self.image, 2**self.depth
        if height % multiple or width % multiple:
            raise InputError(f"model.image is {height}x{width}: both sides must be multiples of {multiple}.")
        return Task(
            init=self.init,
            example={"image": image_spec(self.image)},
            learners={"restorer": Learner(("restorer",), optax.adam(self.learning_rate, b1=0.0, b2=0.999))},
            phases=(Phase("restorer", "restorer", self.loss),),
            ema=(Ema("restorer", ramped(0.999)),),
            capabilities=hole_filling(self.holes, self.paint, multiple, channels, stochastic=True),
        )

    @property
    def net(self) -> "CompletionNet":
        return CompletionNet(self.width, self.depth, self.latent, self.image[2])

    def init(self, key: Key, spec: Any = None):
        del spec
        x, mask = jnp.zeros((2, *self.image)), jnp.zeros((2, *self.image[:2], 1))
        return {"restorer": self.net.init(key, x, x, mask, jax.random.split(key, 2))["params"]}, {}

    def paint(self, params: Params, context: Context, given: Batch, keys: Key) -> Array:
        nets: Any = variables("restorer", params, context.extra)
        return self.net.apply(nets, given["degraded"], given["mask"], keys, method=CompletionNet.completed)  # pyright: ignore

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        clean = batch["image"]
        given = masked_batch(self.holes, clean, key)
        mask, keys = given["mask"], jax.random.split(rng.fold(key, "z"), len(clean))
        hidden = jnp.broadcast_to(mask, clean.shape)
        nets: Any = variables("restorer", params, context.extra)
        found: Any = self.net.apply(nets, given["degraded"], hidden * clean, mask, keys)
        whole = jnp.abs(found.from_posterior - clean).mean()
        visible = ((1 - hidden) * jnp.abs(found.from_prior - clean)).mean()
        q, p = found.posterior, found.prior
        log_scale = broadcast_like(jnp.log(scale_of(mask)), q.mean)
        to_normal = kl_normal(q.mean, q.log_scale, jnp.zeros_like(q.mean), log_scale).mean()
        fixed = stop_gradient(q)
        to_posterior = kl_normal(fixed.mean, fixed.log_scale, p.mean, p.log_scale).mean()
        value = self.absolute * (whole + visible) + self.divergence * (to_normal + to_posterior)
        metrics = {"whole": whole, "visible": visible, "posterior": to_normal, "prior": to_posterior}
        return value, Aux({**metrics, "psnr": psnr(composite(given, found.from_prior), clean).mean()})


def scale_of(mask: Array) -> Array:
    """Return s f32[b], the target deviation of z, which grows with the hidden share. From the authors' code."""
    return nn.sigmoid(8 * (mask.mean((1, 2, 3)) - 0.2))


class Normal(NamedTuple):
    """N(mean, exp(log_scale)^2) of each number, f32[b h w c]."""

    mean: Array
    log_scale: Array

    def draw(self, keys: Key) -> Array:
        return self.mean + jnp.exp(self.log_scale) * rng.normal(fold_keys(keys, "z"), self.mean.shape[1:])


class Completions(NamedTuple):
    """The net's outputs in training: images decoded from the posterior and from the prior, and both distributions."""

    from_posterior: Array
    from_prior: Array
    posterior: Normal
    prior: Normal


class CompletionNet(nn.Module):
    """Encoder, both heads and the decoder; the sides must be multiples of 2^depth."""

    width: int
    depth: int
    latent: int
    channels: int

    def setup(self):
        widths = [self.width * min(2**i, 4) for i in range(self.depth)]
        self.stem = conv(self.width)
        self.down = [Block(n, "down") for n in widths]
        self.prior, self.posterior = Head(self.latent, widths[-1]), Head(self.latent, widths[-1])
        self.entry = Block(widths[-1])
        self.up = [Block(n, "up") for n in [self.width, *widths[:-1]][::-1]]
        self.out = conv(self.channels)

    def __call__(self, x: Array, other: Array, mask: Array, keys: Key) -> Completions:
        """Return the completions of the visible part x; `other` is the hidden part, with zeros elsewhere."""
        maps = self.encoded(x, 1 - mask)
        prior, posterior = self.prior(maps[-1]), self.posterior(self.encoded(other, mask)[-1])
        whole = self.decoded(maps, posterior.draw(fold_keys(keys, "posterior")))
        return Completions(whole, self.decoded(maps, prior.draw(keys)), posterior, prior)

    def completed(self, x: Array, mask: Array, keys: Key) -> Array:
        """Return one completion of x f32[b h w channels], which is 0 where mask f32[b h w 1] is 1."""
        maps = self.encoded(x, 1 - mask)
        return self.decoded(maps, self.prior(maps[-1]).draw(keys))

    def encoded(self, x: Array, valid: Array) -> list[Array]:
        """Return feature maps of all resolutions, the finest first."""
        maps = [self.stem(jnp.concatenate([x, valid], -1))]
        for block in self.down:
            maps.append(block(maps[-1]))
        return maps

    def decoded(self, maps: list[Array], z: Array) -> Array:
        y = maps[-1] + self.entry(z)
        for skip, block in zip(maps[-2::-1], self.up, strict=True):
            y = jnp.concatenate([block(y), skip], -1)
        return to_f32(jnp.tanh(self.out(nn.leaky_relu(y, 0.1))))


class Head(nn.Module):
    """x [b h w c] -> the distribution of z, f32[b h w latent]."""

    latent: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Normal:
        y = Block(self.width, name="block")(x)
        mean, scale = jnp.split(to_f32(conv(2 * self.latent, "out")(nn.leaky_relu(y, 0.1))), 2, -1)
        return Normal(mean, jnp.log(nn.softplus(scale) + 1e-4))


class Block(nn.Module):
    """A residual block, x [b h w c] -> [b h' w' features]: up- or downsampled by 2, or of the same size."""

    features: int
    how: str = ""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nearest_upsample(x) if self.how == "up" else x
        y = conv(self.features, "conv_0")(nn.leaky_relu(x, 0.1))
        y = conv(self.features, "conv_1")(nn.leaky_relu(y, 0.1))
        y = y + Conv(self.features, (1, 1), use_bias=False, kernel_init=glorot, name="short")(x)
        return avg_pool(y, 2, 2) if self.how == "down" else y


glorot = nn.initializers.glorot_uniform()


def conv(features: int, name: str | None = None) -> Conv:
    return Conv(features, (3, 3), kernel_init=glorot, name=name)


SMALL = CompletionVAE((16, 16, 3), 8, 2, 4, learning_rate=1e-3)


PRESETS = {"completion-vae": Preset(row(CompletionVAE(), 500_000, 20), tiny(SMALL), 3_525_411)}
