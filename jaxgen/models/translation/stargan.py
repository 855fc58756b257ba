"""StarGAN: Choi, Choi, Kim, Ha, Kim and Choo 2018, "StarGAN: Unified Generative Adversarial Networks for Multi-Domain
Image-to-Image Translation".

One generator for many domains. Its inputs are the image and the target domain; it also translates back to the original
domain. Domains are the classes of a set, such as the paper's faces by their expression, or `attributes`, of which an
image can have several: then a translation changes one of them. One critic outputs how real an image is, and its class
or attributes. At inference a source's attributes are unknown, and the critic's prediction is used. The loss is
Wasserstein's with a gradient penalty, and the critic has five updates to one of the generator. The rate falls to 0 over
the second half, as in the paper; in the authors' code it falls by 1 % in all. Training on both kinds of sets at once
(section 3.3) is not implemented.

After a short training on flowers the colours become those of the target class; the shapes stay.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Data, Preset, Run
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.spec import image_spec, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.losses.gan import wasserstein
from jaxgen.losses.regularisation import wasserstein_penalty
from jaxgen.models.translation._generators import Image, check_sides
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.instance_norm import InstanceNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.resample import resize_image
from jaxgen.tasks.paired_translation import HALF, tiny
from jaxgen.tasks.patch_discriminators import each
from jaxgen.tasks.transforms import translation


@dataclass(frozen=True)
class StarGAN:
    """Hyper-parameters of a StarGAN."""

    image: Image = (128, 128, 3)
    classes: int = 8  # number of domains; not used with attributes
    attributes: tuple[str, ...] = ()  # names of binary attributes, such as Male Young
    exclusive: int = 0  # the first so many attributes exclude each other, such as colours of hair
    width: int = 64  # channels of the first layers
    downs: int = 2  # number of stride-2 stages of the generator
    blocks: int = 6  # its residual blocks
    downsamplings: int = 6  # number of stride-2 stages of the critic
    critics: int = 5  # updates of the critic, on new examples, for each one of the generator
    classify: float = 1.0  # weight of the classification loss (lambda_cls)
    cycle: float = 10.0  # weight of the L1 distance after translation there and back (lambda_rec)
    penalty: float = 10.0  # weight of the gradient penalty (lambda_gp)
    learning_rate: float = 1e-4
    beta1: Decay = 0.5

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(2, model__classes=self.classes)
        if len(set(self.attributes) - {"image", "label", "source"}) < len(self.attributes):
            raise InputError(f"model.attributes must be different names of attributes, not {self.attributes}.")
        if not 0 <= self.exclusive <= len(self.attributes):
            raise InputError(f"model.exclusive must be from 0 to {len(self.attributes)}, not {self.exclusive}.")
        at_least(1, model__width=self.width, model__downs=self.downs, model__blocks=self.blocks)
        at_least(1, model__downsamplings=self.downsamplings, model__critics=self.critics)
        at_least(0, model__classify=self.classify, model__cycle=self.cycle, model__penalty=self.penalty)
        check_sides(self.image, 1 << max(self.downs, self.downsamplings))
        learner = lambda net: Learner((net,), optax.adam(self.learning_rate, b1=self.beta1))  # noqa: E731
        labels = self.attributes or ("label",)
        kinds: Any = {"domains": self.attributes, "classes": 0 if self.attributes else self.classes}
        return Task(
            init=self.init,
            example={
                "image": image_spec(self.image),
                **{name: label_spec(2 if self.attributes else self.classes) for name in labels},
            },
            learners={"critic": learner("critic"), "generator": learner("generator")},
            phases=(
                Phase("critic", "critic", self.discriminator_loss, self.critics, stream="z"),
                Phase("generator", "generator", self.loss, stream="z"),
            ),
            capabilities=(translation(self.translate, **kinds, multiple=1 << self.downs, channels=self.image[2]),),
        )

    @property
    def net(self) -> "Generator":
        return Generator(self.image[2], self.width, self.downs, self.blocks)

    @property
    def critic(self) -> "Critic":
        return Critic(self.width, self.downsamplings, self.kinds)

    @property
    def kinds(self) -> int:
        """Number of classes or attributes."""
        return len(self.attributes) or self.classes

    def init(self, key: Key, spec: Any = None):
        del spec
        x = jnp.zeros((2, *self.image))
        generator = self.net.init(rng.fold(key, "generator"), self.with_domain(x, jnp.zeros((2, self.kinds))))
        critic = self.critic.init(rng.fold(key, "critic"), x)
        return {"generator": generator["params"], "critic": critic["params"]}, {}

    def kind(self, batch: Batch) -> Array:
        """Return the domains of images f32[b kinds]: 1 for the class, or for each attribute that they have."""
        if self.attributes:
            return jnp.stack([batch[name] for name in self.attributes], 1).astype(jnp.float32)
        return jax.nn.one_hot(batch["label"], self.classes)

    def with_domain(self, x: Array, kind: Array) -> Array:
        """Return images with their target domains as constant channels, f32[b h w c + kinds]."""
        planes = kind.astype(x.dtype)[:, None, None]  # [b 1 1 kinds]
        return jnp.concatenate([x, jnp.broadcast_to(planes, (*x.shape[:3], self.kinds))], -1)

    def generated(self, params: Params, x: Array, kind: Array) -> Array:
        return self.net.apply({"params": params["generator"]}, self.with_domain(x, kind))  # pyright: ignore

    def critic_outputs(self, params: Params, x: Array) -> tuple[Array, Array]:
        """Return the critic's scores of patches f32[b h' w'], and logits of domains f32[b kinds]."""
        return self.critic.apply({"params": params["critic"]}, x)  # pyright: ignore[reportReturnType]

    def classification_loss(self, logits: Array, kind: Array) -> Array:
        """Return -log D_cls(c | x), f32[b], summed over attributes as in the authors' code."""
        if self.attributes:
            return optax.sigmoid_binary_cross_entropy(logits, kind).sum(1)
        return optax.softmax_cross_entropy(logits, kind)

    def goals(self, kind: Array, key: Key) -> Array:
        """Return the target domains: those of the batch, in random order."""
        return jax.random.permutation(key, kind)

    def changed(self, kind: Array, to: Array) -> Array:
        """Return attributes f32[b kinds] with one of them inverted, or set instead of those that it excludes."""
        one = jax.nn.one_hot(to, self.kinds)
        first = jnp.broadcast_to(jnp.arange(self.kinds)[None] < self.exclusive, kind.shape)
        return jnp.where(first & (to < self.exclusive)[:, None], one, jnp.abs(kind - one))

    def translate(self, params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        del context, keys
        x = given["source"]
        if not self.attributes:
            return self.generated(params, x, jax.nn.one_hot(to, self.classes))
        _, logits = self.critic_outputs(params, resize_image(x, self.image[:2]))
        return self.generated(params, x, self.changed((logits > 0).astype(jnp.float32), to))

    def discriminator_loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 5: -L_adv + lambda_cls L_cls^r, with equation 7's L_adv."""
        del context
        x, kind = batch["image"], self.kind(batch)
        fake = self.generated(params, x, self.goals(kind, rng.fold(key, "goals")))
        (real, logits), (made, _) = self.critic_outputs(params, x), self.critic_outputs(params, fake)
        real_score, fake_score = each(real), each(made)
        critic_sum = lambda x: self.critic_outputs(params, x)[0].sum((1, 2))  # noqa: E731  # a sum, as in the authors' code
        penalty = wasserstein_penalty(critic_sum, x, fake, rng.fold(key, "penalty"))
        classify = self.classification_loss(logits, kind)  # (2)
        value = wasserstein.discriminator(real_score, fake_score) + self.penalty * penalty + self.classify * classify
        metrics = {"real": real_score.mean(), "fake": fake_score.mean(), "classify": classify.mean()}
        return value.mean(), Aux(metrics | {"penalty": penalty.mean()})

    def loss(self, params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        """Equation 6: L_adv + lambda_cls L_cls^f + lambda_rec L_rec."""
        del context
        x, kind = batch["image"], self.kind(batch)
        goal = self.goals(kind, rng.fold(key, "goals"))
        fake = self.generated(params, x, goal)
        scores, logits = self.critic_outputs(params, fake)
        score = each(scores)
        classify = self.classification_loss(logits, goal)  # (3)
        cycle = each(jnp.abs(self.generated(params, fake, kind) - x))  # (4)
        value = wasserstein.generator(score, score) + self.classify * classify + self.cycle * cycle
        return value.mean(), Aux({"adversarial": -score.mean(), "classify": classify.mean(), "cycle": cycle.mean()})


class ResidualBlock(nn.Module):
    """A residual block with zero padding and affine norms: [b h w c] -> [b h w c]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for i in range(2):
            y = Conv(x.shape[-1], (3, 3), use_bias=False, kernel_init=UNIFORM, name=f"conv_{i}")(y)
            y = InstanceNorm(True, name=f"norm_{i}")(y)
            y = y if i else nn.relu(y)
        return x + y


class Generator(nn.Module):
    """f32[b h w c + kinds] -> f32[b h w channels] in [-1, 1]; sides divisible by 2^downs. Appendix 7.2, table 4."""

    channels: int
    width: int
    downs: int
    blocks: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = lambda name: InstanceNorm(True, name=name)  # noqa: E731
        plain: dict[str, Any] = {"use_bias": False, "kernel_init": UNIFORM}
        x = nn.relu(norm("norm_in")(Conv(self.width, (7, 7), name="in", **plain)(x)))
        for i in range(self.downs):
            down = Conv(self.width << (i + 1), (4, 4), (2, 2), name=f"down_{i}", **plain)
            x = nn.relu(norm(f"down_{i}_norm")(down(x)))  # [b h/2 w/2 2c]
        for i in range(self.blocks):
            x = ResidualBlock(name=f"block_{i}")(x)
        for i in reversed(range(self.downs)):
            up = ConvTranspose(self.width << i, (4, 4), (2, 2), name=f"up_{i}", **plain)
            x = nn.relu(norm(f"up_{i}_norm")(up(x)))  # [b 2h 2w c/2]
        return to_f32(jnp.tanh(Conv(self.channels, (7, 7), name="out", **plain)(x)))


class Critic(nn.Module):
    """x f32[b h w c] -> scores of patches f32[b h' w'], and logits of domains f32[b kinds]. Table 5."""

    width: int
    downsamplings: int
    kinds: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        for i in range(self.downsamplings):
            conv = Conv(self.width << i, (4, 4), (2, 2), kernel_init=UNIFORM, name=f"down_{i}")
            x = nn.leaky_relu(conv(x), 0.01)  # [b h/2 w/2 2c]
        plain: dict[str, Any] = {"use_bias": False, "kernel_init": UNIFORM}
        real = to_f32(Conv(1, (3, 3), name="real", **plain)(x)[..., 0])
        kind = Conv(self.kinds, (x.shape[1], x.shape[2]), padding="VALID", name="class", **plain)(x)
        return real, to_f32(kind[:, 0, 0])


def row(model: StarGAN, data: Data = Data("shapes", flip=True)) -> Run:
    # The authors count 200,000 updates of the critic.
    return Run(model=model, data=data, steps=40_000, batch=16, optim=HALF)


HAIR = "Black_Hair", "Blond_Hair", "Brown_Hair"
FACES = StarGAN(attributes=(*HAIR, "Male", "Young"), exclusive=len(HAIR))
SMALL = StarGAN((16, 16, 3), 8, width=4, downs=1, blocks=1, downsamplings=2, critics=2)
FEW = replace(SMALL, attributes=("cold", "large", "right"))
PRESETS = {
    "stargan": Preset(row(StarGAN()), tiny(SMALL, Data("shapes")), 53_226_560),
    "stargan-celeba": Preset(row(FACES, Data("tfds:celeb_a", flip=True)), tiny(FEW, Data("shapes")), 53_192_576),
}
