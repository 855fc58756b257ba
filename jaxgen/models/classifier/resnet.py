"""ResNet: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

18 and 34 layers have basic blocks; 50, 101 and 152 have bottlenecks with the stride in the 3x3 convolution, as in
torchvision (in the paper it is in the 1x1; the parameters are the same); 10 has one basic block per stage.
`stem="small"` has one 3x3 convolution in place of the 7x7 with stride 2 and the pooling, for images of about 32x32.
Training takes torchvision's 90 epochs (in the paper 120).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.config import Preset
from jaxgen.core.task import Task
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import max_pool
from jaxgen.tasks.classification import IMAGENET, Numbers, Recipe, classifier_task, imagenet, tiny

Depth = Literal[10, 18, 34, 50, 101, 152]
BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
HE = nn.initializers.variance_scaling(2, "fan_out", "normal")


@dataclass(frozen=True)
class ResNet:
    """Hyper-parameters of a ResNet."""

    depth: Depth = 50
    image: tuple[int, int, int] = (224, 224, 3)  # height, width, channels
    classes: int = 1000
    width: int = 64  # channels of the first stage
    stem: Literal["imagenet", "small"] = "imagenet"
    mean: Numbers = IMAGENET["mean"]
    std: Numbers = IMAGENET["std"]
    recipe: Recipe = field(default_factory=Recipe)

    def task(self, steps: int) -> Task:
        """Return the training task."""
        del steps
        net = ResNetModule(self.depth, self.classes, self.width, self.stem)
        return classifier_task(net, self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


def conv(features: int, kernel: int, stride: int, name: str, init: nn.initializers.Initializer = HE):
    pad = kernel // 2
    kinds: dict[str, Any] = {"use_bias": False, "kernel_init": init, "name": name}
    return Conv(features, (kernel, kernel), (stride, stride), ((pad, pad), (pad, pad)), **kinds)


class Block(nn.Module):
    """x [b h w c] -> [b h/stride w/stride features], or 4 features where `bottleneck`."""

    features: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x, train: bool):
        wide = self.features * (4 if self.bottleneck else 1)
        # (channels, kernel, stride) of each convolution
        plan = [(self.features, 3, self.stride), (wide, 3, 1)]
        if self.bottleneck:
            plan = [(self.features, 1, 1), (self.features, 3, self.stride), (wide, 1, 1)]
        y = x
        for i, (features, kernel, stride) in enumerate(plan, 1):
            y = BatchNorm(name=f"bn{i}")(conv(features, kernel, stride, f"conv{i}")(y), train)
            y = y if i == len(plan) else nn.relu(y)
        if x.shape != y.shape:
            x = BatchNorm(name="downsample_1")(conv(wide, 1, self.stride, "downsample_0")(x), train)
        return nn.relu(x + y)


class ResNetModule(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "stem", "layer1" ... "layer4", "pool"}."""

    depth: int
    classes: int
    width: int
    stem: str

    @nn.compact
    def __call__(self, x, train: bool):
        out = {}
        small = self.stem == "small"
        x = conv(self.width, 3 if small else 7, 1 if small else 2, "conv1")(x)
        x = out["stem"] = nn.relu(BatchNorm(name="bn1")(x, train))
        if not small:
            x = max_pool(x, 3, 2, 1)  # [b h/4 w/4 c]
        for stage, blocks in enumerate(BLOCKS[self.depth], 1):
            for i in range(blocks):
                stride = 2 if stage > 1 and i == 0 else 1
                x = Block(self.width << (stage - 1), stride, self.depth >= 50, name=f"layer{stage}_{i}")(x, train)
            out[f"layer{stage}"] = x
        out["pool"] = x.astype(jnp.float32).mean((1, 2))  # [b c]
        torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        out["logits"] = Dense(self.classes, kernel_init=torch_uniform, name="fc")(out["pool"]).astype(jnp.float32)
        return out


TINY = tiny(ResNet(10, image=(16, 16, 3), classes=10, width=4, stem="small"))


def preset(depth: Depth, parameters: int) -> Preset:
    run = imagenet(ResNet(depth), 450_000)
    return Preset(run, TINY, parameters)


PRESETS = {
    "resnet18": preset(18, 11_689_512),
    "resnet34": preset(34, 21_797_672),
    "resnet50": preset(50, 25_557_032),
    "resnet101": preset(101, 44_549_160),
    "resnet152": preset(152, 60_192_808),
}
