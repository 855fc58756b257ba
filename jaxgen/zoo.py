"""The zoo: every preset and the module it is written in. Explicit, and imported only when asked for."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxgen.errors import choose

if TYPE_CHECKING:
    from jaxgen.config import Preset

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
    "alexnet-shift-tolerant": "jaxgen.models.classifier.shift_tolerant",
    "vgg16-shift-tolerant": "jaxgen.models.classifier.shift_tolerant",
}


def family(name: str) -> list[str]:
    """Return the presets of a family, a folder of jaxgen/models; the first is its default."""
    return [preset for preset, module in ZOO.items() if module.startswith(f"jaxgen.models.{name}.")]


def load(name: str, within: Sequence[str] = tuple(ZOO)) -> "Preset":
    """Return a preset. Raises InputError with the nearest name where there is none of this name."""
    return importlib.import_module(ZOO[choose(name, within, "preset")]).PRESETS[name]
