"""AdaIN: Huang and Belongie 2017, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization".

A decoder learns to turn feature maps back into images. The features of a photograph, normalised to the means and
deviations of a style image's features, are decoded to the photograph in that style, for any style (equation 8). The
encoder is a frozen backbone; the decoder mirrors it, with reflected borders and without norms. The loss is the distance
of the output's features from the decoder's input, and of the means and deviations of its feature maps from the style's
(equations 11 to 13). Each distance is divided by the square of its target: the authors' backbone is normalised to mean
activations of 1, ours has mean squares of 0.001 to 0.1, and with plain means only the style's would count. The authors'
code sums the style's distances over channels, with a weight of 0.01, and its decoder is initialised uniformly, with a
sixth of our variance.

Mixtures of styles and degrees of style are the paper's (equations 14 and 15). `how` "wct" replaces AdaIN by whitening
and colouring of the features (Li et al. 2017; wct.py), with the same nets: training does not change.

The backbone is ST-LPIPS's VGG-16 instead of VGG-19. After a short training on crops of three paintings (the authors
train 160,000 steps of 8 images on 80,000 paintings) relu3_1 gives the colours and edges of a new style, coarsely. For
relu4_1 such a training is too short: outputs show a lattice, and little of the content.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase
from jaxgen.nn.conv import Conv
from jaxgen.nn.precision import to_f32
from jaxgen.nn.resample import resize
from jaxgen.nn.style import adain, colour, mean_covariance, moments, whiten
from jaxgen.pretrained import backbones
from jaxgen.tasks.style_transfer import relative_distance
from jaxgen.tasks.transforms import translation

Pair = tuple[int, int]
DECAY = 5e-5  # of the rate, a step: the authors' code


@dataclass(frozen=True)
class AdaIN:
    """Hyper-parameters of AdaIN style transfer with a frozen encoder."""

    image: tuple[int, int, int] = (256, 256, 3)  # of photographs and style images: height, width, channels
    backbone: str = "vgg16"  # the encoder; or random, or a classifier's run folder
    layers: tuple[str, ...] = (
        "relu1_1",
        "relu2_1",
        "relu3_1",
        "relu4_1",
    )  # the decoder's input is the last one's feature map
    between: tuple[int, ...] = (1, 1, 2)  # convolutions of the decoder at each layer's size, from the first layer on
    how: Literal["adain", "wct"] = "adain"  # the transform of features at inference
    style_weight: float = 10.0
    learning_rate: float = 1e-4  # of Adam, at the first step

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range and an unknown backbone."""
        del steps
        at_least(0, model__between=min(self.between, default=0), model__style_weight=self.style_weight)
        if self.image[2] != 3:
            raise InputError(f"AdaIN takes images of 3 channels: model.image can't have {self.image[2]}.")
        if len(self.between) != len(self.layers) - 1:
            raise InputError(f"model.between must have one number less than model.layers, not {self.between}.")
        shapes = backbones.check(self.backbone, self.layers, self.image)
        net = Decoder(tuple(shape[3] for shape in shapes), self.between)
        sizes = [(shape[1], shape[2]) for shape in shapes]

        def init(key: Key, spec: Any = None):
            del spec
            return {"decoder": net.init(key, jnp.zeros(shapes[-1]), sizes[:-1], self.image[:2])["params"]}, {
                "decoder": {}
            }

        def decoded(params: Params, code: Array, sizes: Sequence[Pair], size: Pair) -> Array:
            out: Any = net.apply({"params": params["decoder"]}, code, sizes, size)
            return out

        def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
            del key
            backbone, content, style = context.frozen["backbone"], batch["source"], batch["image"]
            [code] = backbone.features(content, self.layers[-1:])
            targets = [moments(x) for x in backbone.features(style, self.layers)]
            t = adain(code, targets[-1])
            made = decoded(params, t, sizes[:-1], self.image[:2])
            maps = backbone.features(made, self.layers)
            content_loss = relative_distance(maps[-1], t)  # equation 12
            pairs = [(moments(x), y) for x, y in zip(maps, targets, strict=True)]
            each = (relative_distance(jnp.concatenate(x, 1), jnp.concatenate(y, 1)) for x, y in pairs)
            style_loss = reduce(jnp.add, each)  # equation 13
            total = content_loss + self.style_weight * style_loss  # equation 11
            return total.mean(), Aux({"content": content_loss.mean(), "style": style_loss.mean()}, {})

        def rate(step: Any) -> Any:
            return self.learning_rate / (1 + DECAY * step)

        def translate(params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
            """Return f32[b h w 3].

            given["style"] is f32[b h' w' 3], or several in a list, with weights given["mix"] f32[b styles].
            given["strength"] f32[b] is the degree of style, from 0 to 1. given["whole"] f32[b h' w' 3] is the
            downsampled image of which the source is a tile. given["region"] f32[b h w 1] is 1 where the source gets the
            style, with statistics over this region.
            """
            del keys, to
            backbone, x = context.frozen["backbone"], given["source"]
            *own, code = backbone.features(x, self.layers)
            whole = given.get("whole")
            [all_] = [code] if whole is None else backbone.features(whole, self.layers[-1:])
            styles = given["style"] if isinstance(given["style"], list | tuple) else [given["style"]]
            region = share = None
            if "region" in given:
                region = resize(given["region"], (code.shape[1], code.shape[2]), "bilinear")
                share = region / jnp.broadcast_to(region.sum((1, 2), keepdims=True), region.shape)
            mix = given.get("mix")
            mix = jnp.full((x.shape[0], len(styles)), 1 / len(styles)) if mix is None else mix
            t = jnp.zeros_like(code)
            for i, style in enumerate(styles):  # equation 15
                [found] = backbone.features(style, self.layers[-1:])
                t = t + jnp.broadcast_to(mix[:, i, None, None, None], t.shape) * self.styled(code, found, all_, share)
            if region is not None:
                t = code + jnp.broadcast_to(region, t.shape) * (t - code)
            if (strength := given.get("strength")) is not None:  # equation 14
                t = code + jnp.broadcast_to(strength[:, None, None, None], t.shape) * (t - code)
            return decoded(params, t, [(m.shape[1], m.shape[2]) for m in own], (x.shape[1], x.shape[2]))

        return Task(
            init=init,
            example={name: image_spec(self.image) for name in ("source", "image")},
            learners={"decoder": Learner(("decoder",), optax.adam(rate))},
            phases=(Phase("decoder", "decoder", loss),),
            frozen={"backbone": partial(backbones.load, self.backbone)},
            capabilities=(translation(translate, conditions=("style",), multiple=8),),
        )

    def styled(self, code: Array, style: Array, whole: Array, share: Array | None = None) -> Array:
        """Return features with a style's statistics; `whole` is the feature map that `code` is a part of.

        share: weights of the positions of `whole`, f32[b h w 1] with sum 1; None: equal
        """
        if self.how == "adain":
            return adain(code, moments(style), moments(whole, share=share))
        return colour(whiten(code, whole, share), mean_covariance(style))


class Decoder(nn.Module):
    """code f32[b h w c], sizes of earlier layers' maps, size of the image -> f32[b H W 3].

    widths:  channels of the layers' maps, the code's last
    between: convolutions at each map's size
    """

    widths: tuple[int, ...]
    between: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, sizes: Sequence[Pair], size: Pair) -> Array:
        count = 0

        def conv(x: Array, features: int) -> Array:
            nonlocal count
            count += 1
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
            he = nn.initializers.he_normal()
            return Conv(features, (3, 3), padding="VALID", kernel_init=he, name=f"layer_{count - 1}")(x)

        levels = list(zip(self.widths, self.between, sizes, strict=False))
        for width, times, target in reversed(levels):
            x = repeat_to(nn.relu(conv(x, width)), target)
            for _ in range(times):
                x = nn.relu(conv(x, width))
        return to_f32(repeat_to(conv(x, 3), size))


def repeat_to(x: Array, size: Pair) -> Array:
    """Return x [b h w c] upsampled by repetition and cropped to a size.

    With blurred pooling a position's window includes the pixel before it (shift_tolerant.py), and there is one
    position more: the crop removes the first pixels.
    """
    for axis, target in ((1, size[0]), (2, size[1])):
        x = jnp.repeat(x, -(-target // x.shape[axis]), axis)
        first = (x.shape[axis] - target + 1) // 2
        x = jax.lax.slice_in_dim(x, first, first + target, axis=axis)
    return x


TINY = AdaIN((32, 32, 3), "random", ("relu1_1", "relu2_1", "relu3_1"), (1, 1), learning_rate=1e-3)
SMALL = Run(model=TINY, data=Data("unpaired:shapes,shapes"), steps=20, batch=8, log=Log(every=5), save=Save(every=10))
FULL = Run(model=AdaIN(), data=Data("unpaired:photographs,paintings", crop="random"), steps=160_000, batch=8)
PRESETS = {"adain": Preset(FULL, SMALL, 2_915_139)}
