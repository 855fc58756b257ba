"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

`variant="2012"` is the paper's network: 96-256-384-384-256 filters, conv 2, 4 and 5 in two groups, local response
normalisation (section 3.3), 60,965,224 parameters, for 227x227 images (the paper says 224). `variant="2014"` is the
single-column network of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", as in
torchvision: 64-192-384-256-256 filters, 61,100,840 parameters, for 224x224. Its kernels are initialised with LeCun's
variance of 1 / fan-in, three times torchvision's, and its biases with 0. For other image sizes, the last map is pooled
to the 6x6 that the dense layers need.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from jaxgen.core.config import Optim, Preset
from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.pool import adaptive_avg_pool, flatten, max_pool
from jaxgen.tasks.classification import IMAGENET, Numbers, Recipe, classifier_task, imagenet, tiny

SMALLEST, SMALLEST_2012 = 63, 67  # pixels: below this the last pooling has no window


@dataclass(frozen=True)
class AlexNet:
    """Hyper-parameters of AlexNet."""

    image: tuple[int, int, int] = (224, 224, 3)  # height, width, channels
    classes: int = 1000
    variant: Literal["2012", "2014"] = "2014"
    width: float = 1.0  # factor on the filters and hidden units
    dropout: Decay = 0.5
    mean: Numbers = IMAGENET["mean"]
    std: Numbers = IMAGENET["std"]
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=0.01, weight_decay=5e-4))

    @property
    def smallest(self) -> int:
        """The least side of an image, in pixels."""
        return SMALLEST_2012 if self.variant == "2012" else SMALLEST

    def net(self) -> "AlexNet2014Module | AlexNet2012Module":
        """Return the network."""
        kind = AlexNet2012Module if self.variant == "2012" else AlexNet2014Module
        return kind(self.classes, self.width, self.dropout)

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images too small for the strides."""
        del steps
        if min(self.image[:2]) < (least := self.smallest):
            height, width, _ = self.image
            raise InputError(f"AlexNet needs images of at least {least}x{least}, not {height}x{width}.")
        return classifier_task(self.net(), self.image, self.classes, self.recipe, {"mean": self.mean, "std": self.std})


def normal(scale: float) -> Any:
    return nn.initializers.normal(scale)


class AlexNet2014Module(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "relu1" ... "relu7"}."""

    classes: int
    width: float
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        conv = lambda n, k, s, p, i: Conv(int(n * self.width), (k, k), (s, s), ((p, p), (p, p)), name=f"features_{i}")  # noqa: E731
        out = {}
        x = out["relu1"] = nn.relu(conv(64, 11, 4, 2, 0)(x))  # [b 55 55 64]
        x = out["relu2"] = nn.relu(conv(192, 5, 1, 2, 3)(max_pool(x, 3, 2)))  # [b 27 27 192]
        x = out["relu3"] = nn.relu(conv(384, 3, 1, 1, 6)(max_pool(x, 3, 2)))  # [b 13 13 384]
        x = out["relu4"] = nn.relu(conv(256, 3, 1, 1, 8)(x))
        x = out["relu5"] = nn.relu(conv(256, 3, 1, 1, 10)(x))
        x = flatten(adaptive_avg_pool(max_pool(x, 3, 2), (6, 6)))  # [b 9216]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = out["relu6"] = nn.relu(Dense(int(4096 * self.width), name="classifier_1")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = out["relu7"] = nn.relu(Dense(int(4096 * self.width), name="classifier_4")(x))
        out["logits"] = Dense(self.classes, name="classifier_6")(x).astype(jnp.float32)
        return out


class AlexNet2012Module(nn.Module):
    """image f32[b h w c] -> {"logits": f32[b classes], "relu1" ... "relu7"}; biases as in section 5."""

    classes: int
    width: float
    dropout: float

    @nn.compact
    def __call__(self, x, train: bool):
        ones = nn.initializers.ones

        def conv(name, filters, kernel, stride, pad, groups, bias):
            square, pads = (kernel, kernel), ((pad, pad), (pad, pad))
            kinds: dict[str, Any] = {"groups": groups, "kernel_init": normal(0.01), "bias_init": bias, "name": name}
            return Conv(int(filters * self.width), square, (stride, stride), pads, **kinds)

        zeros, out = nn.initializers.zeros, {}
        x = out["relu1"] = nn.relu(conv("conv1", 96, 11, 4, 0, 1, zeros)(x))  # [b 55 55 96]
        x = max_pool(local_response_norm(x), 3, 2)  # [b 27 27 96]
        x = out["relu2"] = nn.relu(conv("conv2", 256, 5, 1, 2, 2, ones)(x))
        x = max_pool(local_response_norm(x), 3, 2)  # [b 13 13 256]
        x = out["relu3"] = nn.relu(conv("conv3", 384, 3, 1, 1, 1, zeros)(x))
        x = out["relu4"] = nn.relu(conv("conv4", 384, 3, 1, 1, 2, ones)(x))
        x = out["relu5"] = nn.relu(conv("conv5", 256, 3, 1, 1, 2, ones)(x))
        x = flatten(adaptive_avg_pool(max_pool(x, 3, 2), (6, 6)))  # [b 9216]
        hidden: dict[str, Any] = {"kernel_init": normal(0.01), "bias_init": ones}
        x = out["relu6"] = nn.relu(Dense(int(4096 * self.width), **hidden, name="fc6")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = out["relu7"] = nn.relu(Dense(int(4096 * self.width), **hidden, name="fc7")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        out["logits"] = Dense(self.classes, kernel_init=normal(0.01), name="fc8")(x).astype(jnp.float32)
        return out


def local_response_norm(x: Array, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Array:
    """b_i = a_i / (k + alpha sum_{|j - i| <= n/2} a_j^2)^beta over channels: x [b h w c] -> the same. Section 3.3."""
    square = x * x
    pads = ((0, 0), (0, 0), (0, 0), (n // 2, n // 2))
    total = lax.reduce_window(square, np.zeros((), x.dtype), lax.add, (1, 1, 1, n), (1, 1, 1, 1), pads)
    return x * (k + alpha * total) ** -beta


def preset(variant: Literal["2012", "2014"], side: int, least: int, parameters: int) -> Preset:
    return Preset(
        imagenet(AlexNet(image=(side, side, 3), variant=variant), 900_000, batch=128, optim=Optim(schedule="cosine")),
        tiny=tiny(
            # With a smaller width, the effect of the paper's small kernels is lost in f32 beside biases of 1.
            AlexNet(image=(least, least, 3), classes=10, variant=variant, width=1 / 8)
        ),
        parameters=parameters,
    )


PRESETS = {
    "alexnet": preset("2014", 224, SMALLEST, 61_100_840),
    "alexnet-2012": preset("2012", 227, SMALLEST_2012, 60_965_224),
}
