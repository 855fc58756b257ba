"""python -m jaxgen interpolate: animated interpolations between samples."""

from pathlib import Path
from typing import Literal

import numpy as np

from jaxgen.commands.shared import Named
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def interpolate(
    run: Named,
    out: Path = Path("walk.gif"),
    points: int = 5,
    frames: int = 24,
    rows: int = 4,
    columns: int = 4,
    seed: Seed = 0,
    space: Literal["z", "w"] | None = None,
    labels: str | None = None,
    truncation: float = 1.0,
    fps: int = 24,
    overwrite: bool = False,
):
    """Interpolate from sample to sample and back to the first, as an animation of a grid of such walks.

    A walk follows great circles in z and straight lines in w. The first frame shows the first rows * columns samples
    of the seed.

    Args:
        run: the run's folder; or the name of trained weights (python -m jaxgen list weights); or a file of weights that
            states its model, as export writes it
        out: the output file, a .gif, or a .mp4 (pip install 'jaxgen[video]')
        points: number of samples on each walk
        frames: number of frames from one sample to the next
        rows: number of rows of the grid
        columns: number of columns of the grid
        seed: the random seed
        space: the latent space of the walks; unset: w if the model has one, else z
        labels: classes by name or number, such as cat,dog, 3, or 0-9; unset: all. Each row of the grid has one class.
            With --labels and in w the class changes at each sample instead, and each row begins with the next class
        truncation: psi in [0, 1]: values below 1 give less varied samples, nearer to the mean
        fps: frames per second
        overwrite: replace existing files
    """
    from jaxgen.core.progress import tracked
    from jaxgen.inference import latent_space
    from jaxgen.inference.opening import mark_of, open_trained, task_of
    from jaxgen.inference.sampling import check_samples, check_truncation, classes_of
    from jaxgen.media.animation import ANIMATIONS, check_animation, save_animation
    from jaxgen.media.image_grid import grid

    at_least(1, rows=rows, columns=columns, frames=frames, fps=fps)
    at_least(2, points=points)
    output_files.check(out, ANIMATIONS, overwrite)
    check_animation(out, fps)
    task = task_of(run)
    linear = latent_space.latent_of(task).linear
    what = f"--rows {rows} --columns {columns} --points {points} --frames {frames}"
    check_samples(task, rows * columns * points * frames, what)
    classes = classes_of(task, labels)
    check_truncation(task, truncation)
    if space == "w" and not linear:
        raise InputError("This model has no w space: write --space z.")
    straight = linear if space is None else space == "w"
    turns = None
    if classes:
        row, point = np.arange(rows * columns)[None] // columns, np.arange(points)[:, None]
        turns = np.asarray(classes)[(row + point * (straight and labels is not None)) % len(classes)]  # [points count]
    opened = open_trained(run)
    entry = latent_space.Entry(opened, rows * columns)
    walks = latent_space.interpolate(entry, seed, points, frames, turns, rows * columns, truncation, straight)
    shown = (grid(images, columns) for images in tracked(walks, "frames", points * frames))
    save_animation(out, shown, fps, mark_of(marks.DRAWN, run, opened, seed))
    print(f"{points * frames} frames of step {opened.step}: {out}")
