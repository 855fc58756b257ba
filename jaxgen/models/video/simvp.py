"""SimVP: Gao, Tan, Wu and Li 2022, "SimVP: Simpler yet Better Video Prediction".

An encoder of convolutions turns each frame into features, a translator maps the features of all frames to those of the
next ones, and a decoder turns these into frames. Nothing is recurrent. Sizes, initial values and names are those of the
authors' OpenSTL (Tan et al. 2023), whose 200 epochs on Moving-MNIST the presets have.

`simvp`            the translator of the paper, inception blocks in a U-Net (IncepU)
`simvp-gsta`       gated attention by large kernels: Tan et al. 2022, "SimVP: Towards Simple yet Powerful Spatiotemporal
                   Predictive Learning"
`simvp-convmixer`  depthwise convolutions, by far the smallest

A net maps t frames to t frames. Fewer are cut off, more are predicted from its own predictions. Stochastic depth is
off, as in OpenSTL's settings. The schedule is a cosine, not one cycle.
"""

from dataclasses import dataclass, replace
from typing import Literal

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from jaxgen.core.config import Preset
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Context, Key
from jaxgen.interop.weight_names import renamed
from jaxgen.models.video._translators import GROUPS, Inception, Meta
from jaxgen.nn.backbones.adm_unet import UNIFORM, GroupNorm
from jaxgen.nn.conv import Conv
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.tasks.video_prediction import Image, extended, mean_squared, prediction_task, row

SMALL_START = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class SimVP:
    """Hyper-parameters of a SimVP."""

    image: Image = (64, 64, 1)  # frames: height, width, channels
    past: Count = 10  # frames that are given
    future: Count = 10  # frames that are predicted
    width: Count = 64  # channels of a frame's features
    stages: Count = 4  # convolutions of the encoder and of the decoder; every second one halves or doubles the size
    translator: Literal["inception", "gsta", "tau", "convmixer"] = "inception"
    hidden: Count = 512  # channels of the translator
    depth: Count = 8  # its blocks
    learning_rate: float = 1e-3
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        return simvp_task(self, mean_squared)


def simvp_task(model, distance) -> Task:
    """Return the task of a SimVP. Raises InputError.

    distance: (predicted, true) f32[b t h w c] -> f32[]
    """
    at_least(2, model__depth=model.depth)
    multiple = 2 ** (model.stages // 2)
    if model.image[0] % multiple or model.image[1] % multiple:
        raise InputError(f"model.image: both sides must be multiples of {multiple}, not {model.image[:2]}.")
    if model.width % 2:
        raise InputError(f"model.width must be even, not {model.width}: the channels are normalised in two groups.")
    inception = model.translator == "inception"
    if inception and (model.past * model.width % GROUPS or model.hidden % (2 * GROUPS)):
        raise InputError(
            f"model.past * model.width must be a multiple of {GROUPS}, not {model.past} * {model.width}, and "
            f"model.hidden one of {2 * GROUPS}, not {model.hidden}: the translator's convolutions have {GROUPS} groups."
        )
    hid = Inception(model.hidden, model.depth) if inception else Meta(model.translator, model.hidden, model.depth)
    net = SimVPNet(model.width, model.stages, hid, model.image[2])

    def predict(nets, past: Array) -> Array:
        return extended(lambda x: net.apply(nets, x), past, model.future)  # pyright: ignore

    def loss(nets, clip: Array, context: Context, key: Key):
        del key
        past, future = clip[:, : model.past], clip[:, model.past :]
        if model.future > model.past:  # the running statistics are those of the first part
            made, stats = predict(nets, past), {}
        else:
            made, stats = net.apply(nets, past, context.train, mutable=["batch_stats"])
        return distance(made[:, : model.future], future), stats  # pyright: ignore

    return prediction_task(model, net, predict, loss, (jnp.zeros((1, model.past, *model.image)),))


class SimVPNet(nn.Module):
    """x f32[b t h w channels] in [0, 1] -> the t next frames. Section 3.2, figure 2."""

    width: int
    stages: int
    hid: nn.Module  # the translator
    channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        frames, kept = x.shape[1], []
        y = rearrange(x, "b t h w c -> (b t) h w c")
        for i in range(self.stages):
            y = Stage(self.width, down=i % 2 == 1, name=f"enc_enc_{i}")(y)  # [b*t h/2^(i//2+1) w/2^(i//2+1) width]
            kept.append(y)
        y = self.hid(rearrange(y, "(b t) h w c -> b h w (t c)", t=frames), train)
        y = rearrange(y, "b h w (t c) -> (b t) h w c", t=frames)
        for i in reversed(range(self.stages)):
            y = y if i else y + kept[0]
            y = Stage(self.width, up=i % 2 == 1, name=f"dec_dec_{self.stages - 1 - i}")(y)
        y = Conv(self.channels, (1, 1), kernel_init=UNIFORM, name="dec_readout")(y)
        return rearrange(y, "(b t) h w c -> b t h w c", t=frames)


class Stage(nn.Module):
    """A convolution that may halve or double the size, its norm and SiLU, x f32[b h w c] -> f32[b h' w' width]."""

    width: int
    down: bool = False
    up: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        strides, name = ((2, 2), "conv") if self.down else ((1, 1), "conv_0" if self.up else "conv")
        features, pads = self.width * (4 if self.up else 1), ((1, 1), (1, 1))
        y = Conv(features, (3, 3), strides, pads, kernel_init=SMALL_START, name=name)(x)
        y = depth_to_space(y, 2) if self.up else y
        return nn.silu(GroupNorm(2, name="norm")(y))


# enc_enc_0/conv is theirs enc.enc.0.conv.conv, hid/enc_0/layers_1_conv is hid.enc.0.layers.1.conv.
WEIGHT_NAMES = renamed(
    (r"^(enc|dec)_(\w+)\.(\d+)\.", r"\1.\2.\3.conv."),
    (r"^dec_readout", "dec.readout"),
    (r"layers\.(\d+)_", r"layers.\1."),
    (r"(proj|block\.norm)\.(\d)", r"\1_\2"),
    (r"dwconv_dwconv", "dwconv.dwconv"),
)
TINY = SimVP(image=(16, 16, 1), past=2, future=3, width=4, stages=2, hidden=16, depth=2)


def preset(translator, parameters: int, learning_rate: float = 1e-3) -> Preset:
    change = {"translator": translator, "learning_rate": learning_rate}
    return row(replace(SimVP(), **change), replace(TINY, **change), parameters)


PRESETS = {
    "simvp": preset("inception", 57_946_113),
    "simvp-gsta": preset("gsta", 46_769_665),
    "simvp-convmixer": preset("convmixer", 3_919_361, 1e-2),
}
