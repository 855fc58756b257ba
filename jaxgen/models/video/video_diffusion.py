"""Video diffusion: Ho, Salimans, Gritsenko, Chan, Norouzi and Fleet 2022, "Video Diffusion Models".

A diffusion model of clips. The net is a U-Net of frames with attention over time after each attention over pixels
(section 3): convolutions see one frame, attention over time the same pixel in all frames. Three kinds of training and
sampling are those of the image models:

`video-diffusion`       DDPM, with the cosine schedule of the paper; the net predicts v
`video-diffusion-edm`   EDM's noise levels, scaling and sampler
`video-diffusion-flow`  flow matching

With `model.autoencoder`, the run of a video autoencoder, the clips are latents. The paper trains on clips and single
images together, and normalises a clip as a whole; here each frame is normalised for itself.
"""

from dataclasses import dataclass, replace

from jaxgen.core.ranges import Count
from jaxgen.models.diffusion.ddpm import DDPM
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.flow import Flow
from jaxgen.models.video._denoisers import ClipBackbone, row
from jaxgen.tasks.denoising import Sampling
from jaxgen.tasks.video_prediction import Image

WHOLE = property(lambda self: (self.frames, *self.image), doc="The shape of a clip: frames, height, width, channels.")


@dataclass(frozen=True)
class VideoDDPM(DDPM):
    """Hyper-parameters of a DDPM of clips."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    net: ClipBackbone = ClipBackbone()
    schedule: str = "cosine"
    predict: str = "v"
    learning_rate: float = 1e-4  # of Adam

    video = WHOLE


@dataclass(frozen=True)
class VideoEDM(EDM):
    """Hyper-parameters of an EDM of clips."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    net: ClipBackbone = ClipBackbone()
    learning_rate: float = 1e-4  # of Adam

    video = WHOLE


@dataclass(frozen=True)
class VideoFlow(Flow):
    """Hyper-parameters of a flow of clips."""

    frames: Count = 16  # of a clip
    image: Image = (64, 64, 3)  # a frame's height, width, channels
    net: ClipBackbone = ClipBackbone()
    learning_rate: float = 1e-4  # of Adam

    video = WHOLE


def small(model):
    """Return a tiny version of a model."""
    few, net = replace(model.sampling, steps=3), replace(model.net, width=8, depth=1, heads=2)
    tiny = replace(net, multipliers=(1,), attention=(8,))
    return replace(model, frames=3, image=(8, 8, 3), net=tiny, sampling=few, learning_rate=1e-3)


DDPM_MODEL = VideoDDPM(sampling=Sampling("ddim", 50, "time", clip=True))
PRESETS = {
    "video-diffusion": row(DDPM_MODEL, small(DDPM_MODEL), 77_511_555),
    "video-diffusion-edm": row(VideoEDM(), small(VideoEDM()), 77_511_555),
    "video-diffusion-flow": row(VideoFlow(), small(VideoFlow()), 77_511_555),
}
