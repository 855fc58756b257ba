"""Temporal transformer: after Zheng, Zhu, Mendieta, Yang, Chen and Ding 2021, "3D Human Pose Estimation with Spatial
and Temporal Transformers".

Each frame is a token; self-attention over all frames of the clip. It is the paper's temporal part on the features of a
frame: the spatial part, over key points, is the encoder's.

`capture-transformer`  16 frames of 64x64, 22 joints that turn
"""

from dataclasses import dataclass

from flax import linen as nn

from jaxgen.core.errors import InputError
from jaxgen.core.ranges import Count
from jaxgen.core.task import Task
from jaxgen.core.types import Array
from jaxgen.nn.transformer import Layer, layer_norm, stack_layers
from jaxgen.tasks.motion_capture import TINY, Capture, FrameEncoder, capture_task, head, row


@dataclass(frozen=True)
class CaptureTransformer(Capture):
    """Hyper-parameters of a temporal transformer. Its width is that of the encoder's features."""

    depth: Count = 4  # layers
    heads: Count = 4

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        if self.features % self.heads:
            raise InputError(f"model.features, {self.features}, must be a multiple of model.heads, {self.heads}.")
        return capture_task(self, CaptureTransformerNet(self))


class CaptureTransformerNet(nn.Module):
    """Frames f32[b t h w c] -> numbers of a pose f32[b t 135] of each one. Section 3.2."""

    model: CaptureTransformer

    @nn.compact
    def __call__(self, clip: Array, train: bool) -> Array:
        x = FrameEncoder(self.model.widths, self.model.features, name="encoder")(clip, train)  # [b t c]
        places = self.param("pos_embed", nn.initializers.normal(0.02), (clip.shape[1], self.model.features))
        x = stack_layers(Layer(self.model.heads, name="blocks"), self.model.depth, x + places.astype(x.dtype)[None])
        return head()(layer_norm("norm")(x))


PRESETS = {"capture-transformer": row(CaptureTransformer(), CaptureTransformer(**TINY, depth=2, heads=2), 3_850_311)}
