"""python -m jaxgen traverse: latent traversals, which change one number of a latent at a time."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder, class_of
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def traverse(
    run: Folder,
    out: Path = Path("traversal.png"),
    latents: int | None = None,
    strength: float = 3.0,
    label: str | None = None,
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Change the numbers of a sample's z one at a time, from -strength to strength. Each number has a row.

    Args:
        run: the run's folder
        out: the output file, a .png
        latents: number of rows, from the first number of z on; unset: all
        strength: the largest absolute value
        label: the class of the sample, by name or number (unset: the first), for a class-conditional model
        seed: the random seed of the sample
        overwrite: replace existing files
    """
    from jaxgen.inference import latent_space as entries
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, latents=latents)
    output_files.check(out, PNG, overwrite)
    task = task_of(run)
    (size, *rest), _ = entries.shapes(task)
    if rest:
        raise InputError("This model's z is not a vector, so its numbers can't be changed one at a time.")
    if latents is not None and latents > size:
        raise InputError(f"--latents {latents} is more than the {size} numbers of z.")
    classes = class_of(task, label)
    opened = open_run(run)
    count = latents or size
    entry = entries.Entry(opened, min(count, 16) * entries.STEPS)
    images = entries.traverse(entry, seed, count, strength, classes, 1.0)
    save_png(out, grid(images, entries.STEPS), marks.of_run(marks.DRAWN, run, opened, seed))
    print(f"{count} latents of step {opened.step}: {out}")
