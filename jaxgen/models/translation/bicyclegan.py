"""BicycleGAN: Zhu, Zhang, Pathak, Darrell, Efros, Wang and Shechtman 2017, "Toward Multimodal Image-to-Image
Translation".

Of one source many images: a code z says which. Both ways round: the true image's code, of an encoder that is kept
near N(0, 1), must give the image back (cVAE-GAN), and the image made with a drawn code must have that code
(cLR-GAN), which moves the generator alone, as in the authors' code. Each way has a critic of its own, which isn't shown
the source; both are shown the same true image, not two of a batch as the authors'. The generator is pix2pix's, the
code beside the pixels of every layer of the way in, and without dropout, which the authors have in training only. The
encoder is residual. The rate is constant over the first half of the steps and falls to 0 over the second.
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

CRITICS = "critic_code", "critic_drawn"  # of images made with the true one's code, and with one that is drawn
GAME = PatchGANConfig(scales=2, form=PatchVariant(faint=True, thinner=True))


@dataclass(frozen=True)
class BicycleGAN:
    """Hyper-parameters of a BicycleGAN."""

    image: Image = (256, 256, 3)
    depth: int = 8  # halvings of the generator
    width: int = 64  # channels of the layer nearest to the image; at most 8 times as many further in
    latent: int = 8  # numbers in z
    downsamplings: int = 5  # of the encoder
    pixel: float = 10.0  # weight of the absolute distance from the image whose code it is (lambda)
    code: float = 0.5  # of the distance from the code that was drawn (lambda_latent)
    kl: float = 0.01  # of the codes' divergence from N(0, 1) (lambda_KL)
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
            learners={"critics": self.game.learner(*CRITICS), "generator": self.game.learner("generator", "encoder")},
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
        critics = {net: self.game.init(rng.fold(key, net), self.image, self.image[2]) for net in CRITICS}
        return params | critics, {}

    def made(self, params: Params, source: Array, z: Array, keys: Key) -> Array:
        return self.net.apply({"params": params["generator"]}, source, keys, z)  # pyright: ignore

    def encoded(self, own: Any, image: Array) -> tuple[Array, Array]:
        """Return mean and log variance f32[b latent] of an image's code."""
        return self.encoder.apply({"params": own}, image)  # pyright: ignore[reportReturnType]

    def pictures(self, params: Params, batch: Batch, key: Key) -> tuple[Array, Array, Array, tuple[Array, Array]]:
        """Return images made with the true ones' codes, and with drawn ones, those, and the codes' moments."""
        source, keys = batch["source"], jax.random.split(key, len(batch["source"]))
        mean, log_var = self.encoded(params["encoder"], batch["image"])
        noise = rng.normal(jax.vmap(lambda k: rng.fold(k, "code"))(keys), (self.latent,))
        z = rng.normal(jax.vmap(lambda k: rng.fold(k, "z"))(keys), (self.latent,))
        again = self.made(params, source, mean + jnp.exp(log_var / 2) * noise, keys)
        return again, self.made(params, source, z, keys), z, (mean, log_var)

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, to
        z = rng.normal(jax.vmap(lambda k: rng.fold(k, "z"))(keys), (self.latent,))
        return self.made(params, given["source"], z, keys)

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context
        again, drawn, *_ = self.pictures(params, batch, key)
        value, metrics = jnp.zeros(len(again)), {}
        for net, made in zip(CRITICS, (again, drawn), strict=True):
            real, fake = self.game.outputs_of_both(params[net], batch["image"], made)
            value = value + self.game.discriminator_loss(real, fake)
            metrics |= {f"{net}_{name}": x for name, x in self.game.scores(real, fake).items()}
        return value.mean(), Aux(metrics)

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 9: both games, the distance, the divergence, and the distance between codes."""
        del context
        again, drawn, z, (mean, log_var) = self.pictures(params, batch, key)
        adversarial = jnp.zeros(len(z))
        for net, made in zip(CRITICS, (again, drawn), strict=True):
            adversarial = adversarial + self.game.generator_loss(self.game.outputs(params[net], made))
        pixel = each(jnp.abs(again - batch["image"]))
        kl = (mean**2 + jnp.exp(log_var) - 1 - log_var).sum(1) / 2  # (5)
        found, _ = self.encoded(stop_gradient(params["encoder"]), drawn)
        code = each(jnp.abs(found - z))  # (7)
        value = self.game.adversarial * adversarial + self.pixel * pixel + self.kl * kl + self.code * code
        metrics = {"adversarial": adversarial.mean(), "pixel": pixel.mean(), "kl": kl.mean(), "code": code.mean()}
        return value.mean(), Aux(metrics)


class Encoder(nn.Module):
    """x f32[b h w c] -> mean and log variance of its code, f32[b latent] each; a layer and residual blocks halve."""

    width: int
    downsamplings: int
    latent: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = Conv(self.width, (4, 4), (2, 2), kernel_init=SMALL_XAVIER, name="in")(x)  # [b h/2 w/2 c]
        for i in range(1, self.downsamplings):
            x = Halved(self.width * min(i + 1, 4), name=f"block_{i}")(x)
        x = nn.leaky_relu(x, 0.2).mean((1, 2))  # [b c]
        heads = (Dense(self.latent, kernel_init=SMALL_XAVIER, name=name)(x) for name in ("mean", "log_var"))
        mean, log_var = (to_f32(head) for head in heads)
        return mean, log_var


class Halved(nn.Module):
    """A residual block, norms and activations first, and a mean over 2x2 pixels: [b h w c] -> [b h/2 w/2 features]."""

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
