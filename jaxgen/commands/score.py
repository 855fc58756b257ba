"""python -m jaxgen score: images ranked by anomaly score."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from jaxgen.commands.shared import Folder
from jaxgen.core.class_names import class_numbers
from jaxgen.core.errors import Incomplete, InputError, at_least
from jaxgen.media import output_files

if TYPE_CHECKING:
    from jaxgen.core.config import Data, Run
    from jaxgen.core.task import Task
    from jaxgen.data import Source
    from jaxgen.runs.load import Trained


Measure = Literal["likelihood", "reconstruction"]


def score(
    run: Folder,
    path: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATH")],
    by: Measure | None = None,
    split: str | None = None,
    samples: int = 10,
    anomalies: str | None = None,
    count: int = 64,
    limit: int | None = None,
    out: Path = Path("scores.csv"),
    overwrite: bool = False,
):
    """Rank images by how anomalous they are for a run's model, the most anomalous first.

    The score is -log p(x) in nats, or the mean squared error of the reconstruction. Writes a table with rank, score,
    image (number or file name) and label, and a .png of the first and last images with their ranks and scores. Files
    that can't be read are left out and listed, with exit status 1.

    Args:
        run: the run's folder
        path: a folder or a .zip of images, or a data source: digits, shapes, tfds:NAME (in the run's data folder),
            folder:PATH, idx:PATH, npz:PATH
        by: likelihood or reconstruction; unset: likelihood if the model has one
        split: the split of the images; unset: all for a folder, test for other sources
        samples: number of latent samples per image that estimate a likelihood
        anomalies: labels of the anomalies, such as 9 or 0,2 or cat; with it the area under the ROC curve is printed
        count: number of images in the .png, one half the most anomalous, the other half the least
        limit: number of images to score, chosen at random; unset: all
        out: the output file, a .csv
        overwrite: replace existing files
    """
    from jaxgen import data
    from jaxgen.core.spec import image_of
    from jaxgen.media.image_grid import save_png
    from jaxgen.metrics.auroc import auroc
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, samples=samples, count=count, limit=limit)
    sheet = output_files.beside(out, ".png")
    output_files.check(out, (".csv",), overwrite, [sheet])
    task = task_of(run)
    by, image = choose_measure(task, by), image_of(task)
    about = data_at(load_config(run), path, split)
    if not task.classes:  # other images may have other classes, which the model does not see
        about = replace(about, classes=())
    source = data.open_source(about, task.example)
    data.check_source(source, about, task.example)
    some = data.RandomSubset(source, limit or len(source))
    odd = None if anomalies is None else anomalous(some, anomalies)
    opened = open_run(run)
    scores = scores_of(opened, some, about, by, samples)
    order = np.argsort(-scores, kind="stable")
    names = [str(getattr(source, "names", range(len(source)))[i]) for i in some.indices]
    labels = [source.classes[i] for i in some.labels] if source.classes else [""] * len(some)
    if odd is not None:
        print(f"AUROC {auroc(scores, odd):.4f} of {odd.sum()} anomalies among {len(odd)} images", flush=True)
    with output_files.together():
        with output_files.whole(out) as part, part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", "score", "image", "label"])
            writer.writerows([rank, f"{scores[i]:.6g}", names[i], labels[i]] for rank, i in enumerate(order, 1))
        save_png(sheet, ranked(data.Subset(some, order), scores[order], about, image, count), None)  # of the data
    print(f"{len(some)} images scored by {by} at step {opened.step}: {out}, {sheet}")
    if bad := getattr(source, "bad", {}):
        lines = "\n".join(f"{name}: {wrong}" for name, wrong in bad.items())
        raise Incomplete(f"{len(bad)} of {len(bad) + len(source)} images can't be read, and were not scored:\n{lines}")


def scores_of(opened: "Trained", source: "Source", about: "Data", by: Measure, samples: int) -> np.ndarray:
    """Return the anomaly score of each image of a source, f32[n]. Raises InputError for NaN."""
    from jaxgen.inference.autoencoding import Autoencoder

    autoencoder = Autoencoder(opened)
    if by == "likelihood":
        scores = autoencoder.negative_log_likelihoods(source, about, samples)
    else:
        scores = autoencoder.squared_errors(source, about)
    if np.isnan(scores).any():
        raise InputError(f"The scores of {np.isnan(scores).sum()} images are NaN: the model's weights are broken.")
    return scores


def choose_measure(task: "Task", by: Measure | None) -> Measure:
    """Return the score to use. Raises InputError if the model can't compute it."""
    from jaxgen.core.capabilities import Codec, Density

    codec = task.find(Codec)
    likely, coded = task.find(Density) is not None, codec is not None and codec.decode is not None
    if not likely and not coded:
        raise InputError("This model has neither a likelihood nor an encoder: it can't score images.")
    if by == "likelihood" and not likely:
        raise InputError("This model has no likelihood: write --by reconstruction.")
    if by == "reconstruction" and not coded:
        raise InputError("This model has no encoder: write --by likelihood.")
    return by or ("likelihood" if likely else "reconstruction")


def data_at(run: "Run", path: str, split: str | None) -> "Data":
    """Return the data settings that read a folder, a .zip or a data source. Raises InputError for an unknown path."""
    from jaxgen.data.open import KINDS

    kind = path.partition(":")[0]
    if kind not in KINDS:
        if not Path(path).expanduser().exists():
            raise InputError(f"There is no folder or .zip {path}, and the data sources are {', '.join(KINDS)}.")
        kind, path = "folder", f"folder:{path}"
    split = split or ("all" if kind == "folder" else "test")
    return replace(run.data, source=path, only=None, split=split, skip_bad=True)


def anomalous(source: "Source", labels: str) -> np.ndarray:
    """Return whether each example has one of the labels, bool[n]. Raises InputError if none or all of them have."""
    from jaxgen import data

    if not source.classes:
        raise InputError("The images have no labels: leave out --anomalies.")
    found = np.isin(data.labels_of(source), class_numbers(labels, source.classes, "anomalies"))
    if found.all() or not found.any():
        raise InputError(f"{'All' if found.all() else 'None'} of the images have a label of --anomalies {labels}.")
    return found


def ranked(source: "Source", scores: np.ndarray, about: "Data", image: tuple, count: int) -> np.ndarray:
    """Return a sheet u8[h w] or u8[h w 3] of the first and last images of a ranked source, at most `count` images."""
    from jaxgen import data
    from jaxgen.media.image_grid import CAPTION, captioned

    n = len(source)
    blocks = [range(n)] if n <= count else [range(count - count // 2), range(n - count // 2, n)]
    lines = []
    for block in filter(len, blocks):
        part, grey = data.Subset(source, list(block)), replace(about, binarise="none")
        images = next(data.batches(part, grey, image, batch=len(block), seed=0, train=False))["image"]
        lines.append(captioned(images, [f"{i + 1} {scores[i]:.3g}" for i in block], COLUMNS))
    gap = np.full_like(lines[0][:CAPTION], 255)
    return np.concatenate([lines[0], *(x for line in lines[1:] for x in (gap, line))])


COLUMNS = 8  # of the sheet of images
