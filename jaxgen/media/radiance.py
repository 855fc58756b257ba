"""Files of rendered radiance: tone-mapped images, and linear light as .exr or .npy."""

import struct
from pathlib import Path
from typing import Literal

import numpy as np

from jaxgen.media import image_writing, marks

Tone = Literal["clip", "reinhard", "filmic"]
LINEAR = (".exr", ".npy")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", *LINEAR)


def tone_mapped(light: np.ndarray, tone: Tone = "clip", exposure: float = 0.0) -> np.ndarray:
    """Return u8[... 3], encoded as sRGB, of linear radiance f[... 3].

    tone:     clip: radiance above 1 is white; reinhard: L / (1 + L) of the luminance L; filmic: Narkowicz's fit of the
              curve of ACES
    exposure: in stops: the radiance is multiplied by 2 to this power
    """
    x = np.maximum(light.astype(np.float64), 0) * 2.0**exposure
    if tone == "reinhard":
        x = x / (1 + (x @ [0.2126, 0.7152, 0.0722])[..., None])
    if tone == "filmic":
        x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    x = np.clip(x, 0, 1)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return np.round(encoded * 255).astype(np.uint8)


def save_radiance(out: Path, light: np.ndarray, mark: marks.Mark | None, tone: Tone = "clip", exposure: float = 0.0):
    """Write linear radiance f32[h w 3]: as it is to a .exr or .npy, tone-mapped to the files of 8 bits."""
    suffix = out.suffix.lower()
    with marks.marked(out, mark) as part:
        if suffix == ".npy":
            with part.open("wb") as file:
                np.save(file, light.astype(np.float32))
        elif suffix == ".exr":
            part.write_bytes(exr(light))
        else:
            image_writing.save(part, image_writing.KINDS[suffix], tone_mapped(light, tone, exposure), {})


def exr(light: np.ndarray) -> bytes:
    """Return an OpenEXR file of f[h w 3]: 32-bit floats, one part of scan lines, not compressed."""
    height, width, _ = light.shape

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    channels = b"".join(name + b"\0" + struct.pack("<iBxxxii", 2, 0, 1, 1) for name in (b"B", b"G", b"R")) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = (
        struct.pack("<ii", 20000630, 2)
        + attribute("channels", "chlist", channels)
        + attribute("compression", "compression", b"\0")
        + attribute("dataWindow", "box2i", window)
        + attribute("displayWindow", "box2i", window)
        + attribute("lineOrder", "lineOrder", b"\0")
        + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
        + attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
        + attribute("screenWindowWidth", "float", struct.pack("<f", 1))
        + b"\0"
    )
    size = 12 * width  # bytes of a line: all of B, all of G, all of R
    offsets = len(header) + 8 * height + (8 + size) * np.arange(height, dtype=np.uint64)
    planes = light[..., ::-1].transpose(0, 2, 1).astype("<f4")  # [h c w]
    lines = [struct.pack("<ii", y, size) + planes[y].tobytes() for y in range(height)]
    return header + offsets.astype("<u8").tobytes() + b"".join(lines)
