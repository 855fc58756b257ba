"""What the training loop costs beside its step: python -m tests.benchmarks.loop_overhead [--write] [--rounds N]

fit(), with its data pipeline, metrics and log, against the same compiled step on one batch that stays in memory. They
take turns within one run: each time fit has written a line of its log it waits while the bare step has its turn.
Compilation, samples and checkpoints are left out. CPU time, of all the process's threads, is what other work on the
machine disturbs least.
"""

import dataclasses
import tempfile
import time
from typing import Any

import jax
import numpy as np

from jaxgen import zoo
from jaxgen.core import cache
from jaxgen.core.config import Data, Log, Run, Save
from jaxgen.core.spec import spec_of
from jaxgen.evaluation.results import Result
from jaxgen.models.gan.dcgan import DCGAN
from jaxgen.runs import sharding
from jaxgen.runs.load import build_task
from jaxgen.training import loop
from jaxgen.training.setup import lower
from tests.benchmarks import report

NEVER = 10**9
SQUARE = DCGAN(image=(64, 64, 3), width=16)
RUNS = {  # name: run, steps in a turn and in a line of the log
    "digits 32x32x1, preset dcgan": (zoo.load("dcgan").run, 100),
    "digits 64x64x3, width 16": (Run(model=SQUARE, data=Data("digits"), batch=64), 50),
    "shapes 64x64x3, width 16, drawn as it trains": (Run(model=SQUARE, data=Data("shapes"), batch=64), 50),
}


def bare(run: Run):
    """Return what takes n bare steps and waits for them."""
    mesh = sharding.make_mesh(run.mesh)
    task = build_task(run, mesh)
    spec = spec_of(task, run.batch)
    state = sharding.make_state(task, mesh, jax.random.key(run.seed), spec)
    step = lower(run, task, mesh, state, {}).compile()
    batch = sharding.put_batch(mesh)({name: np.zeros(x.shape, x.dtype) for name, x in spec.items()})

    def turn(steps: int):
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, batch, {})
        jax.block_until_ready(state)

    turn(3)
    return turn


def measure(name: str, rounds: int) -> list[Result]:
    """Return the results of a run: steps/s of both, and the share that the loop loses."""
    run, steps = RUNS[name]
    times: dict[str, list[np.ndarray]] = {"fit": [], "bare": []}
    turn = bare(run)

    class Turns(loop.MetricWriters):
        """The run's own output; after a line of it the bare step has its turn."""

        resumed = np.zeros(2)

        def metrics(self, *args: Any):
            super().metrics(*args)
            with self.off_the_clock():
                now = clocks()
                times["fit"].append(now - self.resumed)
                turn(steps)
                times["bare"].append(clocks() - now)
                self.resumed = clocks()

    with tempfile.TemporaryDirectory() as folder:
        intervals = {"log": Log(every=steps, samples=0), "save": Save(every=NEVER)}
        settings = {"steps": steps * (rounds + 1), "preset": "dcgan", "out": f"{folder}/run"}
        plain, loop.MetricWriters = loop.MetricWriters, Turns
        try:
            loop.fit(dataclasses.replace(run, **intervals, **settings))
        finally:
            loop.MetricWriters = plain
    fits, bares = (np.array(x[1:]) for x in (times["fit"], times["bare"]))  # the first line's time includes the start
    wall, cpu = np.median(1 - bares / fits, axis=0)
    rates = {f"steps_per_second@{name}": steps / np.median(x[:, 0]) for name, x in (("bare", bares), ("fit", fits))}
    return report.row({"run": name}, rates | {"time_lost": wall, "cpu_time_lost": cpu}, model="dcgan", preset="dcgan")


def clocks() -> np.ndarray:
    """Return the time, and the CPU time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    wanted = report.arguments(__doc__, rounds=5)
    cache.use_compilation_cache()
    rows = [result for name in RUNS for result in measure(name, wanted.rounds)]
    report.publish("loop-overhead", rows, wanted.write)
