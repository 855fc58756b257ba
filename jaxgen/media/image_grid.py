"""Grids of images, and image and array files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.media.marks import Mark, marked

CELL = 64  # pixels; a grid enlarges smaller images to about this size
CAPTION = 13  # pixels, the height of a line of text


def to_u8(images: np.ndarray) -> np.ndarray:
    """Return u8 for f32 in [-1, 1], rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int = 0, rows: int = 0) -> np.ndarray:
    """Return f32[n h w c] in [-1, 1] as one image u8[H W] or u8[H W 3].

    The grid is filled row by row, in `columns` columns (0: as square as possible). If `rows` is given, it is filled
    column by column.
    """
    return _laid_out(_cells(images), columns, rows)


def captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> np.ndarray:
    """Return a grid of `columns` columns with a line of text under each image."""
    cells = []
    for cell, caption in zip(_cells(images), captions, strict=True):
        strip = Image.new("L", (cell.shape[1], CAPTION), 255)
        ImageDraw.Draw(strip).text((1, 0), caption, 0)
        text = np.repeat(np.asarray(strip)[..., None], cell.shape[-1], 2)
        cells.append(np.concatenate([cell, text]))
    return _laid_out(np.stack(cells), columns)


def _cells(images: np.ndarray) -> np.ndarray:
    """Return the cells of a grid, u8[n s*h s*w 1 or 3]."""
    _, height, width, channels = images.shape
    cells = to_u8(images)
    if channels != 3:
        cells = cells[..., :3] if channels > 3 else cells[..., :1]
    scale = max(1, round(CELL / max(height, width)))
    return cells.repeat(scale, 1).repeat(scale, 2)


def _laid_out(cells: np.ndarray, columns: int = 0, rows: int = 0) -> np.ndarray:
    n, height, width, _ = cells.shape
    down = bool(rows)
    columns = math.ceil(n / rows) if down else columns or math.ceil(math.sqrt(n))
    rows, gap = rows or math.ceil(n / columns), 2
    image = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, cells.shape[-1]), 255, np.uint8)
    for i, cell in enumerate(cells):
        row, column = (i % rows, i // rows) if down else (i // columns, i % columns)
        y, x = gap + row * (height + gap), gap + column * (width + gap)
        image[y : y + height, x : x + width] = cell
    return image[..., 0] if image.shape[-1] == 1 else image


def save_png(path: Path, image: np.ndarray, mark: Mark | None):
    """Write an image u8[h w] or u8[h w 3] with a mark. A half-written file is never visible."""
    with marked(path, mark) as part:
        Image.fromarray(image).save(part, "PNG")


def save_npz(path: Path, mark: Mark | None, /, **arrays: Any):
    """Write named arrays with a mark, the comment of the archive. A half-written file is never visible."""
    with marked(path, mark) as part, part.open("wb") as file:
        np.savez(file, **arrays)
