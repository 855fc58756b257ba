"""python -m jaxgen generate: samples of a run."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files


def generate(
    run: Folder,
    count: int = 64,
    seed: int = 0,
    batch: int = 64,
    labels: str | None = None,
    truncation: float = 1.0,
    sampler: Literal["prior", "mixture", "two-stage"] = "prior",
    components: int = 10,
    sampling: str = "",
    average: float | None = None,
    out: Path | None = None,
    overwrite: bool = False,
):
    """Draw samples from a run's newest checkpoint, with the averaged weights where there are any.

    Sample i is the same whatever the count, the batch and the number of devices. The grid of a model that is told
    labels has a row for each of them.

    Args:
        run: the folder of the run
        count: how many samples
        seed: which samples
        batch: how many are drawn at a time
        labels: classes that the samples get in turn, such as 3, 0,2 or 0-9; unset: all
        truncation: psi in [0, 1]: below 1 the samples vary less, and keep nearer to the mean
        sampler: what codes are drawn from: the model's prior; or what is fitted on the codes of training images, of
            an autoencoder too: a mixture of Gaussians, or a second VAE (two-stage)
        components: Gaussians of the mixture
        sampling: settings of model.sampling other than the run's, such as steps=10,sampler=dpm++2m,guidance=2
        average: width sigma_rel of the weights' average, such as 0.08, of a run with --optim.ema-widths
        out: a .png for a grid of images, a .gif for videos, a .wav for audio; a .npz for the samples as arrays
            ("image", u8[n h w c], "video", ...) with that file beside it; unset: grid and the ending of the kind
        overwrite: replace what is there
    """
    from jaxgen import data
    from jaxgen.inference import latent_samplers
    from jaxgen.inference.sampling import (
        check_truncation,
        classes_of,
        conditioning_of,
        conditions_of,
        generator_of,
        in_turn,
        make_sampler,
        sample_spec,
    )
    from jaxgen.media.array_files import ENDINGS, save_arrays, stored
    from jaxgen.media.image_grid import save_npz
    from jaxgen.runs.config_io import task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count, batch=batch)
    at_least(0, seed=seed)
    task = task_of(run, sampling)
    spec = sample_spec(task)
    out = out or Path("grid").with_suffix(ENDINGS[spec.kind])
    shown = out if out.suffix.lower() == ENDINGS[spec.kind] else out.with_suffix(ENDINGS[spec.kind])
    output_files.check(out, (ENDINGS[spec.kind], ".npz"), overwrite, [shown])
    classes = classes_of(task, labels)
    check_truncation(task, truncation)
    latent_samplers.check(task, sampler, components)
    if sampler == "prior":
        generator_of(task)
    if sampler != "prior" and truncation < 1:
        raise InputError(f"truncation is of the prior: it has no meaning for --sampler {sampler}.")
    opened = open_run(run, sampling=sampling, average=average)
    config, mesh, task, state, frozen, step = latent_samplers.refit(opened, sampler, components)
    sample = make_sampler(task, mesh, batch)
    needed, rows = {}, 0
    names = conditions_of(task)
    if set(names) - {"label"}:
        needed = conditioning_of(task, config, data.open_source(config.data, task.example), count)
    if classes and (labels is not None or names == ("label",)):
        turns, rows = in_turn(classes, count)
        needed = {**needed, **turns}
    if truncation < 1:
        needed = {**needed, "truncation": np.full(count, truncation, np.float32)}
    ends: list[float] = []
    calls: list[int] = []

    def after(told):
        ends.append(time.perf_counter())
        calls.extend(np.asarray(told.get("nfe", ())))

    samples = sample(state, frozen, seed, count, needed, after)
    if out != shown:
        labelled: dict[str, Any] = {"label": needed["label"]} if classes else {}
        save_npz(out, **{generator_of(task).main: stored(spec, samples)}, step=step, seed=seed, **labelled)
    save_arrays(shown, spec, samples, rows=rows)
    print(f"{count} samples of step {step}: {out}{pace(config.model, batch, ends, calls[:count])}")


def pace(model: Any, batch: int, ends: list[float], counted: list[int]) -> str:
    """Return how fast samples came, from when the program was ready on: the first of `ends`, of batches the rest.

    counted: how often the net was evaluated for each, where that is not known before
    """
    told = ""
    if calls := getattr(getattr(model, "sampling", None), "nfe", None):
        told += f"; {calls} evaluations of the net an image"
    elif counted:
        told += f"; {min(counted)} to {max(counted)} evaluations of the net an image, "
        told += f"{np.mean(counted):.0f} in the mean"
    if len(ends) > 1:
        told += f"; {batch * (len(ends) - 1) / (ends[-1] - ends[0]):.3g} images/s"
    return told
