"""Plots of losses, confusion matrices and latents."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgen.media import output_files
from jaxgen.media.marks import Mark, marked
from jaxgen.runs.run_dir import read_metrics


def plot_confusion(counts: np.ndarray, classes: Sequence[str], target: Path):
    """Plot a confusion matrix: true classes in rows, predictions in columns, coloured by the share of the row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    k, correct = len(counts), np.trace(counts) / max(counts.sum(), 1)
    names = [*classes, *map(str, range(len(classes), k))]
    figure = Figure((6, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    title = f"{100 * correct:.2f} % of {counts.sum():,} correct"
    axes = figure.add_subplot(title=title, xlabel="predicted", ylabel="true")
    shares = axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(shares, label="share of the true class")
    if k <= 30:
        axes.set_xticks(range(k), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(k), names)
    if k <= 12:
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts[row].sum() / 2
            axes.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else "black", size=7)
    with output_files.whole(target) as part:
        figure.savefig(part, format="png", dpi=100)


def plot_map(
    latents: np.ndarray,
    labels: np.ndarray | None,
    classes: Sequence[str],
    axes: Sequence[str],
    target: Path,
    decoded: np.ndarray | None = None,
    values: np.ndarray | None = None,
    mark: Mark | None = None,
):
    """Plot latents f[n 2], coloured by their labels i32[n], and beside them the images of a grid of latents.

    decoded: u8[side side h w c], images of the grid; the first number grows to the right, the second upwards
    values:  f[2 side], the latents' numbers at the grid's columns and rows
    mark:    of the images, which a net drew
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure((7.5 if decoded is None else 14, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.add_subplot(1, 1 if decoded is None else 2, 1, xlabel=axes[0], ylabel=axes[1])
    if labels is None:
        panel.scatter(*latents.T, s=4, linewidths=0)
    else:
        present, few = np.unique(labels), len(classes) <= 10
        for label in present:
            colour = colormaps["tab10"](label) if few else colormaps["nipy_spectral"](label / (len(classes) - 1))
            panel.scatter(*latents[labels == label].T, s=4, linewidths=0, color=colour, label=classes[label])
        panel.legend(
            markerscale=4, frameon=False, ncols=-(-len(present) // 25), loc="center left", bbox_to_anchor=(1, 0.5)
        )
    if decoded is not None and values is not None:
        side, _, height, width, channels = decoded.shape
        whole = decoded[::-1].transpose(0, 2, 1, 3, 4).reshape(side * height, side * width, channels)
        panel = figure.add_subplot(1, 2, 2, xlabel=axes[0], ylabel=axes[1])
        panel.imshow(whole[..., 0] if channels == 1 else whole, cmap="gray", vmin=0, vmax=255)
        some = np.unique(np.linspace(0, side - 1, 5).astype(int))
        panel.set_xticks((some + 0.5) * width, [f"{values[0, i]:.2f}" for i in some])
        panel.set_yticks((side - some - 0.5) * height, [f"{values[1, i]:.2f}" for i in some])
    with marked(target, mark) as part:
        figure.savefig(part, format="png", dpi=100)


def plot_losses(source: Path, target: Path):
    """Plot a metrics file: a panel for each metric, a curve for each phase or data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for values in read_metrics(source).values():
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
    # Margins for the labels, in inches. A layout that measures the labels takes as long as the rest of the plot.
    figure.subplots_adjust(0.7 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.4 / height, 0.7 / 5, 0.8 / 2.2)
    for i, (metric, phases) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, i + 1, title=metric, xlabel="step")
        for phase, (steps, points) in phases.items():
            axes.plot(steps, points, label=phase, linewidth=1)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with output_files.whole(target) as part:
        figure.savefig(part, format="png", dpi=100)
