"""Text drawn onto frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgen.core.errors import InputError
from jaxgen.media.video_edits.footage import Frame, Stage

Place = Literal["top-left", "top", "top-right", "left", "centre", "right", "bottom-left", "bottom", "bottom-right"]
SIZE = 1 / 14  # the height of the letters, in heights of the frame


def font_of(size: int, file: Path | None) -> Any:
    """Return a font of a size in pixels, Pillow's own or a file's. Raises InputError for a file that is none."""
    if file is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(file), size)
    except OSError as error:
        raise InputError(f"{file} can't be read as a font: {error}.") from error


def captioned(text: str, place: Place, start: float, end: float | None, size: tuple[int, int], font: Any) -> Stage:
    """Return the stage that shows white text with a dark outline from one time to another, in seconds.

    place: where in the frame; a line of the text that is too long goes on in the next one
    """
    layer = np.asarray(lettering(text, place, size, font), np.float32)
    alpha = layer[..., 3:] / 255  # [h w 1]
    rows = np.nonzero(alpha.any((1, 2)))[0]
    lines = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0, 0)
    colours, alpha = layer[lines, :, :3] * alpha[lines], alpha[lines]

    def stage(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if start - 1e-6 <= frame.time and (end is None or frame.time < end - 1e-6):
                pixels = frame.pixels.copy()
                pixels[lines] = np.rint(pixels[lines] * (1 - alpha) + colours).astype(np.uint8)
                frame = Frame(frame.time, pixels)
            yield frame

    return stage


def lettering(text: str, place: Place, size: tuple[int, int], font: Any) -> Image.Image:
    """Return a clear image of a size (h, w) with text."""
    height, width = size
    image = Image.new("RGBA", (width, height))
    draw, margin = ImageDraw.Draw(image), round(height / 24)
    outline = max(round(height / 240), 1)
    lines: list[str] = []
    for line in text.replace("\\n", "\n").split("\n"):
        words, now = line.split(" "), ""
        for word in words:
            longer = f"{now} {word}" if now else word
            if now and draw.textlength(longer, font) > width - 2 * margin:
                lines, longer = [*lines, now], word
            now = longer
        lines.append(now)
    whole = "\n".join(lines)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), whole, font, align="center", stroke_width=outline)
    x = (
        margin
        if "left" in place
        else width - margin - (right - left)
        if "right" in place
        else (width - right + left) / 2
    )
    y = (
        margin
        if "top" in place
        else height - margin - (bottom - top)
        if "bottom" in place
        else (height - bottom + top) / 2
    )
    align = "left" if "left" in place else "right" if "right" in place else "center"
    draw.multiline_text(
        (x - left, y - top), whole, "white", font, align=align, stroke_width=outline, stroke_fill=(0, 0, 0, 200)
    )
    return image
