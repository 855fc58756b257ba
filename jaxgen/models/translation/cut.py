"""CUT: Park, Efros, Zhang and Zhu 2020, "Contrastive Learning for Unpaired Image-to-Image Translation".

One generator and one discriminator; no translation back. The encoder features of a patch of the output must be more
similar to those of the same patch of the source than to those of 255 other patches (a cross-entropy). The same loss on
images that are in the target domain already replaces CycleGAN's identity loss. FastCUT has a weight of 10 on the first
loss and 0 on the second, and translates half of the images mirrored. Discriminator and generator use anti-aliased
resampling.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.models.translation._generators import Image, ResNet, check_sides
from jaxgen.nn.conv import Dense
from jaxgen.nn.patch_discriminator import SMALL_XAVIER, PatchVariant
from jaxgen.nn.precision import to_f32
from jaxgen.tasks import unpaired_translation as unpaired
from jaxgen.tasks.paired_translation import HALF, pair_of, tiny
from jaxgen.tasks.patch_discriminators import PatchGANConfig
from jaxgen.tasks.transforms import translation

GAME = PatchGANConfig(form=PatchVariant(blur=True, faint=True))


@dataclass(frozen=True)
class CUT:
    """Hyper-parameters of a CUT."""

    image: Image = (256, 256, 3)
    width: int = 64  # channels of the generator's first layer
    downs: int = 2  # its stride-2 stages
    blocks: int = 9  # its residual blocks
    taps: tuple[int, ...] = (0, 4)  # blocks with compared features, besides the image and the stride-2 convolutions
    places: int = 256  # patches of each layer that are compared
    size: int = 256  # of the vectors that represent them
    temperature: float = 0.07  # tau
    contrast: float = 1.0  # weight of the contrastive loss (lambda_X)
    identity: float = 1.0  # weight of the same loss for images of the target domain (lambda_Y)
    game: PatchGANConfig = GAME

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__blocks=self.blocks, model__downs=self.downs)
        at_least(2, model__places=self.places, model__size=self.size)
        at_least(0, model__contrast=self.contrast, model__identity=self.identity)
        if not self.taps or not 0 <= min(self.taps) <= max(self.taps) < self.blocks:
            raise InputError(f"model.taps must be numbers of blocks, from 0 to {self.blocks - 1}, not {self.taps}.")
        if not self.temperature > 0:
            raise InputError(f"model.temperature must be above 0, not {self.temperature}.")
        check_sides(self.image, 1 << self.downs, 2)
        self.game.check(self.image)
        generators: Learner = self.game.learner("generator", "head")
        return Task(
            init=self.init,
            example=pair_of(self.image),
            learners={"critic": self.game.learner("critic"), "generator": generators},
            phases=(
                Phase("critic", "critic", self.discriminator_loss, stream="z"),
                Phase("generator", "generator", self.loss, stream="z"),
            ),
            capabilities=(translation(self.translate, multiple=1 << self.downs, channels=self.image[2]),),
        )

    @property
    def net(self) -> ResNet:
        return ResNet(self.image[2], self.width, self.blocks, self.downs, smooth=True)

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, *self.image))
        found = {"generator": self.net.init(rng.fold(key, "generator"), x)["params"]}
        features = jax.eval_shape(lambda: self.net.apply({"params": found["generator"]}, x, self.taps))
        rows: Any = jax.tree.map(lambda y: jnp.zeros((2, 1, y.shape[-1])), features)
        found["head"] = Head(self.size).init(rng.fold(key, "head"), rows)["params"]
        return found | {"critic": self.game.init(rng.fold(key, "critic"), self.image, self.image[2])}, {}

    def generated(self, params: Params, x: Array) -> Array:
        return self.net.apply({"params": params["generator"]}, x)  # pyright: ignore[reportReturnType]

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, keys, to
        return self.generated(params, given["source"])

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del context, key
        made = self.generated(params, batch["source"])
        real, fake = self.game.outputs_of_both(params["critic"], batch["image"], made)
        return self.game.discriminator_loss(real, fake).mean(), Aux(self.game.scores(real, fake))

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 6: L_GAN(G, D, X, Y) + lambda_X L_PatchNCE(G, H, X) + lambda_Y L_PatchNCE(G, H, Y)."""
        del context
        source, image = batch["source"], batch["image"]
        made = self.generated(params, source)
        adversarial = self.game.generator_loss(self.game.outputs(params["critic"], made))  # [b]
        contrast = self.contrastive_loss(params, source, made, rng.fold(key, "places"))
        value = self.game.adversarial * adversarial + self.contrast * contrast
        metrics = {"adversarial": adversarial.mean(), "contrast": contrast.mean()}
        if self.identity:
            same = self.contrastive_loss(
                params, image, self.generated(params, image), rng.fold(key, "places of an image")
            )
            value, metrics = value + self.identity * same, metrics | {"identity": same.mean()}
        # The authors' code multiplies the sum of both by 1/2.
        return value.mean(), Aux(metrics)

    def contrastive_loss(self, params: Params, source: Array, made: Array, key: Key) -> Array:
        """Return the mean over layers and places of the cross-entropy of equation 5, f32[b]."""
        n, both = len(made), jnp.concatenate([made, source])
        features: Any = self.net.apply({"params": params["generator"]}, both, self.taps)
        rows = [y.reshape(len(y), -1, y.shape[-1]) for y in features]  # [2b h*w c] each
        keys = jax.random.split(key, len(rows))  # the same positions in both
        some = [y[:, jax.random.permutation(k, y.shape[1])[: self.places]] for y, k in zip(rows, keys, strict=True)]
        vectors: Any = Head(self.size).apply({"params": params["head"]}, some)
        found = [info_nce(v[:n], jax.lax.stop_gradient(v[n:]), self.temperature) for v in vectors]
        return sum(found, jnp.zeros(())) / len(found)


class Head(nn.Module):
    """Two dense layers for each entry of a list, [b n c] -> unit vectors f32[b n size]. Section 3.2."""

    size: int

    @nn.compact
    def __call__(self, layers: list[Array]) -> list[Array]:
        found = []
        for i, x in enumerate(layers):
            x = nn.relu(Dense(self.size, kernel_init=SMALL_XAVIER, name=f"layer_{i}_0")(x))
            x = to_f32(Dense(self.size, kernel_init=SMALL_XAVIER, name=f"layer_{i}_1")(x))
            found.append(x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12))
        return found


def info_nce(made: Array, source: Array, temperature: float) -> Array:
    """Return the mean over positions of -log softmax(v v^+ / tau), unit vectors f32[b n c] -> f32[b]. Equation 3."""
    similarity = jnp.einsum("bnc,bmc->bnm", made, source, precision="highest") / temperature  # [b n m]
    positive = jnp.diagonal(similarity, axis1=1, axis2=2)  # [b n]
    return (jax.nn.logsumexp(similarity, 2) - positive).mean(1)


SMALL = CUT((16, 16, 3), 4, 1, 1, (0,), 16, 8, game=replace(GAME, layers=1, width=4))
PRESETS = {"cut": Preset(unpaired.row(CUT(), 400_000, optim=HALF), tiny(SMALL, unpaired.TINY), 14_703_300)}
