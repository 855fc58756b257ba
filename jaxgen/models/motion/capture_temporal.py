"""VideoPose3D: Pavllo, Feichtenhofer, Grangier and Auli 2019, "3D Human Pose Estimation in Video with Temporal
Convolutions and Semi-Supervised Training".

Residual blocks of convolutions over time, with dilations that grow by 3, on the features of each frame. The paper's
inputs are key points of the frames, and its output the middle frame; here the inputs are the features of the same
encoder as in the other nets, and every frame has an output: the ends of a clip are repeated.

`capture-temporal`  16 frames of 64x64, 22 joints that turn; each output sees 27 frames
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.ranges import Count
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.nn.conv import Conv
from jaxgen.nn.norm import BatchNorm
from jaxgen.tasks.motion_capture import TINY, Capture, FrameEncoder, capture_task, head, row

SPAN = 3  # frames that a convolution sees


@dataclass(frozen=True)
class CaptureTemporal(Capture):
    """Hyper-parameters of temporal convolutions."""

    width: Count = 256  # channels
    blocks: Count = 2  # with dilations 3, 9, ...

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        return capture_task(self, CaptureTemporalNet(self))


class CaptureTemporalNet(nn.Module):
    """Frames f32[b t h w c] -> numbers of a pose f32[b t 135] of each one. Section 3, figure 2."""

    model: CaptureTemporal

    @nn.compact
    def __call__(self, clip: Array, train: bool) -> Array:
        x = nn.relu(FrameEncoder(self.model.widths, self.model.features, name="encoder")(clip, train))  # [b t c]
        x = nn.relu(BatchNorm(name="expand_bn")(over_time(x, self.model.width, SPAN, 1, "expand_conv"), train))
        for i in range(self.model.blocks):
            y = over_time(x, self.model.width, SPAN, SPAN ** (i + 1), f"layers_conv_{2 * i}")
            y = nn.relu(BatchNorm(name=f"layers_bn_{2 * i}")(y, train))
            y = over_time(y, self.model.width, 1, 1, f"layers_conv_{2 * i + 1}")
            x = x + nn.relu(BatchNorm(name=f"layers_bn_{2 * i + 1}")(y, train))
        return head("shrink")(x)


def over_time(x: Array, width: int, span: int, dilation: int, name: str) -> Array:
    """Return a convolution over the frames of x f32[b t c] -> f32[b t width], the first and last frame repeated."""
    wide = dilation * (span - 1) // 2
    padded = jnp.pad(x, ((0, 0), (wide, wide), (0, 0)), "edge")[:, :, None]  # [b t+2w 1 c]
    made = Conv(width, (span, 1), padding=((0, 0), (0, 0)), dilation=(dilation, 1), use_bias=False, name=name)(padded)
    return made[:, :, 0]


PRESETS = {"capture-temporal": row(CaptureTemporal(), CaptureTemporal(**TINY, width=8, blocks=1), 1_410_119)}
