"""python -m jaxgen directions: semantic directions of a latent space (SeFa)."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder, class_of
from jaxgen.core.errors import at_least, numbers
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def directions(
    run: Folder,
    out: Path = Path("directions.png"),
    count: int = 5,
    strength: float = 3.0,
    layers: str | None = None,
    label: str | None = None,
    seed: Seed = 0,
    truncation: float = 1.0,
    overwrite: bool = False,
):
    """Move a sample along semantic directions: those that the layers which read the latent amplify most (SeFa).

    Each row shows one direction, from -strength to strength, with the sample itself in the middle. Also writes a .npz
    with the directions ("directions", f64[count d], unit vectors).

    Args:
        run: the run's folder
        out: the output file, a .png
        count: number of directions
        strength: the largest distance from the sample
        layers: layers whose weights are analysed and whose w is moved, counted from 0, such as 0-3; unset: all
        label: the class of the sample, by name or number (unset: the first), for a class-conditional model
        seed: the random seed of the sample
        truncation: psi in [0, 1]: values below 1 give a sample nearer to the mean
        overwrite: replace existing files
    """
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import check_samples, check_truncation
    from jaxgen.media.image_grid import grid, save_npz, save_png
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count)
    beside = output_files.beside(out, ".npz")
    output_files.check(out, PNG, overwrite, [beside])
    task = task_of(run)
    latent_space.check_directions(task, count)
    chosen = None if layers is None else numbers(layers, latent_space.rows_of(task), "layers")
    check_samples(task, count * latent_space.STEPS, f"--count {count}")
    classes = class_of(task, label)
    check_truncation(task, truncation)
    opened = open_run(run)
    entry = latent_space.Entry(opened, count * latent_space.STEPS)
    images, found = latent_space.directions(entry, seed, count, strength, chosen, classes, truncation)
    mark = marks.of_run(marks.DRAWN, run, opened, seed)
    with output_files.together():
        save_png(out, grid(images, latent_space.STEPS), mark)
        save_npz(beside, None, directions=found, step=opened.step)
    print(f"{count} directions of step {opened.step}: {out}")
