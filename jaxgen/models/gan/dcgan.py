"""DCGAN: Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016.

Follows the guidelines of section 3: strided convolutions in the discriminator and transposed ones in the generator,
batch norm everywhere except at the generator's output and the discriminator's input, ReLU and tanh in the generator,
LeakyReLU 0.2 in the discriminator. Weights start from N(0, 0.02), Adam has rate 2e-4 and beta1 0.5, and z is uniform.
The number of stages depends on the image size: the short side is halved down to 4 pixels. The authors' Theano code
also decays all parameters by 1e-5, and normalises each unit of the generator's first layer separately. Their Torch
code does neither, and draws z from N(0, 1).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.interop.weight_names import LEAVES, TRANSPOSED, Layout, Path, Rule
from jaxgen.nn.conv import Conv, ConvTranspose, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.priors import Prior, normal, uniform
from jaxgen.nn.stages import count_stages
from jaxgen.tasks.adversarial import AdversarialTask
from jaxgen.tasks.adversarial_config import AdversarialConfig

WEIGHTS = nn.initializers.normal(0.02)
PLAIN: dict[str, Any] = {"use_bias": False, "kernel_init": WEIGHTS}  # batch norm has a bias of its own


@dataclass(frozen=True)
class DCGAN:
    """Hyper-parameters of a DCGAN."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    latent: int = 100  # size of z
    width: int = 32  # channels of the layer next to the image (the paper: 128)
    kernel: Literal[4, 5] = 4  # the authors' code has 5; 4, a multiple of the stride, avoids checkerboards
    prior: Literal["uniform", "normal"] = "uniform"  # of z
    norm: Literal["batch", "none"] = "batch"  # of the discriminator; use none with penalties on its gradient
    game: AdversarialConfig = AdversarialConfig()  # the adversarial training

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that do not fit strides of 2."""
        del steps
        self.check()
        return AdversarialTask(
            self.game, self.generator(), self.discriminator(), self.image, self.draw(self.latent)
        ).task()

    def check(self):
        at_least(1, model__width=self.width, model__latent=self.latent, model__image=min(self.image))
        count_stages(*self.image[:2])

    def draw(self, latent: int) -> Prior:
        return {"uniform": uniform, "normal": normal}[self.prior](latent)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the layers, starting next to the image."""
        return tuple(self.width << i for i in range(count_stages(*self.image[:2])))

    def generator(self) -> "DCGANGenerator":
        stages = len(self.widths)
        base = (self.image[0] >> stages, self.image[1] >> stages)
        return DCGANGenerator(base, self.widths, self.image[2], self.kernel)

    def discriminator(self, features: bool = False) -> "DCGANDiscriminator":
        return DCGANDiscriminator(self.widths, self.kernel, self.norm, features)


def batch_norm(x, train: bool):
    return BatchNorm(scale_init=lambda *args: 1 + WEIGHTS(*args))(x, train)


class DCGANGenerator(nn.Module):
    """z f32[b latent] -> image f32[b h w c] in [-1, 1]."""

    base: tuple[int, int]
    widths: tuple[int, ...]
    channels: int
    kernel: int

    @nn.compact
    def __call__(self, z, label=None, keys=None, *, train: bool):
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
        return jnp.tanh(to_f32(x))


class DCGANDiscriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b], or with `features` the last layer's features f32[b n]."""

    widths: tuple[int, ...]
    kernel: int
    norm: str = "batch"
    features: bool = False

    @nn.compact
    def __call__(self, x, label=None, *, train: bool):
        for i, features in enumerate(self.widths):
            bare = i == 0 or self.norm == "none"
            # Batch norm has a bias of its own. The first layer never has a bias, as in PyTorch's tutorial.
            use_bias = self.norm == "none" and i > 0
            x = Conv(features, (self.kernel, self.kernel), (2, 2), use_bias=use_bias, kernel_init=WEIGHTS)(x)
            x = nn.leaky_relu(x if bare else batch_norm(x, train), 0.2)  # [b h/2 w/2 c]
        x = x.reshape(x.shape[0], -1)  # [b h*w*c]
        return x if self.features else to_f32(Dense(1, **PLAIN)(x)[:, 0])


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the name in PyTorch's DCGAN tutorial, `main.N`; dense layers are 4x4 convolutions there."""
    kind, number = path[0].rsplit("_", 1)
    if model.kernel != 4:
        raise InputError(
            "PyTorch has no such net: a DCGAN with 5x5 kernels has TensorFlow's padding (--model.kernel 4 can be used)."
        )
    leaf, layout = LEAVES.get(path[-1], path[-1]), None
    stages = count_stages(*model.image[:2])
    pixels = (model.image[0] >> stages, model.image[1] >> stages)  # 4x4 for a square image
    if net == "generator":
        index = {"Dense": 0, "BatchNorm": 1 + 3 * int(number), "ConvTranspose": 3 + 3 * int(number)}[kind]
        layout = TRANSPOSED if kind == "ConvTranspose" else layout
        if kind == "Dense":  # [z h*w*c] -> [z c h w]
            layout = Layout(
                lambda x: x.reshape(len(x), *pixels, -1).transpose(0, 3, 1, 2),
                lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1),
            )
        return f"main.{index}.{leaf}", layout
    index = {"Conv": 3 * int(number) - (int(number) > 0), "BatchNorm": 3 + 3 * int(number), "Dense": 3 * stages - 1}[
        kind
    ]
    if kind == "Dense":  # [h*w*c 1] -> [1 c h w]
        layout = Layout(
            lambda x: x.reshape(*pixels, -1, 1).transpose(3, 2, 0, 1),
            lambda x: x.transpose(2, 3, 1, 0).reshape(-1, 1),
        )
    return f"main.{index}.{leaf}", layout


WEIGHT_NAMES: Rule = weight_name


FAST = AdversarialConfig(learning_rate=5e-4)  # trains in minutes on two cores


def tiny(model: Any, source: str = "digits") -> Run:
    """Return a tiny run, which takes seconds."""
    return Run(
        model=model,
        data=Data(source),
        steps=20,
        batch=16,
        log=Log(every=5, samples=10, count=16),
        save=Save(every=10),
    )


PRESETS = {
    # A small version with a larger learning rate than the paper's.
    "dcgan": Preset(
        Run(
            model=DCGAN(game=FAST),
            data=Data("digits"),
            steps=2000,
            batch=32,
            log=Log(every=50, samples=250),
            save=Save(every=500),
        ),
        tiny=tiny(DCGAN(image=(8, 8, 1), latent=8, width=4)),
        parameters=536_384,
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
