"""python -m jaxgen interpolate: walks between samples."""

from pathlib import Path
from typing import Literal

import numpy as np

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files


def interpolate(
    run: Folder,
    out: Path = Path("walk.gif"),
    points: int = 5,
    frames: int = 24,
    rows: int = 4,
    columns: int = 4,
    seed: int = 0,
    space: Literal["z", "w"] | None = None,
    labels: str | None = None,
    truncation: float = 1.0,
    fps: int = 24,
    overwrite: bool = False,
):
    """Walk from sample to sample and back to the first, many walks side by side, as a moving image.

    In z the way is a great circle, in w a straight line. The first frame shows the first rows * columns samples of the
    seed.

    Args:
        run: the folder of the run
        out: a .gif, or a .mp4 (the extra jaxgen[video])
        points: samples that each walk passes
        frames: steps from one to the next
        rows: of walks
        columns: of walks
        seed: which samples
        space: where to walk; unset: w where the model has one for it, else z
        labels: classes such as 3, 0,2 or 0-9; unset: all. In z each row of walks keeps one of them, in turn. In w the
            walks pass from one to the next as they pass the points, each row from the next class on; unset they keep it
        truncation: psi in [0, 1]: below 1 the samples vary less, and keep nearer to the mean
        fps: frames a second
        overwrite: replace what is there
    """
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import check_truncation, classes_of
    from jaxgen.media.animation import ANIMATIONS, check_animation, save_animation
    from jaxgen.media.image_grid import grid, progress
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, rows=rows, columns=columns, frames=frames, fps=fps)
    at_least(2, points=points)
    at_least(0, seed=seed)
    output_files.check(out, ANIMATIONS, overwrite)
    check_animation(out, fps)
    task = task_of(run)
    linear = latent_space.latent_of(task).linear
    classes = classes_of(task, labels)
    check_truncation(task, truncation)
    if space == "w" and not linear:
        raise InputError("This model has no w in which a straight line is a walk: write --space z.")
    straight = linear if space is None else space == "w"
    told = None
    if classes:
        row, point = np.arange(rows * columns)[None] // columns, np.arange(points)[:, None]
        told = np.asarray(classes)[(row + point * (straight and labels is not None)) % len(classes)]  # [points count]
    opened = open_run(run)
    entry = latent_space.Entry(opened, rows * columns)
    walks = latent_space.interpolate(entry, seed, points, frames, told, rows * columns, truncation, straight)
    pictures = (grid(images, columns) for images in progress(walks, "frames", points * frames))
    save_animation(out, pictures, fps)
    print(f"{points * frames} frames of step {opened.step}: {out}")
