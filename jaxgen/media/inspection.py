"""Facts about image, video and sound files: how they were made, as far as they say so, and their layout."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from jaxgen.core.errors import InputError
from jaxgen.data import deep_images, image_files
from jaxgen.media import containers, marks, xmp

# Of IPTC's terms; the retired ones are still met.
MEANINGS = {
    marks.DRAWN: "drawn by a trained model, which is generative AI",
    marks.EDITED: "changed by a trained model, which is generative AI",
    marks.COMPOSED_WITH_DRAWN: "composed of several images, at least one of them made by generative AI",
    marks.COMPOSED: "composed of several images, of which any may be made by generative AI",
    "compositeCapture": "composed of several captures of real life",
    "algorithmicMedia": "drawn by a program, not by a trained model",
    "algorithmicallyEnhanced": "changed by a program, not by generative AI",
    "dataDrivenMedia": "drawn from data",
    "digitalCapture": "captured from real life by a camera or recorder",
    "computationalCapture": "captured from real life, merged from several frames",
    "negativeFilm": "digitised from a negative",
    "positiveFilm": "digitised from a positive",
    "print": "digitised from a print",
    "humanEdits": "changed by people, without generative AI",
    "minorHumanEdits": "changed a little by people",
    "digitalCreation": "made by people with digital tools",
    "digitalArt": "made by people with digital tools",
    "virtualRecording": "recorded from virtual scenes",
    "screenCapture": "captured from a screen",
    "softwareImage": "made by software",
}
SOUNDS_AND_VIDEOS = ("WAV", "MP4", "ZIP")  # formats that are not decoded here
NO_MARK = "no mark: nothing is known of how it was made"
OURS = ("jaxgen:Software", "jaxgen:Preset", "jaxgen:WeightsSHA256", "jaxgen:Seed")


def facts(path: Path) -> dict[str, Any]:
    """Return the facts about a file, ready for JSON. Raises InputError if it is none of the known formats.

    mark:  how it was made: "source" (IPTC's term), "meaning", "software", "preset", "weights_sha256", "seed"; or None
    c2pa:  whether it contains a C2PA manifest, which is not verified
    xmp:   its XMP properties of known namespaces; text: the texts of a PNG or GIF, such as "parameters"
    image: "height", "width" (upright), "mode", "bits", "frames", "icc_profile" (its name), "orientation" (EXIF, 1-8)
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file.")
    try:
        with image_files.regular(path) as file:
            kind = containers.kind_of(file)
            packet, c2pa = containers.read_xmp(file), containers.has_c2pa(file)
        if kind not in SOUNDS_AND_VIDEOS:
            with image_files.opened(image_files.read(path)) as image:
                kind, about, texts = image.format or "", _layout(image), _texts(image)
        else:
            about, texts = None, {}
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise InputError(f"{path} can't be read: {image_files.reason(error)}.") from error
    said: dict[str, str] = {}
    with suppress(ValueError):
        said = xmp.texts(packet) if packet else {}
    found = {"file": str(path), "format": "NPZ" if kind == "ZIP" else kind, "mark": _mark(said), "c2pa": c2pa}
    return {**found, "xmp": said, "text": texts, "image": about}


def _mark(said: dict[str, str]) -> dict[str, Any] | None:
    if not (source := said.get(marks.SOURCE, "")) and not any(name in said for name in OURS):
        return None
    term = source.removeprefix(marks.TERMS)
    tool, preset, weights, seed = (said.get(name) for name in OURS)
    found = {
        "source": term,
        "meaning": MEANINGS.get(term, f"as {source} means"),
        "software": tool or said.get("xmp:CreatorTool"),
        "preset": preset,
        "weights_sha256": weights,
        "seed": int(seed) if seed and seed.isdecimal() and len(seed) < 20 else seed,
    }
    return {name: value for name, value in found.items() if value is not None}


def _layout(image: Image.Image) -> dict[str, Any]:
    width, height = image_files.upright_size(image)
    return {
        "height": height,
        "width": width,
        "mode": image.mode,
        "bits": 16 if deep_images.is_deep(image) else 8,
        "frames": getattr(image, "n_frames", 1),
        "icc_profile": _profile(image.info.get("icc_profile")),
        "orientation": _orientation(image),
    }


def _profile(data: bytes | None) -> str | None:
    """Return the name of a colour profile."""
    if not data:
        return None
    with suppress(Exception):  # of a damaged profile
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
    return "damaged"


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # Pillow raises many kinds on damaged EXIF
        return int(image.getexif().get(image_files.ORIENTATION, 1))
    return 1


def _texts(image: Image.Image) -> dict[str, str]:
    """Return an image's texts but its XMP: those of a PNG, the comment of a GIF or JPEG, EXIF's software."""
    found: dict[Any, Any] = {name: value for name, value in image.info.items() if isinstance(value, str)}
    with suppress(Exception):  # texts behind the pixels, which may be damaged
        found |= dict(getattr(image, "text", {}))
    if isinstance(comment := image.info.get("comment"), bytes):
        found["comment"] = comment.decode("utf-8", "replace")
    with suppress(Exception):
        if software := image.getexif().get(305):
            found["EXIF Software"] = str(software)
    return {str(name): str(value) for name, value in found.items() if name not in ("XML:com.adobe.xmp", "compression")}
