"""StyleGAN2, with adaptive discriminator augmentation.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020 (a), and "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020 (b). The non-saturating game with lazy R1 (a, section 3.1), path
length regularisation (a, section 3.2), style mixing, and a moving average of the generator with a half-life. The nets
are in stylegan2_nets.py, the augmentations and their controller in ada.py (--model.game.augment ada:bgc). Settings are
those of the authors' PyTorch code: `paper256`, and `cifar` (b, appendix D). There a whole batch changes its style at
the same layer, here each image at its own; there convolutions' outputs are cut off at 256, for half precision.

The gammas and rates of the papers are for long trainings. With them, a small discriminator wins at once in a training
100 times shorter, and all samples take one shape; the independent PyTorch version of tests/benchmarks/torch_gans.py
does the same.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.core import rng
from jaxgen.core.capabilities import Latent
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Ema, Phase
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
    latent: int = 512  # numbers in z, and in w
    classes: int = 0  # labels are below it; 0: unconditional
    mapping_layers: int = 8  # of the generator
    channel_base: int = 16384  # channels at side s are channel_base / s, ...
    channel_max: int = 512  # ... but no more than this
    generator: Literal["skip", "resnet", "orig"] = "skip"
    discriminator: Literal["resnet", "skip", "orig"] = "resnet"
    group: int = 8  # images over which the discriminator sees a standard deviation
    mixing: float = 0.9  # share of images with two styles
    path_length: float = 2.0  # weight of the path length's deviation from its mean; 0: none
    path_every: int = 4  # steps
    ema_half_life: float = 312.5  # of the generator's average, in steps
    ema_rampup: float = 0.0  # the half-life is at most this share of the steps so far; 0: no ramp-up
    game: AdversarialConfig = PAPER

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the side of the image is no power of two."""
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
        players = self.players()
        more = (Phase("path", "generator", self.path_loss(players), every=self.path_every),) if self.path_length else ()
        extra = {"path_length": jnp.zeros(())} if self.path_length else {}
        # The authors' code slows the generator down whether or not the path length has a weight.
        return players.task(self.latents(players), Ema("generator", self.ema_decay), more, extra, self.path_every)

    def players(self) -> AdversarialTask:
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
            **widths,  # its mapping has 8 layers whatever the generator's has, as the authors'
        )
        return AdversarialTask(self.game, generator, discriminator, self.image, normal(self.latent), self.classes)

    def ema_decay(self, step) -> Array:
        """Return the decay that halves what is older than the half-life."""
        life = jnp.float32(self.ema_half_life)
        if self.ema_rampup:
            life = jnp.minimum(life, step * self.ema_rampup)
        return 0.5 ** (1 / jnp.maximum(life, 1e-8))

    def latents(self, players: AdversarialTask) -> Latent:
        """Return the way over w: a row for each layer, truncated towards the mean w by given["truncation"]."""
        net: Any = players.generator

        def map_(params, context, z, given):
            players.check_labels(given)
            own, _ = players.net_variables("generator", params, context)
            w = net.apply(own, z, given.get("label"), method="map")
            if "truncation" in given:
                w = net.apply(own, w, given["truncation"], method="truncate")
            return jnp.broadcast_to(w[:, None], (len(z), net.num_ws, self.latent))  # [b n d]

        def synthesise(params, context, ws, given):
            own, _ = players.net_variables("generator", params, context)
            return net.apply(own, ws, None, method="synthesise")

        def factors(params, context):
            """The affine layers that turn each row of w into styles (a, figure 2)."""
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

        draw = lambda keys, psi: players.draw(keys, None)  # noqa: E731
        return Latent(draw, map_, synthesise, linear=True, factors=factors)

    def path_loss(self, players: AdversarialTask):
        """Return the loss E (|J_w^T y| - a)^2, a the moving mean of the lengths, y ~ N(0, I) / side.

        (a), section 3.2 and appendix B, with half as many images as the batch has examples.
        """
        net: Any = players.generator

        def loss(params, context, batch, key):
            count = max(len(batch["image"]) // 2, 1)
            keys = jax.random.split(key, count)
            noise = jax.vmap(lambda k: rng.fold(k, "noise"))(keys)
            label = batch["label"][:count] if self.classes else None
            own, _ = players.net_variables("generator", params, context)
            ws, _ = net.apply(
                own, players.draw(keys, None), label, noise, train=True, method="latents", mutable=["batch_stats"]
            )
            y = rng.normal(jax.vmap(lambda k: rng.fold(k, "y"))(keys), self.image) / self.image[0]
            paint = lambda ws: (net.apply(own, ws, noise, method="synthesise") * y).sum()  # noqa: E731
            lengths = jnp.sqrt((jax.grad(paint)(ws) ** 2).sum(2).mean(1))  # [b n d] -> [b]
            mean = context.extra["path_length"] * 0.99 + 0.01 * lengths.mean()
            value = self.path_length * ((lengths - mean) ** 2).mean()
            metrics = {"length": lengths.mean(), "mean": mean}
            return self.path_every * value, Aux(metrics, {"path_length": jax.lax.stop_gradient(mean)})

        return loss


# One for all presets, with all that any of them has: to compile it is what testing a preset costs.
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
    run = Run(model, data=Data(source), steps=steps, batch=batch, log=Log(every=100), save=Save(every=1000))
    return Preset(run, tiny=tiny(TINY), parameters=parameters)


PRESETS = {  # 25 million images, and 100 million of CIFAR-10
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
