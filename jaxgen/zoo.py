"""The zoo: every preset and the module it is written in. Explicit, and imported only when asked for."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from jaxgen.core.errors import InputError, choose

if TYPE_CHECKING:
    from jaxgen.core.config import Preset

ZOO = {
    "dcgan": "jaxgen.models.gan.dcgan",
    "dcgan-64": "jaxgen.models.gan.dcgan",
    "gan": "jaxgen.models.gan.gan",
    "cgan": "jaxgen.models.gan.cgan",
    "cgan-projection": "jaxgen.models.gan.cgan",
    "acgan": "jaxgen.models.gan.acgan",
    "infogan": "jaxgen.models.gan.infogan",
    "wgan": "jaxgen.models.gan.wgan",
    "wgan-gp": "jaxgen.models.gan.wgan",
    "unrolled": "jaxgen.models.gan.unrolled",
    "sngan": "jaxgen.models.gan.sngan",
    "sngan-projection": "jaxgen.models.gan.sngan",
    "biggan": "jaxgen.models.gan.biggan",
    "stylegan2": "jaxgen.models.gan.stylegan2",
    "stylegan2-ada": "jaxgen.models.gan.stylegan2",
    "stylegan2-cifar": "jaxgen.models.gan.stylegan2",
    "r3gan": "jaxgen.models.gan.r3gan",
    "vae": "jaxgen.models.vae.vae",
    "vae-conv": "jaxgen.models.vae.vae",
    "vae-residual": "jaxgen.models.vae.vae",
    "cvae": "jaxgen.models.vae.cvae",
    "cvae-conv": "jaxgen.models.vae.cvae",
    "beta-vae": "jaxgen.models.vae.beta_vae",
    "iwae": "jaxgen.models.vae.iwae",
    "vae-iaf": "jaxgen.models.vae.iaf",
    "vae-vamp": "jaxgen.models.vae.vamp",
    "vq-vae": "jaxgen.models.vae.vq_vae",
    "vq-vae-residual": "jaxgen.models.vae.vq_vae",
    "vq-vae-finite": "jaxgen.models.vae.vq_vae",
    "vqgan": "jaxgen.models.vae.vqgan",
    "vqgan-64": "jaxgen.models.vae.vqgan",
    "hierarchical": "jaxgen.models.vae.hierarchical",
    "hierarchical-30": "jaxgen.models.vae.hierarchical",
    "autoencoder": "jaxgen.models.vae.autoencoder",
    "autoencoder-conv": "jaxgen.models.vae.autoencoder",
    "autoencoder-denoising": "jaxgen.models.vae.autoencoder",
    "autoencoder-sparse": "jaxgen.models.vae.autoencoder",
    "mae": "jaxgen.models.vae.mae",
    "mae-base": "jaxgen.models.vae.mae",
    "aae": "jaxgen.models.vae.aae",
    "wae-mmd": "jaxgen.models.vae.wae",
    "vae-gan": "jaxgen.models.vae.vae_gan",
    "ddpm": "jaxgen.models.diffusion.ddpm",
    "ddpm-improved": "jaxgen.models.diffusion.ddpm",
    "edm": "jaxgen.models.diffusion.edm",
    "edm-conditional": "jaxgen.models.diffusion.edm",
    "edm2": "jaxgen.models.diffusion.edm2",
    "flow": "jaxgen.models.diffusion.flow",
    "flow-ot": "jaxgen.models.diffusion.flow",
    "sit": "jaxgen.models.diffusion.flow",
    "shortcut": "jaxgen.models.diffusion.shortcut",
    "meanflow": "jaxgen.models.diffusion.meanflow",
    "consistency": "jaxgen.models.diffusion.consistency",
    "vdm": "jaxgen.models.diffusion.vdm",
    "masked": "jaxgen.models.diffusion.masked",
    "dncnn": "jaxgen.models.restoration.dncnn",
    "dncnn-blind": "jaxgen.models.restoration.dncnn",
    "dncnn-colour": "jaxgen.models.restoration.dncnn",
    "dncnn-3": "jaxgen.models.restoration.dncnn",
    "ffdnet": "jaxgen.models.restoration.ffdnet",
    "ffdnet-colour": "jaxgen.models.restoration.ffdnet",
    "nafnet": "jaxgen.models.restoration.nafnet",
    "nafnet-64": "jaxgen.models.restoration.nafnet",
    "restormer": "jaxgen.models.restoration.restormer",
    "unet-denoise": "jaxgen.models.restoration.unet",
    "noise2noise": "jaxgen.models.restoration.noise2noise",
    "noise2void": "jaxgen.models.restoration.noise2void",
    "nafnet-deblur": "jaxgen.models.restoration.enhancement",
    "nafnet-jpeg": "jaxgen.models.restoration.enhancement",
    "nafnet-dehaze": "jaxgen.models.restoration.enhancement",
    "nafnet-low-light": "jaxgen.models.restoration.enhancement",
    "nafnet-colourise": "jaxgen.models.restoration.enhancement",
    "zero-dce": "jaxgen.models.restoration.zero_dce",
    "photo-repair": "jaxgen.models.restoration.photo_repair",
    "partial-conv": "jaxgen.models.restoration.partial_conv",
    "gated-conv": "jaxgen.models.restoration.gated_conv",
    "context-encoder": "jaxgen.models.restoration.context_encoder",
    "completion-vae": "jaxgen.models.restoration.completion_vae",
    "srcnn": "jaxgen.models.super_resolution.srcnn",
    "vdsr": "jaxgen.models.super_resolution.vdsr",
    "espcn": "jaxgen.models.super_resolution.espcn",
    "fsrcnn": "jaxgen.models.super_resolution.fsrcnn",
    "imdn": "jaxgen.models.super_resolution.imdn",
    "edsr": "jaxgen.models.super_resolution.edsr",
    "edsr-full": "jaxgen.models.super_resolution.edsr",
    "rcan": "jaxgen.models.super_resolution.rcan",
    "srresnet": "jaxgen.models.super_resolution.srresnet",
    "rrdb": "jaxgen.models.super_resolution.rrdb",
    "srgan": "jaxgen.models.super_resolution.srgan",
    "esrgan": "jaxgen.models.super_resolution.esrgan",
    "real-esrgan": "jaxgen.models.super_resolution.esrgan",
    "swinir": "jaxgen.models.super_resolution.swinir",
    "swinir-light": "jaxgen.models.super_resolution.swinir",
    "liif": "jaxgen.models.super_resolution.liif",
    "pix2pix": "jaxgen.models.translation.pix2pix",
    "pix2pixhd": "jaxgen.models.translation.pix2pixhd",
    "pix2pixhd-local": "jaxgen.models.translation.pix2pixhd",
    "bicyclegan": "jaxgen.models.translation.bicyclegan",
    "cyclegan": "jaxgen.models.translation.cyclegan",
    "cut": "jaxgen.models.translation.cut",
    "unit": "jaxgen.models.translation.unit",
    "munit": "jaxgen.models.translation.munit",
    "stargan": "jaxgen.models.translation.stargan",
    "stargan-celeba": "jaxgen.models.translation.stargan",
    "fast-style": "jaxgen.models.translation.fast_style",
    "fast-style-many": "jaxgen.models.translation.fast_style",
    "gatys": "jaxgen.models.translation.gatys",
    "adain": "jaxgen.models.translation.adain",
    "harmonisation": "jaxgen.models.translation.harmonisation",
    "lenet5": "jaxgen.models.classifier.lenet",
    "lenet5-1998": "jaxgen.models.classifier.lenet",
    "alexnet": "jaxgen.models.classifier.alexnet",
    "alexnet-2012": "jaxgen.models.classifier.alexnet",
    "vgg11": "jaxgen.models.classifier.vgg",
    "vgg13": "jaxgen.models.classifier.vgg",
    "vgg16": "jaxgen.models.classifier.vgg",
    "vgg19": "jaxgen.models.classifier.vgg",
    "vgg11-bn": "jaxgen.models.classifier.vgg",
    "vgg13-bn": "jaxgen.models.classifier.vgg",
    "vgg16-bn": "jaxgen.models.classifier.vgg",
    "vgg19-bn": "jaxgen.models.classifier.vgg",
    "resnet18": "jaxgen.models.classifier.resnet",
    "resnet34": "jaxgen.models.classifier.resnet",
    "resnet50": "jaxgen.models.classifier.resnet",
    "resnet101": "jaxgen.models.classifier.resnet",
    "resnet152": "jaxgen.models.classifier.resnet",
    "resnet20": "jaxgen.models.classifier.cifar_resnet",
    "resnet32": "jaxgen.models.classifier.cifar_resnet",
    "resnet44": "jaxgen.models.classifier.cifar_resnet",
    "resnet56": "jaxgen.models.classifier.cifar_resnet",
    "resnet110": "jaxgen.models.classifier.cifar_resnet",
    "inception-v3-fid": "jaxgen.models.classifier.inception",
    "efficientnet-lite0": "jaxgen.models.classifier.efficientnet_lite",
    "adm-classifier": "jaxgen.models.classifier.adm",
    "alexnet-shift-tolerant": "jaxgen.models.classifier.shift_tolerant",
    "vgg16-shift-tolerant": "jaxgen.models.classifier.shift_tolerant",
}


def family_of(preset: str) -> str:
    """Return the family of a preset: the folder that its module is in."""
    return ZOO[preset].split(".")[-2]


def family(name: str) -> list[str]:
    """Return the presets of a family, a folder of jaxgen/models; the first is its default."""
    return [preset for preset in ZOO if family_of(preset) == name]


def families() -> list[str]:
    """Return the families, folders of jaxgen/models."""
    return list(dict.fromkeys(map(family_of, ZOO)))


def load(name: str, within: Sequence[str] | None = None) -> "Preset":
    """Return a preset. Raises InputError with the nearest name where there is none of this name."""
    if within is not None and name in ZOO and name not in within:
        raise InputError(f"The preset {name} belongs to another family: python -m train.{family_of(name)}.")
    return module(choose(name, ZOO if within is None else within, "preset")).PRESETS[name]


def module(name: str) -> ModuleType:
    """Return the module that a preset is written in."""
    return importlib.import_module(ZOO[name])
