"""python -m jaxgen score: images ranked by how unlikely they are."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from jaxgen.commands.shared import Folder
from jaxgen.core.errors import InputError, at_least, numbers
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
    """Rank images by how unlike they are to what a run was trained on, the most unlike first.

    The table has rank, score, image (its number, or its file) and label. The sheet beside it, a .png, shows the first
    and the last, rank and score under each. A score is -log p(x) in nats, or the mean squared error of what comes back.

    Args:
        run: the folder of the run
        path: a folder or a .zip of images, or a data source: digits, shapes, tfds:NAME (where the run's sets lie),
            folder:PATH, idx:PATH, npz:PATH
        by: likelihood or reconstruction; unset: likelihood where the model has one
        split: of the images; unset: all of a folder, test of other sources
        samples: of what a likelihood is integrated over, for each image
        anomalies: labels such as 9 or 0,2 that are to come first: prints the area under the ROC curve
        count: images on the sheet, one half the most unlike, the other the least
        limit: how many images are scored, drawn from all of them; unset: all
        out: a .csv
        overwrite: replace what is there
    """
    from jaxgen import data
    from jaxgen.core.spec import image_of
    from jaxgen.media.image_grid import save_png
    from jaxgen.metrics.auroc import auroc
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, samples=samples, count=count, limit=limit)
    sheet = out.with_suffix(".png")
    output_files.check(out, (".csv",), overwrite, [sheet])
    task = task_of(run)
    by, image = choose_measure(task, by), image_of(task)
    about = data_at(load_config(run), path, split)
    source = data.open_source(about, task.example)
    data.check_source(source, about, task.example)
    some = data.RandomSubset(source, limit or len(source))
    odd = None if anomalies is None else anomalous(some, anomalies)
    opened = open_run(run)
    scores = scores_of(opened, some, about, by, samples)
    order = np.argsort(-scores, kind="stable")
    names = [str(getattr(source, "names", range(len(source)))[i]) for i in some.indices]
    labels = [source.classes[i] for i in some.labels] if source.classes else [""] * len(some)
    with output_files.whole(out) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "score", "picture", "label"])
        writer.writerows([rank, f"{scores[i]:.6g}", names[i], labels[i]] for rank, i in enumerate(order, 1))
    save_png(sheet, ranked(data.Subset(some, order), scores[order], about, image, count))
    print(f"{len(some)} images scored by {by} at step {opened.step}: {out}, {sheet}")
    if odd is not None:
        print(f"AUROC {auroc(scores, odd):.4f} of {odd.sum()} anomalies among {len(odd)} images")


def scores_of(opened: "Trained", source: "Source", about: "Data", by: Measure, samples: int) -> np.ndarray:
    """Return how unlike each image of a source is to what was trained on, f32[n]. Raises InputError for NaN."""
    from jaxgen.inference.autoencoding import Autoencoder

    coder = Autoencoder(opened)
    if by == "likelihood":
        scores = coder.negative_log_likelihoods(source, about, samples)
    else:
        scores = coder.squared_errors(source, about)
    if np.isnan(scores).any():
        raise InputError(f"The model gives {np.isnan(scores).sum()} of the images no number: its weights are broken.")
    return scores


def choose_measure(task: "Task", by: Measure | None) -> Measure:
    """Return what images are scored by. Raises InputError where the model has not got it."""
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
    """Return how a folder, a .zip or a data source is read for a run. Raises InputError where it is none of them."""
    from jaxgen.data.open import KINDS

    kind = path.partition(":")[0]
    if kind not in KINDS:
        if not Path(path).expanduser().exists():
            raise InputError(f"There is no folder or .zip {path}, and the data sources are {', '.join(KINDS)}.")
        kind, path = "folder", f"folder:{path}"
    return replace(run.data, source=path, only=None, split=split or ("all" if kind == "folder" else "test"))


def anomalous(source: "Source", labels: str) -> np.ndarray:
    """Return which examples have one of the labels, bool[n]. Raises InputError where none or all of them have."""
    from jaxgen import data

    if not source.classes:
        raise InputError("The images have no labels: --anomalies has nothing to go by.")
    found = np.isin(data.labels_of(source), numbers(labels, len(source.classes), "anomalies"))
    if found.all() or not found.any():
        raise InputError(f"{'All' if found.all() else 'None'} of the images are of --anomalies {labels}.")
    return found


def ranked(source: "Source", scores: np.ndarray, about: "Data", image: tuple, count: int) -> np.ndarray:
    """Return the sheet u8[h w] or u8[h w 3]: the first and the last of images in order, `count` at most in all."""
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


COLUMNS = 8  # of the sheet
