"""Sums of the metrics between two lines of the log, read a few calls late."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.core.task import Task


class NonFinite(ArithmeticError):
    """A loss or a parameter stopped being a number."""


class Window:
    """Sums of the metrics since the log's last line. They are saved with the state: no line depends on a restart.

    saved: the step of the newest checkpoint, None before there is one
    """

    def __init__(self, task: Task, sums: Mapping[str, Any], saved: int | None = None):
        self.saved = saved
        self.phases = [phase.name for phase in task.phases]
        self.sums = {name: list(pair) for name, pair in sums.items()}  # name: [sum, count]
        self.pending = deque()
        self.steps = 0

    def add(self, at: int, metrics: Mapping[str, jax.Array]):
        self.pending.append((at, metrics))

    def drain(self, patience: int = 0):
        """Take in all but the last `patience` calls. Raises NonFinite at the first phase that broke down."""
        while len(self.pending) > patience:
            at, metrics = self.pending.popleft()
            columns = {name: np.atleast_1d(np.asarray(x)).tolist() for name, x in metrics.items()}
            calls = len(next(iter(columns.values())))
            self.steps += calls
            for i in range(calls):
                for phase in self.phases:
                    if columns[f"{phase}/finite"][i] < 1:
                        kept = f"the checkpoint of step {self.saved} is from before that"
                        raise NonFinite(
                            f"The loss or a parameter of phase {phase!r} stopped being finite at step "
                            f"{at - calls + i + 1}; {kept if self.saved is not None else 'there is no checkpoint yet'}."
                        )
                for name, column in columns.items():
                    if not name.endswith("/finite") and not math.isnan(column[i]):  # NaN: a lazy phase did not play
                        pair = self.sums.setdefault(name, [0.0, 0])
                        pair[0] += column[i]
                        pair[1] += 1

    def copy(self) -> dict[str, list[float]]:
        """Return the sums and counts as they are now: a checkpoint is written while the next steps add to them."""
        return {name: list(pair) for name, pair in self.sums.items()}

    def take(self) -> tuple[int, dict[str, float]]:
        """Return how many steps this process has added, and the means, by phase; and start anew."""
        self.drain()
        means = {name: total / count for name, (total, count) in self.sums.items()}
        steps, self.steps, self.sums = self.steps, 0, {}
        order = {phase: i for i, phase in enumerate(self.phases)}
        return steps, dict(sorted(means.items(), key=lambda item: order[item[0].partition("/")[0]]))
