"""MUNIT: Huang, Liu, Belongie and Kautz 2018, "Multimodal Unsupervised Image-to-Image Translation".

An image has a content, which both domains share, and a style of 8 numbers of its domain. A translation keeps the
content and draws a style from N(0, 1), so that one image has many translations. The style sets mean and variance of the
decoder's features (AdaIN). Decoding an image's own content and style must return the image, and encoding a translation
must return its content and style. Each domain has a discriminator at three scales. Nets, weights and rates are those of
the authors' code. With `perceptual` (their vgg_w, section 5.1), which the paper uses from 512x512 on, a frozen net's
features of translation and source are compared after instance normalisation: theirs is a VGG-16, this one is ST-LPIPS's
(pip install jaxgen[perceptual]).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset, Run
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, Phase
from jaxgen.losses import perceptual
from jaxgen.models.translation._autoencoders import Decoder, Encoder, he
from jaxgen.models.translation._generators import Image, ReflectConv, check_sides
from jaxgen.models.translation.unit import GAME, OTHER, SMALL_GAME
from jaxgen.nn.conv import Dense
from jaxgen.nn.instance_norm import standardise
from jaxgen.nn.precision import to_f32
from jaxgen.pretrained import backbones
from jaxgen.tasks import unpaired_translation as unpaired
from jaxgen.tasks.paired_translation import pair_of, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig, each

PERCEPTUAL_LAYERS = ("relu5_3",)


@dataclass(frozen=True)
class MUNIT:
    """Hyper-parameters of a MUNIT."""

    image: Image = (256, 256, 3)
    width: int = 64  # channels of the first layer
    downs: int = 2  # number of stride-2 stages of the content encoder
    blocks: int = 4  # residual blocks of each encoder and decoder
    style: int = 8  # size of a style
    style_downs: int = 4  # number of stride-2 stages of the style encoder
    dense: int = 256  # units of the layers that map a style to means and variances
    pixel: float = 10.0  # weight of the L1 distance of reconstructed images
    content: float = 1.0  # weight of the L1 distance of reconstructed contents
    code: float = 1.0  # weight of the L1 distance of reconstructed styles
    perceptual: float = 0.0  # weight of the perceptual distance from the source; the authors: 0 or 1
    backbone: str = "vgg16"  # its net; or random, or a classifier's run folder
    game: PatchGANConfig = GAME

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__downs=self.downs, model__blocks=self.blocks)
        at_least(1, model__style=self.style, model__style_downs=self.style_downs, model__dense=self.dense)
        at_least(0, model__pixel=self.pixel, model__content=self.content, model__code=self.code)
        at_least(0, model__perceptual=self.perceptual)
        check_sides(self.image, 1 << self.downs, 2)
        self.game.check(self.image)
        nets = [f"{kind}_{domain}" for kind in ("content", "style", "decoder") for domain in unpaired.DOMAINS]
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={
                "critics": self.game.learner(*unpaired.DISCRIMINATORS.values()),
                "autoencoders": self.game.learner(*nets),
            },
            phases=(
                Phase("critics", "critics", unpaired.discriminator_phase(self.game, self.translate_both), stream="z"),
                Phase("autoencoders", "autoencoders", self.loss, stream="z"),
            ),
            frozen={"backbone": partial(backbones.load, self.backbone)} if self.perceptual else {},
            capabilities=unpaired.both_ways(self.translate, 1 << self.downs, self.image[2], stochastic=True),
        )

    def check_run(self, run: Run):
        del run
        if self.perceptual > 0:
            backbones.check(self.backbone, PERCEPTUAL_LAYERS, self.image)

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.width, self.downs, self.blocks)

    @property
    def style_encoder(self) -> "StyleEncoder":
        return StyleEncoder(self.width, self.style_downs, self.style)

    @property
    def decoder(self) -> "StyledDecoder":
        return StyledDecoder(Decoder(self.image[2], self.width, self.downs, self.blocks), self.dense)

    def init(self, key: Key, spec: Any = None):
        del spec
        x, style = jnp.zeros((2, *self.image)), jnp.zeros((2, self.style))
        content = jnp.zeros((2, self.image[0] >> self.downs, self.image[1] >> self.downs, self.width << self.downs))
        params = {}
        for d in unpaired.DOMAINS:
            nets = {
                "content": (self.encoder, x),
                "style": (self.style_encoder, x),
                "decoder": (self.decoder, content, style),
            }
            for kind, (net, *given) in nets.items():
                name = f"{kind}_{d}"
                params[name] = net.init(rng.fold(key, name), *given)["params"]
        return params | unpaired.init_discriminators(self.game, key, self.image), {}

    def content_of(self, params: Params, domain: str, x: Array) -> Array:
        return to_f32(self.encoder.apply({"params": params[f"content_{domain}"]}, x))  # pyright: ignore

    def style_of(self, params: Params, domain: str, x: Array) -> Array:
        return self.style_encoder.apply({"params": params[f"style_{domain}"]}, x)  # pyright: ignore[reportReturnType]

    def decoded(self, params: Params, domain: str, content: Array, style: Array) -> Array:
        own = {"params": params[f"decoder_{domain}"]}
        return self.decoder.apply(own, content, style)  # pyright: ignore[reportReturnType]

    def drawn(self, keys: Key, domain: str) -> Array:
        return rng.normal(jax.vmap(lambda k: rng.fold(k, domain))(keys), (self.style,))

    def translations(
        self, params: Params, batch: Batch, key: Key
    ) -> tuple[
        unpaired.ImagesByDomain,
        unpaired.ImagesByDomain,
        unpaired.ImagesByDomain,
        unpaired.ImagesByDomain,
    ]:
        """Return contents, random styles, reconstructions and translations, each by domain.

        Translations are of the other domain's images, in the random style.
        """
        keys = jax.random.split(key, len(batch["image"]))
        contents = {d: self.content_of(params, d, batch[d]) for d in unpaired.DOMAINS}
        styles = {d: self.drawn(keys, d) for d in unpaired.DOMAINS}
        again, fake = {}, {}
        for d in unpaired.DOMAINS:  # both images of a domain in one pass
            content = jnp.concatenate([contents[d], contents[OTHER[d]]])
            style = jnp.concatenate([self.style_of(params, d, batch[d]), styles[d]])
            again[d], fake[d] = jnp.split(self.decoded(params, d, content, style), 2)
        return contents, styles, again, fake

    def translate_both(self, params: Params, context: Context, batch: Batch, key: Key) -> unpaired.ImagesByDomain:
        del context
        return self.translations(params, batch, key)[3]

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context
        x = given["source"]
        ways = {
            d: self.decoded(params, d, self.content_of(params, OTHER[d], x), self.drawn(keys, d))
            for d in unpaired.DOMAINS
        }
        return unpaired.select_domain(to, ways["source"], ways["image"])

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 5: adversarial losses, and reconstruction of images, contents and styles (1 to 3)."""
        contents, styles, again, fake = self.translations(params, batch, key)
        zero = jnp.zeros(())
        pixel = content = code = zero
        for d in unpaired.DOMAINS:
            pixel = pixel + each(jnp.abs(again[d] - batch[d]))  # (1)
            # As in the authors' code, gradients flow through the target contents and styles as well.
            content = content + each(jnp.abs(self.content_of(params, d, fake[d]) - contents[OTHER[d]]))  # (2)
            code = code + each(jnp.abs(self.style_of(params, d, fake[d]) - styles[d]))  # (3)
        adversarial = unpaired.generator_loss(self.game, params, fake)
        value = self.game.adversarial * adversarial + self.pixel * pixel + self.content * content + self.code * code
        metrics = {
            "adversarial": adversarial.mean(),
            "pixel": pixel.mean(),
            "content": content.mean(),
            "code": code.mean(),
        }
        if self.perceptual:
            features = context.frozen["backbone"].features
            normalised = lambda x: [standardise(y) for y in features(x, PERCEPTUAL_LAYERS)]  # noqa: E731
            distances = (
                perceptual.feature_loss(normalised(fake[d]), normalised(batch[OTHER[d]]), 2) for d in unpaired.DOMAINS
            )
            distance = sum(distances, zero)
            value, metrics = value + self.perceptual * distance, metrics | {"perceptual": distance.mean()}
        return value.mean(), Aux(metrics)


class StyleEncoder(nn.Module):
    """x f32[b h w c] -> style f32[b size]: stride-2 convolutions, a mean. No norms: they would remove the style."""

    width: int
    downs: int
    size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(ReflectConv(self.width, 7, he, name="in")(x))
        for i in range(self.downs):
            features = self.width * min(2 << i, 4)
            x = nn.relu(ReflectConv(features, 4, he, 2, name=f"down_{i}")(x))  # [b h/2 w/2 c]
        return to_f32(Dense(self.size, kernel_init=he, name="out")(x.mean((1, 2))))


class StyledDecoder(nn.Module):
    """(content [b h w c], style f32[b s]) -> image: three dense layers map the style to the decoder's moments."""

    decoder: Decoder
    dense: int

    @nn.compact
    def __call__(self, content: Array, style: Array) -> Array:
        for i in range(2):
            style = nn.relu(Dense(self.dense, kernel_init=he, name=f"dense_{i}")(style))
        norms, c = 2 * self.decoder.blocks, content.shape[-1]
        moments = Dense(norms * 2 * c, kernel_init=he, name="moments")(style)
        return self.decoder(content, moments.reshape(-1, norms, 2, c))  # [b norms 2 c]


SMALL = MUNIT((16, 16, 3), 4, 1, 1, 2, 1, 4, game=SMALL_GAME)
PRESETS = {
    "munit": Preset(
        unpaired.row(MUNIT(), 1_000_000, data=unpaired.RANDOM_CROP),
        tiny(SMALL, unpaired.TINY),
        46_594_716,
    )
}
