"""`python -m jaxgen report`: runs as one page that needs nothing but itself: settings, curves, samples, numbers."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.printable import printable
from jaxgen.evaluation import html_samples, html_tables
from jaxgen.evaluation.html_tables import escape
from jaxgen.evaluation.run_record import Record, damage
from jaxgen.media import output_files
from jaxgen.runs import history

TEMPLATE = Path(__file__).with_name("report.html")
POINTS = 1000  # numbers in a column of a curve at most
ALL_POINTS = 12_000  # in those of all curves together
ODD = 50  # points of a curve that are marked as NaN or infinite
SPEED = "images/s"


def write(records: Sequence[Record], out: Path, budget: int) -> tuple[int, list[str]]:
    """Write the page of runs; return its bytes, and sentences on what it leaves out.

    budget: bytes that all samples together may take in the page
    Raises InputError where the page can't be written.
    """
    text, notes = page(records, budget)
    with output_files.whole(out) as part:
        part.write_text(text, encoding="utf-8")
    return len(text.encode()), notes


def page(records: Sequence[Record], budget: int) -> tuple[str, list[str]]:
    """Return the page of runs, and sentences on what it leaves out."""
    groups = [group for i, record in enumerate(records) for group in html_samples.groups_of(record.folder, i)]
    samples, left_out = html_samples.embed(groups, budget)
    notes = [*(f"{records[run].name}: {note}" for run, note in left_out), *damage(records)]
    data = {"runs": [record.name for record in records], "panels": panels(records), "samples": samples}
    parts = {
        "title": escape(", ".join(record.name for record in records)),
        "made": escape(f"jaxgen {version('jaxgen')}, {time.strftime('%Y-%m-%d %H:%M')}"),
        "cards": "".join(map(html_tables.card, range(len(records)), records)),
        "notes": "".join(f"<li>{escape(note)}</li>" for note in notes),
        "evaluations": html_tables.evaluations(records),
        "speed": html_tables.speeds(records),
        "settings": html_tables.settings(records),
        "environment": html_tables.environments(records),
        # No text in it can end the element that holds it.
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    for element in ("style", "script"):  # a browser runs these, and nothing that a name could bring in
        inside = re.findall(rf"<{element}>(.*?)</{element}>", template, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inside)
        parts[f"{element}-hash"] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], template), notes


def panels(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the page's plots: one for each metric, in it a curve for each run and phase or data set."""
    every = [
        (name, i, curve)
        for i, record in enumerate(records)
        for name, curve in {**record.logged[0], SPEED: record.speed}.items()
        if len(curve.steps)
    ]
    points = max(min(POINTS, ALL_POINTS // max(len(every), 1)), 60)
    found: dict[str, list[dict[str, Any]]] = {}
    names = {name for name, _, _ in every}
    for name, i, curve in every:
        metric, phase = map(printable, place(name, names))
        found.setdefault(metric, []).append({"run": i, "phase": phase, **thinned(curve, points)})
    order = sorted(found, key=lambda metric: (metric == SPEED, not metric.endswith("loss")))  # losses first, speed last
    return [{"name": metric, "curves": found[metric]} for metric in order]


def place(name: str, names: Collection[str]) -> tuple[str, str]:
    """Return the plot of a metric, and the name of its curve there: what is measured on other data is beside it.

    "vae/loss" and "eval/test/vae_loss" are ("loss", "vae") and ("loss", "vae eval/test").
    """
    if name == SPEED:
        return name, ""
    where, _, metric = name.rpartition("/")
    for known in names:
        phase, slash, own = known.rpartition("/")
        if slash and where.startswith("eval/") and not phase.startswith("eval/") and metric == f"{phase}_{own}":
            return own, f"{phase} {where}"
    return metric, where


def thinned(curve: history.Curve, points: int) -> dict[str, Any]:
    """Return a curve as lists of at most so many numbers a column, and what is no number in it apart.

    x, y:     steps and values; of a long curve the means of equal parts of it
    low, high: the range of each part's values, of a long curve
    odd:      [step, "NaN"] and the like
    """
    good = np.isfinite(curve.values)
    odd = np.flatnonzero(~good)
    odd = odd[np.unique(np.linspace(0, len(odd) - 1, min(len(odd), ODD)).astype(int))] if len(odd) else odd
    rest: dict[str, Any] = {"odd": [[int(curve.steps[i]), words(curve.values[i])] for i in odd]} if len(odd) else {}
    steps, values = curve.steps[good], curve.values[good]
    if len(steps) <= points:
        return {"x": steps.tolist(), "y": rounded(values), **rest}
    starts = np.linspace(0, len(steps), points // 3, endpoint=False).astype(int)  # of three numbers each
    counts = np.diff([*starts, len(steps)])
    return {
        "x": np.rint(np.add.reduceat(steps, starts) / counts).astype(int).tolist(),
        "y": rounded(np.add.reduceat(values / np.repeat(counts, counts), starts)),
        "low": rounded(np.minimum.reduceat(values, starts)),
        "high": rounded(np.maximum.reduceat(values, starts)),
        "of": len(steps),
        **rest,
    }


def rounded(values: np.ndarray) -> list[float]:
    """Return numbers with six digits, which is more than a plot shows."""
    return [float(f"{value:.6g}") for value in values]


def words(value: float) -> str:
    """Return NaN, Infinity or -Infinity."""
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
