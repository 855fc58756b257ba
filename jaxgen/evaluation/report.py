"""`python -m jaxgen evaluate`: a table of numbers, each with the protocol that it was measured by."""

import dataclasses
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxgen.core import paths
from jaxgen.core.capabilities import Classifier, Codec, Degradation, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import image_of
from jaxgen.core.task import Task
from jaxgen.evaluation import sample_scores
from jaxgen.evaluation.held_out import HeldOut, known
from jaxgen.inference import latent_samplers
from jaxgen.inference.sampling import draws_samples
from jaxgen.media.plots import plot_confusion
from jaxgen.metrics.pairs import PAIR_METRIC
from jaxgen.pretrained.feature_extractors import extractor, for_images
from jaxgen.runs.config_io import load_config
from jaxgen.runs.load import open_run
from jaxgen.runs.run_dir import commit


def default_of(task: Task, fitted: bool = False) -> list[str]:
    """Return the default metrics of a model. fitted: whether a fitted sampler draws its latents"""
    if task.find(Classifier):
        return ["accuracy"]
    if (transform := task.find(Transform)) and transform.subject:
        if task.find(Degradation):
            return ["psnr_rgb"]
        paired = {transform.subject, transform.main} <= set(task.example)
        return [PAIR_METRIC[task.example[transform.main].kind]] if paired else ["loss"]
    if next(iter(task.example.values())).kind != "image":
        return ["loss"]
    if draws_samples(task) or fitted:
        return [f"{statistic}_{default_extractor(image_of(task))}" for statistic in ("fid", "kid")]
    if (codec := task.find(Codec)) and codec.decode:
        return ["reconstruction_psnr"]
    return ["loss"]


def default_extractor(image: tuple[int, int, int]) -> str:
    """Return the extractor of a generator's default scores. Raises InputError where its weights are not installed."""
    name = for_images(image)
    try:
        extractor(name)
    except InputError as error:
        kind = "colour" if image[2] > 1 else "large"
        text = f"Samples of {kind} images are scored by the features of {name} if --metrics names no others"
        raise InputError(f"{text}, such as fid_random: {error}") from None
    return name


def evaluate_run(
    folder: Path,
    names: Sequence[str],
    *,
    count: int,
    real: int | None,
    split: str | None,
    floor: str | None,
    seeds: Sequence[int],
    average: bool,
    resizer: str,
    inception: Path | None,
    cache: bool,
    subset: int = 1000,
    sampler: latent_samplers.Name = "prior",
    sampling: str = "",
    width: float | None = None,
):
    """Print the metrics of a run, then append them to its evaluations.jsonl, if that can be written.

    Raises InputError.
    """
    run = load_config(folder, sampling)
    if width is not None and not average:
        raise InputError("--average makes other weights than the last: leave --weights last out.")
    task = run.model.task(run.steps)
    latent_samplers.check(task, sampler)
    names = names or default_of(task, sampler != "prior")
    measures, scored = known(tuple(names))
    opened = open_run(folder, sampling=sampling, average=width)
    run, mesh, task, state, frozen, step = latent_samplers.refit(opened, sampler, average=average)
    about: dict[str, Any] = {"run": str(folder), "preset": run.preset, "step": step}
    about["weights"] = "moving average" if average and state.ema else "last"
    if width:
        about["weights"] += f" of width {width:g}"
    if sampler != "prior":
        about["sampler"] = sampler
    if how := getattr(run.model, "sampling", None):
        about["sampling"] = str(how)
    rows: list[dict[str, Any]] = []
    confusion: Callable[[], None] | None = None
    if measures:
        held_out = dataclasses.replace(run.eval, split=split or run.eval.split, batches=0)
        evaluation = HeldOut(dataclasses.replace(run, eval=held_out), task, mesh, measures)
        found = evaluation(state if average else state.replace(ema={}), frozen)
        protocol = {"data": run.data.source, "split": held_out.split, "examples": len(evaluation.source), **about}
        rows += [{"metric": k, "value": v, "of": "the run", **protocol} for k, v in found.items()]
        if (counts := evaluation.confusion) is not None:
            confusion = partial(plot_confusion, counts, evaluation.source.classes, folder / "confusion.png")
    if scored:
        more = {"real": real, "resizer": resizer, "cache": cache, "subset": subset, "bar": True}
        parts = sample_scores.open_scores(
            run, task, mesh, scored, count, split or run.data.split, inception=inception, **more
        )
        for part in parts:
            if floor is not None and (many := part.size(floor)) < count:
                raise InputError(f"The split {floor} has only {many} images: --count {many} makes it a floor.")
        for part in parts:
            found = [part.samples(state, frozen, seed, average) for seed in seeds]
            about["seeds"] = ", ".join(map(str, seeds))
            for name, value, half in summaries(found):
                rows.append({"metric": name, "value": value, "of": "samples", **half, **part.protocol(name), **about})
            if floor is not None:
                floors = part.compare(part.take_in(part.real_images(floor, count), count))
                for name, value in floors.items():
                    of = f"real images of {floor}"
                    rows.append({"metric": name, "value": value, "of": of, **part.protocol(name), **about})
    stamp = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "commit": commit()}
    show(rows, len(seeds) > 1)
    try:
        append(folder / "evaluations.jsonl", [{**row, **stamp} for row in rows])
        if confusion:
            confusion()
    except InputError as error:  # the run may be another user's: its numbers are printed, which is what was asked for
        print(f"{error} The numbers above are not kept there.", file=sys.stderr)


def append(path: Path, rows: Sequence[Mapping[str, Any]]):
    """Append rows to a file of lines of JSON: all of them or none. Raises InputError."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    try:
        if paths.remote(path):  # an object takes no more bytes: it is written anew, whole
            path.write_bytes((path.read_bytes() if path.exists() else b"") + data)
            return
        with path.open("ab", buffering=0) as file:
            start = os.fstat(file.fileno()).st_size
            if file.write(data) < len(data):
                file.truncate(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}.") from error


def summaries(found: Sequence[Mapping[str, float]]) -> list[tuple[str, float, dict[str, float]]]:
    """Return (metric, mean, {"interval95": half its width} where there are several seeds) of each metric."""
    rows = []
    for name in found[0]:
        mean, half = sample_scores.interval([values[name] for values in found])
        rows.append((name, mean, {"interval95": half} if len(found) > 1 else {}))
    return rows


def show(rows: Sequence[Mapping[str, Any]], several: bool):
    """Print the numbers, and below them what they have in common."""
    shown = Table(box=None)
    columns = ["metric", "value", *(["95 % interval"] if several else []), "of"]
    for column in columns:
        shown.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        half = f"± {row['interval95']:.4g}" if "interval95" in row else ""
        shown.add_row(row["metric"], f"{row['value']:.6g}", *([half] if several else []), row["of"])
    console = Console(soft_wrap=True, highlight=False)
    console.print(shown)
    protocols: dict[str, list[str]] = {}
    for row in rows:
        text = ", ".join(
            f"{key} {_plain(value)}"
            for key, value in row.items()
            if key not in ("metric", "value", "of", "interval95", "run")
        )
        protocols.setdefault(text, []).append(row["metric"])
    for text, names in protocols.items():
        console.print(f"{', '.join(dict.fromkeys(names))}: {text}", markup=False)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{k} {v}" for k, v in value.items())
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
