"""The output of a run: a progress bar, metrics.jsonl, TensorBoard, image grids and loss plots."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxgen.core import progress
from jaxgen.core.spec import ArraySpec
from jaxgen.media import output_files
from jaxgen.media.array_files import ENDINGS, SHOWN_BY, save_arrays, still
from jaxgen.media.marks import Mark
from jaxgen.media.plots import plot_confusion, plot_losses
from jaxgen.runs.run_dir import read_metrics

PLOT_PERIOD = 10.0  # seconds: a plot takes 0.3 s, and a small net's steps between two saves take less


class MetricWriters:
    """The output of one run in its folder, from step `start` on; what lies beyond that step is cut off first."""

    def __init__(self, folder: Path, start: int, total: int, console: Console | None = None):
        self.folder, self.total, self.start, self.at = folder, total, start, start
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.file = open_jsonl(folder / "metrics.jsonl", start)
        self.board = _summary_writer()(str(folder / "tensorboard"), purge_step=start + 1)
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
        self.began, self.speed, self.spoke = time.perf_counter(), 0.0, time.monotonic()
        self.drawn = -math.inf
        self.bar.start()
        self.waiting = progress.lines(self.unless_spoken, self.say) if self.bar.disable else nullcontext()
        self.waiting.__enter__()

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Leave what is done meanwhile out of the images/s."""
        start = time.perf_counter()
        yield
        self.began += time.perf_counter() - start

    def advance(self, step: int):
        """Move the bar."""
        self.at = step
        self.bar.update(self.row, completed=step)

    def say(self, text: str):
        """Print a line above the bar."""
        self.spoke = time.monotonic()
        self.console.print(text, markup=False)

    def unless_spoken(self) -> str:
        """Return a line for a log without a bar; "" where the last line is not old."""
        if time.monotonic() - self.spoke < progress.PERIOD:
            return ""
        return f"step {self.at}/{self.total}" + ("  compiling" if self.at == self.start else "")

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

    def examples(
        self,
        step: int,
        spec: ArraySpec,
        arrays: np.ndarray,
        mark: Mark,
        rows: int = 0,
        columns: int = 0,
        kind: str = "samples",
    ) -> Path:
        """Write <kind>/<step>.png (or .gif, .wav: as the arrays' kind has it) of arrays [n ...]; return its path.

        Beside a sound there is an image of it.
        """
        path = self.folder / kind / f"{step:06d}{ENDINGS[spec.kind]}"
        save_arrays(path, spec, arrays, mark, columns, rows)
        if spec.kind in SHOWN_BY:
            save_arrays(path.with_suffix(SHOWN_BY[spec.kind]), spec, arrays, mark, columns, rows)
        if (image := still(spec, arrays, columns, rows)) is not None:
            self.board.add_image(kind, image, step, dataformats="HWC" if image.ndim == 3 else "HW")
        return path

    def confusion(self, counts: np.ndarray, classes: Sequence[str]):
        """Draw confusion.png from counts [true guessed]."""
        plot_confusion(counts, classes, self.folder / "confusion.png")

    def plot(self, last: bool = True):
        """Draw losses.png from metrics.jsonl; a plot that is not the run's last only some seconds after another one."""
        if last or time.monotonic() - self.drawn >= PLOT_PERIOD:
            plot_losses(self.folder / "metrics.jsonl", self.folder / "losses.png")
            self.drawn = time.monotonic()

    def close(self):
        self.waiting.__exit__(None, None, None)
        self.bar.stop()
        self.file.close()
        self.board.close()


class Silent:
    """The output of every process but the first: none."""

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: nullcontext()


def _summary_writer() -> type:
    """Return tensorboardX's writer. It is slow to import, and imports PyTorch for seconds where that is installed."""
    absent, modules = "torch" not in sys.modules, cast(dict[str, ModuleType | None], sys.modules)
    if absent:
        modules["torch"] = None  # an import of it raises ImportError
    try:
        from tensorboardX import SummaryWriter
    finally:
        if absent:
            del modules["torch"]
    return SummaryWriter


def open_jsonl(path: Path, start: int):
    """Open a metrics file for appending after step `start`: later lines and damaged ones are dropped."""
    kept = "".join(line for line, row in read_metrics(path).items() if row["step"] <= start)
    if path.exists() and kept.encode() != path.read_bytes():
        with output_files.whole(path) as part:
            part.write_text(kept)
    return path.open("a")
