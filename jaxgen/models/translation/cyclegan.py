"""CycleGAN: Zhu, Park, Isola and Efros 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks".

G translates from one domain into the other, F back, and each domain has a discriminator of 70x70 patches. Translation
there and back must return the original image, and an image of the target domain must not change. The discriminators
get generated images of the last 50 steps (_image_pool.py), which are part of the state. The rate is constant over the
first half of the steps, the paper's 100 epochs, and falls to 0 over the second.

After a short training at 64x64 leaves are green and skies blue where their texture identifies them; the smooth parts
show the grid of the transposed convolutions.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Params, Phase
from jaxgen.models.translation import _image_pool
from jaxgen.models.translation._generators import Image, ResNet, check_sides
from jaxgen.tasks import unpaired_translation as unpaired
from jaxgen.tasks.paired_translation import HALF, pair_of, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig, each


@dataclass(frozen=True)
class CycleGAN:
    """Hyper-parameters of a CycleGAN."""

    image: Image = (256, 256, 3)
    width: int = 64  # channels of the generators' first layer
    downs: int = 2  # their stride-2 stages
    blocks: int = 9  # residual blocks; the paper has 6 below 256x256
    cycle: float = 10.0  # weight of the cycle-consistency loss (lambda)
    identity: float = 0.5  # weight of the identity loss, times that of the cycle
    pool: int = 50  # size of the pool of earlier generated images; 0: none
    game: PatchGANConfig = PatchGANConfig()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__blocks=self.blocks, model__downs=self.downs)
        at_least(0, model__cycle=self.cycle, model__identity=self.identity, model__pool=self.pool)
        check_sides(self.image, 1 << self.downs, 2)
        self.game.check(self.image)
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={
                "critics": self.game.learner(*unpaired.DISCRIMINATORS.values()),
                "generators": self.game.learner("generator", "inverse"),
            },
            # One stream: both phases translate the same images, so XLA translates once a step.
            phases=(
                Phase("critics", "critics", self.discriminator_loss, stream="z"),
                Phase("generators", "generators", self.loss, stream="z"),
            ),
            capabilities=unpaired.both_ways(self.translate, 1 << self.downs, self.image[2]),
        )

    @property
    def net(self) -> ResNet:
        return ResNet(self.image[2], self.width, self.blocks, self.downs)

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, *self.image))
        nets = {net: self.net.init(rng.fold(key, net), x)["params"] for net in ("generator", "inverse")}
        pools = {f"pool_{domain}": _image_pool.empty(self.pool, self.image) for domain in unpaired.DOMAINS}
        return nets | unpaired.init_discriminators(self.game, key, self.image), pools if self.pool else {}

    def apply(self, params: Params, net: str, x: Array) -> Array:
        return self.net.apply({"params": params[net]}, x)  # pyright: ignore[reportReturnType]

    def translate_both(self, params: Params, batch: Batch) -> unpaired.ImagesByDomain:
        """Return the translations into each domain of the other domain's images."""
        image, source = (self.apply(params, *a) for a in (("generator", batch["source"]), ("inverse", batch["image"])))
        return {"source": source, "image": image}

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, keys
        x = given["source"]
        return unpaired.select_domain(to, self.apply(params, "inverse", x), self.apply(params, "generator", x))

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        fake, extra = self.translate_both(params, batch), {}
        if self.pool:
            for domain in unpaired.DOMAINS:
                name = f"pool_{domain}"
                fake[domain], extra[name] = _image_pool.exchange(context.extra[name], fake[domain], rng.fold(key, name))
        value, metrics = unpaired.discriminator_loss(self.game, params, {d: batch[d] for d in unpaired.DOMAINS}, fake)
        return value.mean(), Aux(metrics, extra)

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 3, L_GAN(G, D_Y) + L_GAN(F, D_X) + lambda L_cyc(G, F), and section 5.2's L_identity."""
        del context, key
        fake = self.translate_both(params, batch)
        adversarial = unpaired.generator_loss(self.game, params, fake)
        again = self.translate_both(params, fake)  # F(G(x)) and G(F(y))
        cycle = sum((each(jnp.abs(again[d] - batch[d])) for d in unpaired.DOMAINS), jnp.zeros(()))  # (2)
        value = self.game.adversarial * adversarial + self.cycle * cycle
        metrics = {"adversarial": adversarial.mean(), "cycle": cycle.mean()}
        if self.identity:
            same = self.translate_both(params, swapped(batch))
            identity = sum((each(jnp.abs(same[d] - batch[d])) for d in unpaired.DOMAINS), jnp.zeros(()))
            value, metrics = value + self.cycle * self.identity * identity, metrics | {"identity": identity.mean()}
        return value.mean(), Aux(metrics)


def swapped(both: Batch) -> Batch:
    """Return the images of both domains, exchanged."""
    return {"source": both["image"], "image": both["source"]}


SMALL = CycleGAN((16, 16, 3), 4, 1, 1, identity=0, pool=5, game=PatchGANConfig(layers=1, width=4))
PRESETS = {"cyclegan": Preset(unpaired.row(CycleGAN(), 200_000, optim=HALF), tiny(SMALL, unpaired.TINY), 28_285_832)}
