"""What the benchmarks share: arguments, results of a table's row, and publishing them.

The published numbers are in jaxgen/evaluation/results.jsonl; tests/benchmarks/tables.py says how a table shows them.
"""

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxgen.evaluation import results as published
from jaxgen.evaluation.results import Result
from jaxgen.runs.history import trained as trained
from tests.benchmarks import render
from tests.benchmarks.protocols import PROTOCOLS

README = render.ROOT / "README.md"
EXACT = {**os.environ, "JAX_DEFAULT_MATMUL_PRECISION": "float32"}  # of what is measured, on a GPU too
LIBRARIES = ("jax", "flax", "torch")
FOLDERS = ("--data", "--out", "--weights", "--runs", "--picture")  # arguments that are of this machine
WRITE = "append the numbers to jaxgen/evaluation/results.jsonl, and render the tables"
Value = float | tuple[float, float] | Mapping[str, Any] | None  # (mean, half the interval), or fields of a Result


def arguments(text: str | None, rounds: int) -> argparse.Namespace:
    """Return a benchmark's own arguments: write, rounds."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=WRITE)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default %(default)s)")
    return parser.parse_args()


def quality(text: str | None, name: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark that trains models and keeps a row for each in OUT/results.jsonl."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path(f"runs/{name}"), help="(default %(default)s)")
    parser.add_argument("--only", help="some of the models, with + between")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help=WRITE)
    return parser


def results(out: Path) -> list[dict[str, Any]]:
    """Return the rows of OUT/results.jsonl."""
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def row(
    labels: Mapping[str, str],
    values: Mapping[str, Value],
    *,
    places: Sequence[Mapping[str, Any]] = (),
    **about: Any,
) -> list[Result]:
    """Return the results of one row of a table.

    labels: the row's first cells, by the titles of their columns
    values: by the metric, or `metric@case`; None: not measured
    places: what `place` returned where the numbers were measured, if that is not here and now
    about: what else is known of all of them, by the fields of a Result; `model` at least
    """
    found = []
    for name, value in values.items():
        metric, _, case = name.partition("@")
        if isinstance(value, Mapping):
            more: dict[str, Any] = dict(value)
        elif isinstance(value, tuple):
            more = {"value": value[0], "interval": value[1]}
        else:
            more = {"value": value}
        if more["value"] is None:
            continue
        more |= {key: _short(more[key]) for key in ("value", "interval") if more.get(key) is not None}
        fields: dict[str, Any] = {"metric": metric, "case": case, "row": dict(labels)} | about | together(places) | more
        found.append(Result(**{key: x for key, x in fields.items() if x not in (None, "")}))
    return found


def _short(value: float) -> float:
    """Return a number to six digits."""
    return int(value) if isinstance(value, int) else float(f"{float(value):.6g}")


def publish(table: str, rows: Iterable[Result], write: bool, say: Callable[[str], Any] = print):
    """Print a table of results; where asked to, append those that are new to the file and render the pages' tables."""
    new = [replace(result, table=table) if result.source else _here(result, table) for result in rows]
    say(render.shown(table, new))
    if write:
        known = {result.key: result for result in published.read()}
        changed = [r for r in new if not _same(r, known.get(r.key))]
        published.append(changed)
        render.render()


def _here(result: Result, table: str) -> Result:
    """Return a result of a table, measured by this command, here and now if nothing else is known."""
    there = place() if result.date is None else {}
    protocol = result.protocol or PROTOCOLS.get(table, {}).get(result.metric)
    return replace(result, table=table, protocol=protocol, command=result.command or command(), **there)


def _same(new: Result, old: Result | None) -> bool:
    """Return whether a result is in the file already, from whatever command."""
    return old is not None and replace(new, command=old.command) == old


def command() -> str:
    """Return this process's command, without the folders of this machine."""
    spec, words = getattr(sys.modules["__main__"], "__spec__", None), sys.argv[1:]
    words = ["DIR" if before in FOLDERS else word for before, word in zip(["", *words], words, strict=False)]
    return " ".join(["python -m", spec.name if spec else Path(sys.argv[0]).stem, *words])


def place() -> dict[str, Any]:
    """Return when and on what this runs: the fields date, hardware and versions of a Result."""
    device = ", ".join(name for name in (gpu(), cpu()) if name)
    count = f"{cores()} core{'s' * (cores() != 1)}"
    versions = {"Python": platform.python_version()} | {name: v for name in LIBRARIES if (v := version(name))}
    return {"date": datetime.date.today().isoformat(), "hardware": f"{device}, {count}", "versions": versions}


def together(places: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the place of a number made of several: the first and last date, all the hardware, the newest versions."""
    places = sorted(places, key=lambda place: place["date"])
    if not places:
        return {}
    first, last = places[0]["date"], places[-1]["date"]
    hardware = "; ".join(dict.fromkeys(place["hardware"] for place in places))
    date = first if first == last else f"{first}/{last}"
    return {"date": date, "hardware": hardware, "versions": dict(places[-1]["versions"])}


def many_steps() -> list[str]:
    """Return what keeps a GPU busy in a training of small nets: the steps are the same."""
    return ["--compute.steps-per-call", "50"] if gpu() else []


@functools.cache
def gpu() -> str | None:
    """Return the GPU's name, of the first where there are several; None where there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")
    return names[0].strip() or None


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
