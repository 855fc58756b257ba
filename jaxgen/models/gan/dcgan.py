"""DCGAN: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016.

Section 3's guidelines: strided convolutions both ways, batch norm everywhere but at the generator's output and the
discriminator's input, ReLU and tanh in the generator, LeakyReLU 0.2 in the discriminator; weights from N(0, 0.02),
Adam with rate 2e-4 and beta1 0.5, z uniform. The number of stages follows the image, down to 4 pixels at its short
side.

Measured: fid_lenet 25.6 +- 0.9 on MNIST at width 64 and rate 5e-4 after 2,000 steps of 32, with 10,000 samples beside
the 60,000 training digits, 3 seeds; real test digits get 0.226 (README, "Measure").
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen import rng
from jaxgen.config import Data, Log, Preset, Run, Save
from jaxgen.core import Aux, Ema, Learner, Phase, Task, ramped, variables
from jaxgen.errors import InputError, at_least
from jaxgen.losses.gan import LOSSES
from jaxgen.nn.conv import Conv, ConvTranspose, Dense
from jaxgen.nn.norm import BatchNorm

WEIGHTS = nn.initializers.normal(0.02)
PLAIN: dict[str, Any] = {"use_bias": False, "kernel_init": WEIGHTS}  # batch norm has the biases


@dataclass(frozen=True)
class DCGAN:
    """Hyper-parameters of a DCGAN."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    latent: int = 100  # numbers in z
    width: int = 32  # channels of the layer nearest to the picture (the paper: 128)
    kernel: Literal[4, 5] = 4  # the authors' code has 5; 4 divides by the stride and leaves no checkerboard
    loss: Literal["non-saturating", "hinge", "least-squares"] = "non-saturating"
    learning_rate: float = 2e-4
    beta1: float = 0.5

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError where the image does not suit strides of 2."""
        del steps
        height, width, channels = self.image
        at_least(1, model__width=self.width, model__latent=self.latent, model__image=min(self.image))
        stages = count_stages(height, width)
        widths = tuple(self.width << i for i in range(stages))  # from the picture inwards
        base = (height >> stages, width >> stages)
        generator = Generator(base, widths, channels, self.kernel)
        discriminator = Discriminator(widths, self.kernel)
        loss = LOSSES[self.loss]

        def init(key, spec):
            keys = {net: rng.fold(key, net) for net in ("generator", "discriminator")}
            z, x = jnp.zeros((2, self.latent)), jnp.zeros((2, *self.image))
            nets = {"generator": generator.init(keys["generator"], z, train=False)}
            nets["discriminator"] = discriminator.init(keys["discriminator"], x, train=False)
            params = {net: dict(v).pop("params") for net, v in nets.items()}
            extra = {net: {k: v for k, v in vs.items() if k != "params"} for net, vs in nets.items()}
            return params, extra

        def play(net, name, params, context, x):
            return net.apply(variables(name, params, context.extra), x, train=True, mutable=["batch_stats"])

        def imagine(params, context, batch, key):
            keys = jax.random.split(key, len(batch["image"]))
            return play(generator, "generator", params, context, rng.uniform(keys, (self.latent,)))

        def discriminator_loss(params, context, batch, key):
            fake, _ = imagine(params, context, batch, key)
            # Nothing reads the discriminator's running statistics; they are the fakes'.
            real_logits, _ = play(discriminator, "discriminator", params, context, batch["image"])
            fake_logits, stats = play(discriminator, "discriminator", params, context, fake)
            metrics = {"real": jax.nn.sigmoid(real_logits).mean(), "fake": jax.nn.sigmoid(fake_logits).mean()}
            return loss.discriminator(real_logits, fake_logits).mean(), Aux(metrics, {"discriminator": stats})

        def generator_loss(params, context, batch, key):
            fake, stats = imagine(params, context, batch, key)
            fake_logits, _ = play(discriminator, "discriminator", params, context, fake)
            return loss.generator(fake_logits).mean(), Aux(extra={"generator": stats})

        def generate(params, context, keys, given):
            z = rng.uniform(keys, (self.latent,))
            return {"image": generator.apply(variables("generator", params, context.extra), z, train=False)}

        def adam():
            return optax.adam(self.learning_rate, b1=self.beta1)

        return Task(
            init=init,
            example={"image": jax.ShapeDtypeStruct(self.image, jnp.float32)},
            learners={
                "discriminator": Learner(("discriminator",), adam()),
                "generator": Learner(("generator",), adam()),
            },
            # One stream: both players meet the same z, so that XLA runs the generator forwards once a step, not twice.
            phases=(
                Phase("discriminator", "discriminator", discriminator_loss, stream="z"),
                Phase("generator", "generator", generator_loss, stream="z"),
            ),
            ema=(Ema("generator", ramped(0.999)),),
            generate=generate,
        )


def count_stages(height: int, width: int) -> int:
    """Return how many times a stride of 2 takes the picture's short side down towards 4 pixels."""
    stages = max((min(height, width) // 4).bit_length() - 1, 0)
    if stages < 1 or height % (1 << stages) or width % (1 << stages):
        multiple = 1 << max(stages, 1)
        raise InputError(
            f"DCGAN can't make {height}x{width} images: both sides must be multiples of {multiple}, and at least 8."
        )
    return stages


def batch_norm(x, train: bool):
    return BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args))(x, train)


class Generator(nn.Module):
    """z f32[b latent] -> image f32[b h w c] in [-1, 1]."""

    base: tuple[int, int]
    widths: tuple[int, ...]
    channels: int
    kernel: int

    @nn.compact
    def __call__(self, z, train: bool):
        height, width = self.base
        deepest = self.widths[-1]
        x = Dense(height * width * deepest, **PLAIN)(z)
        x = x.reshape(-1, height, width, deepest)  # [b 4 4 c]
        x = nn.relu(batch_norm(x, train))
        double = partial(ConvTranspose, kernel_size=(self.kernel, self.kernel), strides=(2, 2), **PLAIN)
        for features in reversed(self.widths[:-1]):
            x = double(features)(x)  # [b 2h 2w c]
            x = nn.relu(batch_norm(x, train))
        x = double(self.channels)(x)  # [b 2h 2w c]
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b]."""

    widths: tuple[int, ...]
    kernel: int

    @nn.compact
    def __call__(self, x, train: bool):
        for i, features in enumerate(self.widths):
            x = Conv(features, (self.kernel, self.kernel), (2, 2), **PLAIN)(x)  # [b h/2 w/2 c]
            x = nn.leaky_relu(x if i == 0 else batch_norm(x, train), 0.2)
        x = x.reshape(x.shape[0], -1)  # [b h*w*c]
        return Dense(1, **PLAIN)(x)[:, 0].astype(jnp.float32)


def tiny(model: DCGAN, source: str) -> Run:
    return Run(
        model=model,
        data=Data(source),
        steps=20,
        batch=16,
        log=Log(every=5, samples=10, count=16),
        save=Save(every=10),
    )


PRESETS = {
    # Small, and with a larger rate than the paper's: minutes on two cores are its point.
    "dcgan": Preset(
        Run(
            model=DCGAN(learning_rate=5e-4),
            data=Data("digits"),
            steps=2000,
            batch=32,
            log=Log(every=50, samples=250),
            save=Save(every=500),
        ),
        tiny=tiny(DCGAN(image=(8, 8, 1), latent=8, width=4), "digits"),
        parameters=536_384,
        measured="fid_lenet 25.6 on MNIST at --model.width 64",
    ),
    "dcgan-64": Preset(
        Run(
            model=DCGAN(image=(64, 64, 3), width=128, kernel=5),
            data=Data("shapes"),
            steps=100_000,
            batch=128,
            log=Log(every=100, samples=1000),
            save=Save(every=1000),
        ),
        tiny=tiny(DCGAN(image=(8, 8, 3), latent=8, width=4, kernel=5), "shapes"),
        parameters=36_087_808,
    ),
}
