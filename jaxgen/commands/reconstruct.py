"""python -m jaxgen reconstruct: images or clips beside their reconstructions by an autoencoder."""

from pathlib import Path

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import marks, output_files


def reconstruct(
    run: Folder,
    out: Path | None = None,
    count: int = 32,
    split: str = "test",
    overwrite: bool = False,
):
    """Encode and decode held-out images or clips. Shows each beside its reconstruction, and prints the mean PSNR.

    Args:
        run: the run's folder
        out: the output file, a .png; of clips a .gif, .apng, .mp4, .webm or .mkv, or a .png for the frames of each in
            a row; unset: reconstructions.png or .gif
        count: largest number of examples
        split: the split of the run's data
        overwrite: replace existing files
    """
    from dataclasses import replace

    import jax.numpy as jnp

    from jaxgen import data
    from jaxgen.core.capabilities import Codec
    from jaxgen.inference.previews import comparison
    from jaxgen.media.array_files import ENDINGS, SUFFIXES, check_arrays, save_arrays
    from jaxgen.metrics.pixels import psnr
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count)
    task = task_of(run)
    spec = next(iter(task.example.values()))
    out = out or Path("reconstructions").with_suffix(ENDINGS[spec.kind])
    output_files.check(out, SUFFIXES[spec.kind], overwrite)
    check_arrays(out, spec)
    if task.get(Codec).decode is None:
        raise InputError(Codec.lack)
    opened = open_run(run)
    config, mesh, task, state, frozen, step = opened
    source = data.open_source(config.data.at(split), task.example)
    compared = comparison(task, replace(config, data=config.data.at(split)), mesh, source, 2 * count)
    assert compared is not None
    made = compared.make(state, frozen)
    save_arrays(out, compared.spec, made, marks.of_run(marks.EDITED, run, opened), compared.columns)
    value = float(psnr(jnp.asarray(made[::2]), jnp.asarray(made[1::2])).mean())
    what = f"{len(made) // 2} {spec.kind}s of {split} and their reconstructions"
    print(f"{what} at step {step}, psnr {value:.2f} dB: {out}")
