"""AdaIN: Huang and Belongie 2017, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization".

A decoder learns to turn feature maps back into images; the code of a photograph, given the means and deviations of a
style image's code, is then a photograph in that style, for any style (equation 8). The encoder is the backbone, frozen;
the decoder mirrors it, borders mirrored, no norm. The loss is the distance of the image's code from the one that was
decoded, and of its maps' means and deviations from the style's (equations 11 to 13), each over the square of what is
wanted: the authors' backbone was made to have activations of mean 1, ours has squares of 0.001 to 0.1, and as plain
means the style's were all that counted. The authors' code adds up the style's over channels, with a weight of 0.01, and
its decoder starts uniform, a sixth of our variance.

How several styles and part of one are decoded is the paper's (equations 14 and 15). `how` is "wct" for whitening and
colouring the code in place of AdaIN (Li et al. 2017; wct.py), with the same nets: it changes nothing that is learned.

The backbone is ST-LPIPS's VGG-16 in place of VGG-19. After a short training on parts of three paintings (the authors
take 160,000 steps of 8 with 80,000 paintings) relu3_1 gives the colours and edges of a new style, coarsely. For relu4_1
such a training is too short: it gives a lattice, and little of the content.
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
    """Hyper-parameters of an encoder that is not trained and a decoder that is."""

    image: tuple[int, int, int] = (256, 256, 3)  # of photographs and style images: height, width, channels
    backbone: str = "vgg16"  # or random, or the folder of a classifier's run
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")  # the last one's map is the code
    between: tuple[int, ...] = (1, 1, 2)  # convolutions of the decoder that keep a map's size, from the first on
    how: Literal["adain", "wct"] = "adain"  # what is done to the code when images are made
    style_weight: float = 10.0
    learning_rate: float = 1e-4  # of Adam, at first

    def task(self, steps: int) -> Task:
        """Return the game. Raises InputError for sizes that can't be, and a backbone that is not there."""
        del steps
        at_least(0, model__between=min(self.between, default=0), model__style_weight=self.style_weight)
        if self.image[2] != 3:
            raise InputError(f"AdaIN takes images of 3 channels: model.image can't have {self.image[2]}.")
        if len(self.between) != len(self.layers) - 1:
            raise InputError(f"model.between must have a number for each of model.layers but one, not {self.between}.")
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
            wish = [moments(x) for x in backbone.features(style, self.layers)]
            t = adain(code, wish[-1])
            made = decoded(params, t, sizes[:-1], self.image[:2])
            maps = backbone.features(made, self.layers)
            near = relative_distance(maps[-1], t)  # equation 12
            pairs = [(moments(x), y) for x, y in zip(maps, wish, strict=True)]
            each = (relative_distance(jnp.concatenate(x, 1), jnp.concatenate(y, 1)) for x, y in pairs)
            manner = reduce(jnp.add, each)  # equation 13
            total = near + self.style_weight * manner  # equation 11
            return total.mean(), Aux({"content": near.mean(), "style": manner.mean()}, {})

        def rate(step: Any) -> Any:
            return self.learning_rate / (1 + DECAY * step)

        def translate(params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
            """Return f32[b h w 3].

            given["style"] is f32[b h' w' 3], or several in a list, weighed by given["mix"] f32[b styles];
            given["strength"] f32[b] is how much of the style there is, from 0 to 1; given["whole"] f32[b h' w' 3] is
            the image, small, of which the source is a part; given["region"] f32[b h w 1] is 1 where alone the source
            gets the style, by the statistics that it has there.
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
            mix = jnp.full((len(x), len(styles)), 1 / len(styles)) if mix is None else mix
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
        """Return the code with a style's statistics; `whole` is the code that it is a part of.

        share: how much each of the whole's places weighs, f32[b h w 1] adding up to 1; all alike if None
        """
        if self.how == "adain":
            return adain(code, moments(style), moments(whole, share=share))
        return colour(whiten(code, whole, share), mean_covariance(style))


class Decoder(nn.Module):
    """code f32[b h w c], sizes of the maps before it, size of the image -> f32[b H W 3].

    widths: channels of the maps, the code's the last; between: convolutions that keep each map's size
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
        for width, times, wish in reversed(levels):
            x = enlarged(nn.relu(conv(x, width)), wish)
            for _ in range(times):
                x = nn.relu(conv(x, width))
        return to_f32(enlarged(conv(x, 3), size))


def enlarged(x: Array, size: Pair) -> Array:
    """Return x [b h w c] with each place repeated, cut to size.

    With blurred pooling a place sees the pixel before it and its own (shift_tolerant.py), and there is one place more:
    what is cut is the first.
    """
    for axis, wish in ((1, size[0]), (2, size[1])):
        x = jnp.repeat(x, -(-wish // x.shape[axis]), axis)
        first = (x.shape[axis] - wish + 1) // 2
        x = jax.lax.slice_in_dim(x, first, first + wish, axis=axis)
    return x


TINY = AdaIN((32, 32, 3), "random", ("relu1_1", "relu2_1", "relu3_1"), (1, 1), learning_rate=1e-3)
SMALL = Run(model=TINY, data=Data("unpaired:shapes,shapes"), steps=20, batch=8, log=Log(every=5), save=Save(every=10))
FULL = Run(model=AdaIN(), data=Data("unpaired:photographs,paintings", crop="random"), steps=160_000, batch=8)
PRESETS = {"adain": Preset(FULL, SMALL, 2_915_139)}
