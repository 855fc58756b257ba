"""Sides that take turns: each a process of its own on the same cores, one at work at a time.

Only a quiet machine gives a true ratio of times: beside other work PyTorch's threads, which wait for each other after
every operation, lose far more than XLA's. The CPU time says what that hides, but counts waiting as work;
OMP_WAIT_POLICY=passive keeps most of it out.
"""

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxgen.evaluation.results import Result
from jaxgen.training.huge_pages import use_huge_pages
from tests.benchmarks import report

THREADS = 2
Sides = Mapping[str, Callable[[], Callable[[], Any]]]  # name: () -> what does the work once, and waits for it


def work(sides: Sides, side: str, repeats: int):
    """Be one side: for every line on stdin do the work once, then `repeats` times; print the seconds of one, CPU's too.

    The first time after a pause is no measure: a virtual machine gives its free memory back within seconds, and a step
    that takes large pages anew waits for the host.
    """
    use_huge_pages()  # as a training does; PyTorch has them too
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    one = sides[side]()
    for _ in range(2):
        one()
    print("ready", flush=True)
    for _ in sys.stdin:
        one()
        start, spent = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            one()
        print((time.perf_counter() - start) / repeats, (time.process_time() - spent) / repeats, flush=True)


def measure(module: str, sides: Sides, rounds: int, images: int, what: str, preset: str | None = None) -> list[Result]:
    """Return the results of each side, medians of its turns; times as multiples of the first side's, which is ours.

    what: the title of the column that names the side
    preset: what the first side runs
    """
    load()
    command, pipe = [sys.executable, "-m", module, "--work"], subprocess.PIPE
    workers, seconds = {}, {side: [] for side in sides}
    for side in sides:
        workers[side] = worker = subprocess.Popen([*command, side], stdin=pipe, stdout=pipe, text=True)
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n", f"{side} did not start"
    for _ in range(rounds):
        for side, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            seconds[side].append([float(x) for x in worker.stdout.readline().split()])
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    rows, [ours, *_] = [], seconds.values()
    for side, times in seconds.items():
        wall, cpu = np.median(times, axis=0)
        more = np.median(np.array(times) / ours, axis=0)
        values = {"ms": 1000 * wall, "images_per_second": images / wall, "time_ratio": more[0]}
        values |= {"cpu_ms": 1000 * cpu, "cpu_time_ratio": more[1]}
        ours_preset = preset if side == next(iter(sides)) else None
        rows += report.row({what: side}, values, model=side, preset=ours_preset, remark=load())
    return rows


def step_of(run: Any, change: Callable[[Any], Any] = lambda task: task) -> Callable[[], Any]:
    """Return what takes one step of a run as jaxgen's loop does, on one batch that stays in memory, and waits."""
    import jax

    from jaxgen.core import cache
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import spec_of
    from jaxgen.runs import sharding
    from jaxgen.runs.load import build_task
    from jaxgen.training.setup import lower

    cache.use_compilation_cache()
    mesh = sharding.make_mesh(Mesh(data=1))
    task = change(build_task(run, mesh))
    state = sharding.make_state(task, mesh, jax.random.key(0), spec_of(task, run.batch))
    step = lower(run, task, mesh, state, {}).compile()
    draw = np.random.default_rng(0)
    examples = {"image": draw.uniform(-1, 1, (run.batch, *run.model.image)).astype(np.float32)}
    if "label" in task.example:
        examples["label"] = draw.integers(0, task.classes, run.batch).astype(np.int32)
    batch = sharding.put_batch(mesh)(examples)

    def one():
        nonlocal state
        state, metrics = step(state, batch, {})
        jax.block_until_ready((state, metrics))

    return one


@functools.cache
def load() -> str:
    """Return how busy the machine was before anything was measured."""
    return f"Load {os.getloadavg()[0]:.1f} before"
