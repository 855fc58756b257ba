"""python -m jaxgen inspect: how files were made, as far as they say so."""

import json
from typing import Any

from jaxgen.commands.shared import ImageFiles
from jaxgen.core.errors import InputError

LONGEST = 300  # characters of a text that are printed without --json


def inspect_(file: ImageFiles, json: bool = False):
    """Show how images were made, as far as their files say so: by a net or not, by which software, weights and seed.

    It reads the marks of jaxgen and of others: the digital source type in XMP (IPTC), whether there is a C2PA manifest
    (which is not verified), and the texts of a PNG. Anyone can remove or change a mark.

    Args:
        file: image files or folders of images; also a .gif, .mp4, .wav or .npz
        json: print JSON
    """
    from jaxgen.media.inspection import facts
    from jaxgen.media.photo import find

    if not file:
        raise InputError("Name an image, or a folder of images.")
    found, bad = [], []
    for path in [each for given in file for each in find(given)]:
        try:
            found.append(facts(path))
        except InputError as error:
            bad.append(str(error))
    if found:
        print(as_json(found) if json else "\n".join(map(described, found)), flush=True)
    if bad:
        raise InputError("\n".join(bad))


def as_json(found: list[dict[str, Any]]) -> str:
    return json.dumps(found, indent=2)


def described(found: dict[str, Any]) -> str:
    """Return the facts about a file as lines of text."""
    from jaxgen.media.inspection import NO_MARK

    lines, mark = [found["file"]], found["mark"]
    if mark is None and not found["c2pa"]:
        lines.append(f"  {NO_MARK}")
    if mark is not None:
        term = f" ({mark['source']})" if mark["source"] else ""
        lines.append(f"  {mark['meaning'] if mark['source'] else 'no source type'}{term}")
        names = {"software": "software", "preset": "preset", "weights_sha256": "weights", "seed": "seed"}
        lines += [f"  {name}: {mark[key]}" for key, name in names.items() if key in mark]
    if found["c2pa"]:
        lines.append("  a C2PA manifest, which is neither read nor verified")
    lines += [f"  {name}: {text[:LONGEST]}{'...' * (len(text) > LONGEST)}" for name, text in found["text"].items()]
    layout = [found["format"]]
    if about := found["image"]:
        layout += [f"{about['width']}x{about['height']}", f"{about['mode']} of {about['bits']} bits"]
        layout += [f"{about['frames']} frames"] if about["frames"] > 1 else []
        layout.append(f"colour profile {about['icc_profile']}" if about["icc_profile"] else "no colour profile")
        turned = about["orientation"]
        layout.append("upright" if turned == 1 else f"turned by EXIF orientation {turned}")
    return "\n".join([*lines, f"  {', '.join(layout)}"])
