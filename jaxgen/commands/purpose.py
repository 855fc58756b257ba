"""Restoration by purpose: `restore photo.jpg --denoise` takes the shipped weights for it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

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
NO_WEIGHTS = "no weights for it ship yet: train some and name them with --with"
FACTORS = (2, 3, 4)  # that weights enlarge by


def option(kind: str, what: str) -> Any:
    """Return the annotation of a purpose's option: what it does, and whether weights for it ship."""
    from jaxgen.pretrained.catalogue import WEIGHTS

    there = (WEIGHTS / f"{kind}.safetensors").is_file()
    return tyro.conf.arg(help=f"{what}, by the shipped weights" if there else f"{what}; {NO_WEIGHTS}")


@dataclass(frozen=True)
class Purpose:
    """The work of the shipped weights, in place of --with; --scale is a purpose as well."""

    denoise: Annotated[bool, option("denoise", "remove noise")] = False
    deblur: Annotated[bool, option("deblur", "remove blur and camera shake")] = False
    dejpeg: Annotated[bool, option("dejpeg", "remove JPEG artefacts")] = False
    lowlight: Annotated[bool, option("lowlight", "brighten a dark photograph")] = False
    dehaze: Annotated[bool, option("dehaze", "remove haze")] = False
    colourise: Annotated[bool, option("colourise", "colour a grey photograph")] = False
    repair: Annotated[bool, option("repair", "remove scratches and stains of an old photograph")] = False
    fill: Annotated[Path | None, option("fill", "fill in the white part of this mask, an image of the same size")] = (
        None
    )

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
        from jaxgen.pretrained import catalogue

        shown = {name: f"--{name} MASK" if name == "fill" else f"--{name}" for name in PRESETS if name != "enlarge"}
        known = ["--scale 4", *(shown[name] for name in shown if catalogue.find(name))]
        raise InputError(
            f"Name what to do: {' or '.join(filter(None, [', '.join(known[:-1]), known[-1]]))}; or a model: --with."
        )
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
