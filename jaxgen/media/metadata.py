"""Metadata of a photo that its outputs keep: descriptive EXIF tags, colour profile, resolution."""

import contextlib
import math
from typing import Any

from PIL import ExifTags, Image

from jaxgen.data.image_files import ORIENTATION

# Of the first directory only what describes the photo: in a TIFF it also holds the layout of the file.
DESCRIPTION = frozenset(
    {"ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit", "Software", "DateTime"}
    | {"Artist", "HostComputer", "Copyright"}
)
# Of the camera's directory everything but what belongs to the pixels or to positions in the file.
LAYOUT = frozenset(
    {"ComponentsConfiguration", "CompressedBitsPerPixel", "MakerNote", "ExifImageWidth"}
    | {"ExifImageHeight", "ExifInteroperabilityOffset", "FocalPlaneXResolution", "FocalPlaneYResolution"}
    | {"FocalPlaneResolutionUnit", "SubjectLocation"}
)
LONGEST = 65_000  # bytes of EXIF that every format can hold


def extras_of(image: Image.Image) -> dict[str, Any]:
    """Return the metadata of an image: "exif" and "icc_profile" (bytes) and "dpi", where it has them."""
    found = {}
    if profile := image.info.get("icc_profile"):
        # The colours of other modes are converted to sRGB.
        found |= {"icc_profile": profile} if image.mode not in ("CMYK", "LAB") else {}
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = (float(each) for each in image.info.get("dpi", ()))
        if all(math.isfinite(each) and 1 <= each < 65_536 for each in (across, down)):
            found["dpi"] = across, down
    with contextlib.suppress(Exception):  # Pillow raises many kinds on damaged EXIF, which is left out
        if exif := _described(image.getexif()):
            found["exif"] = exif.tobytes()
    return found


def extras_for(kind: str, known: dict[str, Any], size: tuple[int, int], grey: tuple[bool, bool]) -> dict[str, Any]:
    """Return the metadata that a file of a format gets from its encoder; the XMP is written with the mark.

    size: width and height of the output
    grey: whether the photo was grey, and whether the output is
    """
    kept = {name: value for name, value in known.items() if name == "dpi" or (kind != "BMP" and name != "xmp")}
    if grey[0] != grey[1]:
        kept.pop("icc_profile", None)
    if "exif" in kept:
        exif = Image.Exif()
        exif.load(kept["exif"])
        if ExifTags.IFD.Exif in exif:  # asking for a directory that is missing would add an empty one
            camera = exif.get_ifd(ExifTags.IFD.Exif)
            camera[ExifTags.Base.ExifImageWidth], camera[ExifTags.Base.ExifImageHeight] = size
            exif[ExifTags.IFD.Exif] = camera
        kept["exif"] = exif.tobytes()
        if len(kept["exif"]) > LONGEST:
            del kept["exif"]
    return kept


def _described(exif: Image.Exif) -> Image.Exif | None:
    kept = Image.Exif()
    for tag, value in exif.items():
        if ExifTags.TAGS.get(tag) in DESCRIPTION:
            kept[tag] = value
    for which in {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo} & set(exif):
        known = ExifTags.GPSTAGS if which == ExifTags.IFD.GPSInfo else ExifTags.TAGS
        tags = {tag: value for tag, value in exif.get_ifd(which).items() if known.get(tag, "MakerNote") not in LAYOUT}
        if tags:
            kept[which] = tags
    if not kept:
        return None
    kept[ORIENTATION] = 1  # outputs are upright
    return kept
