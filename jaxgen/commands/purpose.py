"""Restoration by purpose: `restore photo.jpg --denoise` takes the shipped weights for it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jaxgen.core.errors import InputError

PRESETS = {  # the preset to train for a purpose, where no weights ship
    "enlarge": "imdn",
    "denoise": "nafnet",
    "deblur": "nafnet-deblur",
    "dejpeg": "nafnet-jpeg",
    "lowlight": "nafnet-low-light",
    "dehaze": "nafnet-dehaze",
    "colourise": "nafnet-colourise",
    "repair": "photo-repair",
    "fill": "gated-conv",
}
DONE = {  # what an image is afterwards, the end of its file's name; "restored" where --with names the model
    "enlarge": "enlarged",
    "denoise": "denoised",
    "deblur": "deblurred",
    "dejpeg": "dejpegged",
    "lowlight": "brightened",
    "dehaze": "dehazed",
    "colourise": "colourised",
    "repair": "repaired",
    "fill": "filled",
}
FACTORS = (2, 3, 4)  # that weights enlarge by


@dataclass(frozen=True)
class Purpose:
    """The work of the shipped weights, in place of --with; --scale is a purpose as well."""

    denoise: bool = False
    """remove noise, by the shipped weights"""
    deblur: bool = False
    """remove blur and camera shake, by the shipped weights"""
    dejpeg: bool = False
    """remove JPEG artefacts, by the shipped weights"""
    lowlight: bool = False
    """brighten a dark photograph, by the shipped weights"""
    dehaze: bool = False
    """remove haze, by the shipped weights"""
    colourise: bool = False
    """colour a grey photograph, by the shipped weights"""
    repair: bool = False
    """remove scratches and stains of an old photograph, by the shipped weights"""
    fill: Path | None = None
    """fill in the white part of this mask, an image of the same size, by the shipped weights"""

    @property
    def names(self) -> list[str]:
        """The purposes that are asked for."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name)]


NONE = Purpose()


def resolved(purpose: Purpose, with_: str, scale: float | None, mask: Path | None) -> tuple[str, Path | None, str]:
    """Return the model to take, the mask, and what the image is afterwards: "denoised", "enlarged-x4", "restored".

    Raises InputError where no shipped weights do what is asked for.
    """
    if purpose.fill and mask:
        raise InputError("--fill names the mask: leave out --mask.")
    if with_:
        if other := [name for name in purpose.names if name != "fill"]:
            raise InputError(f"--{other[0]} takes the shipped weights, and --with names others: leave out one of them.")
        return with_, purpose.fill or mask, "restored"
    if mask:
        raise InputError(f"--mask is for --with: write --fill {mask}.")
    enlarges = scale is not None and scale != 1
    asked = [*(f"--{name}" for name in purpose.names), *([f"--scale {scale:g}"] if enlarges else [])]
    if not asked:
        known = ", ".join(f"--{name}" for name in PRESETS if name not in ("enlarge", "fill"))
        raise InputError(f"Name what to do: --scale 4, {known} or --fill MASK; or a model: --with.")
    if len(asked) > 1:
        raise InputError(f"No model does {' and '.join(asked)} at once: run restore once for each.")
    if enlarges and scale not in FACTORS:
        raise InputError(
            f"The shipped weights enlarge by 2, 3 or 4, not by {scale:g}: write --with bicubic or another."
        )
    from jaxgen.pretrained import catalogue

    kind = "enlarge" if enlarges else purpose.names[0]
    name = f"enlarge-x{scale:g}" if enlarges else kind
    if catalogue.find(name) is None:
        raise InputError(
            f"No weights for {asked[0]} ship with this version: train some (preset {PRESETS[kind]}) and name the run "
            f"with --with{instead(kind, scale)}."
        )
    return name, purpose.fill, f"{DONE[kind]}-x{scale:g}" if enlarges else DONE[kind]


def instead(kind: str, scale: float | None) -> str:
    """Return what there is in place of shipped weights, as the end of a sentence: published ones, or no net."""
    from jaxgen.pretrained import catalogue

    name = {"enlarge": f"imdn-x{scale:g}" if scale else "", "fill": "deep-image-prior"}.get(kind, "")
    known = name == "deep-image-prior" or (name and catalogue.find(name))
    return f", or write --with {name}" if known else ""
