"""UNIT: Liu, Breuel and Kautz 2017, "Unsupervised Image-to-Image Translation Networks": style transfer by two VAEs.

Corresponding images of both domains share one latent code. Each domain has its own encoder and decoder; the encoders
share their last blocks, the decoders their first ones. A code is sampled from N(mu, 1), where mu is the encoder's
output. Decoding it in the other domain is the translation. A translation must have a code near 0, and be translated
back to the original. Each domain has a discriminator at three scales. Nets and rates are those of the authors' later
code (with MUNIT); its weights have the paper's proportions. That code shares no blocks; here two are shared, as in the
paper.

Latents are drawn with a deviation of 1. Below that distance nothing holds the two domains' latents of one image
together.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, Phase
from jaxgen.models.translation._autoencoders import Decoder, Encoder, ResidualBlocks
from jaxgen.models.translation._generators import Image, check_sides
from jaxgen.nn.patch_discriminator import PatchVariant
from jaxgen.nn.precision import to_f32
from jaxgen.tasks import unpaired_translation as unpaired
from jaxgen.tasks.paired_translation import pair_of, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig, each

OTHER = {"source": "image", "image": "source"}
# From the authors' code, for UNIT and MUNIT.
FORM = PatchVariant(mirror=True, pointwise=True)
GAME = PatchGANConfig(scales=3, layers=4, norm="none", form=FORM, learning_rate=1e-4, decay=1e-4, halve_every=100_000)
SMALL_GAME = replace(GAME, scales=1, layers=2, width=4)


@dataclass(frozen=True)
class UNIT:
    """Hyper-parameters of a UNIT."""

    image: Image = (256, 256, 3)
    width: int = 64  # channels of the first layer
    downs: int = 2  # number of stride-2 stages
    blocks: int = 3  # residual blocks of each encoder and decoder that are not shared
    shared: int = 1  # further blocks, shared by both encoders, and by both decoders
    pixel: float = 10.0  # weight of the L1 distance of reconstructed images
    cycle: float = 10.0  # weight of the L1 distance after translation there and back
    code: float = 0.01  # weight of the codes' mean square, twice their divergence from N(0, 1)
    game: PatchGANConfig = GAME

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__downs=self.downs, model__shared=self.shared)
        at_least(0, model__pixel=self.pixel, model__cycle=self.cycle, model__code=self.code, model__blocks=self.blocks)
        check_sides(self.image, 1 << self.downs, 2)
        self.game.check(self.image)
        nets = [f"{kind}_{domain}" for kind in ("encoder", "decoder") for domain in unpaired.DOMAINS]
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={
                "critics": self.game.learner(*unpaired.DISCRIMINATORS.values()),
                "autoencoders": self.game.learner(*nets, "shared_encoder", "shared_decoder"),
            },
            phases=(
                Phase("critics", "critics", unpaired.discriminator_phase(self.game, self.translate_both), stream="z"),
                Phase("autoencoders", "autoencoders", self.loss, stream="z"),
            ),
            capabilities=unpaired.both_ways(self.translate, 1 << self.downs, self.image[2]),
        )

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.width, self.downs, self.blocks)

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.image[2], self.width, self.downs, self.blocks)

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, *self.image))
        code = jnp.zeros((2, self.image[0] >> self.downs, self.image[1] >> self.downs, self.width << self.downs))
        nets = {f"encoder_{d}": (self.encoder, x) for d in unpaired.DOMAINS}
        nets |= {f"decoder_{d}": (self.decoder, code) for d in unpaired.DOMAINS}
        nets |= {f"shared_{kind}": (ResidualBlocks(self.shared), code) for kind in ("encoder", "decoder")}
        params = {name: net.init(rng.fold(key, name), a)["params"] for name, (net, a) in nets.items()}
        return params | unpaired.init_discriminators(self.game, key, self.image), {}

    def encoded(self, params: Params, domain: str, x: Array) -> Array:
        """Return the mean mu of the codes of a domain's images, f32[b h w c]."""
        own: Any = self.encoder.apply({"params": params[f"encoder_{domain}"]}, x)
        return to_f32(ResidualBlocks(self.shared).apply({"params": params["shared_encoder"]}, own))  # pyright: ignore

    def decoded(self, params: Params, domain: str, code: Array) -> Array:
        own: Any = ResidualBlocks(self.shared).apply({"params": params["shared_decoder"]}, code)
        return self.decoder.apply({"params": params[f"decoder_{domain}"]}, own)  # pyright: ignore[reportReturnType]

    def codes(self, params: Params, batch: Batch, key: Key) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the means of the codes of both domains' images, and codes sampled around them."""
        means = {d: self.encoded(params, d, batch[d]) for d in unpaired.DOMAINS}
        keys = {d: jax.random.split(rng.fold(key, d), len(m)) for d, m in means.items()}
        return means, {d: m + rng.normal(keys[d], m.shape[1:]) for d, m in means.items()}

    def translations(
        self, params: Params, codes: unpaired.ImagesByDomain
    ) -> tuple[unpaired.ImagesByDomain, unpaired.ImagesByDomain]:
        """Return reconstructions and translations, each by domain; both are decoded in one pass."""
        again, fake = {}, {}
        for d in unpaired.DOMAINS:
            again[d], fake[d] = jnp.split(self.decoded(params, d, jnp.concatenate([codes[d], codes[OTHER[d]]])), 2)
        return again, fake

    def translate_both(self, params: Params, context: Context, batch: Batch, key: Key) -> unpaired.ImagesByDomain:
        """Return the translations into each domain of the other domain's images."""
        del context
        return self.translations(params, self.codes(params, batch, key)[1])[1]

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, keys
        x = given["source"]
        ways = {d: self.decoded(params, d, self.encoded(params, OTHER[d], x)) for d in unpaired.DOMAINS}
        return unpaired.select_domain(to, ways["source"], ways["image"])

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equations 4 to 7: both VAEs, both adversarial losses, and both cycles."""
        del context
        means, drawn = self.codes(params, batch, key)
        again, fake = self.translations(params, drawn)
        # A translation belongs to the other domain: encode it there, and decode it in the original domain.
        further, codes = self.codes(params, fake, rng.fold(key, "cycle"))
        back = {d: self.decoded(params, d, codes[OTHER[d]]) for d in unpaired.DOMAINS}
        zero = jnp.zeros(())
        pixel, cycle = (
            sum((each(jnp.abs(made[d] - batch[d])) for d in unpaired.DOMAINS), zero) for made in (again, back)
        )
        spread = sum((each(jnp.square(m)) for m in (*means.values(), *further.values())), zero)
        adversarial = unpaired.generator_loss(self.game, params, fake)
        value = self.game.adversarial * adversarial + self.pixel * pixel + self.cycle * cycle + self.code * spread
        metrics = {
            "adversarial": adversarial.mean(),
            "pixel": pixel.mean(),
            "cycle": cycle.mean(),
            "code": spread.mean(),
        }
        return value.mean(), Aux(metrics)


SMALL = UNIT((16, 16, 3), 4, 1, 0, 1, game=SMALL_GAME)
PRESETS = {
    "unit": Preset(
        unpaired.row(UNIT(), 1_000_000, data=unpaired.RANDOM_CROP),
        tiny(SMALL, unpaired.TINY),
        36_462_988,
    )
}
