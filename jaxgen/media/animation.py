"""Animations: GIF and MP4 files."""

import math
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.media.marks import Mark, marked

ANIMATIONS = (".gif", ".mp4")


def check_animation(path: Path, fps: int):
    """Raise InputError if `save_animation` can't write a file of this type at this frame rate."""
    suffix = path.suffix.lower()
    if suffix == ".gif" and fps > 50:
        raise InputError(f"A .gif shows at most 50 frames per second, not {fps}: write a .mp4.")
    if suffix == ".mp4" and find_spec("av") is None:
        raise InputError("A .mp4 needs PyAV: pip install 'jaxgen[video]', or write a .gif.")


def save_animation(path: Path, frames: Iterable[np.ndarray], fps: int, mark: Mark | None):
    """Write frames u8[h w] or u8[h w 3] as a .gif that loops forever, or as a .mp4 (H.264), with a mark.

    .gif: all frames share one palette of 256 colours. A frame lasts a whole number of hundredths of a second. Equal
    frames in a row become one longer frame.
    .mp4: an odd side is padded with one white line.
    """
    with marked(path, mark) as part:
        {".gif": _save_gif, ".mp4": _save_mp4}[path.suffix.lower()](part, frames, fps)


def _save_gif(part: Path, frames: Iterable[np.ndarray], fps: int):
    images = [Image.fromarray(frame) for frame in frames]
    if images[0].mode == "RGB":
        some = images[:: math.ceil(len(images) / 16)]
        palette = Image.fromarray(np.concatenate([np.asarray(image) for image in some])).quantize(256)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    images[0].save(
        part, "GIF", save_all=True, append_images=images[1:], duration=10 * round(100 / fps), loop=0, optimize=False
    )


def _save_mp4(part: Path, frames: Iterable[np.ndarray], fps: int):
    import av  # an extra

    with av.open(str(part), "w", format="mp4") as file:
        stream = None
        for frame in frames:
            colour = frame if frame.ndim == 3 else np.stack([frame] * 3, 2)  # [h w 3]
            height, width = colour.shape[:2]
            colour = np.pad(colour, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)  # to even sides
            if stream is None:
                stream = file.add_stream("libx264", rate=fps, options={"crf": "16"})
                stream.height, stream.width, stream.pix_fmt = *colour.shape[:2], "yuv420p"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(colour), format="rgb24")))
        assert stream is not None
        file.mux(stream.encode())
