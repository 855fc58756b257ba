"""BicycleGAN: Zhu, Zhang, Pathak, Darrell, Efros, Wang and Shechtman 2017, "Toward Multimodal Image-to-Image
Translation".

One source has many translations; a latent code z selects one. Training goes both ways. The code of the true image, from
an encoder whose distribution is kept near N(0, 1), must reproduce the image (cVAE-GAN). The image made with a random
code must have that code (cLR-GAN); this term trains the generator only, as in the authors' code. Each way has its own
discriminator, which does not get the source. Both get the same true image, while the authors' code takes two images of
a batch. The generator is pix2pix's U-Net with the code as extra channels of every encoder layer, and without dropout,
which the authors have in training only. The code's encoder is residual. The rate is constant over the first half of the
steps and falls to 0 over the second.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.lax import stop_gradient

from jaxgen.core import rng
from jaxgen.core.config import Preset, Run
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, Phase
from jaxgen.models.translation._generators import Image, check_sides
from jaxgen.models.translation.pix2pix import UNet
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.patch_discriminator import SMALL_XAVIER, PatchVariant
from jaxgen.nn.pool import avg_pool
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.paired_translation import HALF, check_pairs, pair_of, row, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig, each
from jaxgen.tasks.transforms import translation

DISCRIMINATORS = "critic_code", "critic_drawn"  # of images with the true image's code, and with a random code
GAME = PatchGANConfig(scales=2, form=PatchVariant(faint=True, thinner=True))


@dataclass(frozen=True)
class BicycleGAN:
    """Hyper-parameters of a BicycleGAN."""

    image: Image = (256, 256, 3)
    depth: int = 8  # number of stride-2 stages of the generator
    width: int = 64  # channels of the first layer, doubled at each stage, up to 8 times as many
    latent: int = 8  # size of z
    downsamplings: int = 5  # number of stride-2 stages of the encoder
    pixel: float = 10.0  # weight of the L1 distance from the image that has this code (lambda)
    code: float = 0.5  # weight of the L1 distance from the random code (lambda_latent)
    kl: float = 0.01  # weight of the KL divergence of codes from N(0, 1) (lambda_KL)
    game: PatchGANConfig = GAME

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__depth=self.depth, model__width=self.width, model__latent=self.latent)
        at_least(1, model__downsamplings=self.downsamplings)
        at_least(0, model__pixel=self.pixel, model__code=self.code, model__kl=self.kl)
        check_sides(self.image, 1 << self.depth)
        self.game.check(self.image)
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={
                "critics": self.game.learner(*DISCRIMINATORS),
                "generator": self.game.learner("generator", "encoder"),
            },
            phases=(
                Phase("critics", "critics", self.discriminator_loss, stream="z"),
                Phase("generator", "generator", self.loss, stream="z"),
            ),
            capabilities=(
                translation(self.translate, multiple=1 << self.depth, channels=self.image[2], stochastic=True),
            ),
        )

    def check_run(self, run: Run):
        check_pairs(run, "bicyclegan")

    @property
    def net(self) -> UNet:
        widths = tuple(self.width * min(2**i, 8) for i in range(self.depth))
        return UNet(widths, self.image[2], 0.0, 0, False, SMALL_XAVIER)

    @property
    def encoder(self) -> "Encoder":
        return Encoder(self.width, self.downsamplings, self.latent)

    def init(self, key: Key, spec: Any = None):
        del spec
        x, keys = jnp.zeros((2, *self.image)), jax.random.split(key, 2)
        z = jnp.zeros((2, self.latent))
        params = {"generator": self.net.init(rng.fold(key, "generator"), x, keys, z)["params"]}
        params["encoder"] = self.encoder.init(rng.fold(key, "encoder"), x)["params"]
        discriminators = {net: self.game.init(rng.fold(key, net), self.image, self.image[2]) for net in DISCRIMINATORS}
        return params | discriminators, {}

    def generated(self, params: Params, source: Array, z: Array, keys: Key) -> Array:
        return self.net.apply({"params": params["generator"]}, source, keys, z)  # pyright: ignore

    def encoded(self, own: Any, image: Array) -> tuple[Array, Array]:
        """Return mean and log variance f32[b latent] of an image's code."""
        return self.encoder.apply({"params": own}, image)  # pyright: ignore[reportReturnType]

    def translations(self, params: Params, batch: Batch, key: Key) -> tuple[Array, Array, Array, tuple[Array, Array]]:
        """Return images with the true images' codes, images with random codes, the random codes, and moments."""
        source, keys = batch["source"], jax.random.split(key, len(batch["source"]))
        mean, log_var = self.encoded(params["encoder"], batch["image"])
        noise = rng.normal(jax.vmap(lambda k: rng.fold(k, "code"))(keys), (self.latent,))
        z = rng.normal(jax.vmap(lambda k: rng.fold(k, "z"))(keys), (self.latent,))
        again = self.generated(params, source, mean + jnp.exp(log_var / 2) * noise, keys)
        return again, self.generated(params, source, z, keys), z, (mean, log_var)

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, to
        z = rng.normal(jax.vmap(lambda k: rng.fold(k, "z"))(keys), (self.latent,))
        return self.generated(params, given["source"], z, keys)

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        again, drawn, *_ = self.translations(params, batch, key)
        value, metrics = jnp.zeros(len(again)), {}
        for net, image in zip(DISCRIMINATORS, (again, drawn), strict=True):
            real, fake = self.game.outputs_of_both(params[net], batch["image"], image)
            value = value + self.game.discriminator_loss(real, fake)
            metrics |= {f"{net}_{name}": x for name, x in self.game.scores(real, fake).items()}
        return value.mean(), Aux(metrics)

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 9: both adversarial losses, the distances of images and of codes, and the divergence."""
        del context
        again, drawn, z, (mean, log_var) = self.translations(params, batch, key)
        adversarial = jnp.zeros(len(z))
        for net, image in zip(DISCRIMINATORS, (again, drawn), strict=True):
            adversarial = adversarial + self.game.generator_loss(self.game.outputs(params[net], image))
        pixel = each(jnp.abs(again - batch["image"]))
        kl = (mean**2 + jnp.exp(log_var) - 1 - log_var).sum(1) / 2  # (5)
        found, _ = self.encoded(stop_gradient(params["encoder"]), drawn)
        code = each(jnp.abs(found - z))  # (7)
        value = self.game.adversarial * adversarial + self.pixel * pixel + self.kl * kl + self.code * code
        metrics = {"adversarial": adversarial.mean(), "pixel": pixel.mean(), "kl": kl.mean(), "code": code.mean()}
        return value.mean(), Aux(metrics)


class Encoder(nn.Module):
    """x f32[b h w c] -> mean and log variance of its code, f32[b latent] each; a convolution and residual blocks."""

    width: int
    downsamplings: int
    latent: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = Conv(self.width, (4, 4), (2, 2), kernel_init=SMALL_XAVIER, name="in")(x)  # [b h/2 w/2 c]
        for i in range(1, self.downsamplings):
            x = DownBlock(self.width * min(i + 1, 4), name=f"block_{i}")(x)
        x = nn.leaky_relu(x, 0.2).mean((1, 2))  # [b c]
        heads = (Dense(self.latent, kernel_init=SMALL_XAVIER, name=name)(x) for name in ("mean", "log_var"))
        mean, log_var = (to_f32(head) for head in heads)
        return mean, log_var


class DownBlock(nn.Module):
    """A pre-activation residual block with 2x2 mean pooling: [b h w c] -> [b h/2 w/2 features]."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = lambda features, k, name: Conv(features, (k, k), kernel_init=SMALL_XAVIER, name=name)  # noqa: E731
        half = lambda x: avg_pool(x, 2, 2)  # noqa: E731
        y = x
        for i, features in enumerate((x.shape[-1], self.features)):
            y = conv(features, 3, f"conv_{i}")(nn.leaky_relu(InstanceNorm(name=f"norm_{i}")(y), 0.2))
        return half(y) + conv(self.features, 1, "skip")(half(x))


SMALL = BicycleGAN((16, 16, 3), 2, 4, 2, 2, game=replace(GAME, scales=1, layers=1, width=4))
PRESETS = {"bicyclegan": Preset(row(BicycleGAN(), 400_000, optim=HALF), tiny(SMALL), 64_302_615)}
