"""Previews during training: samples of fixed keys, and examples beside the outputs for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.core.config import Run
from jaxgen.core.types import TrainState
from jaxgen.data import Source
from jaxgen.inference.previews import Comparison, comparison, shown
from jaxgen.inference.sampling import draws_samples, make_sampler, sample_spec
from jaxgen.media.array_files import ENDINGS
from jaxgen.media.marks import DRAWN, EDITED, Mark
from jaxgen.training.metric_writers import MetricWriters, Silent
from jaxgen.training.setup import Setup

KINDS = (
    "samples",
    "restorations",
    "translations",
    "predictions",
)  # folders that may hold the previews of a finished run


def last_previews(folder: Path) -> str:
    """Return a sentence on where a finished run's previews are, or nothing."""
    kinds = [kind for kind in KINDS if any((folder / kind).glob("*.*"))]
    return f" Its {kinds[0]} are in {folder / kinds[0]}." if kinds else ""


@dataclass(frozen=True)
class Previews:
    """The previews of a run: samples of fixed keys, and examples beside the outputs for them."""

    run: Run
    setup: Setup
    sample: Callable[..., np.ndarray] | None
    conditioning: Mapping[str, np.ndarray]
    rows: int
    comparison: Comparison | None

    @classmethod
    def of(cls, run: Run, setup: Setup, source: Source) -> "Previews":
        """Return a run's previews; none where `log.samples` is 0."""
        task, mesh, count = setup.task, setup.mesh, run.log.count
        if not run.log.samples:
            return cls(run, setup, None, {}, 0, None)
        sample = make_sampler(task, mesh, count) if draws_samples(task) else None
        conditioning, rows = shown(task, run, source, count) if sample else ({}, 0)
        return cls(run, setup, sample, conditioning, rows, comparison(task, run, mesh, source, count))

    def write(self, writer: MetricWriters | Silent, at: int, state: TrainState):
        """Write the previews of a state."""
        if self.sample:
            made = self.sample(state, self.setup.frozen, self.run.seed, self.run.log.count, self.conditioning)
            given = any(self.setup.task.example[name].kind in ("image", "video", "audio") for name in self.conditioning)
            mark = Mark(EDITED if given else DRAWN, self.run.preset, seed=self.run.seed)
            writer.examples(at, sample_spec(self.setup.task), made, mark, self.rows)
        if self.comparison:
            made, columns = self.comparison.make(state, self.setup.frozen), self.comparison.columns
            mark = Mark(EDITED, self.run.preset, seed=self.run.seed)
            writer.examples(at, self.comparison.spec, made, mark, columns=columns, kind=self.comparison.kind)

    def last(self, folder: Path, at: int) -> str:
        """Return a sentence on where the last previews are, or nothing."""
        if self.sample:
            kind, spec = "samples", sample_spec(self.setup.task)
        elif self.comparison:
            kind, spec = self.comparison.kind, self.comparison.spec
        else:
            return ""
        return f"{kind.capitalize()}: {folder / kind / f'{at:06d}{ENDINGS[spec.kind]}'}"
