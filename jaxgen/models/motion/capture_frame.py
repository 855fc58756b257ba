"""Frame-only capture: after Tekin, Katircioglu, Salzmann, Lepetit and Fua 2016, "Structured Prediction of 3D Human Pose
with Deep Neural Networks": a convolutional net regresses the pose of each frame by itself.

Poses are rotations of joints and a place in place of the paper's coordinates. It is the measure for the nets that look
at the frames before and after.

`capture-frame`  16 frames of 64x64, 22 joints that turn
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.nn.conv import Dense
from jaxgen.tasks.motion_capture import TINY, Capture, FrameEncoder, capture_task, head, row


@dataclass(frozen=True)
class CaptureFrame(Capture):
    """Hyper-parameters of a frame-only net."""

    hidden: int = 512  # features of the layer behind the encoder

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        return capture_task(self, CaptureFrameNet(self))


class CaptureFrameNet(nn.Module):
    """Frames f32[b t h w c] -> numbers of a pose f32[b t 135] of each one."""

    model: CaptureFrame

    @nn.compact
    def __call__(self, clip: Array, train: bool) -> Array:
        x = nn.relu(FrameEncoder(self.model.widths, self.model.features, name="encoder")(clip, train))  # [b t c]
        return head()(nn.relu(Dense(self.model.hidden, name="hidden")(x)))


PRESETS = {"capture-frame": row(CaptureFrame(), CaptureFrame(**TINY, hidden=8), 852_807)}
