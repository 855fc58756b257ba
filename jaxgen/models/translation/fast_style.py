"""Fast style transfer: Johnson, Alahi and Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution"; several styles in one net as in Dumoulin, Shlens and Kudlur 2017, "A Learned Representation For
Artistic Style".

A net that paints any image in the style that it was trained for, in one pass. The losses are distances between feature
maps of output and image (content), and between Gram matrices of output and style (equations 2 to 4). Norms are the
instance norm of Ulyanov et al. 2016. Borders are reflected and upsampling is by repetition, as in Dumoulin et al.;
`model.mirror` off gives the net of published weights (lengstrom/fast-style-transfer: zero padding, transposed
convolutions). `fast-style-many` has a scale and a bias for each style in every norm. The style of a training example is
drawn at each step. (Dumoulin et al. end in a sigmoid, where both nets here end in 150 tanh, and have 1e-5 in their
norms.)

The backbone is ST-LPIPS's VGG-16, or any other classifier. Features have unit length at each position. Each layer's
squared distance is divided by the square of its target, not by the number of values. The weights of the losses are our
own choice.

After a short training on small images it paints photographs in the colours and strokes of the waves, and their content
stays clear. `fast-style-many` was trained on three styles at a style weight of 0.5, and paints fainter. At a style
weight of 3 it learned the content slowly, and at 10 not at all.

Features of unit length say little of contrast and colour. A net that has learned the content with them goes on with
`model.features full`, and takes the painting's colours: so the weights that ship were made.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, axes
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.precision import to_f32
from jaxgen.nn.style import StyleNorm
from jaxgen.pretrained import backbones
from jaxgen.tasks import style_transfer
from jaxgen.tasks.transforms import translation

SCALE = 127.5  # the net's pixels are from 0 to 255


@dataclass(frozen=True)
class FastStyle:
    """Hyper-parameters of a net for one style or several."""

    image: tuple[int, int, int] = (256, 256, 3)  # training images: height, width, channels
    styles: tuple[str, ...] = ("waves",)  # images, or drawn patterns: waves, checks, dots
    style_size: int = 512  # pixels of a style image's longer side
    width: int = 32  # channels of the first layer
    depth: int = 5  # residual blocks
    mirror: bool = True  # reflected borders and upsampling by repetition; off: zero padding and transposed convolutions
    backbone: str = "vgg16"  # the net with the compared features; or random, or a classifier's run folder
    content: tuple[str, ...] = ("relu2_2",)
    style: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    # unit: of unit length; full: as they are, as Gatys et al. compare them, once a net has learned content with unit
    features: Literal["unit", "full"] = "unit"
    content_weight: float = 1.0
    style_weight: float = 1.0
    smooth_weight: float = 1.0  # of the squared total variation
    learning_rate: float = 1e-3  # of Adam

    def check_run(self, run: Run):
        """Raise InputError for unknown styles, backbones and layers, which only training needs."""
        del run
        style_transfer.check(self.styles)
        backbones.check(self.backbone, (*self.content, *self.style), self.image)

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        at_least(1, model__width=self.width, model__style_size=self.style_size, model__styles=len(self.styles))
        at_least(0, model__depth=self.depth)
        if self.image[2] != 3 or self.image[0] % 4 or self.image[1] % 4:
            raise InputError(f"model.image must be multiples of 4 by 3 channels, not {self.image}.")
        (net, transform), count = painter(self), len(self.styles)

        def init(key: Key, spec: Any = None):
            del spec
            mix = jnp.ones((1, count)) / count
            return {"painter": net.init(key, jnp.zeros((1, *self.image)), mix)["params"]}, {"painter": {}}

        see = style_transfer.unit_features if self.features == "unit" else backbones.Backbone.features

        def targets() -> list[Array]:
            return style_transfer.grams(backbones.load(self.backbone), self.styles, self.style_size, self.style, see)

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            x, backbone = batch["image"], context.frozen["backbone"]
            mix = jax.nn.one_hot(jax.random.randint(key, (len(x),), 0, count), count)  # [b n]
            made: Any = net.apply({"params": params["painter"]}, x, mix)
            maps = see(backbone, made, (*self.content, *self.style))
            own, painted = maps[: len(self.content)], maps[len(self.content) :]
            wanted = [jnp.einsum("bn,nij->bij", mix, to_f32(a), precision="highest") for a in context.frozen["styles"]]
            content = style_transfer.content_distance(own, see(backbone, x, self.content))  # equation 2
            style = style_transfer.style_distance(painted, wanted)  # equation 4
            rough = style_transfer.roughness(made)
            total = self.content_weight * content + self.style_weight * style + self.smooth_weight * rough
            parts = {"content": content.mean(), "style": style.mean(), "smooth": rough.mean()}
            return total.mean(), Aux(parts, {})

        return Task(
            init=init,
            example={"image": image_spec(self.image)},
            learners={"painter": Learner(("painter",), optax.adam(self.learning_rate))},
            phases=(Phase("painter", "painter", loss),),
            frozen={"backbone": lambda: backbones.load(self.backbone), "styles": targets},
            capabilities=(transform,),
        )


def painter(model: FastStyle) -> tuple["FastStyleNet", Transform]:
    """Return a model's net and its Transform, without anything that only training needs."""
    count = len(model.styles)
    net = FastStyleNet(model.width, model.depth, count, model.mirror)

    def translate(params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        """given["mix"] f32[b styles] mixes styles; given["whole"] is the downsampled image of which source is a tile.

        Scales and biases of styles are mixed: Dumoulin et al. 2017, section 3.2.
        """
        del context, keys
        mix = given.get("mix")
        mix = jax.nn.one_hot(to, count) if mix is None else mix
        own: Any = {"params": params["painter"]}
        if (whole := given.get("whole")) is not None:
            _, kept = net.apply(own, whole, mix, mutable=["whole"])
            own |= kept
        out: Any = net.apply(own, given["source"], mix)
        return out

    return net, translation(translate, domains=style_transfer.names(model.styles), multiple=4)


class Layer(nn.Module):
    """A convolution (or upsampling by 2, stride -2) and its norm: x [b h w c] -> [b h' w' features]."""

    features: int
    kernel: int
    stride: int
    styles: int
    mirror: bool
    start: float = 1.0  # of the norm's scales

    @nn.compact
    def __call__(self, x: Array, mix: Array | None) -> Array:
        draw, k = nn.initializers.truncated_normal(0.1), (self.kernel, self.kernel)
        if self.stride < 0 and not self.mirror:
            up = ConvTranspose(
                self.features, k, (-self.stride, -self.stride), use_bias=False, kernel_init=draw, name="conv"
            )
            return StyleNorm(self.styles, name="norm")(up(x), mix)
        if self.stride < 0:
            x = jnp.repeat(jnp.repeat(x, -self.stride, 1), -self.stride, 2)  # [b 2h 2w c]
        pad = self.kernel // 2
        if self.mirror:
            x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect")
        how, step = "VALID" if self.mirror else "SAME", max(self.stride, 1)
        x = Conv(self.features, k, (step, step), how, use_bias=False, kernel_init=draw, name="conv")(x)
        return StyleNorm(self.styles, start=self.start, name="norm")(x, mix)


class FastStyleNet(nn.Module):
    """x f32[b h w 3] in [-1, 1], mix f32[b styles] -> painted image, about in [-1.2, 1.2]. Sides: multiples of 4."""

    width: int
    depth: int
    styles: int
    mirror: bool

    @nn.compact
    def __call__(self, x: Array, mix: Array | None = None) -> Array:
        count = 0

        def layer(x: Array, features: int, kernel: int = 3, stride: int = 1, start: float = 1.0) -> Array:
            nonlocal count
            count += 1
            name = f"layer_{count - 1}"
            return Layer(features, kernel, stride, self.styles, self.mirror, start, name=name)(x, mix)

        w = self.width
        x = nn.relu(layer(SCALE * (x + 1), w, 9))  # [b h w 32]
        x = nn.relu(layer(x, 2 * w, stride=2))  # [b h/2 w/2 64]
        x = nn.relu(layer(x, 4 * w, stride=2))  # [b h/4 w/4 128]
        # Small initial scales: with 1 new blocks add noise as strong as the image, and the content is learned later.
        for _ in range(self.depth):
            x = x + layer(nn.relu(layer(x, 4 * w)), 4 * w, start=0.1)
        x = nn.relu(layer(x, 2 * w, stride=-2))  # [b h/2 w/2 64]
        x = nn.relu(layer(x, w, stride=-2))  # [b h w 32]
        # A small initial scale: noise of full contrast would be moved into one spot, and the content lost.
        return 150 / SCALE * nn.tanh(to_f32(layer(x, 3, 9, start=0.1)))


def number(path: tuple[str, ...]) -> int:
    """Return the number of an array among TensorFlow's variables: kernel, bias and scale of each layer."""
    found = re.fullmatch(r"layer_(\d+)", path[0])
    assert found
    return 3 * int(found[1]) + {"kernel": 0, "bias": 1, "scale": 2}[path[-1]]


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """TensorFlow's variables in the order in which the net makes them, and as they lie there.

    The kernel of a transposed convolution is [h w out in].
    """
    del net
    name = f"Variable_{number(path)}".removesuffix("_0")
    doubles = 3 + 2 * model.depth
    turned = path[-1] == "kernel" and not model.mirror and number(path) // 3 in (doubles, doubles + 1)
    return name, axes(0, 1, 3, 2) if turned else SAME


WEIGHT_NAMES: Rule = weight_name


def transposed(model: FastStyle, tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether a file's weights are those of the net with transposed convolutions, [k k out in]."""
    kernel = tensors.get(f"Variable_{3 * (3 + 2 * model.depth)}")
    return kernel is not None and kernel.shape[2:] == (2 * model.width, 4 * model.width)


def preset(model: FastStyle, parameters: int, batch: int) -> Preset:
    data = Data("folder:photographs", crop="random")
    few = ("relu1_1", "relu1_2")
    tiny = FastStyle((20, 20, 3), model.styles, 32, 4, 1, backbone="random", content=few[:1], style=few)
    small = Run(model=tiny, data=Data("shapes"), steps=20, batch=8, log=Log(every=5), save=Save(every=10))
    return Preset(Run(model=model, data=data, steps=40_000, batch=batch), small, parameters)


PRESETS = {  # 2 epochs of MS-COCO; as many steps of the 16 images of Dumoulin et al.
    "fast-style": preset(FastStyle(), 1_677_638, 4),
    "fast-style-many": preset(FastStyle(styles=style_transfer.PATTERNS), 1_684_050, 16),
}
