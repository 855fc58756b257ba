"""Animated images and videos, worked on frame by frame and written as one again."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data import image_files
from jaxgen.data.image_decoding import plain
from jaxgen.media import containers, output_files, video_frames
from jaxgen.media.xmp_writing import insert_xmp

SUFFIXES = {"GIF": ".gif", "WEBP": ".webp", "PNG": ".png"}  # formats of animations
Result = TypeVar("Result")


def suffix_of(file: Path) -> str:
    """Return the suffix of an animation's format; "" for an image that is still or can't be read."""
    try:
        with image_files.opened(file) as image:
            return SUFFIXES.get(image.format or "", "") if getattr(image, "is_animated", False) else ""
    except Exception:  # Pillow raises many kinds; whoever reads the image reports the reason
        return ""


def by_frames(
    file: Path,
    target: Path,
    outputs: Callable[[Path], list[Path]],
    work: Callable[[Path, Path], Result],
    pull: float = 0.0,
) -> list[Result]:
    """Return [work(file, target)]; for an animation the results for its frames, of which it makes one file again.

    outputs: target -> all files that `work` writes
    pull:    from 0 to 1: how far each frame of a video is pulled to the one before it, against flicker
    Raises InputError as `work` does, and for an animation that can't be read, or is too large.
    """
    if video_frames.is_video(file):
        return video_frames.by_frames(file, target, outputs, work, pull)
    if not suffix_of(file):
        return [work(file, target)]
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        made, times, loop = [], [], None
        with image_files.regular(file) as stream:
            packet = containers.read_xmp(stream)
        for number, (frame, duration, loop) in enumerate(_frames(file), 1):  # noqa: B007
            given, made_here = (Path(folder) / f"{number:06}{end}" for end in ("", "-made.png"))
            frame.save(given, "PNG")
            if packet:
                insert_xmp(given, packet)
            try:
                found.append(work(given, made_here))
            except InputError as error:
                raise InputError(str(error).replace(str(given), f"Frame {number} of {file}")) from error
            made.append(outputs(made_here))
            times.append(duration)
        with output_files.together():
            for path, parts in zip(outputs(target), zip(*made, strict=True), strict=True):
                _join(path, list(parts), times, loop)
    return found


def _frames(file: Path) -> Iterator[tuple[Image.Image, int, int | None]]:
    """Yield each whole frame, how long it is shown in milliseconds, and how often all are (0: forever, None: once)."""
    try:
        with image_files.opened(image_files.read(file)) as image:
            count, limit = getattr(image, "n_frames", 1), Image.MAX_IMAGE_PIXELS
            if limit and count * image.width * image.height > limit:
                raise Image.DecompressionBombError
            for number in range(1 if image.info.get("default_image") else 0, count):  # that of a PNG is not shown
                image.seek(number)
                yield plain(image).copy(), int(image.info.get("duration", 100)), image.info.get("loop")
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged data
        raise InputError(f"{file} can't be read: {image_files.reason(error)}.") from error


def _join(path: Path, parts: list[Path], times: list[int], loop: int | None):
    """Write images as the frames of an animation, with the XMP of the first."""
    kind = {suffix: kind for kind, suffix in SUFFIXES.items()}[path.suffix.lower()]
    with ExitStack() as stack, output_files.whole(path) as part:
        images = [stack.enter_context(image_files.opened(each)) for each in parts]
        mode = "RGBA" if any("A" in image.getbands() for image in images) else "RGB"
        frames = [image.convert(mode) for image in images]
        how: dict = {"GIF": {"disposal": 2}, "WEBP": {"lossless": True}, "PNG": {"disposal": 1, "blend": 0}}[kind]
        if kind == "GIF" and mode == "RGBA":  # its pixels are clear or opaque
            frames = [_opaque(frame) for frame in frames]
        if loop is not None or kind == "WEBP":  # which has no other way to say once
            how["loop"] = 1 if loop is None else loop
        frames[0].save(part, kind, save_all=True, append_images=frames[1:], duration=times, **how)
        with parts[0].open("rb") as file:
            packet = containers.read_xmp(file)
        if packet:
            insert_xmp(part, packet)


def _opaque(frame: Image.Image) -> Image.Image:
    values = np.array(frame)
    values[..., 3] = np.where(values[..., 3] < 128, 0, 255)
    return Image.fromarray(values)
