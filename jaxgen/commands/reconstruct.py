"""python -m jaxgen reconstruct: images beside their reconstructions by an autoencoder."""

from pathlib import Path

from jaxgen.commands.shared import PNG, Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import marks, output_files


def reconstruct(
    run: Folder,
    out: Path = Path("reconstructions.png"),
    count: int = 32,
    split: str = "test",
    overwrite: bool = False,
):
    """Encode and decode held-out images. Shows each beside its reconstruction, and prints the mean PSNR.

    Args:
        run: the run's folder
        out: the output file, a .png
        count: largest number of images
        split: the split of the run's data
        overwrite: replace existing files
    """
    from dataclasses import replace

    import jax.numpy as jnp

    from jaxgen import data
    from jaxgen.core.capabilities import Codec
    from jaxgen.inference.previews import comparison
    from jaxgen.media.image_grid import grid, save_png
    from jaxgen.metrics.pixels import psnr
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count)
    output_files.check(out, PNG, overwrite)
    task = task_of(run)
    if task.get(Codec).decode is None:
        raise InputError(Codec.lack)
    opened = open_run(run)
    config, mesh, task, state, frozen, step = opened
    source = data.open_source(config.data.at(split), task.example)
    compared = comparison(task, replace(config, data=config.data.at(split)), mesh, source, 2 * count)
    assert compared is not None
    images = compared.make(state, frozen)
    save_png(out, grid(images, compared.columns), marks.of_run(marks.EDITED, run, opened))
    value = float(psnr(jnp.asarray(images[::2]), jnp.asarray(images[1::2])).mean())
    print(f"{len(images) // 2} images of {split} and their reconstructions at step {step}, psnr {value:.2f} dB: {out}")
