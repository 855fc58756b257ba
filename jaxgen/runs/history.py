"""The numbers that a run has logged, read back while it trains, after it has finished, or after a kill."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LARGEST = 2**53  # a step beyond it is damage


class Curve(NamedTuple):
    """The values f64[n] of a metric at steps i64[n], in the order of the steps. They may be NaN or infinite."""

    steps: np.ndarray
    values: np.ndarray


def json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the objects in a file of lines of JSON, and the number of its lines that hold none, as after damage."""
    rows, damaged = [], 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        row = None
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            damaged += 1
    return rows, damaged


def curves(folder: Path) -> tuple[dict[str, Curve], int]:
    """Return the curve of each metric of a run's metrics.jsonl, and the number of lines that are left out as damaged.

    Where a step is there twice, as after a kill, its last value counts.
    """
    rows, damaged = json_lines(folder / "metrics.jsonl")
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        step = row.pop("step", None)
        if not _is_step(step) or not all(map(_is_number, row.values())):
            damaged += 1
            continue
        for name, value in row.items():
            found[name][step] = float(value)
    return {name: curve(values) for name, values in found.items()}, damaged


def curve(values: Mapping[int, float]) -> Curve:
    """Return a curve from its values by step."""
    steps = np.array(sorted(values), np.int64)
    return Curve(steps, np.array([values[int(step)] for step in steps], np.float64))


def trained(folder: Path) -> dict[int, float]:
    """Return by step how long a run had been trained then, in seconds, pauses between its starts left out.

    By the clock times of what it logged to TensorBoard, which outlast a run that is killed.
    """
    found, total = {}, 0.0
    for file in _event_files(folder):
        first = last = None
        for event in events(file):
            first, last = event.wall_time if first is None else first, event.wall_time
            if event.summary.value:  # and not a file's first record, which is of step 0
                found[event.step] = total + last - first
        total += last - first if first is not None and last is not None else 0.0
    return found


def scalars(folder: Path, tag: str) -> Curve:
    """Return the curve of a number that a run logged to TensorBoard, such as images_per_second."""
    found = {}
    for file in _event_files(folder):
        for event in events(file):
            for value in event.summary.value:
                if value.tag == tag:
                    found[event.step] = value.simple_value
    return curve(found)


def events(file: Path) -> Iterator[Any]:
    """Yield the whole records (protocol buffer Event) of a TensorBoard file, up to the first damaged one."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    with file.open("rb") as stream, suppress(DecodeError):
        left = file.stat().st_size
        while (
            len(header := stream.read(12)) == 12
        ):  # a record: its length u64 and that's checksum, itself, its checksum
            (length,) = struct.unpack_from("<Q", header)
            if (left := left - 16 - length) < 0:
                return  # killed while it was written
            yield Event.FromString(stream.read(length))
            stream.read(4)


def _event_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "tensorboard").glob("*") if path.is_file())


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300)
