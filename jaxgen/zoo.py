"""The zoo: every preset, its module and what it is for. Explicit; modules are imported only when asked for."""

import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from jaxgen.core.errors import InputError, choose

if TYPE_CHECKING:
    from jaxgen.core.config import Preset

# In the first paragraph of a module's docstring: NAME: AUTHORS YEAR, "TITLE", or NAME: AUTHORS, "TITLE", YEAR.
AUTHORS, YEAR = re.compile(r': (?:after )?([^:"]+?)(?: (?:and )?\d{4}[^,]*)?, "'), re.compile(r"\b(?:1[89]|20)\d\d\b")

ROWS = {  # preset: its module in jaxgen/models, and what it is for
    "dcgan": ("gan.dcgan", "small images; the classic with convolutions"),
    "dcgan-64": ("gan.dcgan", "64x64 images in colour"),
    "gan": ("gan.gan", "digits; the first GAN, two perceptrons"),
    "cgan": ("gan.cgan", "images of a class"),
    "cgan-projection": ("gan.cgan", "images of a class; projection discriminator"),
    "acgan": ("gan.acgan", "images of a class; discriminator that classifies"),
    "infogan": ("gan.infogan", "finds factors such as class and slant itself"),
    "wgan": ("gan.wgan", "small images; Wasserstein distance, clipped weights"),
    "wgan-gp": ("gan.wgan", "small images; Wasserstein distance, gradient penalty"),
    "unrolled": ("gan.unrolled", "against mode collapse: looks updates ahead"),
    "sngan": ("gan.sngan", "32x32 images; spectral normalisation"),
    "sngan-projection": ("gan.sngan", "32x32 images of a class"),
    "biggan": ("gan.biggan", "images of a class, with large batches"),
    "stylegan2": ("gan.stylegan2", "256x256 images; styles can be mixed"),
    "stylegan2-ada": ("gan.stylegan2", "256x256 images from few examples"),
    "stylegan2-cifar": ("gan.stylegan2", "32x32 images from few examples"),
    "r3gan": ("gan.r3gan", "32x32 images; a modern baseline"),
    "vae": ("vae.vae", "digits; latents, likelihoods"),
    "vae-conv": ("vae.vae", "small images, with convolutions"),
    "vae-residual": ("vae.vae", "32x32 images in colour, with residual blocks"),
    "cvae": ("vae.cvae", "digits of a class"),
    "cvae-conv": ("vae.cvae", "images of a class, with convolutions"),
    "beta-vae": ("vae.beta_vae", "disentangled factors, 64x64"),
    "iwae": ("vae.iwae", "a tighter bound of the likelihood"),
    "vae-iaf": ("vae.iaf", "a more flexible posterior"),
    "vae-vamp": ("vae.vamp", "a learned prior, and so good likelihoods"),
    "vq-vae": ("vae.vq_vae", "images as tokens, and samples from a prior"),
    "vq-vae-residual": ("vae.vq_vae", "finer tokens, from several codebooks"),
    "vq-vae-finite": ("vae.vq_vae", "tokens without a codebook"),
    "vqgan": ("vae.vqgan", "sharper images from tokens"),
    "vqgan-64": ("vae.vqgan", "64x64 images from tokens, in colour"),
    "hierarchical": ("vae.hierarchical", "latents of several resolutions"),
    "hierarchical-30": ("vae.hierarchical", "32x32 in colour, 30 layers of latents"),
    "autoencoder": ("vae.autoencoder", "compresses digits to a vector"),
    "autoencoder-conv": ("vae.autoencoder", "compresses small images, with convolutions"),
    "autoencoder-denoising": ("vae.autoencoder", "features that withstand noise"),
    "autoencoder-sparse": ("vae.autoencoder", "features that are seldom active"),
    "mae": ("vae.mae", "features from images with hidden patches"),
    "mae-base": ("vae.mae", "the same at 224x224, for ImageNet"),
    "aae": ("vae.aae", "latents that match a prior, by a discriminator"),
    "wae-mmd": ("vae.wae", "latents that match a prior, by a kernel distance"),
    "vae-gan": ("vae.vae_gan", "sharper reconstructions, by a discriminator"),
    "ddpm": ("diffusion.ddpm", "the classic diffusion model"),
    "ddpm-improved": ("diffusion.ddpm", "learned variances, cosine schedule"),
    "edm": ("diffusion.edm", "diffusion with few sampling steps"),
    "edm-conditional": ("diffusion.edm", "diffusion for images of a class"),
    "edm2": ("diffusion.edm2", "diffusion; weights and features keep their size"),
    "flow": ("diffusion.flow", "flow matching: straight paths, simple loss"),
    "flow-ot": ("diffusion.flow", "flow matching, with straighter paths"),
    "sit": ("diffusion.flow", "flow matching with a transformer"),
    "shortcut": ("diffusion.shortcut", "one net for any number of steps, also one"),
    "meanflow": ("diffusion.meanflow", "images in one step"),
    "consistency": ("diffusion.consistency", "images in one or a few steps"),
    "vdm": ("diffusion.vdm", "diffusion for likelihoods"),
    "masked": ("diffusion.masked", "tokens that are revealed in any order"),
    "text-flow": ("text_to_image.text_flow", "images of what a text says, by flow matching"),
    "pixelcnn": ("autoregressive.pixelcnn", "small images, pixel by pixel; the first one"),
    "pixelcnn-gated": ("autoregressive.gated_pixelcnn", "small images, pixel by pixel; no blind spot"),
    "pixelcnn-dilated": ("autoregressive.gated_pixelcnn", "digits; published weights"),
    "pixelcnn-plus": ("autoregressive.pixelcnn_plus", "32x32 images in colour; large"),
    "made": ("autoregressive.made", "black and white images, by a perceptron"),
    "realnvp": ("normalising_flow.realnvp", "small images; exact latents and likelihoods"),
    "realnvp-mnist": ("normalising_flow.realnvp_mnist", "digits; published weights"),
    "realnvp-mnist-vardeq": ("normalising_flow.realnvp_mnist", "digits; noise is learned; published weights"),
    "glow": ("normalising_flow.glow", "32x32 images in colour; large"),
    "dncnn": ("restoration.dncnn", "removes noise of one level, grey"),
    "dncnn-blind": ("restoration.dncnn", "removes noise of any level, grey"),
    "dncnn-colour": ("restoration.dncnn", "removes noise of any level, colour"),
    "dncnn-3": ("restoration.dncnn", "removes noise or JPEG artefacts, or enlarges"),
    "ffdnet": ("restoration.ffdnet", "removes noise of a known level, grey"),
    "ffdnet-colour": ("restoration.ffdnet", "removes noise of a known level, colour"),
    "nafnet": ("restoration.nafnet", "removes noise, colour; strong and fast"),
    "nafnet-64": ("restoration.nafnet", "the same, four times as large"),
    "restormer": ("restoration.restormer", "removes noise, colour; a transformer"),
    "unet-denoise": ("restoration.unet", "removes noise, colour; small"),
    "noise2noise": ("restoration.noise2noise", "removes noise; learns from pairs of noisy images"),
    "noise2void": ("restoration.noise2void", "removes noise; learns from single noisy images"),
    "nafnet-deblur": ("restoration.enhancement", "removes blur and camera shake"),
    "nafnet-jpeg": ("restoration.enhancement", "removes JPEG artefacts"),
    "nafnet-dehaze": ("restoration.enhancement", "removes haze"),
    "nafnet-low-light": ("restoration.enhancement", "brightens dark photographs"),
    "nafnet-colourise": ("restoration.enhancement", "colours grey photographs"),
    "zero-dce": ("restoration.zero_dce", "brightens; learns without bright images"),
    "photo-repair": ("restoration.photo_repair", "removes scratches and stains of old photographs"),
    "partial-conv": ("restoration.partial_conv", "fills in holes"),
    "gated-conv": ("restoration.gated_conv", "fills in holes; sharper"),
    "context-encoder": ("restoration.context_encoder", "fills in holes; two discriminators"),
    "completion-vae": ("restoration.completion_vae", "fills in holes in several ways"),
    "srcnn": ("super_resolution.srcnn", "enlarges; the first net for it"),
    "vdsr": ("super_resolution.vdsr", "enlarges by 2, 3 and 4 with one net"),
    "espcn": ("super_resolution.espcn", "enlarges fast, in real time"),
    "fsrcnn": ("super_resolution.fsrcnn", "enlarges fast; the smallest net"),
    "imdn": ("super_resolution.imdn", "enlarges well and fast"),
    "span": ("super_resolution.span", "enlarges well and very fast"),
    "span-52": ("super_resolution.span", "the same, a little larger"),
    "carn": ("super_resolution.carn", "enlarges by 2, 3 and 4, fast, with one net"),
    "carn-m": ("super_resolution.carn", "the same, smaller and faster"),
    "srvgg": ("super_resolution.srvgg", "enlarges damaged photographs by 4, fast"),
    "srvgg-16": ("super_resolution.srvgg", "the same, smaller, for films"),
    "edsr": ("super_resolution.edsr", "enlarges well"),
    "edsr-full": ("super_resolution.edsr", "enlarges very well; large"),
    "rcan": ("super_resolution.rcan", "enlarges very well; deep, with attention"),
    "srresnet": ("super_resolution.srresnet", "enlarges by 4; the generator of srgan"),
    "rrdb": ("super_resolution.rrdb", "enlarges by 4; the generator of esrgan"),
    "rrdb-6": ("super_resolution.rrdb", "enlarges by 4; smaller, for drawings"),
    "srgan": ("super_resolution.srgan", "enlarges by 4 with invented detail"),
    "esrgan": ("super_resolution.esrgan", "enlarges by 4 with sharper detail"),
    "real-esrgan": ("super_resolution.esrgan", "enlarges damaged photographs by 4"),
    "swinir": ("super_resolution.swinir", "enlarges very well; a large transformer"),
    "swinir-light": ("super_resolution.swinir", "enlarges very well; a small transformer"),
    "liif": ("super_resolution.liif", "enlarges by any factor"),
    "pix2pix": ("translation.pix2pix", "translates images; learns from pairs"),
    "pix2pixhd": ("translation.pix2pixhd", "translates 1024x512 images; learns from pairs"),
    "pix2pixhd-local": ("translation.pix2pixhd", "translates 2048x1024 images"),
    "bicyclegan": ("translation.bicyclegan", "translates in several ways; learns from pairs"),
    "cyclegan": ("translation.cyclegan", "translates both ways, without pairs"),
    "cut": ("translation.cut", "translates one way, without pairs; lighter"),
    "unit": ("translation.unit", "translates both ways, by a shared latent space"),
    "munit": ("translation.munit", "translates in several ways, without pairs"),
    "stargan": ("translation.stargan", "translates between many classes"),
    "stargan-celeba": ("translation.stargan", "changes attributes of faces"),
    "fast-style": ("translation.fast_style", "one painter's style, in one pass"),
    "fast-style-many": ("translation.fast_style", "several styles in one net"),
    "gatys": ("translation.gatys", "any style, by optimising the image"),
    "adain": ("translation.adain", "any style, in one pass"),
    "harmonisation": ("translation.harmonisation", "fits the colours of a pasted part"),
    "convlstm": ("video.convlstm", "predicts frames; the classic recurrent net"),
    "predrnn": ("video.predrnn", "predicts frames; recurrent, two memories"),
    "predrnn-plus": ("video.predrnn_plus", "predicts frames; recurrent, with a highway"),
    "phydnet": ("video.phydnet", "predicts frames; a physical and a free part"),
    "simvp": ("video.simvp", "predicts frames; convolutions alone, fast"),
    "simvp-gsta": ("video.simvp", "predicts frames; better, large kernels"),
    "simvp-convmixer": ("video.simvp", "predicts frames; small"),
    "tau": ("video.tau", "predicts frames; attention over time"),
    "vgan": ("video.vgan", "clips; a still background, a moving foreground"),
    "mocogan": ("video.mocogan", "clips; content and motion apart"),
    "mocogan-labels": ("video.mocogan", "clips of a labelled motion"),
    "video-diffusion": ("video.video_diffusion", "clips; the classic diffusion model"),
    "video-diffusion-edm": ("video.video_diffusion", "clips, with few sampling steps"),
    "video-diffusion-flow": ("video.video_diffusion", "clips, by flow matching"),
    "latte": ("video.latte", "clips; a transformer on a frozen autoencoder"),
    "latte-xl": ("video.latte", "the same, in the largest size"),
    "mcvd": ("video.mcvd", "predicts, interpolates and generates frames"),
    "svg-lp": ("video.svg_lp", "predicts frames; many futures, by a learned prior"),
    "video-vae": ("video.video_vae", "compresses clips to a map of latents"),
    "videogpt": ("video.videogpt", "clips as tokens, drawn one after the other"),
    "stylegan-v": ("video.stylegan_v", "clips in continuous time, on StyleGAN2"),
    "spynet": ("video.spynet", "optical flow of two frames"),
    "rife": ("video.rife", "the frame between two frames, fast"),
    "basicvsr": ("video.basicvsr", "enlarges videos by 4, from all frames"),
    "action-net": ("video.action_net", "tells what happens in a clip; features for fvd"),
    "capture-lstm": ("motion.capture_lstm", "captures a motion from a clip; CNN and LSTM"),
    "capture-frame": ("motion.capture_frame", "captures a motion from a clip, each frame by itself"),
    "capture-temporal": ("motion.capture_temporal", "captures a motion from a clip; convolutions over time"),
    "capture-transformer": ("motion.capture_transformer", "captures a motion from a clip; attention over time"),
    "residual-gru": ("motion.residual_gru", "predicts poses; the classic recurrent net"),
    "ltd": ("motion.ltd", "predicts poses; waves over time, a graph of joints"),
    "simlpe": ("motion.simlpe", "predicts poses; linear layers alone, small"),
    "simlpe-cmu": ("motion.simlpe", "the same, for the CMU split"),
    "motion-vae": ("motion.motion_vae", "clips of an action; a transformer VAE"),
    "mdm": ("motion.mdm", "clips of an action; diffusion"),
    "acrnn": ("motion.acrnn", "goes on with a motion for ever; recurrent"),
    "mvae": ("motion.mvae", "motions drawn frame by frame; a VAE of experts"),
    "action-gru": ("motion.action_gru", "tells the action of a clip; judges generated ones"),
    "wavenet": ("audio.wavenet", "sounds, sample by sample"),
    "wavenet-digits": ("audio.wavenet", "spoken digits; small, for 8 kHz"),
    "wavenet-vocoder": ("audio.vocoder", "sounds from mel spectrograms"),
    "spectrogram-flow": ("audio.spectrogram_flow", "sounds by their spectrograms"),
    "nerf": ("rendering.nerf", "views of a scene; the classic radiance field"),
    "hash-grid": ("rendering.hash_grid", "views of a scene; fast"),
    "lenet5": ("classifier.lenet", "classifies digits"),
    "lenet5-1998": ("classifier.lenet", "classifies digits, as in the paper"),
    "alexnet": ("classifier.alexnet", "classifies ImageNet; one column"),
    "alexnet-2012": ("classifier.alexnet", "classifies ImageNet, as in the paper"),
    "vgg11": ("classifier.vgg", "classifies ImageNet; features for style"),
    "vgg13": ("classifier.vgg", "classifies ImageNet; features for style"),
    "vgg16": ("classifier.vgg", "classifies ImageNet; features for style"),
    "vgg19": ("classifier.vgg", "classifies ImageNet; features for style"),
    "vgg11-bn": ("classifier.vgg", "VGG with batch norm"),
    "vgg13-bn": ("classifier.vgg", "VGG with batch norm"),
    "vgg16-bn": ("classifier.vgg", "VGG with batch norm"),
    "vgg19-bn": ("classifier.vgg", "VGG with batch norm"),
    "resnet18": ("classifier.resnet", "classifies ImageNet; small"),
    "resnet34": ("classifier.resnet", "classifies ImageNet"),
    "resnet50": ("classifier.resnet", "classifies ImageNet; the usual choice"),
    "resnet101": ("classifier.resnet", "classifies ImageNet; deep"),
    "resnet152": ("classifier.resnet", "classifies ImageNet; deeper"),
    "resnet20": ("classifier.cifar_resnet", "classifies CIFAR-10; small"),
    "resnet32": ("classifier.cifar_resnet", "classifies CIFAR-10"),
    "resnet44": ("classifier.cifar_resnet", "classifies CIFAR-10"),
    "resnet56": ("classifier.cifar_resnet", "classifies CIFAR-10"),
    "resnet110": ("classifier.cifar_resnet", "classifies CIFAR-10; deep"),
    "inception-v3-fid": ("classifier.inception", "the features of FID"),
    "efficientnet-lite0": ("classifier.efficientnet_lite", "features in colour, for scores"),
    "adm-classifier": ("classifier.adm", "guides diffusion models to a class"),
    "alexnet-shift-tolerant": ("classifier.shift_tolerant", "a perceptual distance, ST-LPIPS"),
    "vgg16-shift-tolerant": ("classifier.shift_tolerant", "features for style; ST-LPIPS"),
}
ZOO = {preset: f"jaxgen.models.{name}" for preset, (name, _) in ROWS.items()}


def family_of(preset: str) -> str:
    """Return the family of a preset: the folder that its module is in."""
    return ZOO[preset].split(".")[-2]


def family(name: str) -> list[str]:
    """Return the presets of a family, a folder of jaxgen/models; the first is its default."""
    return [preset for preset in ZOO if family_of(preset) == name]


def families() -> list[str]:
    """Return the families, folders of jaxgen/models."""
    return list(dict.fromkeys(map(family_of, ZOO)))


def use_of(preset: str) -> str:
    """Return what a preset is for, in a few words."""
    return ROWS[preset][1]


def about(family: str) -> str:
    """Return what a family is, in a line: the docstring of its folder."""
    return (importlib.import_module(f"jaxgen.models.{family}").__doc__ or "").strip()


def load(name: str, within: Sequence[str] | None = None) -> "Preset":
    """Return a preset. Raises InputError with the nearest name where there is none of this name."""
    if within is not None and name in ZOO and name not in within:
        raise InputError(f"The preset {name} belongs to another family: python -m train.{family_of(name)}.")
    return module(choose(name, ZOO if within is None else within, "preset")).PRESETS[name]


def module(name: str) -> ModuleType:
    """Return the module that a preset is written in."""
    return importlib.import_module(ZOO[name])


def paper(preset: str) -> str:
    """Return the authors and the year of the paper that a preset implements, by the docstring of its module."""
    text = " ".join((module(preset).__doc__ or "").partition("\n\n")[0].split())
    authors, year = AUTHORS.search(text), YEAR.search(text)
    if not authors or not year:
        raise ValueError(f'{ZOO[preset]}: the docstring must begin: NAME: AUTHORS, "TITLE", YEAR.')
    names = re.split(r", | and ", authors[1])
    return f"{names[0]} et al. {year[0]}" if len(names) > 2 else f"{authors[1]} {year[0]}"
