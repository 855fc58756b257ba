"""python -m jaxgen map: the latents of held-out images in two dimensions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder
from jaxgen.core.errors import InputError, at_least
from jaxgen.media import output_files

if TYPE_CHECKING:
    from jaxgen.runs.load import Trained


def map_(
    run: Folder,
    out: Path = Path("map.png"),
    count: int = 5000,
    split: str = "test",
    by: Literal["axes", "pca"] = "axes",
    side: int = 20,
    label: int = 0,
    overwrite: bool = False,
):
    """Draw the codes of held-out images, coloured by label, and the images that a grid of codes is decoded to.

    The grid is at equal steps of the prior's probability, number by number, or through the range of the codes where
    the model has no prior.

    Args:
        run: the folder of the run
        out: a .png
        count: how many images, at most
        split: of the run's data
        by: the two numbers of a code (axes), or the first principal components of codes of any length (pca), which have
            no grid
        side: codes of the grid along a side
        label: the class that the grid's images are of
        overwrite: replace what is there
    """
    from jaxgen import data
    from jaxgen.inference import autoencoding, latent_space
    from jaxgen.inference.sampling import classes_of
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
            f"This model's codes have {size} numbers, a map two: train with --model.latent 2, or write --by pca."
        )
    if size < 2:
        raise InputError("This model's codes are of one number: a map needs two.")
    classes = classes_of(task, str(label) if "label" in task.example or label else None)
    about = load_config(run).data.at(split)
    source = data.open_source(about, task.example)
    data.check_source(source, about, task.example)
    some = data.RandomSubset(source, count)
    if by == "pca" and len(some) < 2:
        raise InputError("Principal components are those of two images or more, not of one.")
    opened = open_run(run)
    nets = autoencoding.Autoencoder(opened)
    codes = nets.encode(some, about)
    labels = some.labels if source.classes else None
    if by == "pca":
        codes, names = components(codes)
        plot_map(codes, labels, source.classes, names, out)
    else:
        values = grid_values(opened, codes, side, classes)
        points = np.stack(np.meshgrid(*values), -1).reshape(-1, 2)  # [side*side 2], the first number's turn
        painted = nets.decode(points.astype(np.float32), latent_space.conditions(len(points), classes))
        painted = to_u8(painted).reshape(side, side, *painted.shape[1:])
        plot_map(codes, labels, source.classes, ("z 1", "z 2"), out, painted, values)
    print(f"The codes of {len(codes)} images of {split} at step {opened.step}: {out}")


def components(codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the first two principal components f[n 2] of codes f[n d], and their names with their shares."""
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    found = pca.fit_transform(np.float64(codes))
    return found, [f"component {i + 1} ({100 * x:.0f} %)" for i, x in enumerate(pca.explained_variance_ratio_)]


DRAWS = 20_000  # of the prior, whose quantiles the grid is at


def grid_values(opened: "Trained", codes: np.ndarray, side: int, classes: Sequence[int]) -> np.ndarray:
    """Return the values f[2 side] of each number on the grid."""
    from jaxgen.core.capabilities import Latent
    from jaxgen.inference import latent_space

    if opened.task.find(Latent) is None:
        return np.linspace(codes.min(0), codes.max(0), side).T
    entry = latent_space.Entry(opened, 1000)
    drawn = entry.sample(0, np.arange(DRAWS), latent_space.conditions(DRAWS, classes))
    return np.quantile(drawn, (np.arange(side) + 0.5) / side, axis=0).T
