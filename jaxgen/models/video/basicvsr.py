"""BasicVSR: Chan, Wang, Yu, Dong and Loy 2021, "BasicVSR: The Search for Essential Components in Video Super-Resolution
and Beyond".

Features go through a clip twice, backward from its last frame and forward from its first one. At each frame they are
warped to it by optical flow (SPyNet, _flow_pyramid.py), joined with it and refined by residual blocks. The features of
both directions are fused and enlarged by 4.

The flow net learns slower than the rest, and not at all in the first steps. The authors begin with trained weights of
it: so does `--start-from` with a run of these weights. The loss has pixels in [-1, 1], twice the authors' scale.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.ranges import Count, Decay, Share
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.data.degradations import Degradation
from jaxgen.models.video._flow_pyramid import LEVELS, WIDTHS, FlowPyramid
from jaxgen.nn.backbones.adm_unet import UNIFORM
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import resize
from jaxgen.nn.shuffle import depth_to_space
from jaxgen.nn.warping import warp
from jaxgen.tasks.video_restoration import video_restoration_task

Image = tuple[int, int, int]
SCALE = 4
SMALL_START = nn.initializers.variance_scaling(0.02, "fan_in", "normal")  # He et al.'s, times 0.1


@dataclass(frozen=True)
class BasicVSR:
    """Hyper-parameters of a BasicVSR."""

    image: Image = (256, 256, 3)  # clean frames: height, width, channels
    frames: Count = 15  # of a clip in training
    width: Count = 64  # channels of the features
    depth: Count = 30  # residual blocks of each direction
    flow_levels: Count = LEVELS
    flow_widths: tuple[Count, ...] = WIDTHS
    flow_rate: Share = 0.125  # learning rate of the flow net, of the others' rate
    flow_start: int = 5000  # steps after which the flow net learns
    degradation: Degradation = Degradation()
    learning_rate: float = 2e-4
    ema: Decay = 0.999

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        net = BasicVSRNet(self.width, self.depth, self.flow_levels, self.flow_widths)

        def init(key):
            return net.init(key, jnp.zeros((1, 2, 8, 8, 3)))["params"]

        optimizer = optax.chain(optax.adam(self.learning_rate), slower("spynet", self.flow_rate, self.flow_start))
        return video_restoration_task(self, init, net.apply, optimizer, SCALE)


def slower(part: str, rate: float, start: int) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that multiplies the updates of a part of the net by `rate`, and by 0 before step `start`."""

    def update(updates, state, params=None, **extra):
        del params
        factor = jnp.where(extra["step"] < start, 0.0, rate)
        scaled = lambda path, x: x * factor if any(getattr(key, "key", "") == part for key in path) else x  # noqa: E731
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


class BasicVSRNet(nn.Module):
    """x f32[b t h w 3] in [0, 1] -> f32[b t 4h 4w 3]. Section 3, figure 2."""

    width: int
    depth: int
    levels: int = LEVELS
    widths: tuple[int, ...] = WIDTHS

    def setup(self):
        self.spynet = FlowPyramid(self.levels, self.widths)
        self.backward_trunk, self.forward_trunk = Refiner(self.width, self.depth), Refiner(self.width, self.depth)
        conv = partial(Conv, kernel_init=UNIFORM)
        self.fusion = conv(self.width, (1, 1))
        self.upconv1, self.upconv2 = conv(4 * self.width, (3, 3)), conv(4 * self.width, (3, 3))
        self.conv_hr, self.conv_last = conv(self.width, (3, 3)), conv(3, (3, 3))

    def __call__(self, x: Array) -> Array:
        frames = jnp.moveaxis(x, 1, 0)  # [t b h w 3]
        # Only one frame's features are in memory beside those of the backward pass, whatever the number of frames.
        scan = partial(nn.scan, variable_broadcast="params", split_rngs={"params": False})
        zeros = jnp.zeros((*x[:, 0].shape[:-1], self.width), x.dtype)  # [b h w width]
        _, behind = scan(BasicVSRNet.backward, reverse=True)(self, (zeros, frames[-1]), frames)  # [t b h w width]
        _, made = scan(BasicVSRNet.forward)(self, (zeros, frames[0]), (frames, behind))
        return jnp.moveaxis(made, 0, 1)

    def backward(self, carry: tuple[Array, Array], frame: Array) -> tuple[tuple[Array, Array], Array]:
        features = self.propagated(self.backward_trunk, carry, frame)
        return (features, frame), features

    def forward(self, carry: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        frame, behind = inputs
        features = self.propagated(self.forward_trunk, carry, frame)
        return (features, frame), self.enlarged(jnp.concatenate([behind, features], -1), frame)

    def propagated(self, refiner: nn.Module, carry: tuple[Array, Array], frame: Array) -> Array:
        """Return the features of a frame from those of its neighbour, f32[b h w width]. Equations 5 to 7."""
        features, neighbour = carry
        aligned = warp(features, self.spynet(frame, neighbour))
        made: Any = refiner(jnp.concatenate([frame.astype(features.dtype), aligned], -1))
        return made.astype(features.dtype)

    def enlarged(self, features: Array, frame: Array) -> Array:
        """Return the frame f32[b 4h 4w 3] of the features of both directions f32[b h w 2*width]. Equation 8."""
        y = leaky(self.fusion(features))  # [b h w width]
        y = leaky(depth_to_space(self.upconv1(y), 2))  # [b 2h 2w width]
        y = leaky(depth_to_space(self.upconv2(y), 2))  # [b 4h 4w width]
        y = self.conv_last(leaky(self.conv_hr(y)))
        size = SCALE * frame.shape[1], SCALE * frame.shape[2]
        return resize(frame, size, "bilinear", edges="reflect") + y.astype(frame.dtype)


class Refiner(nn.Module):
    """A convolution and residual blocks, x f32[b h w c] -> f32[b h w width]."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = leaky(Conv(self.width, (3, 3), kernel_init=UNIFORM, name="main_0")(x))
        for i in range(self.depth):
            y = Block(name=f"main_2_{i}")(y)
        return y


class Block(nn.Module):
    """x + W_2 relu(W_1 x), x f32[b h w c] -> f32[b h w c]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = partial(Conv, x.shape[-1], (3, 3), kernel_init=SMALL_START)
        return x + conv(name="conv2")(nn.relu(conv(name="conv1")(x))).astype(x.dtype)


def leaky(x: Array) -> Array:
    return nn.leaky_relu(x, 0.1)


TINY = BasicVSR(
    image=(32, 32, 3), frames=3, width=8, depth=1, flow_levels=2, flow_widths=(8,), flow_start=0, learning_rate=1e-3
)
PRESETS = {
    "basicvsr": Preset(
        Run(
            BasicVSR(),
            data=Data("moving-shapes", crop="patch", flip=True, turn=True),
            steps=300_000,
            batch=8,
            optim=Optim(schedule="cosine"),
            log=Log(100, 5000, 6),
            save=Save(5000),
        ),
        Run(TINY, data=Data("moving-shapes"), steps=8, batch=8, log=Log(2, 4, 3), save=Save(4)),
        6_291_311,
    )
}
