"""Tables of measurements, on the screen and in README.md: its tables are written by the benchmarks only."""

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"
EXACT = {**os.environ, "JAX_DEFAULT_MATMUL_PRECISION": "float32"}  # of what is measured, on a GPU too
LIBRARIES = ("jax", "flax", "torch")
PLACE = re.compile(
    r"((?:`[^`\n]*`, )*`[^`\n]*`: )?(\d{4}-\d\d-\d\d, .*?\.)(?= `|$)", re.MULTILINE
)  # as `places` has them


def arguments(text: str | None, rounds: int) -> argparse.Namespace:
    """Return a benchmark's own arguments: write, rounds."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default %(default)s)")
    return parser.parse_args()


def quality(text: str | None, name: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark that trains models and keeps a row for each in OUT/results.jsonl."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path(f"runs/{name}"), help="(default %(default)s)")
    parser.add_argument("--only", help="some of the models, with + between")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    return parser


def results(out: Path) -> list[dict[str, Any]]:
    """Return the rows of OUT/results.jsonl."""
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def publish(
    section: str,
    rows: list[dict[str, Any]],
    note: str,
    into_readme: bool,
    say: Callable[[str], Any] = print,
    found: list[dict[str, Any]] | None = None,
):
    """Print the table, and write it where asked to.

    found: of a table whose first column is the model, the results that it was made of, which say where each was
    measured. README.md's rows of other models are kept then: a machine has only the runs that were trained on it.
    """
    if found is None:
        where = place()
    else:
        rows, where = merged(section, rows, found)
    say(f"{table(rows)}\n\n{note} {where}")
    if into_readme:
        write(section, rows, note, where)


def merged(section: str, rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return the rows among README.md's of other models, in its order, and where each model was measured."""
    _, text, _ = parts(section)
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    there = [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]
    title = next(iter(rows[0]))
    new = dict.fromkeys(row[title] for row in rows)
    kept = [{key: row.get(key, "") for key in rows[0]} for row in there if row[title] not in new]
    names = dict.fromkeys(row[title] for row in there) | new
    every = [row for name in names for row in (rows if name in new else kept) if row[title] == name]
    was: dict[str, list[str]] = {}
    for models, where in PLACE.findall(text):
        for name in re.findall("`(.*?)`", models) or [name.strip("`") for name in names]:
            was.setdefault(name, []).append(where)
    old = [name.strip("`") for name in names if name not in new]
    return every, places([*({"model": name, "place": where} for name in old for where in was.get(name, ())), *found])


def parts(section: str) -> tuple[str, str, str]:
    """Return README.md before a section's text, that, and after it; a section that is missing is added at the end."""
    start, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    text = README.read_text() if README.exists() else ""
    if start not in text:
        text = f"{text.rstrip()}\n\n{start}\n{end}\n".lstrip()
    before, _, rest = text.partition(start)
    inside, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"README.md has {start} without {end} after it.")
    return f"{before}{start}", inside, f"{end}{after}"


def write(section: str, rows: list[dict[str, Any]], note: str, where: str):
    """Put a table between the section's markers in README.md."""
    before, _, after = parts(section)
    README.write_text(f"{before}\n{table(rows)}\n\n{note} {where}\n{after}")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows, which share their keys, as a Markdown table."""
    cells = [list(rows[0]), ["---"] * len(rows[0])]
    cells += [[f"{x:,}" if isinstance(x, int) else str(x) for x in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def place() -> str:
    """Return when and on what this runs, as a sentence."""
    versions = [f"{name} {v}" for name in LIBRARIES if (v := version(name))]
    date = datetime.date.today().isoformat()
    device = ", ".join(name for name in (gpu(), cpu()) if name)
    count = f"{cores()} core{'s' * (cores() != 1)}"
    return f"{date}, {device}, {count}; Python {platform.python_version()}, {', '.join(versions)}."


def places(rows: list[dict[str, Any]]) -> str:
    """Return where the rows, which say so under "place", were measured: of which models, where there are several."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row["place"], {})[f"`{row['model']}`"] = None
    if len(found) == 1:
        return next(iter(found))
    return " ".join(f"{', '.join(models)}: {place}" for place, models in found.items())


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


def trained(run: Path) -> dict[int, float]:
    """Return by step how long a run had been trained then, in seconds, pauses between its starts left out.

    By the clock times of what it logged to TensorBoard, which outlast a run that is killed.
    """
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    found, total = {}, 0.0
    for file in sorted((run / "tensorboard").iterdir()):
        data, at, times = file.read_bytes(), 0, []
        while at + 16 < len(data):  # a record: its length u64 and that's checksum, itself, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            if at + 16 + length > len(data):
                break  # killed while it was written
            event = Event.FromString(data[at + 12 : at + 12 + length])
            times.append(event.wall_time)
            if event.summary.value:  # and not a file's first record, which is of step 0
                found[event.step] = total + times[-1] - times[0]
            at += 16 + length
        total += times[-1] - times[0] if times else 0.0
    return found


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
