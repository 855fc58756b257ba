"""python -m jaxgen map: the latents of held-out images in two dimensions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, class_of
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import marks, output_files

if TYPE_CHECKING:
    from jaxgen.runs.load import Trained


def map_(
    run: Folder,
    out: Path = Path("map.png"),
    count: int = 5000,
    split: str = "test",
    by: Literal["axes", "pca"] = "axes",
    side: int = 20,
    label: str | None = None,
    overwrite: bool = False,
):
    """Plot the latents of held-out images in two dimensions, coloured by label, beside a grid of decoded images.

    The grid has equal steps of probability under the prior in each number, or equal steps over the range of the
    latents if the model has no prior.

    Args:
        run: the run's folder
        out: the output file, a .png
        count: largest number of images
        split: the split of the run's data
        by: the axes: the two numbers of a latent (axes), or the first two principal components of latents of any length
            (pca), without a grid of images
        side: number of images along a side of the grid
        label: the class of the grid's images, by name or number (unset: the first), for a class-conditional model
        overwrite: replace existing files
    """
    from jaxgen import data
    from jaxgen.inference import autoencoding, latent_space
    from jaxgen.inference.sampling import check_samples
    from jaxgen.media.image_grid import to_u8
    from jaxgen.media.plots import plot_map
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, count=count)
    at_least(2, side=side)
    output_files.check(out, PNG, overwrite)
    task = task_of(run)
    size = autoencoding.check_vectors(task)
    if by == "axes" and size != 2:
        raise InputError(
            f"This model's latents have {size} numbers, not two: train with --model.latent 2, or write --by pca."
        )
    if size < 2:
        raise InputError("This model's latents have one number: a map needs two or more.")
    check_samples(task, side**2, f"--side {side}")
    classes = class_of(task, label)
    about = load_config(run).data.at(split)
    source = data.open_source(about, task.example)
    data.check_source(source, about, task.example)
    some = data.RandomSubset(source, count)
    if by == "pca" and len(some) < 2:
        raise InputError("Principal components need two images or more, not one.")
    opened = open_run(run)
    nets = autoencoding.Autoencoder(opened)
    latents = nets.encode(some, about)
    labels = some.labels if source.classes else None
    if by == "pca":
        latents, names = components(latents)
        plot_map(latents, labels, source.classes, names, out)
    else:
        values = grid_values(opened, latents, side, classes)
        points = np.stack(np.meshgrid(*values), -1).reshape(-1, 2)  # [side*side 2], the first number varies fastest
        decoded = nets.decode(points.astype(np.float32), latent_space.conditions(len(points), classes))
        decoded = to_u8(decoded).reshape(side, side, *decoded.shape[1:])
        mark = marks.of_run(marks.DRAWN, run, opened)
        plot_map(latents, labels, source.classes, ("z 1", "z 2"), out, decoded, values, mark)
    print(f"The latents of {len(latents)} images of {split} at step {opened.step}: {out}")


def components(latents: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the first two principal components f[n 2] of latents f[n d], and their names with shares of variance."""
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    found = pca.fit_transform(np.float64(latents))
    return found, [f"component {i + 1} ({100 * x:.0f} %)" for i, x in enumerate(pca.explained_variance_ratio_)]


DRAWS = 20_000  # samples of the prior, whose quantiles are the grid


def grid_values(opened: "Trained", latents: np.ndarray, side: int, classes: Sequence[int]) -> np.ndarray:
    """Return the grid's values f[2 side] of each of the two numbers."""
    from jaxgen.core.capabilities import Latent
    from jaxgen.inference import latent_space

    if opened.task.find(Latent) is None:
        return np.linspace(latents.min(0), latents.max(0), side).T
    entry = latent_space.Entry(opened, 1000)
    drawn = entry.sample(0, np.arange(DRAWS), latent_space.conditions(DRAWS, classes))
    return np.quantile(drawn, (np.arange(side) + 0.5) / side, axis=0).T
