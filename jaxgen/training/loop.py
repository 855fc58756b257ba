"""The one training loop. It plays steps, and knows no model's name."""

import math
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgen import data
from jaxgen.core import posthoc_ema
from jaxgen.core.config import Run, validate
from jaxgen.core.errors import InputError
from jaxgen.core.spec import image_of, spec_of
from jaxgen.core.step import make_step
from jaxgen.core.task import Task
from jaxgen.core.types import Batch, PyTree, TrainState
from jaxgen.evaluation.held_out import Evaluation
from jaxgen.inference.previews import comparison, shown
from jaxgen.inference.sampling import check_data, make_sampler
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.load import build_task
from jaxgen.runs.run_dir import begun, claim, record_start
from jaxgen.runs.sharding import Mesh, is_first
from jaxgen.training import warm_start
from jaxgen.training.metric_writers import Silent, Sinks

T = TypeVar("T")

AHEAD = 2  # calls under way before the host looks at their metrics


class NonFinite(ArithmeticError):
    """A loss or a parameter stopped being a number."""


class Interrupted(BaseException):
    """The user, or the machine's owner, asked the run to stop; everything is saved."""

    def __init__(self, signum: int, sentence: str):
        super().__init__(sentence)
        self.signum = signum


def lower(run: Run, task: Task, mesh: Mesh, like: TrainState, frozen: PyTree):
    """Return one call, (state, batch, frozen) -> (state, metrics) with the state donated, traced and lowered.

    With steps_per_call=k it takes k batches stacked, and gives metrics f32[k].
    """
    step = make_step(task, run.compute.accumulate)
    k = run.compute.steps_per_call
    batch, lie = spec_of(task, run.batch * task.slices), sharding.batched(mesh)
    if k > 1:
        one, lie = step, sharding.stacked(mesh)
        step = lambda state, batches, frozen: jax.lax.scan(lambda s, b: one(s, b, frozen), state, batches)  # noqa: E731
        batch = {name: jax.ShapeDtypeStruct((k, *x.shape), x.dtype) for name, x in batch.items()}
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lie) for name, x in batch.items()}
    out = (jax.tree.map(lambda x: x.sharding, like), sharding.replicated(mesh))
    return jax.jit(step, donate_argnums=0, out_shardings=out).lower(like, batch, frozen)


def check_mesh(run: Run, mesh: Mesh):
    """Raise InputError where the mesh does not divide the batch."""
    part = run.batch // run.compute.accumulate
    if part % mesh.size:
        what = f"a batch of {run.batch}" + (f" in {run.compute.accumulate} parts" if part < run.batch else "")
        raise InputError(f"The mesh's {mesh.size} devices don't divide {what}: choose a multiple of {mesh.size}.")


def fit(run: Run) -> Path:
    """Train a run to its last step, or on from its newest checkpoint, and return its folder.

    Raises InputError for a setting, data or folder that can't be used, NonFinite where the numbers break down, and
    Interrupted after SIGTERM or SIGINT, when all is saved.
    """
    validate(run)
    sharding.start(run.mesh)
    mesh = sharding.make_mesh(run.mesh)
    check_mesh(run, mesh)
    task = build_task(run, mesh)
    source = data.open_source(run.data, image_of(task))
    check_data(task, source, run.data.pair)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    sharding.check_memory(like, mesh)
    evaluation = Evaluation(run, task, mesh) if run.eval.every else None
    weights = warm_start.weights_of(run, like) if run.start_from and not begun(run) else None
    with ExitStack() as stack:
        folder = stack.enter_context(claim(run))
        stop = stack.enter_context(stopping())
        checkpoints = Checkpoints(folder / "checkpoints", run.save.keep)
        stack.callback(checkpoints.close)
        kept = Checkpoints(folder / posthoc_ema.FOLDER, sys.maxsize) if run.optim.ema_widths and task.ema else None
        if kept:
            stack.callback(kept.close)
        restored = checkpoints.restore(like)
        if restored:
            state, notes = restored
        else:
            state, notes = sharding.make_state(task, mesh, jax.random.key(run.seed), spec_of(task, run.batch)), {}
            state = warm_start.started(state, task, weights[0]) if weights else state
        at = int(state.step)
        if at >= run.steps:
            if is_first():
                kinds = [
                    kind for kind in ("samples", "restorations", "translations") if any((folder / kind).glob("*.png"))
                ]
                last = f" Its {kinds[0]} are in {folder / kinds[0]}." if kinds else ""
                print(f"{folder} is finished: it has taken all its {at} steps.{last}")
            return folder
        sinks = Sinks(folder, at, run.steps) if is_first() else Silent()
        stack.callback(sinks.close)
        if is_first():
            record_start(folder, mesh)
        for step, fault in checkpoints.damaged.items():
            instead = "for the one before it" if restored else "and there is none before it"
            sinks.say(f"The checkpoint of step {step} is damaged ({fault}); it was set aside {instead}.")
        if restored:
            sinks.say(f"Resuming {folder} at step {at}.")
        elif weights:
            sinks.say(weights[1])
        frozen = {net: jax.device_put(load(), sharding.replicated(mesh)) for net, load in task.frozen.items()}
        with sinks.off_the_clock():
            step = interruptible(lambda: lower(run, task, mesh, like, frozen).compile(), stop)
        stream = open_stream(run, task, mesh, source, notes.get("batches", 0))
        stack.callback(stream.close)
        sample = make_sampler(task, mesh, run.log.count) if task.generate and run.log.samples else None
        needed, rows = shown(task, run, source, run.log.count) if sample else ({}, 0)
        compared = comparison(task, run, mesh, source, run.log.count) if run.log.samples else None
        window = Window(task, notes.get("window", {}))
        patience = 0 if sharding.one_by_one(mesh) else AHEAD
        due = lambda every: bool(every) and (at % every == 0 or at == run.steps)  # noqa: E731
        while at < run.steps:
            state, metrics = step(state, next(stream), frozen)
            at += run.compute.steps_per_call
            window.add(at, metrics)
            window.drain(patience)
            sinks.advance(at)
            values: dict[str, float] = {}
            examples = 0
            if due(run.log.every):
                steps, means = window.take()
                examples, values = steps * run.batch * task.slices, means
            if evaluation and due(run.eval.every):
                with sinks.off_the_clock():
                    values |= evaluation(state, frozen)
                if (counts := evaluation.confusion) is not None:
                    sinks.confusion(counts, source.classes)
            if values:
                sinks.metrics(at, values, examples)
            if sample and due(run.log.samples):
                with sinks.off_the_clock():
                    sinks.images(at, sample(state, frozen, run.seed, run.log.count, needed), rows)
            if compared and due(run.log.samples):
                with sinks.off_the_clock():
                    sinks.images(at, compared.make(state, frozen), columns=compared.columns, kind=compared.kind)
            stopped = stop.asked(at)
            if kept and due(run.save.averages) and not kept.has(at):  # played again after a stop, they are the same
                window.drain()
                kept.save(at, state.ema, {})
            if due(run.save.every) or stopped:
                window.drain()  # what is saved is known to be finite
                checkpoints.save(at, state, {"batches": at, "window": window.copy()})
                sinks.plot()
            if stopped and at < run.steps:
                checkpoints.wait()
                raise Interrupted(stop.signum or signal.SIGTERM, f"Saved step {at}. The same command resumes.")
        checkpoints.wait()
        if kept:
            kept.wait()
        made = [*(["samples"] if sample else []), *([compared.kind] if compared else [])]
        last = f"{made[0].capitalize()}: {folder / made[0] / f'{at:06d}.png'}" if made else ""
        sinks.say(f"Finished {at} steps. " + (last or f"Checkpoints: {folder / 'checkpoints'}"))
    return folder


def open_stream(run: Run, task: Task, mesh: Mesh, source: data.Source, start: int) -> Generator[Batch, None, None]:
    """Yield what each call of the step takes, on the mesh, from batch number `start` on."""
    process = (jax.process_index(), jax.process_count())
    size, k = run.batch * task.slices, run.compute.steps_per_call
    host = data.batches(source, run.data, image_of(task), batch=size, seed=run.seed, start=start, process=process)

    def calls():
        with closing(host):
            while some := list(islice(host, k)):
                named = [{name: batch[name] for name in task.example if name in batch} for batch in some]
                yield named[0] if k == 1 else jax.tree.map(lambda *x: np.stack(x), *named)

    return data.to_device(calls(), sharding.put_batch(mesh, stacked=k > 1), run.data.prefetch)


class Window:
    """Sums of the metrics since the log's last line. They are saved with the state: no line depends on a restart."""

    def __init__(self, task: Task, sums: Mapping[str, Any]):
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
                        raise NonFinite(
                            f"The loss or a parameter of phase {phase!r} stopped being finite at step "
                            f"{at - calls + i + 1}; the last checkpoint is from before that."
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


class Stop:
    """Whether SIGTERM or SIGINT asked this process, or one of the others, to stop."""

    signum = 0

    def handle(self, signum, frame):
        if self.signum:  # the second time
            os._exit(128 + signum)
        self.signum = signum

    def asked(self, at: int) -> bool:
        if jax.process_count() == 1:
            return bool(self.signum)
        return at % 10 == 0 and sharding.any_process(bool(self.signum))


@contextmanager
def stopping() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into a question that the loop asks between two calls; a second one leaves at once."""
    stop, old = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        old = {s: signal.signal(s, stop.handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def interruptible(work: Callable[[], T], stop: Stop) -> T:
    """Return work(), done in a thread: a compilation holds Python's signal handlers up for as long as it takes."""
    result: list[T | BaseException] = []

    def target():
        try:
            result.append(work())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if stop.signum:
            raise Interrupted(stop.signum, "Stopped before the first step; what was saved is untouched.")
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]
