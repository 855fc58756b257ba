"""python -m jaxgen mix: style mixing of samples."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder
from jaxgen.core.errors import at_least, numbers
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def mix(
    run: Folder,
    out: Path = Path("mix.png"),
    rows: int = 4,
    columns: int = 6,
    layers: str | None = None,
    seed: Seed = 0,
    labels: str | None = None,
    truncation: float = 1.0,
    overwrite: bool = False,
):
    """Mix the styles of samples: some layers use the w of the sample on the left, all others that of the sample above.

    The first column and the first row show the samples. Only for models with one w per layer, such as stylegan2.

    Args:
        run: the run's folder
        out: the output file, a .png
        rows: number of samples on the left, the first ones of the seed
        columns: number of samples above, the next ones
        layers: layers that use the sample on the left, such as 0-3 or 4,5; 0 is the coarsest; unset: the first 4, or
            the first half if there are fewer than 8
        seed: the random seed
        labels: classes of the samples in turn, by name or number, such as cat,dog, 3, or 0-9; unset: all classes
        truncation: psi in [0, 1]: values below 1 give less varied samples, nearer to the mean
        overwrite: replace existing files
    """
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import check_samples, check_truncation, classes_of
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, rows=rows, columns=columns)
    output_files.check(out, PNG, overwrite)
    task = task_of(run)
    depth = latent_space.rows_of(task)
    chosen = range(min(4, depth // 2)) if layers is None else numbers(layers, depth, "layers")
    check_samples(task, (rows + 1) * (columns + 1), f"--rows {rows} --columns {columns}")
    classes = classes_of(task, labels)
    check_truncation(task, truncation)
    opened = open_run(run)
    images = latent_space.mix(latent_space.Entry(opened, 64), seed, rows, columns, chosen, classes, truncation)
    save_png(out, grid(images, columns + 1), marks.of_run(marks.DRAWN, run, opened, seed))
    print(f"{rows} x {columns} mixtures of step {opened.step}: {out}")
