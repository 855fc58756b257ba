"""python -m jaxgen directions: semantic directions of a latent space."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder, check_walk
from jaxgen.core.errors import at_least, numbers
from jaxgen.media import output_files


def directions(
    run: Folder,
    out: Path = Path("directions.png"),
    count: int = 5,
    strength: float = 3.0,
    layers: str | None = None,
    label: int = 0,
    seed: int = 0,
    truncation: float = 1.0,
    overwrite: bool = False,
):
    """Move a sample along the directions to which the first weights that the latent meets answer most (SeFa).

    One direction a row, from -strength to strength, the sample itself in the middle. Writes the directions beside the
    image as a .npz ("directions", f64[count d], unit vectors).

    Args:
        run: the folder of the run
        out: a .png
        count: how many directions
        strength: how far to go
        layers: rows of w whose weights are asked, and which are moved, counted from 0, such as 0-3; unset: all
        label: the class of the sample
        seed: which sample
        truncation: psi in [0, 1]: below 1 the sample is nearer to the mean
        overwrite: replace what is there
    """
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import check_truncation, classes_of
    from jaxgen.media.image_grid import grid, save_npz, save_png
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count)
    check_walk(seed, strength)
    beside = out.with_suffix(".npz")
    output_files.check(out, PNG, overwrite, [beside])
    task = task_of(run)
    latent_space.check_directions(task, count)
    chosen = None if layers is None else numbers(layers, latent_space.rows_of(task), "layers")
    classes = classes_of(task, str(label) if "label" in task.example or label else None)
    check_truncation(task, truncation)
    opened = open_run(run)
    entry = latent_space.Entry(opened, count * latent_space.STEPS)
    images, found = latent_space.directions(entry, seed, count, strength, chosen, classes, truncation)
    save_png(out, grid(images, latent_space.STEPS))
    save_npz(beside, directions=found, step=opened.step)
    print(f"{count} directions of step {opened.step}: {out}")
