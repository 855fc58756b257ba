"""Latte: Ma, Wang, Jia, Chen, Liu, Li, Chen and Qiao 2024, "Latte: Latent Diffusion Transformer for Video Generation".

A DDPM with learned variances (Nichol and Dhariwal 2021) of the latents of a frozen autoencoder: `model.autoencoder`
names the run of a video autoencoder (train.video --preset video-vae). Without one it models pixels. The net is a
transformer whose layers attend over space and over time in turn (nn/backbones/latte.py). The authors' autoencoder is
one of images, frame by frame.

`latte` is the authors' size S, `latte-xl` XL, both with 2x2 patches.
"""

from dataclasses import dataclass, replace

from jaxgen.models.video._denoisers import ClipBackbone, row
from jaxgen.models.video.video_diffusion import VideoDDPM
from jaxgen.nn.backbones.dit import SIZES
from jaxgen.tasks.denoising import Sampling


@dataclass(frozen=True)
class LatteDDPM(VideoDDPM):
    """Hyper-parameters of a Latte."""

    net: ClipBackbone = ClipBackbone("latte", patch=2, **SIZES["S"])
    schedule: str = "linear"
    predict: str = "eps"
    variance: str = "learned"
    sampling: Sampling = Sampling("ddim", 50, "time")


MODEL = LatteDDPM()
XL = replace(MODEL, net=ClipBackbone("latte", patch=2, **SIZES["XL"]))
FEW = replace(MODEL.sampling, steps=3)
TINY = replace(MODEL, frames=4, image=(8, 8, 3), net=replace(MODEL.net, width=16, depth=2, heads=2), sampling=FEW)
PRESETS = {"latte": row(MODEL, TINY, 32_476_056), "latte-xl": row(XL, TINY, 673_667_736)}
