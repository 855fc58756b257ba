"""Animations and videos: GIF, animated PNG, MP4, WebM and lossless Matroska files, and strips of frames."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data.video_files import HD
from jaxgen.media.marks import Mark, marked


class Encoding(NamedTuple):
    """A file that FFmpeg writes: container, encoder, pixel format, multiple of the sides, and options."""

    container: str
    codec: str
    pixels: str
    multiple: int
    options: dict[str, str]


ENCODINGS = {
    ".mp4": Encoding("mp4", "libx264", "yuv420p", 2, {"crf": "16"}),
    ".webm": Encoding("webm", "libvpx-vp9", "yuv420p", 2, {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4"}),
    ".mkv": Encoding("matroska", "ffv1", "bgr0", 1, {"level": "3"}),  # keeps each value
}
STILLS = (".gif", ".apng")  # that Pillow writes
ANIMATIONS = (*STILLS, *ENCODINGS)
BT709, BT601, NARROW = 1, 6, 1  # FFmpeg's numbers of colour spaces, and of the range 16 to 235


def check_animation(path: Path, fps: int | Fraction):
    """Raise InputError if `save_animation` can't write a file of this type at this frame rate."""
    suffix = path.suffix.lower()
    if suffix == ".gif" and fps > 50:
        raise InputError(f"A .gif shows at most 50 frames per second, not {float(fps):.4g}: write a .mp4.")
    if suffix in ENCODINGS:
        if find_spec("av") is None:
            raise InputError(f"A {suffix} needs PyAV: pip install 'jaxgen[video]', or write a .gif.")
        from av.codec import codecs_available

        if (codec := ENCODINGS[suffix].codec) not in codecs_available:
            raise InputError(f"A {suffix} needs the encoder {codec}, which this PyAV lacks: write a .gif.")


def save_animation(path: Path, frames: Iterable[np.ndarray], fps: int | Fraction, mark: Mark | None):
    """Write frames u8[h w] or u8[h w 3] as an animation or a video, with a mark. Frames of videos are streamed.

    .gif:  loops forever; all frames share one palette of 256 colours. A frame lasts a whole number of hundredths of a
           second. Equal frames in a row become one longer frame.
    .apng, .png, .webp: loop forever; each value is kept.
    .mp4 (H.264), .webm (VP9): for eyes, not for scores. An odd side is padded with one white line.
    .mkv (FFV1): each value is kept.
    """
    suffix = path.suffix.lower()
    with marked(path, mark) as part:
        if suffix in ENCODINGS:
            _save_video(part, frames, fps, ENCODINGS[suffix])
        else:
            {".gif": _save_gif, ".apng": _save_apng, ".png": _save_apng, ".webp": _save_webp}[suffix](part, frames, fps)


def strip(frames: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Return frames u8[h w] or u8[h w 3] side by side in one image, with white lines of `gap` pixels between them."""
    height = len(frames[0])
    line = np.full((height, gap, *frames[0].shape[2:]), 255, np.uint8)
    parts = [part for frame in frames for part in (line, frame)][1:]
    return np.concatenate(parts, 1)


def _save_gif(part: Path, frames: Iterable[np.ndarray], fps: int | Fraction):
    images = [Image.fromarray(frame) for frame in frames]
    if images[0].mode == "RGB":
        some = images[:: math.ceil(len(images) / 16)]
        palette = Image.fromarray(np.concatenate([np.asarray(image) for image in some])).quantize(256)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    images[0].save(
        part, "GIF", save_all=True, append_images=images[1:], duration=10 * round(100 / fps), loop=0, optimize=False
    )


def _save_apng(part: Path, frames: Iterable[np.ndarray], fps: int | Fraction):
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(part, "PNG", save_all=True, append_images=rest, duration=float(1000 / fps), loop=0)


def _save_webp(part: Path, frames: Iterable[np.ndarray], fps: int | Fraction):
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(part, "WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, lossless=True)


def _save_video(part: Path, frames: Iterable[np.ndarray], fps: int | Fraction, how: Encoding):
    import av  # an extra

    with av.open(str(part), "w", format=how.container) as file:
        stream: Any = None
        for number, frame in enumerate(frames):
            colour = frame if frame.ndim == 3 else np.stack([frame] * 3, 2)  # [h w 3]
            height, width = (-side % how.multiple for side in colour.shape[:2])
            colour = np.pad(colour, ((0, height), (0, width), (0, 0)), constant_values=255)  # to even sides
            if stream is None:
                stream = file.add_stream(how.codec, rate=fps, options=how.options)
                begin_stream(stream, len(colour), colour.shape[1], how)
            made = to_video_frame(colour, how)
            made.pts = number
            file.mux(stream.encode(made))
        assert stream is not None
        file.mux(stream.encode())


def begin_stream(stream: Any, height: int, width: int, how: Encoding):
    """Set the size, the pixel format and the colour space of a video stream, before its first frame."""
    stream.height, stream.width, stream.pix_fmt = height, width, how.pixels
    if how.pixels.startswith("yuv"):
        stream.codec_context.colorspace = BT709 if height >= HD else BT601
        stream.codec_context.color_range = NARROW


def to_video_frame(pixels: np.ndarray, how: Encoding) -> Any:
    """Return FFmpeg's frame of u8[h w 3], in the colour space that `begin_stream` states."""
    import av

    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    if how.pixels.startswith("yuv"):
        hd = len(pixels) >= HD
        space = "ITU709" if hd else "ITU601"
        made = made.reformat(format=how.pixels, dst_colorspace=space, dst_color_range="MPEG")
        made.colorspace, made.color_range = BT709 if hd else BT601, NARROW
    return made
