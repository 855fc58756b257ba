"""The CIFAR ResNets: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

6n + 2 layers of 16, 32 and 64 channels on 32x32 images, with option A: a shortcut between sizes takes every second
pixel and pads channels with zeros, half before and half after, as akamaster's published weights expect. It has no
parameters. Training is as in the paper: learning rate 0.1, weight decay 1e-4, batch 128, 64,000 steps, images shifted
by up to 4 pixels and mirrored. Differences: the rate follows a cosine schedule after 400 warm-up steps (in the paper it
falls in steps), momentum is Nesterov's, and only kernels decay.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Data, Eval, Optim, Preset, Run, Save
from jaxgen.core.task import Task
from jaxgen.models.classifier import resnet
from jaxgen.nn.conv import Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.tasks.classification import IMAGENET, Numbers, Recipe, classifier_task, tiny

Depth = Literal[8, 20, 32, 44, 56, 110]
HE = nn.initializers.variance_scaling(2, "fan_in", "normal")  # also for the dense layer, as in akamaster's code
conv = partial(resnet.conv, init=HE)


@dataclass(frozen=True)
class CifarResNet:
    """Hyper-parameters of a CIFAR ResNet."""

    depth: Depth = 20
    image: tuple[int, int, int] = (32, 32, 3)  # height, width, channels
    classes: int = 10
    width: int = 16  # channels of the first stage
    mean: Numbers = IMAGENET["mean"]
    std: Numbers = IMAGENET["std"]
    recipe: Recipe = field(default_factory=Recipe)

    def task(self, steps: int) -> Task:
        """Return the training task."""
        del steps
        net = CifarResNetModule((self.depth - 2) // 6, self.classes, self.width)
        return classifier_task(net, self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


class Block(nn.Module):
    """x [b h w c] -> [b h/stride w/stride features]."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, train: bool):
        y = nn.relu(BatchNorm(name="bn1")(conv(self.features, 3, self.stride, "conv1")(x), train))
        y = BatchNorm(name="bn2")(conv(self.features, 3, 1, "conv2")(y), train)
        if self.stride > 1:
            more = self.features - x.shape[-1]
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))  # option A
        return nn.relu(x + y)


class CifarResNetModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "stem", "layer1" ... "layer3", "pool"}."""

    n: int
    classes: int
    width: int

    @nn.compact
    def __call__(self, x, train: bool):
        out = {}
        x = out["stem"] = nn.relu(BatchNorm(name="bn1")(conv(self.width, 3, 1, "conv1")(x), train))
        for stage in (1, 2, 3):
            for i in range(self.n):
                stride = 2 if stage > 1 and i == 0 else 1
                x = Block(self.width << (stage - 1), stride, name=f"layer{stage}_{i}")(x, train)
            out[f"layer{stage}"] = x
        out["pool"] = x.astype(jnp.float32).mean((1, 2))  # [b c]
        out["logits"] = Dense(self.classes, kernel_init=HE, name="linear")(out["pool"]).astype(jnp.float32)
        return out


TINY = tiny(CifarResNet(8, image=(16, 16, 3), width=4))


def preset(depth: Depth, parameters: int) -> Preset:
    run = Run(
        model=CifarResNet(depth),
        data=Data("tfds:cifar10", flip=True, shift=4),
        steps=64_000,
        batch=128,
        optim=Optim(schedule="cosine", warmup=400),
        save=Save(every=2000),
        eval=Eval(every=2000, batches=0, metrics=("accuracy",)),
    )
    return Preset(run, TINY, parameters)


PRESETS = {
    "resnet20": preset(20, 269_722),
    "resnet32": preset(32, 464_154),
    "resnet44": preset(44, 658_586),
    "resnet56": preset(56, 853_018),
    "resnet110": preset(110, 1_727_962),
}
