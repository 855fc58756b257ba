"""The tables of a report's page, as markup in which everything from a run's folder is text."""

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import zoo
from jaxgen.core.class_names import listed
from jaxgen.core.config import Run
from jaxgen.core.printable import printable
from jaxgen.evaluation.run_record import Record
from jaxgen.runs import history
from jaxgen.runs.config_io import flat

ROWS = 500  # of the table of evaluations
DEEPEST = 5  # groups in a value
ABOVE = ("metric", "value", "of", "interval95", "run", "preset", "step", "time", "commit")  # columns, or said elsewhere


def escape(value: Any) -> str:
    """Return a value as text of a page: no markup, hidden characters as escapes."""
    return html.escape(printable(plain(value)))


def plain(value: Any, depth: int = 0) -> str:
    """Return a setting or a recorded value in words, without what is nested beyond reading."""
    if depth > DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return " ".join(f"{k} {plain(v, depth + 1)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return listed([plain(each, depth + 1) for each in value]) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unset"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of cells that are markup; the first column names the rows."""
    head = "".join(f"<th scope=col>{cell}</th>" for cell in header)
    line = lambda row: "".join([f"<th scope=row>{row[0]}</th>", *(f"<td>{cell}</td>" for cell in row[1:])])  # noqa: E731
    body = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    wrapped = f"<table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=scroll tabindex=0 role=group aria-label='table'>{wrapped}</div>"


def swatch(index: int, record: Record) -> str:
    """Return a run's name with its colour."""
    return f"<span class=run><i class=swatch data-run={index}></i>{escape(record.name)}</span>"


def card(index: int, record: Record) -> str:
    """Return the box at the head of the page that says what a run is and how far it has come."""
    run, last = record.run, record.last
    state = "finished" if last >= run.steps else "still in training, or stopped" if last else "nothing logged yet"
    about = {"preset": run.preset, "data": f"{run.data.source}, {run.data.split}", "batch": run.batch}
    if record.written:
        about["logged"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.written))
    if run.data.classes:
        about["classes"] = f"{len(run.data.classes)}: {listed(run.data.classes)}"
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in about.items())
    return (
        f"<article class=card><h2>{swatch(index, record)}</h2>"
        f"<p>step {last:,} of {run.steps:,} <span class=state>{state}</span></p>"
        f"<progress max={run.steps} value={min(last, run.steps)} aria-label='steps'></progress>"
        f"<dl>{rows}</dl></article>"
    )


def evaluations(records: Sequence[Record]) -> str:
    """Return the table of what `python -m jaxgen evaluate` measured, equal metrics of all runs together."""
    every = [
        (str(row.get("metric")), i, row)
        for i, record in enumerate(records)
        for row in record.evaluations[0]
        if "value" in row
    ]
    if not every:
        return "<p class=none>None yet: <code>python -m jaxgen evaluate RUN</code> measures a run.</p>"
    rows = []
    for metric, i, row in sorted(every, key=lambda each: each[:2])[:ROWS]:
        half = row.get("interval95")
        interval = f" <small>± {half:.2g}</small>" if isinstance(half, float) else ""
        protocol = "; ".join(f"<span>{escape(k)} {escape(v)}</span>" for k, v in row.items() if k not in ABOVE)
        commit = f"commit {str(row['commit'])[:10]}" if row.get("commit") else ""
        when = f"<small>{escape(str(row.get('time', ''))[:10])} {escape(commit)}</small>"
        first = [escape(metric), *([swatch(i, records[i])] if len(records) > 1 else [])]
        value = f"<span class=value><b>{escape(row['value'])}</b>{interval}</span>"
        cells = [value, escape(row.get("of", "")), escape(row.get("step", ""))]
        rows.append([*first, *cells, f"<span class=protocol>{protocol}</span> {when}"])
    header = ["metric", *(["run"] if len(records) > 1 else []), "value", "of", "step", "protocol"]
    more = f"<p class=none>The first {ROWS} of {len(every):,} rows.</p>" if len(every) > ROWS else ""
    return table(header, rows, "evaluations") + more


def speeds(records: Sequence[Record]) -> str:
    """Return the table of the runs' speed."""
    rows = []
    for i, record in enumerate(records):
        seconds = history.trained(record.folder)
        steps = np.array(sorted(seconds))
        gaps = np.diff([seconds[int(step)] for step in steps]) / np.diff(steps) if len(steps) > 1 else np.zeros(0)
        images = record.speed.values[np.isfinite(record.speed.values)]
        found = record.starts[-1].get("devices") if record.starts else None
        devices = [str(device) for device in found] if isinstance(found, list) else []
        rows.append(
            [
                swatch(i, record),
                f"{np.median(images):,.0f}" if len(images) else "unknown",
                duration(float(np.median(gaps))) if len(gaps) else "unknown",
                duration(max(seconds.values())) if seconds else "unknown",
                escape(f"{len(devices)} x {devices[0]}" if devices else "unknown"),
            ]
        )
    note = (
        "<p class=none>Medians over the logged steps. Compiling, evaluations and previews are left out of the images/s "
        "and are a part of the times.</p>"
    )
    return table(["run", "images/s", "time per step", "trained for", "devices"], rows) + note


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= 2 * size or unit == "ms":
            return f"{seconds / size:.3g} {unit}"
    raise AssertionError


def settings(records: Sequence[Record]) -> str:
    """Return the settings that differ from the preset or between the runs, and all of them, folded."""
    own = [flat(asdict(record.run)) for record in records]
    presets = [preset_of(record.run) for record in records]
    base = [flat(asdict(preset)) for _, preset in presets]
    names = list(dict.fromkeys(name for values in own for name in values if name not in ("preset", "out")))

    def cell(name: str, values: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
        if name not in values:
            return "<span class=none>–</span>"
        if values[name] == usual[name]:
            return escape(values[name])
        return f"<b>{escape(values[name])}</b> <small>preset: {escape(usual[name])}</small>"

    def differs(name: str) -> bool:
        there = [(values[name], usual[name]) for values, usual in zip(own, base, strict=True) if name in values]
        return any(value != usual or value != there[0][0] for value, usual in there)

    def rows(names: Iterable[str]) -> str:
        header = ["setting", *(swatch(i, record) for i, record in enumerate(records))]
        cells = ([cell(name, *each) for each in zip(own, base, strict=True)] for name in names)
        return table(
            header, ([f"<code>{name}</code>", *row] for name, row in zip(names, cells, strict=True)), "settings"
        )

    changed = list(filter(differs, names))
    preset = f"the preset {presets[0][0]}" if len({name for name, _ in presets}) == 1 else "their presets"
    between = " or between the runs" if len(records) > 1 else ""
    first = f"<p class=none>These differ from {preset}{between}.</p>{rows(changed)}"
    same = f"<p class=none>All settings are those of {preset}.</p>"
    return f"{first if changed else same}<details><summary>All settings</summary>{rows(names)}</details>"


def preset_of(run: Run) -> tuple[str, Run]:
    """Return the name and the settings of a run's preset, or of its tiny version where the run is nearer to that."""
    preset, values = zoo.load(run.preset), flat(asdict(run)).items()
    unlike = lambda each: sum(flat(asdict(each[1])).get(name) != value for name, value in values)  # noqa: E731
    return min((run.preset, preset.run), (f"{run.preset} at its tiny size", preset.tiny), key=unlike)


def environments(records: Sequence[Record]) -> str:
    """Return the versions, hardware and commit of each run's last start, and of its earlier ones, folded."""
    last = [record.starts[-1] if record.starts else {} for record in records]
    rows = []
    for group in ([without_versions(start) for start in last], list(map(versions_of, last))):
        for name in dict.fromkeys(name for values in group for name in values):
            rows.append([escape(name), *(escape(values[name]) if name in values else "–" for values in group)])
    header = ["of the last start", *(swatch(i, record) for i, record in enumerate(records))]
    earlier = [
        [swatch(i, record), *(escape(start.get(name)) for name in ("time", "commit", "devices", "mesh"))]
        for i, record in enumerate(records)
        for start in record.starts[:-1]
    ]
    if not rows:
        return "<p class=none>Not recorded.</p>"
    folded = table(["run", "time", "commit", "devices", "mesh"], earlier)
    more = f"<details><summary>Earlier starts ({len(earlier)})</summary>{folded}</details>" if earlier else ""
    return table(header, rows, "settings") + more


def versions_of(start: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the versions of a start's libraries."""
    found = start.get("versions")
    return found if isinstance(found, dict) else {}


def without_versions(start: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rest that is recorded of a start, its command without the folders of its program."""
    rest = {name: value for name, value in start.items() if name != "versions"}
    if isinstance(argv := rest.get("command"), list) and argv:
        rest["command"] = " ".join([Path(str(argv[0])).name, *map(str, argv[1:])])
    return rest
