"""StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020 (a), and, with adaptive
discriminator augmentation, "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020 (b).

Implements the non-saturating loss with lazy R1 (a, section 3.1), path length regularisation (a, section 3.2), style
mixing, and a moving average of the generator that is set by its half-life. The nets are in _stylegan2_nets.py; the
augmentations and the controller of their probability are in tasks/ada_augmentation.py (--model.game.augment ada:bgc).
The settings are those of the authors' PyTorch code: `paper256`, and `cifar` (b, appendix D). Two details differ. In
their code style mixing starts at the same layer for the whole batch, here at a random layer for each image. Their code
clamps the outputs of convolutions to +-256 for half precision.

The gammas and learning rates of the papers are for long training runs. In a run 100 times shorter a small
discriminator wins at once with them, and all samples collapse to one shape. The independent PyTorch version in
tests/benchmarks/torch_gans.py does the same.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Share
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Ema, Phase
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, axes, plain
from jaxgen.models.gan._stylegan2_nets import StyleGAN2Discriminator, StyleGAN2Generator
from jaxgen.models.gan.dcgan import tiny
from jaxgen.nn.priors import normal
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

PAPER = AdversarialConfig(r1=1.0, lazy=16, learning_rate=0.0025, beta1=0.0, beta2=0.99)


@dataclass(frozen=True)
class StyleGAN2:
    """Hyper-parameters of a StyleGAN2."""

    image: tuple[int, int, int] = (256, 256, 3)  # height, width, channels; both sides the same power of two
    latent: int = 512  # size of z, and of w
    classes: int = 0  # number of classes; 0: unconditional
    mapping_layers: int = 8  # layers of the generator's mapping network
    channel_base: int = 16384  # feature maps of side s have channel_base / s channels, ...
    channel_max: int = 512  # ... but at most channel_max
    generator: Literal["skip", "resnet", "orig"] = "skip"
    discriminator: Literal["resnet", "skip", "orig"] = "resnet"
    group: int = 8  # images in each group of the discriminator's minibatch standard deviation
    mixing: Share = 0.9  # probability of style mixing, for each image
    path_length: float = 2.0  # weight of the path length regularisation; 0: none
    path_every: int = 4  # steps between two updates with the path length regularisation
    ema_half_life: float = 312.5  # of the generator's average, in steps
    ema_rampup: float = 0.0  # the half-life is at most this share of the steps so far; 0: no ramp-up
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for images that are not square, or whose side is not a power of two."""
        del steps
        side = self.image[0]
        if side != self.image[1] or side < 8 or side & (side - 1):
            raise InputError(
                f"StyleGAN2 makes square images whose side is a power of two, at least 8, not {side}x{self.image[1]}."
            )
        at_least(1, model__latent=self.latent, model__image=self.image[2], model__channel_max=self.channel_max)
        at_least(side, model__channel_base=self.channel_base)
        at_least(1, model__mapping_layers=self.mapping_layers, model__group=self.group)
        at_least(1, model__path_every=self.path_every)
        at_least(0, model__path_length=self.path_length, model__classes=self.classes, model__mixing=self.mixing)
        if self.mixing > 1:
            raise InputError(f"model.mixing is a share, from 0 to 1, not {self.mixing}.")
        if not self.ema_half_life > 0:
            raise InputError(f"model.ema-half-life must be above 0, not {self.ema_half_life}.")
        training = self.adversarial_task()
        further = (
            (Phase("path", "generator", self.path_loss(training), every=self.path_every),) if self.path_length else ()
        )
        extra = {"path_length": jnp.zeros(())} if self.path_length else {}
        # The authors' code reduces the generator's learning rate even if the path length has no weight.
        return training.task(self.latents(training), Ema("generator", self.ema_decay), further, extra, self.path_every)

    def adversarial_task(self) -> AdversarialTask:
        """Return the adversarial training of the two nets, without the path length regularisation."""
        widths: Any = {"channel_base": self.channel_base, "channel_max": self.channel_max}
        generator = StyleGAN2Generator(
            self.image[0],
            self.image[2],
            self.latent,
            self.latent,
            self.classes,
            self.mapping_layers,
            architecture=self.generator,
            mixing=self.mixing,
            **widths,
        )
        discriminator = StyleGAN2Discriminator(
            self.classes,
            architecture=self.discriminator,
            group=self.group,
            **widths,  # its mapping network always has 8 layers, as in the authors' code
        )
        return AdversarialTask(self.game, generator, discriminator, self.image, normal(self.latent), self.classes)

    def ema_decay(self, step) -> Array:
        """Return the decay at a step: after one half-life the weight of old parameters has fallen to one half."""
        life = jnp.float32(self.ema_half_life)
        if self.ema_rampup:
            life = jnp.minimum(life, step * self.ema_rampup)
        return 0.5 ** (1 / jnp.maximum(life, 1e-8))

    def latents(self, training: AdversarialTask) -> Latent:
        """Return the mapping and synthesis through w: one row of w for each layer.

        given["truncation"] moves w towards its mean.
        """
        net: Any = training.generator

        def map_(params, context, z, given):
            training.check_labels(given)
            own, _ = training.net_variables("generator", params, context)
            w = net.apply(own, z, given.get("label"), method="map")
            if "truncation" in given:
                w = net.apply(own, w, given["truncation"], method="truncate")
            return jnp.broadcast_to(w[:, None], (z.shape[0], net.num_ws, self.latent))  # [b n d]

        def synthesise(params, context, ws, given):
            own, _ = training.net_variables("generator", params, context)
            return net.apply(own, ws, None, method="synthesise")

        def factors(params, context):
            """Return the kernels of the affine layers that turn each row of w into styles (a, figure 2)."""
            rows: list[list[Array]] = [[] for _ in range(net.num_ws)]
            synthesis, last = params["generator"]["synthesis"], 0
            for side in sorted(int(name.removeprefix("b")) for name in synthesis):
                block = synthesis[f"b{side}"]
                names = [name for name in ("conv0", "conv1") if name in block]
                for i, name in enumerate(names):
                    rows[last + i].append(block[name]["affine"]["kernel"])
                last += len(names)
                if "torgb" in block:
                    rows[last].append(block["torgb"]["affine"]["kernel"])
            return tuple(jnp.concatenate(kernels, 1) for kernels in rows)  # [d m]

        draw = lambda keys, psi: training.draw(keys, None)  # noqa: E731
        return Latent(draw, map_, synthesise, linear=True, factors=factors)

    def path_loss(self, training: AdversarialTask):
        """Return the loss E (|J_w^T y| - a)^2, where a is the moving mean of the lengths and y ~ N(0, I) / side.

        (a), section 3.2 and appendix B. It uses half as many images as the batch has examples.
        """
        net: Any = training.generator

        def loss(params, context, batch, key):
            count = max(len(batch["image"]) // 2, 1)
            keys = jax.random.split(key, count)
            noise = jax.vmap(lambda k: rng.fold(k, "noise"))(keys)
            label = batch["label"][:count] if self.classes else None
            own, _ = training.net_variables("generator", params, context)
            how: Any = {"train": context.train, "method": "latents", "mutable": ["batch_stats"]}
            ws, _ = net.apply(own, training.draw(keys, None), label, noise, **how)
            y = rng.normal(jax.vmap(lambda k: rng.fold(k, "y"))(keys), self.image) / self.image[0]
            projection = lambda ws: (net.apply(own, ws, noise, method="synthesise") * y).sum()  # noqa: E731
            lengths = jnp.sqrt((jax.grad(projection)(ws) ** 2).sum(2).mean(1))  # [b n d] -> [b]
            mean = context.extra["path_length"] * 0.99 + 0.01 * lengths.mean()
            value = self.path_length * ((lengths - mean) ** 2).mean()
            metrics = {"length": lengths.mean(), "mean": mean}
            return self.path_every * value, Aux(metrics, {"path_length": jax.lax.stop_gradient(mean)})

        return loss


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the plain rule's name, with layout [c 4 4] for the constant and ours for the layers' noise."""
    name, layout = plain(model, net, path, shape)
    return name, {"const": axes(2, 0, 1), "noise_const": SAME}.get(path[-1], layout)


WEIGHT_NAMES: Rule = weight_name


# One tiny model for all presets, with the features of all of them: most of a test's time is compiling.
TINY = StyleGAN2(
    image=(8, 8, 1),
    latent=8,
    mapping_layers=2,
    channel_base=64,
    channel_max=8,
    path_every=2,
    game=replace(PAPER, lazy=2, augment="ada:bgc"),
)
CIFAR = StyleGAN2(
    image=(32, 32, 3),
    mapping_layers=2,
    channel_base=32768,
    discriminator="orig",
    group=32,
    mixing=0.0,
    path_length=0.0,
    ema_half_life=7812.5,
    ema_rampup=0.05,
    game=replace(PAPER, r1=0.01),
)


def row(model: StyleGAN2, source: str, steps: int, batch: int, parameters: int) -> Preset:
    """Return the preset of a model, with the tiny model that all presets share."""
    run = Run(model, data=Data(source), steps=steps, batch=batch, log=Log(every=100), save=Save(every=1000))
    return Preset(run, tiny=tiny(TINY), parameters=parameters)


PRESETS = {  # trained on 25 million images, stylegan2-cifar on 100 million
    "stylegan2": row(StyleGAN2(ema_half_life=312.5), "shapes", 390_625, 64, 48_768_547),
    "stylegan2-ada": row(
        StyleGAN2(ema_half_life=312.5, game=replace(PAPER, augment="ada:bgc")),
        "shapes",
        390_625,
        64,
        48_768_547,
    ),
    "stylegan2-cifar": row(
        replace(CIFAR, game=replace(CIFAR.game, augment="ada:bgc")), "tfds:cifar10", 1_562_500, 64, 40_668_180
    ),
}
