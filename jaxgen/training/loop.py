"""The one training loop. It plays steps, and knows no model's name."""

import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from jaxgen import data
from jaxgen.core import posthoc_ema
from jaxgen.core.config import Run, validate
from jaxgen.core.spec import spec_of
from jaxgen.core.task import Task
from jaxgen.core.types import Batch
from jaxgen.evaluation.held_out import Evaluation
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.config_io import check_names
from jaxgen.runs.load import build_task
from jaxgen.runs.run_dir import Claimed, begun, claim, lengthen, record_start, saved
from jaxgen.runs.sharding import is_first
from jaxgen.training import warm_start
from jaxgen.training.metric_writers import MetricWriters, Silent
from jaxgen.training.previews import Previews, last_previews
from jaxgen.training.resuming import check_data, how_it_starts, untrained_classes, with_vocabulary
from jaxgen.training.setup import Setup, check_batches, check_mesh, lower
from jaxgen.training.stopping import Interrupted, interruptible, stopping
from jaxgen.training.window import Window

AHEAD = 2  # calls under way before the host looks at their metrics


def fit(run: Run) -> Path:
    """Train a run to its last step, or on from its newest checkpoint, and return its folder.

    Raises InputError for a setting, data or folder that can't be used, NonFinite where the numbers break down, and
    Interrupted after SIGTERM or SIGINT, when all is saved.
    """
    validate(run)
    sharding.start(run.mesh)
    mesh = sharding.make_mesh(run.mesh)
    check_mesh(run, mesh)
    before = saved(run)
    run = with_vocabulary(run, before)
    task = build_task(run, mesh)
    check_batches(run, task)
    source = data.open_source(run.data, task.example)
    data.check_source(source, run.data, task.example)
    run = replace(run, data=data.with_classes(run.data, source, task.example))
    check_names(run)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    sharding.check_memory(like, mesh)
    evaluation = Evaluation(run, task, mesh) if run.eval.every else None
    weights = warm_start.weights_of(run, like) if run.start_from and not begun(run) else None
    with ExitStack() as stack:
        claimed = stack.enter_context(claim(run))
        folder, files = claimed.folder, claimed.files
        stop = stack.enter_context(stopping())
        store = stack.enter_context(Store.open(run, task, claimed))
        restored = store.checkpoints.restore(like)
        if restored:
            state, notes = restored
        else:
            state, notes = sharding.make_state(task, mesh, jax.random.key(run.seed), spec_of(task, run.batch)), {}
            state = warm_start.started(state, task, weights[0]) if weights else state
        at = int(state.step)
        if at >= run.steps:
            if is_first():
                longer = f"--resume {folder} --steps {2 * at} makes it longer."
                print(f"{folder} is finished: it has taken all its {at} steps; {longer}{last_previews(folder)}")
            return folder
        fingerprint = data.fingerprint(source)
        changes = check_data(run, fingerprint) if restored else []
        writer = MetricWriters(files, at, run.steps) if is_first() else Silent()
        stack.callback(writer.close)
        if is_first():
            record_start(files, mesh, fingerprint)
            if before and before.steps != run.steps:
                lengthen(files, run.steps)
        damaged, warm = store.checkpoints.damaged, weights and weights[1]
        starts = how_it_starts(run, before, at, damaged, restored is not None, warm)
        for sentence in [*starts, *changes, *untrained_classes(task.example, source.classes)]:
            writer.say(sentence)
        frozen = {net: jax.device_put(load(), sharding.replicated(mesh)) for net, load in task.frozen.items()}
        setup = Setup(mesh, task, like, frozen)
        with writer.off_the_clock():
            step = interruptible(lambda: lower(run, task, mesh, like, frozen).compile(), stop)
        stream = open_stream(run, setup, source, notes.get("batches", 0))
        stack.callback(stream.close)
        previews = Previews.of(run, setup, source)
        window = Window(task, notes.get("window", {}), at if restored else None)
        patience = 0 if sharding.one_by_one(mesh) else AHEAD
        due = lambda every: bool(every) and (at % every == 0 or at == run.steps)  # noqa: E731
        # The order of what follows is critical. Invariants:
        # 1. A call donates its state: whatever reads a state does so before the next call.
        # 2. Nothing is saved before all metrics up to it have been looked at: what is saved is finite.
        # 3. A checkpoint holds the state, the number of batches taken and the open sums of metrics of one moment, and
        #    the same numbers come out whether a run is stopped at it or not.
        # 4. The run stops only after a save, and every process at the same step.
        while at < run.steps:
            state, metrics = step(state, next(stream), frozen)
            at += run.compute.steps_per_call
            window.add(at, metrics)
            window.drain(patience)
            writer.advance(at)
            values: dict[str, float] = {}
            examples = 0
            if due(run.log.every):
                steps, means = window.take()
                examples, values = steps * run.batch * task.slices, means
            if evaluation and due(run.eval.every):
                with writer.off_the_clock():
                    values |= evaluation(state, frozen)
                if (counts := evaluation.confusion) is not None:
                    writer.confusion(counts, source.classes)
            if values:
                writer.metrics(at, values, examples)
            if due(run.log.samples):
                with writer.off_the_clock():
                    previews.write(writer, at, state)
            stopped = stop.asked(at)
            if store.averages and due(run.save.averages) and not store.averages.has(at):  # after a stop it is there
                window.drain()
                store.averages.save(at, state.ema, {})
            if due(run.save.every) or stopped:
                window.drain()
                store.checkpoints.save(at, state, {"batches": at, "window": window.copy()})
                window.saved = at
                writer.plot(last=stopped or at == run.steps)
            if stopped and at < run.steps:
                store.checkpoints.wait()
                raise Interrupted(stop.signum or signal.SIGTERM, f"Saved step {at}. The same command resumes.")
        store.wait()
        made = previews.last(folder, at)
        writer.say(f"Finished {at} steps. " + (made or f"Checkpoints: {folder / 'checkpoints'}"))
    return folder


@dataclass(frozen=True)
class Store:
    """A run's checkpoints, and the averages that it keeps beside them."""

    checkpoints: Checkpoints
    averages: Checkpoints | None

    @classmethod
    @contextmanager
    def open(cls, run: Run, task: Task, claimed: Claimed) -> Iterator["Store"]:
        """Open both, and close them however the run ends."""
        with ExitStack() as stack:
            checkpoints = Checkpoints(claimed.folder / "checkpoints", run.save.keep, claimed.settle)
            stack.callback(checkpoints.close)
            kept = run.optim.ema_widths and task.ema
            folder = claimed.folder / posthoc_ema.FOLDER
            averages = Checkpoints(folder, sys.maxsize, claimed.settle) if kept else None
            if averages:
                stack.callback(averages.close)
            try:
                yield cls(checkpoints, averages)
            except Exception as error:
                if sharding.lost(error):
                    stack.pop_all()  # closing would wait for the process that has gone
                raise

    def wait(self):
        """Wait until all is written."""
        self.checkpoints.wait()
        if self.averages:
            self.averages.wait()


def open_stream(run: Run, setup: Setup, source: data.Source, start: int) -> Generator[Batch, None, None]:
    """Yield what each call of the step takes, on the mesh, from batch number `start` on."""
    process, example = (jax.process_index(), jax.process_count()), setup.task.example
    size, k = run.batch * setup.task.slices, run.compute.steps_per_call
    host = data.batches(source, run.data, example, batch=size, seed=run.seed, start=start, process=process)

    def calls():
        with closing(host):
            while some := list(islice(host, k)):
                named = [{name: batch[name] for name in example if name in batch} for batch in some]
                yield named[0] if k == 1 else jax.tree.map(lambda *x: np.stack(x), *named)

    return data.to_device(calls(), sharding.put_batch(setup.mesh, stacked=k > 1), run.data.prefetch)
