"""Restored images compared with the originals: scores, and a sheet that shows them side by side."""

import itertools
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxgen.media import photo
from jaxgen.media.image_grid import save_png
from jaxgen.media.marks import Mark
from jaxgen.metrics import pixels


def measured(clean: np.ndarray, made: np.ndarray, border: int) -> dict[str, float]:
    """Return PSNR and SSIM of an image before it is rounded to 8 bits. An enlarged image's border is cropped.

    Colour images are scored by luma, as is usual in super-resolution, and by all channels. An enlarged grey image is
    scored by the luma of three equal channels, whatever net made it: levels from 16 to 235. Publications of nets for
    colour do so with the one grey image of Set14, bridge. Older ones score its levels as they are, 1.32 dB lower.
    """
    border = border if border > 1 else 0
    grey = clean.shape[2] == 1
    if made.shape[2] != clean.shape[2]:
        clean, made = (np.repeat(x, 3, 2) if x.shape[2] == 1 else x for x in (clean, made))
    a, b = clean[None], np.clip(made, -1, 1)[None]
    if border and clean.shape[2] == 1:
        a, b = (np.asarray(pixels.luma(jnp.asarray(np.repeat(x, 3, 3)))) for x in (a, b))
    ending = f"_border{border}" if border else ""
    names = ["psnr_y", "ssim_y"] if grey else ["psnr_y", "psnr_rgb", "ssim_y"]
    side = min(clean.shape[:2]) - 2 * border
    return {
        name + ending: float(pixels.MEASURES[name](a, b, border)[0])
        for name in names
        if side >= pixels.SMALLEST.get(name.rpartition("_")[0], 1)
    }


Scores = Callable[[np.ndarray], dict[str, float]]


def write_sheet(
    path: Path,
    before: np.ndarray,
    answers: list[np.ndarray],
    truth: np.ndarray | None,
    scores: Scores,
    mark: Mark | None,
):
    """Write a sheet: input, outputs and original side by side, and an enlarged detail under each.

    Each has its first score of `scores` as a caption.
    """
    names = ["after", *(f"after, {i}" for i in range(2, len(answers) + 1))]
    columns = [("before", before), *zip(names, answers, strict=True)]
    columns += [] if truth is None else [("original", truth)]
    save_png(path, sheet_of(columns, scores), mark)


def sheet_of(columns: list[tuple[str, np.ndarray]], scores: Scores) -> np.ndarray:
    """Return the sheet u8[h w 3] of named images."""
    wide, line = 480, 18
    after = columns[1][1].mean(2)
    detail = np.abs(np.diff(after, axis=0))[:, :-1] + np.abs(np.diff(after, axis=1))[:-1]
    height, width = after.shape
    side = max(min(height, width, 96) // 2 * 2, 2)
    # The square with most detail. Candidates are half a square apart.
    ys, xs = range(0, height - side + 1, side // 2), range(0, width - side + 1, side // 2)
    y, x = max(itertools.product(ys, xs), key=lambda at: detail[at[0] : at[0] + side, at[1] : at[1] + side].sum())
    tall = min(max(round(height * wide / width), 1), 4 * wide)
    page = Image.new("RGB", (len(columns) * (wide + 4) - 4, line + tall + 4 + wide), "white")
    draw = ImageDraw.Draw(page)
    for i, (name, image) in enumerate(columns):
        values = photo.quantised(np.repeat(image, 3, 2) if image.shape[2] == 1 else image, 8)
        whole = Image.fromarray(values)
        crop = whole.crop((x, y, x + side, y + side)).resize((wide, wide), Image.Resampling.NEAREST)
        left = i * (wide + 4)
        small = whole.resize((wide, tall), Image.Resampling.LANCZOS)
        f = wide / width
        g = tall / height
        ImageDraw.Draw(small).rectangle((x * f, y * g, (x + side) * f, (y + side) * g), outline="red")
        page.paste(small, (left, line))
        page.paste(crop, (left, line + tall + 4))
        draw.text((left + 2, 2), name + ("" if name == "original" else caption(scores(image))), fill="black")
    return np.asarray(page)


def caption(scores: dict[str, float]) -> str:
    """Return the first score as text, such as "   psnr_y 30.12 dB"."""
    return "".join(f"   {name} {value:.2f} dB" for name, value in list(scores.items())[:1])
