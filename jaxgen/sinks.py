"""Where results go: a progress bar, metrics.jsonl, TensorBoard, picture grids and loss plots."""

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from jaxgen import outputs
from jaxgen.errors import InputError

T = TypeVar("T")

CELL = 64  # pixels; smaller pictures are enlarged in a grid until they are about this large
CAPTION = 13  # pixels of a line of text


class Sinks:
    """The output of one run in its folder, from step `start` on; what lies beyond that step is cut off first."""

    def __init__(self, folder: Path, start: int, total: int, console: Console | None = None):
        self.folder, self.total, self.shown = folder, total, start
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.file = open_jsonl(folder / "metrics.jsonl", start)
        from tensorboardX import SummaryWriter  # slow to import, and `generate` has no use for it

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.row = self.bar.add_task("compiling", total=total, completed=start)
        self.began, self.speed = time.perf_counter(), 0.0
        self.bar.start()

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Leave what is done meanwhile out of the images/s."""
        start = time.perf_counter()
        yield
        self.began += time.perf_counter() - start

    def advance(self, step: int):
        """Move the bar."""
        self.bar.update(self.row, completed=step)

    def say(self, text: str):
        """Print a line above the bar."""
        self.console.print(text, markup=False)

    def metrics(self, step: int, values: Mapping[str, float], examples: int = 0):
        """Write the line of a step; `examples` have passed since the last one."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if examples:
            now = time.perf_counter()
            self.speed, self.began = examples / (now - self.began), now
            self.board.add_scalar("images_per_second", self.speed, step)
        losses = "  ".join(f"{k.removesuffix('/loss')} {v:.3f}" for k, v in values.items() if k.endswith("/loss"))
        text = f"{self.speed:,.0f} images/s  {losses}"
        self.bar.update(self.row, completed=step, description=text)
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.total}  {text}")

    def images(self, step: int, images: np.ndarray, rows: int = 0, columns: int = 0, kind: str = "samples") -> Path:
        """Write <kind>/<step>.png, a grid of f32[n h w c] in [-1, 1], and return its path."""
        path = self.folder / kind / f"{step:06d}.png"
        picture = grid(images, columns, rows)
        save_png(path, picture)
        self.board.add_image(kind, picture, step, dataformats="HWC" if picture.ndim == 3 else "HW")
        return path

    def confusion(self, counts: np.ndarray, classes: Sequence[str]):
        """Draw confusion.png from counts [true guessed]."""
        plot_confusion(counts, classes, self.folder / "confusion.png")

    def plot(self):
        """Draw losses.png from metrics.jsonl."""
        plot_losses(self.folder / "metrics.jsonl", self.folder / "losses.png")

    def close(self):
        self.bar.stop()
        self.file.close()
        self.board.close()


class Silent:
    """The output of every process but the first: none."""

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: nullcontext()


def open_jsonl(path: Path, start: int):
    """Open a metrics file for appending after step `start`: later lines and a half-written one are dropped."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start]
    if kept != lines:
        with outputs.whole(path) as part:
            part.write_text("".join(kept))
    return path.open("a")


def to_u8(images: np.ndarray) -> np.ndarray:
    """Return u8 for f32 in [-1, 1], rounded and clipped."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int = 0, rows: int = 0) -> np.ndarray:
    """Lay f32[n h w c] in [-1, 1] out as one picture u8[H W] or u8[H W 3].

    Row by row, in so many columns or as square as can be; or, where the rows are given, column by column.
    """
    return _laid_out(_cells(images), columns, rows)


def captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> np.ndarray:
    """Return `grid` in so many columns with a line of text under each picture."""
    cells = []
    for cell, caption in zip(_cells(images), captions, strict=True):
        strip = Image.new("L", (cell.shape[1], CAPTION), 255)
        ImageDraw.Draw(strip).text((1, 0), caption, 0)
        text = np.repeat(np.asarray(strip)[..., None], cell.shape[-1], 2)
        cells.append(np.concatenate([cell, text]))
    return _laid_out(np.stack(cells), columns)


def _cells(images: np.ndarray) -> np.ndarray:
    """Return pictures as they stand in a grid: u8[n s*h s*w 1 or 3]."""
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
    picture = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, cells.shape[-1]), 255, np.uint8)
    for i, cell in enumerate(cells):
        row, column = (i % rows, i // rows) if down else (i // columns, i % columns)
        y, x = gap + row * (height + gap), gap + column * (width + gap)
        picture[y : y + height, x : x + width] = cell
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def save_png(path: Path, picture: np.ndarray):
    """Write a picture u8[h w] or u8[h w 3]; a file of that name is whole at every moment."""
    with outputs.whole(path) as part:
        Image.fromarray(picture).save(part, "PNG")


def save_npz(path: Path, **arrays: Any):
    """Write arrays by their names; a file of that name is whole at every moment."""
    with outputs.whole(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def progress(things: Iterable[T], text: str, total: int) -> Iterable[T]:
    """Return the things; a terminal shows meanwhile how many of them are done."""
    return track(things, text, total, transient=True, disable=not sys.stdout.isatty())


ANIMATIONS = (".gif", ".mp4")


def check_animation(path: Path, fps: int):
    """Raise InputError where `save_animation` could not write a file of this name at this rate."""
    suffix = path.suffix.lower()
    if suffix == ".gif" and fps > 50:
        raise InputError(f"A .gif shows at most 50 frames a second, not {fps}: write a .mp4.")
    if suffix == ".mp4" and find_spec("av") is None:
        raise InputError("A .mp4 needs PyAV: pip install 'jaxgen[video]', or write a .gif.")


def save_animation(path: Path, frames: Iterable[np.ndarray], fps: int):
    """Write frames u8[h w] or u8[h w 3] as a .gif that loops for ever, or as a .mp4 (H.264).

    A .gif's frames share 256 colours chosen from all of them and last a whole number of hundredths of a second; equal
    ones become one that lasts longer. A .mp4's sides are made even by a white line.
    """
    with outputs.whole(path) as part:
        {".gif": _save_gif, ".mp4": _save_mp4}[path.suffix.lower()](part, frames, fps)


def _save_gif(part: Path, frames: Iterable[np.ndarray], fps: int):
    pictures = [Image.fromarray(frame) for frame in frames]
    if pictures[0].mode == "RGB":
        some = pictures[:: math.ceil(len(pictures) / 16)]
        palette = Image.fromarray(np.concatenate([np.asarray(picture) for picture in some])).quantize(256)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    pictures[0].save(
        part, "GIF", save_all=True, append_images=pictures[1:], duration=10 * round(100 / fps), loop=0, optimize=False
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


def plot_confusion(counts: np.ndarray, classes: Sequence[str], target: Path):
    """Draw which class (a row) was taken for which (a column), as shares of the row, the counts in the cells."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    k, right = len(counts), np.trace(counts) / max(counts.sum(), 1)
    names = [*classes, *map(str, range(len(classes), k))]
    figure = Figure((6, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    title = f"{100 * right:.2f} % of {counts.sum():,} right"
    axes = figure.add_subplot(title=title, xlabel="guessed", ylabel="true")
    picture = axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, label="share of the true class")
    if k <= 30:
        axes.set_xticks(range(k), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(k), names)
    if k <= 12:
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts[row].sum() / 2
            axes.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else "black", size=7)
    with outputs.whole(target) as part:
        figure.savefig(part, format="png", dpi=100)


def plot_map(
    codes: np.ndarray,
    labels: np.ndarray | None,
    classes: Sequence[str],
    axes: Sequence[str],
    target: Path,
    painted: np.ndarray | None = None,
    values: np.ndarray | None = None,
):
    """Draw codes f[n 2], coloured by their labels i32[n], and beside them what is painted at places between.

    painted: u8[side side h w c], the first number growing to the right and the second upwards; values: f[2 side], where
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure((7.5 if painted is None else 14, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.add_subplot(1, 1 if painted is None else 2, 1, xlabel=axes[0], ylabel=axes[1])
    if labels is None:
        panel.scatter(*codes.T, s=4, linewidths=0)
    else:
        present, few = np.unique(labels), len(classes) <= 10
        for label in present:
            colour = colormaps["tab10"](label) if few else colormaps["nipy_spectral"](label / (len(classes) - 1))
            panel.scatter(*codes[labels == label].T, s=4, linewidths=0, color=colour, label=classes[label])
        panel.legend(
            markerscale=4, frameon=False, ncols=-(-len(present) // 25), loc="center left", bbox_to_anchor=(1, 0.5)
        )
    if painted is not None and values is not None:
        side, _, height, width, channels = painted.shape
        whole = painted[::-1].transpose(0, 2, 1, 3, 4).reshape(side * height, side * width, channels)
        panel = figure.add_subplot(1, 2, 2, xlabel=axes[0], ylabel=axes[1])
        panel.imshow(whole[..., 0] if channels == 1 else whole, cmap="gray", vmin=0, vmax=255)
        some = np.unique(np.linspace(0, side - 1, 5).astype(int))
        panel.set_xticks((some + 0.5) * width, [f"{values[0, i]:.2f}" for i in some])
        panel.set_yticks((side - some - 0.5) * height, [f"{values[1, i]:.2f}" for i in some])
    with outputs.whole(target) as part:
        figure.savefig(part, format="png", dpi=100)


def plot_losses(source: Path, target: Path):
    """Draw the lines of a metrics file: a panel for each metric, a curve for each phase or data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for line in source.read_text().splitlines():
        values = json.loads(line)
        for name, value in values.items():
            if name != "step":
                phase, _, metric = name.rpartition("/")
                steps, points = curves[metric][phase]
                steps.append(values["step"])
                points.append(value)
    if not curves:
        return
    columns = min(len(curves), 2)
    rows = math.ceil(len(curves) / columns)
    width, height = 6 * columns, 3.2 * rows  # inches
    figure = Figure((width, height))
    FigureCanvasAgg(figure)
    # Room for the labels, in inches: a layout that measures them takes as long again as the picture.
    figure.subplots_adjust(0.7 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.4 / height, 0.7 / 5, 0.8 / 2.2)
    for i, (metric, phases) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, i + 1, title=metric, xlabel="step")
        for phase, (steps, points) in phases.items():
            axes.plot(steps, points, label=phase, linewidth=1)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with outputs.whole(target) as part:
        figure.savefig(part, format="png", dpi=100)
