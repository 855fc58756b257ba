"""Runs as a report shows them: settings, curves, starts and evaluations, read back from their folders."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from jaxgen.core import paths
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.printable import printable
from jaxgen.runs import history
from jaxgen.runs.config_io import load_config


@dataclass(frozen=True)
class Record:
    """A run in a report: its folder, the name that it has there, and its settings."""

    folder: Path
    name: str
    run: Run

    @cached_property
    def logged(self) -> tuple[dict[str, history.Curve], int]:
        """The curves of metrics.jsonl, and the number of its damaged lines."""
        return history.curves(self.folder)

    @cached_property
    def speed(self) -> history.Curve:
        """The images/s."""
        return history.scalars(self.folder, "images_per_second")

    @cached_property
    def evaluations(self) -> tuple[list[dict[str, Any]], int]:
        """The rows of evaluations.jsonl, and the number of its damaged lines."""
        return history.json_lines(self.folder / "evaluations.jsonl")

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """The environments of the starts, the newest last; [] where they are not recorded, or damaged."""
        try:
            found = json.loads((self.folder / "environment.json").read_text())
        except (OSError, ValueError, RecursionError):
            return []
        return [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []

    @property
    def last(self) -> int:
        """The last step that is logged, 0 where there is none."""
        return max((int(each.steps[-1]) for each in self.logged[0].values()), default=0)

    @property
    def written(self) -> float | None:
        """The time of the last line of metrics.jsonl; None where there is none."""
        path = self.folder / "metrics.jsonl"
        return path.stat().st_mtime if path.is_file() else None


def open_records(folders: Sequence[Path]) -> list[Record]:
    """Return the runs in folders, each with a short name of its own.

    Raises InputError for a folder that holds no run, and for one that is given twice.
    """
    runs = [load_config(folder) for folder in folders]
    places = [PurePath(paths.absolute(folder)) for folder in folders]
    for i, path in enumerate(places):
        if path in places[:i]:
            raise InputError(f"{folders[i]} is given twice: name each run once.")
    ends = lambda depth: [os.path.join(*path.parts[-depth:]) for path in places]  # noqa: E731
    depth = next(d for d in range(1, 1 + max(len(path.parts) for path in places)) if len({*ends(d)}) == len(places))
    return [Record(*each) for each in zip(folders, map(printable, ends(depth)), runs, strict=True)]


def damage(records: Iterable[Record]) -> list[str]:
    """Return a sentence for each file with lines that are no rows of it."""
    found = []
    for record in records:
        for name, count in (("metrics.jsonl", record.logged[1]), ("evaluations.jsonl", record.evaluations[1])):
            if count:
                lines = "1 line is" if count == 1 else f"{count:,} lines are"
                found.append(f"{record.name}: {lines} damaged in {name}, and left out.")
    return found
