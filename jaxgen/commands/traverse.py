"""python -m jaxgen traverse: samples whose latent changes one number at a time."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder, check_walk
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files


def traverse(
    run: Folder,
    out: Path = Path("traversal.png"),
    latents: int | None = None,
    strength: float = 3.0,
    label: int = 0,
    seed: int = 0,
    overwrite: bool = False,
):
    """Change the numbers of a sample's z one at a time, a row each, from -strength to strength.

    Args:
        run: the folder of the run
        out: a .png
        latents: how many of them, from the first on; unset: all
        strength: how far to go
        label: the class of the sample
        seed: which sample
        overwrite: replace what is there
    """
    from jaxgen.inference import latent_space as entries
    from jaxgen.inference.sampling import classes_of
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, latents=latents)
    check_walk(seed, strength)
    output_files.check(out, PNG, overwrite)
    task = task_of(run)
    (size, *rest), _ = entries.shapes(task)
    if rest:
        raise InputError("This model's z is no vector: it has no numbers to change one at a time.")
    if latents is not None and latents > size:
        raise InputError(f"latents={latents} is more than z has: {size}.")
    classes = classes_of(task, str(label) if "label" in task.example or label else None)
    opened = open_run(run)
    count = latents or size
    entry = entries.Entry(opened, min(count, 16) * entries.STEPS)
    images = entries.traverse(entry, seed, count, strength, classes, 1.0)
    save_png(out, grid(images, entries.STEPS))
    print(f"{count} latents of step {opened.step}: {out}")
