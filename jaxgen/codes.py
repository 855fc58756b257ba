"""The commands that look at pictures through a trained encoder: anomaly scores, the map of codes, their arithmetic."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from jaxgen import outputs
from jaxgen.errors import InputError, at_least, numbers
from jaxgen.explore import PNG, Folder, task_of

if TYPE_CHECKING:
    from jaxgen.coder import Coder
    from jaxgen.config import Data, Run
    from jaxgen.core import Task
    from jaxgen.data import Source
    from jaxgen.trained import Trained

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
    """Rank pictures by how unlike they are to what a run was trained on, the most unlike first.

    The table has rank, score, picture (its number, or its file) and label. The sheet beside it, a .png, shows the first
    and the last, rank and score under each. A score is -log p(x) in nats, or the mean squared error of what comes back.

    Args:
        run: the folder of the run
        path: a folder or a .zip of pictures, or a data source: digits, shapes, tfds:NAME (where the run's sets lie),
            folder:PATH, idx:PATH, npz:PATH
        by: likelihood or reconstruction; unset: likelihood where the model has one
        split: of the pictures; unset: all of a folder, test of other sources
        samples: of what a likelihood is integrated over, for each picture
        anomalies: labels such as 9 or 0,2 that are to come first: prints the area under the ROC curve
        count: pictures on the sheet, one half the most unlike, the other the least
        limit: how many pictures are scored, drawn from all of them; unset: all
        out: a .csv
        overwrite: replace what is there
    """
    from jaxgen import data, runs, sampling, sinks
    from jaxgen.metrics.auroc import auroc
    from jaxgen.trained import open_run

    at_least(1, samples=samples, count=count, limit=limit)
    sheet = out.with_suffix(".png")
    outputs.check(out, (".csv",), overwrite, [sheet])
    task = task_of(run)
    by = choose_measure(task, by)
    about = data_at(runs.load(run), path, split)
    source = data.open_source(about, sampling.image_of(task))
    sampling.check_data(task, source)
    some = data.Some(source, limit or len(source))
    odd = None if anomalies is None else anomalous(some, anomalies)
    opened = open_run(run)
    scores = scores_of(opened, some, about, by, samples)
    order = np.argsort(-scores, kind="stable")
    names = [str(getattr(source, "names", range(len(source)))[i]) for i in some.indices]
    labels = [source.classes[i] for i in some.labels] if source.classes else [""] * len(some)
    with outputs.whole(out) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "score", "picture", "label"])
        writer.writerows([rank, f"{scores[i]:.6g}", names[i], labels[i]] for rank, i in enumerate(order, 1))
    sinks.save_png(sheet, ranked(data.Part(some, order), scores[order], about, sampling.image_of(task), count))
    print(f"{len(some)} pictures scored by {by} at step {opened.step}: {out}, {sheet}")
    if odd is not None:
        print(f"AUROC {auroc(scores, odd):.4f} of {odd.sum()} anomalies among {len(odd)} pictures")


def scores_of(opened: "Trained", source: "Source", about: "Data", by: Measure, samples: int) -> np.ndarray:
    """Return how unlike each picture of a source is to what was trained on, f32[n]. Raises InputError for NaN."""
    from jaxgen.coder import Coder

    coder = Coder(opened)
    if by == "likelihood":
        scores = coder.negative_log_likelihoods(source, about, samples)
    else:
        scores = coder.squared_errors(source, about)
    if np.isnan(scores).any():
        raise InputError(f"The model gives {np.isnan(scores).sum()} of the pictures no number: its weights are broken.")
    return scores


def choose_measure(task: "Task", by: Measure | None) -> Measure:
    """Return what pictures are scored by. Raises InputError where the model has not got it."""
    likely, coded = task.log_prob is not None, task.encode is not None and task.decode is not None
    if not likely and not coded:
        raise InputError("This model has neither a likelihood nor an encoder: it can't score pictures.")
    if by == "likelihood" and not likely:
        raise InputError("This model has no likelihood: write --by reconstruction.")
    if by == "reconstruction" and not coded:
        raise InputError("This model has no encoder: write --by likelihood.")
    return by or ("likelihood" if likely else "reconstruction")


def data_at(run: "Run", path: str, split: str | None) -> "Data":
    """Return how a folder, a .zip or a data source is read for a run. Raises InputError where it is none of them."""
    from jaxgen.data.sources import KINDS

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
        raise InputError("The pictures have no labels: --anomalies has nothing to go by.")
    found = np.isin(data.labels_of(source), numbers(labels, len(source.classes), "anomalies"))
    if found.all() or not found.any():
        raise InputError(f"{'All' if found.all() else 'None'} of the pictures are of --anomalies {labels}.")
    return found


def ranked(source: "Source", scores: np.ndarray, about: "Data", image: tuple, count: int) -> np.ndarray:
    """Return the sheet u8[h w] or u8[h w 3]: the first and the last of pictures in order, `count` at most in all."""
    from jaxgen import data, sinks

    n = len(source)
    blocks = [range(n)] if n <= count else [range(count - count // 2), range(n - count // 2, n)]
    lines = []
    for block in filter(len, blocks):
        part, grey = data.Part(source, list(block)), replace(about, binarise="none")
        images = next(data.batches(part, grey, image, batch=len(block), seed=0, train=False))["image"]
        lines.append(sinks.captioned(images, [f"{i + 1} {scores[i]:.3g}" for i in block], COLUMNS))
    gap = np.full_like(lines[0][: sinks.CAPTION], 255)
    return np.concatenate([lines[0], *(x for line in lines[1:] for x in (gap, line))])


COLUMNS = 8  # of the sheet


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
    """Draw the codes of held-out pictures, coloured by label, and the pictures that a grid of codes is decoded to.

    The grid is at equal steps of the prior's probability, number by number, or through the range of the codes where
    the model has no prior.

    Args:
        run: the folder of the run
        out: a .png
        count: how many pictures, at most
        split: of the run's data
        by: the two numbers of a code (axes), or the first principal components of codes of any length (pca), which have
            no grid
        side: codes of the grid along a side
        label: the class that the grid's pictures are of
        overwrite: replace what is there
    """
    from jaxgen import coder, data, latents, runs, sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, count=count)
    at_least(2, side=side)
    outputs.check(out, PNG, overwrite)
    task = task_of(run)
    size = coder.check_vectors(task)
    if by == "axes" and size != 2:
        raise InputError(
            f"This model's codes have {size} numbers, a map two: train with --model.latent 2, or write --by pca."
        )
    if size < 2:
        raise InputError("This model's codes are of one number: a map needs two.")
    classes = sampling.classes_of(task, str(label) if "label" in task.given or label else None)
    about = runs.load(run).data.at(split)
    source = data.open_source(about, sampling.image_of(task))
    sampling.check_data(task, source)
    some = data.Some(source, count)
    if by == "pca" and len(some) < 2:
        raise InputError("Principal components are those of two pictures or more, not of one.")
    opened = open_run(run)
    nets = coder.Coder(opened)
    codes = nets.encode(some, about)
    labels = some.labels if source.classes else None
    if by == "pca":
        codes, names = components(codes)
        sinks.plot_map(codes, labels, source.classes, names, out)
    else:
        values = grid_values(opened, codes, side, classes)
        points = np.stack(np.meshgrid(*values), -1).reshape(-1, 2)  # [side*side 2], the first number's turn
        painted = nets.decode(points.astype(np.float32), latents.conditions(len(points), classes))
        painted = sinks.to_u8(painted).reshape(side, side, *painted.shape[1:])
        sinks.plot_map(codes, labels, source.classes, ("z 1", "z 2"), out, painted, values)
    print(f"The codes of {len(codes)} pictures of {split} at step {opened.step}: {out}")


def components(codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the first two principal components f[n 2] of codes f[n d], and their names with their shares."""
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    found = pca.fit_transform(np.float64(codes))
    return found, [f"component {i + 1} ({100 * x:.0f} %)" for i, x in enumerate(pca.explained_variance_ratio_)]


DRAWS = 20_000  # of the prior, whose quantiles the grid is at


def grid_values(opened: "Trained", codes: np.ndarray, side: int, classes: Sequence[int]) -> np.ndarray:
    """Return the values f[2 side] of each number on the grid."""
    from jaxgen import latents

    if opened.task.latent is None:
        return np.linspace(codes.min(0), codes.max(0), side).T
    entry = latents.Entry(opened, 1000)
    drawn = entry.sample(0, np.arange(DRAWS), latents.conditions(DRAWS, classes))
    return np.quantile(drawn, (np.arange(side) + 0.5) / side, axis=0).T


def arithmetic(
    run: Folder,
    start: str,
    minus: str,
    plus: str,
    out: Path = Path("arithmetic.png"),
    examples: int = 100,
    steps: int = 7,
    label: int = 0,
    overwrite: bool = False,
):
    """Decode start - minus + plus, each the mean code of pictures (Radford et al. 2016).

    The strip shows start, minus and plus, and after a gap the steps from start to the result.

    Args:
        run: the folder of the run
        start: picture files or label:K, the mean code of training examples of that class, with commas between
        minus: the same
        plus: the same
        out: a .png
        examples: how many examples a label:K is the mean of, at most
        steps: pictures from start to the result
        label: the class that a conditional model is told of files, and of what it paints
        overwrite: replace what is there
    """
    from jaxgen import coder, latents, runs, sampling, sinks
    from jaxgen.trained import open_run

    at_least(1, examples=examples)
    at_least(2, steps=steps)
    parts = [part for text in (start, minus, plus) for part in text.split(",")]
    if "" in parts:
        raise InputError("--start, --minus and --plus are picture files or label:K with commas between: one is empty.")
    outputs.check(out, PNG, overwrite, given=[Path(part) for part in parts])
    task = task_of(run)
    coder.check_vectors(task)
    classes = sampling.classes_of(task, str(label) if "label" in task.given or label else None)
    config = runs.load(run)
    terms = [sources_of(config, task, text, examples, label) for text in (start, minus, plus)]
    opened = open_run(run)
    nets = coder.Coder(opened)
    z, less, more = (mean_code(nets, term, config.data) for term in terms)
    way = np.stack([latents.lerp(z, z - less + more, t) for t in np.linspace(0, 1, steps)])
    images = nets.decode(np.concatenate([[z, less, more], way]), latents.conditions(3 + steps, classes))
    sinks.save_png(out, sinks.grid(np.insert(images, 3, np.float32(1), 0), 4 + steps))
    print(f"{start} - {minus} + {plus} at step {opened.step}: {out}")


def sources_of(run: "Run", task: "Task", text: str, examples: int, label: int) -> list["Source"]:
    """Return the pictures of each part of "label:3,picture.png". Raises InputError for what can't be read."""
    from jaxgen import data, sampling, sinks
    from jaxgen.data.arrays import Arrays
    from jaxgen.projection import read_picture

    found: list[Source] = []
    for part in text.split(","):
        if part.startswith("label:"):
            whole = data.open_source(run.data, sampling.image_of(task))
            sampling.check_data(task, whole)
            if not whole.classes:
                raise InputError(f"The run's data have no labels, so there is no {part}: name picture files.")
            if not (text := part.removeprefix("label:")).isdecimal() or int(text) >= len(whole.classes):
                raise InputError(f"{part} is no class: write label:K, K from 0 to {len(whole.classes) - 1}.")
            number = int(text)
            places = np.flatnonzero(data.labels_of(whole) == number)
            if not len(places):
                raise InputError(f"The run's data have no example of {part}.")
            found.append(data.Some(data.Part(whole, places), examples))
        else:
            picture = sinks.to_u8(read_picture(Path(part), sampling.image_of(task), run.data))
            found.append(Arrays(picture, np.full(1, label, np.int32), ("",)))
    return found


def mean_code(nets: "Coder", sources: Sequence["Source"], about: "Data") -> np.ndarray:
    """Return the mean of the sources' mean codes, f32[d]."""
    return np.mean([nets.encode(source, about).mean(0) for source in sources], 0)
