"""The commands that look at what a trained generator paints: samples, walks, mixed styles, projections, directions."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen import outputs
from jaxgen.errors import InputError, at_least, numbers

if TYPE_CHECKING:
    from jaxgen.core import Task

PNG = (".png",)
Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


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
    out: Path = Path("grid.png"),
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
        sampler: what codes are drawn from: the model's prior; or what is fitted on the codes of training pictures, of
            an autoencoder too: a mixture of Gaussians, or a second VAE (two-stage)
        components: Gaussians of the mixture
        sampling: settings of model.sampling other than the run's, such as steps=10,sampler=dpm++2m,guidance=2
        average: width sigma_rel of the weights' average, such as 0.08, of a run with --optim.ema-widths
        out: a .png for a grid; a .npz for the samples as arrays ("image", u8[n h w c]) with the grid beside it
        overwrite: replace what is there
    """
    from jaxgen import data, samplers, sinks
    from jaxgen import sampling as drawing
    from jaxgen.trained import open_run

    at_least(1, count=count, batch=batch)
    at_least(0, seed=seed)
    picture = out if out.suffix.lower() == ".png" else out.with_suffix(".png")
    outputs.check(out, (".png", ".npz"), overwrite, [picture])
    task = task_of(run, sampling)
    classes = drawing.classes_of(task, labels)
    drawing.check_truncation(task, truncation)
    samplers.check(task, sampler, components)
    if sampler == "prior":
        drawing.generate_of(task)
    if sampler != "prior" and truncation < 1:
        raise InputError(f"truncation is of the prior: it has no meaning for --sampler {sampler}.")
    opened = open_run(run, sampling=sampling, average=average)
    config, mesh, task, state, frozen, step = samplers.refit(opened, sampler, components)
    sample = drawing.sampler(task, mesh, batch)
    needed, rows = {}, 0
    if set(task.given) - {"label"}:
        needed = drawing.given(task, config, data.open_source(config.data, drawing.image_of(task)), count)
    if classes and (labels is not None or task.given == ("label",)):
        turns, rows = drawing.in_turn(classes, count)
        needed = {**needed, **turns}
    if truncation < 1:
        needed = {**needed, "truncation": np.full(count, truncation, np.float32)}
    ends: list[float] = []
    calls: list[int] = []

    def after(told):
        ends.append(time.perf_counter())
        calls.extend(np.asarray(told.get("evaluations", ())))

    images = sample(state, frozen, seed, count, needed, after)
    if out != picture:
        told: dict[str, Any] = {"label": needed["label"]} if classes else {}
        sinks.save_npz(out, image=sinks.to_u8(images), step=step, seed=seed, **told)
    sinks.save_png(picture, sinks.grid(images, rows=rows))
    print(f"{count} samples of step {step}: {out}{pace(config.model, batch, ends, calls[:count])}")


def pace(model: Any, batch: int, ends: list[float], counted: list[int]) -> str:
    """Return how fast samples came, from when the program was ready on: the first of `ends`, of batches the rest.

    counted: how often the net was evaluated for each, where that is not known before
    """
    told = ""
    if calls := getattr(getattr(model, "sampling", None), "evaluations", None):
        told += f"; {calls} evaluations of the net a picture"
    elif counted:
        told += f"; {min(counted)} to {max(counted)} evaluations of the net a picture, "
        told += f"{np.mean(counted):.0f} in the mean"
    if len(ends) > 1:
        told += f"; {batch * (len(ends) - 1) / (ends[-1] - ends[0]):.3g} pictures/s"
    return told


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
    """Walk from sample to sample and back to the first, many walks side by side, as a moving picture.

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
    from jaxgen import latents, sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, rows=rows, columns=columns, frames=frames, fps=fps)
    at_least(2, points=points)
    at_least(0, seed=seed)
    outputs.check(out, sinks.ANIMATIONS, overwrite)
    sinks.check_animation(out, fps)
    task = task_of(run)
    linear = latents.latent_of(task).linear
    classes = sampling.classes_of(task, labels)
    sampling.check_truncation(task, truncation)
    if space == "w" and not linear:
        raise InputError("This model has no w in which a straight line is a walk: write --space z.")
    straight = linear if space is None else space == "w"
    told = None
    if classes:
        row, point = np.arange(rows * columns)[None] // columns, np.arange(points)[:, None]
        told = np.asarray(classes)[(row + point * (straight and labels is not None)) % len(classes)]  # [points count]
    opened = open_run(run)
    entry = latents.Entry(opened, rows * columns)
    walks = latents.interpolate(entry, seed, points, frames, told, rows * columns, truncation, straight)
    pictures = (sinks.grid(images, columns) for images in sinks.progress(walks, "frames", points * frames))
    sinks.save_animation(out, pictures, fps)
    print(f"{points * frames} frames of step {opened.step}: {out}")


def mix(
    run: Folder,
    out: Path = Path("mix.png"),
    rows: int = 4,
    columns: int = 6,
    layers: str | None = None,
    seed: int = 0,
    labels: str | None = None,
    truncation: float = 1.0,
    overwrite: bool = False,
):
    """Mix the styles of samples: some layers take the sample to the left, all others the sample above.

    The first column and the first row show the samples. Only for models with a w for each layer, such as stylegan2.

    Args:
        run: the folder of the run
        out: a .png
        rows: samples to the left: the first ones of the seed
        columns: samples above: the next ones
        layers: rows of w that come from the sample to the left, counted from 0, the coarsest, such as 0-3 or 4,5; all
            others come from the sample above. Unset: the first 4, or half of them where there are fewer than 8
        seed: which samples
        labels: classes that the samples get in turn, such as 3, 0,2 or 0-9; unset: all
        truncation: psi in [0, 1]: below 1 the samples vary less, and keep nearer to the mean
        overwrite: replace what is there
    """
    from jaxgen import latents, sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, rows=rows, columns=columns)
    at_least(0, seed=seed)
    outputs.check(out, PNG, overwrite)
    task = task_of(run)
    depth = latents.rows_of(task)
    chosen = range(min(4, depth // 2)) if layers is None else numbers(layers, depth, "layers")
    classes = sampling.classes_of(task, labels)
    sampling.check_truncation(task, truncation)
    opened = open_run(run)
    images = latents.mix(latents.Entry(opened, 64), seed, rows, columns, chosen, classes, truncation)
    sinks.save_png(out, sinks.grid(images, columns + 1))
    print(f"{rows} x {columns} mixtures of step {opened.step}: {out}")


def project(
    run: Folder,
    picture: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PICTURE")],
    out: Path = Path("projected.png"),
    steps: int = 500,
    distance: Literal["pixels", "lenet", "efficientnet_lite0"] | None = None,
    label: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
):
    """Find the latent whose picture is nearest to a given one.

    Writes the target and the picture that was found side by side, and the latent beside them as a .npz ("w", "z" where
    the model has no w, "label", "image", and the "loss" of each step).

    Args:
        run: the folder of the run
        picture: a file, which is cut and resized to the model's size
        out: a .png
        steps: of Adam
        distance: what is made small beside the squared error of the pixels: nothing (pixels), that of the features of
            lenet or of efficientnet_lite0; unset: lenet for grey pictures up to 64x64, efficientnet_lite0 for colour
            where it is installed, else pixels
        label: the picture's class; unset: that of the nearest of 64 samples, or with a w of no class in particular
        seed: of the samples it starts from, and of the noise
        overwrite: replace what is there
    """
    from jaxgen import latents, runs, sampling, sinks
    from jaxgen import projection as search
    from jaxgen.config import Mesh
    from jaxgen.trained import open_run

    at_least(1, steps=steps)
    at_least(0, seed=seed)
    beside = out.with_suffix(".npz")
    outputs.check(out, PNG, overwrite, [beside], given=[picture])
    task = task_of(run)
    linear = latents.latent_of(task).linear
    classes = sampling.classes_of(task, None if label is None else str(label))
    image = sampling.image_of(task)
    target = search.read_picture(picture, image, runs.load(run).data)
    distance = distance or search.choose_distance(image)
    features = search.features_of(distance)
    opened = open_run(run, Mesh(data=1))
    ticks = lambda x: sinks.progress(x, "projecting", len(x))  # noqa: E731
    found = search.project(latents.Entry(opened, 64), target, steps, seed, classes, features, ticks)
    sinks.save_png(out, sinks.grid(np.concatenate([target, found.image]), 2))
    told = {} if found.label is None else {"label": found.label}
    arrays: dict[str, Any] = {
        "w" if linear else "z": found.latent,
        "image": sinks.to_u8(found.image),
        "loss": found.losses,
        **told,
    }
    sinks.save_npz(beside, step=opened.step, psnr=found.psnr, **arrays)
    print(f"PSNR {found.psnr:.2f} dB by {distance} after {steps} steps: {out}, {beside}")


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
    picture as a .npz ("directions", f64[count d], unit vectors).

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
    from jaxgen import latents, sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, count=count)
    check_walk(seed, strength)
    beside = out.with_suffix(".npz")
    outputs.check(out, PNG, overwrite, [beside])
    task = task_of(run)
    latents.check_directions(task, count)
    chosen = None if layers is None else numbers(layers, latents.rows_of(task), "layers")
    classes = sampling.classes_of(task, str(label) if "label" in task.given or label else None)
    sampling.check_truncation(task, truncation)
    opened = open_run(run)
    entry = latents.Entry(opened, count * latents.STEPS)
    images, found = latents.directions(entry, seed, count, strength, chosen, classes, truncation)
    sinks.save_png(out, sinks.grid(images, latents.STEPS))
    sinks.save_npz(beside, directions=found, step=opened.step)
    print(f"{count} directions of step {opened.step}: {out}")


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
    from jaxgen import latents as entries
    from jaxgen import sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, latents=latents)
    check_walk(seed, strength)
    outputs.check(out, PNG, overwrite)
    task = task_of(run)
    (size, *rest), _ = entries.shapes(task)
    if rest:
        raise InputError("This model's z is no vector: it has no numbers to change one at a time.")
    if latents is not None and latents > size:
        raise InputError(f"latents={latents} is more than z has: {size}.")
    classes = sampling.classes_of(task, str(label) if "label" in task.given or label else None)
    opened = open_run(run)
    count = latents or size
    entry = entries.Entry(opened, min(count, 16) * entries.STEPS)
    images = entries.traverse(entry, seed, count, strength, classes, 1.0)
    sinks.save_png(out, sinks.grid(images, entries.STEPS))
    print(f"{count} latents of step {opened.step}: {out}")


def reconstruct(
    run: Folder,
    out: Path = Path("reconstructions.png"),
    count: int = 32,
    split: str = "test",
    overwrite: bool = False,
):
    """Encode pictures and decode them again, each beside what comes back, and the PSNR.

    Args:
        run: the folder of the run
        out: a .png
        count: how many pictures, at most
        split: of the run's data
        overwrite: replace what is there
    """
    from dataclasses import replace

    import jax.numpy as jnp

    from jaxgen import data, sampling, sinks
    from jaxgen.metrics.pixels import psnr
    from jaxgen.trained import open_run

    at_least(1, count=count)
    outputs.check(out, PNG, overwrite)
    task = task_of(run)
    if task.encode is None or task.decode is None:
        raise InputError("This model does not encode and decode: it can't reconstruct pictures.")
    config, mesh, task, state, frozen, step = open_run(run)
    source = data.open_source(config.data.at(split), sampling.image_of(task))
    compared = sampling.comparison(task, replace(config, data=config.data.at(split)), mesh, source, 2 * count)
    assert compared is not None
    images = compared.make(state, frozen)
    sinks.save_png(out, sinks.grid(images, compared.columns))
    value = float(psnr(jnp.asarray(images[::2]), jnp.asarray(images[1::2])).mean())
    print(
        f"{len(images) // 2} pictures of {split} and their reconstructions at step {step}, psnr {value:.2f} dB: {out}"
    )


def task_of(folder: Path, sampling: str = "") -> "Task":
    """Return the task of a run's folder, so that a mistake is told before anything is restored."""
    from jaxgen import runs

    run = runs.load(folder, sampling)
    return run.model.task(run.steps)


def check_walk(seed: int, strength: float):
    """Raise InputError for what no sample can be moved by."""
    at_least(0, seed=seed)
    if not np.isfinite(strength):
        raise InputError(f"strength must be a number, not {strength}.")
