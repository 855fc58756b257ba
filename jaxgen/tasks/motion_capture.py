"""Motion capture: the rotations of a body's joints, and its place, from the frames of a clip.

The examples are clips of an actor and the motions that they show (`jaxgen.data.actor_clips`). The loss is the angle
between rotations, and the distance of the joints that forward kinematics finds with them. All nets see each frame
through the same small convolutional encoder, and differ in what they do over time.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange
from flax import linen as nn

from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Count, Decay
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Batch, Context, Key, Params, variables
from jaxgen.data.actor_clips import RATE, TURNS, captured_specs
from jaxgen.data.known_skeletons import BODY
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.kinematics import forward
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.precision import to_f32
from jaxgen.nn.rotations import angle_between, matrix_to_six, six_to_matrix
from jaxgen.tasks.motion_prediction import distance
from jaxgen.tasks.supervised import supervised_task

PATCH = 4  # pixels, the side of the encoder's patches
OUTPUTS = 6 * TURNS + 3
START = (0.0, -0.5, -3.2)  # metres from the camera to the pelvis, before training
OFFSETS = np.float32(BODY.offsets * (np.arange(len(BODY)) > 0)[:, None])


@dataclass(frozen=True)
class Capture:
    """Hyper-parameters that all nets of motion capture have."""

    image: tuple[Count, Count, Count] = (64, 64, 3)  # frames: height, width, channels
    frames: Count = 16  # of a clip
    widths: tuple[Count, ...] = (32, 64, 128, 256)  # channels of the encoder: of patches, then of stride-2 convolutions
    features: Count = 256  # of a frame
    place_weight: float = 5.0  # of the distance of joints in metres, beside angles in radians
    root_weight: float = 0.5  # of the distance of the pelvis from where it is
    learning_rate: float = 1e-3
    ema: Decay = 0.999


def capture_task(model: Capture, net: nn.Module) -> Task:
    """Return the task of a net (clip f32[b t h w c], train) -> f32[b t 135]: what `captured` takes."""
    at_least(1, model__frames=model.frames, model__widths=len(model.widths))
    at_least(PATCH, model__image=min(model.image[:2]))
    inputs = {"clip": ArraySpec("video", (model.frames, *model.image), rate=RATE)}
    outputs = captured_specs(model.frames)

    def loss(nets: Any, batch: Batch, context: Context, key: Key):
        del key
        if context.train:
            y, stats = net.apply(nets, batch["clip"], True, mutable=["batch_stats"])
        else:
            y, stats = net.apply(nets, batch["clip"], False), {}
        made = captured(y)  # pyright: ignore[reportArgumentType]
        angle = angle_between(six_to_matrix(made["turns"]), six_to_matrix(batch["turns"])).mean()
        place, root = distance(made["pose"], batch["pose"]), distance(made["root"], batch["root"])
        metrics = {"degrees": angle * (180 / np.pi), "mpjpe": place, "root": root}
        return angle + model.place_weight * place + model.root_weight * root, metrics, stats

    def apply(params: Params, context: Context, given: Batch, keys: Key, scale: float = 1.0) -> dict[str, Array]:
        del keys, scale
        return captured(net.apply(variables("capture", params, context.extra), given["clip"], False))  # pyright: ignore

    transform = Transform(apply, inputs, outputs, subject="clip", whole=True)
    init = (jnp.zeros((1, model.frames, *model.image)), False)
    adam = optax.adam(model.learning_rate)
    return supervised_task(net, init, loss, adam, model.ema, inputs | outputs, transform, "capture")


def captured(y: Array) -> dict[str, Array]:
    """Return pose, turns and root (`captured_specs`) of a net's output f32[b t 135].

    Its first numbers are added to the six numbers of no rotation, its last three to the place before training.
    """
    y = to_f32(y)
    still = np.tile(np.asarray([1, 0, 0, 0, 1, 0], np.float32), TURNS)
    first = jnp.broadcast_to(np.concatenate([still, np.asarray(START, np.float32)]), y.shape)
    turns, root = jnp.split(y + first, [6 * TURNS], -1)
    turned, root = six_to_matrix(rearrange(turns, "b t (j d) -> b t j d", d=6)), root[..., None, :]  # [b t 1 3]
    return {"pose": places_of(turned), "turns": matrix_to_six(turned), "root": root}


def places_of(turned: Array) -> Array:
    """Return the places f32[... j 3] of the body by the rotations f32[... 22 3 3] of its joints, the pelvis at 0."""
    ends = jnp.broadcast_to(jnp.eye(3), (*turned.shape[:-3], len(BODY) - TURNS, 3, 3))
    whole = jnp.concatenate([turned, ends], -3)  # the ends of limbs do not turn
    return forward(whole, jnp.zeros((*turned.shape[:-3], 3)), OFFSETS, BODY.parents)[0]


class FrameEncoder(nn.Module):
    """Frames f32[b t h w c] in [-1, 1] -> features f32[b t features], each frame by itself.

    A linear map of patches of 4x4, then convolutions of 3x3 with stride 2, each with batch normalisation and ReLU, and
    a linear map of all places: small enough to be trained on a CPU.
    """

    widths: tuple[int, ...]
    features: int

    @nn.compact
    def __call__(self, clip: Array, train: bool) -> Array:
        frames = clip.shape[1]
        x = rearrange(clip, "b t h w c -> (b t) h w c")
        for i, width in enumerate(self.widths):
            side, stride, pad = (3, 2, (1, 1)) if i else (PATCH, PATCH, (0, 0))
            x = Conv(width, (side, side), (stride, stride), (pad, pad), use_bias=False, name=f"conv_{i}")(x)
            x = nn.relu(BatchNorm(name=f"norm_{i}")(x, train))
        x = rearrange(x, "n h w c -> n (c h w)")  # the order of PyTorch
        return rearrange(Dense(self.features, name="out")(x), "(b t) c -> b t c", t=frames)


def head(name: str = "head") -> Dense:
    """Return the last layer: features -> the numbers of a pose, small ones before training."""
    return Dense(OUTPUTS, kernel_init=nn.initializers.variance_scaling(0.25, "fan_in", "normal"), name=name)


def row(model: Any, small: Any, parameters: int) -> Preset:
    """Return a preset, and a tiny run."""
    data, optim = Data("actor:takes"), Optim(schedule="cosine", clip=1.0)
    full = Run(model, data=data, steps=50_000, batch=32, optim=optim, log=Log(100, 1000, 8), save=Save(1000))
    tiny = Run(small, data=data, steps=8, batch=8, log=Log(2, 4, 4), save=Save(4))
    return Preset(full, tiny, parameters)


TINY: Any = {"image": (16, 16, 3), "frames": 3, "widths": (4, 8), "features": 8}
