"""Sentences on the beginning of a run, or its continuation: its checkpoints, its weights and its schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxgen.core import paths
from jaxgen.core.config import Optim, Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import Example
from jaxgen.data.fingerprint import difference
from jaxgen.runs.config_io import load_config
from jaxgen.runs.run_dir import recorded_data
from jaxgen.runs.task_transforms import schedule, warmup_of


def how_it_starts(
    run: Run, before: Run | None, at: int, damaged: Mapping[int, str], restored: bool, warm: str | None
) -> list[str]:
    """Return sentences on what a run goes on from at step `at`.

    before:   the run as its folder held it, which may have had fewer steps
    damaged:  checkpoints that were set aside, and what is wrong with each
    restored: whether the state is of a checkpoint
    warm:     of new weights, what they come from
    """
    said = []
    for step, fault in damaged.items():
        instead = "for the one before it" if restored else "and there is none before it"
        said.append(f"The checkpoint of step {step} is damaged ({fault}); it was set aside {instead}.")
    if restored:
        said.append(f"Resuming {run.folder} at step {at}.")
    elif warm:
        said.append(warm)
    if before and before.steps < run.steps:
        said.append(lengthened(run.folder, run.optim, before.steps, run.steps, at))
    return said + shortened_warmup(run, at)


def with_vocabulary(run: Run, before: Run | None) -> Run:
    """Return a run with the vocabulary that its folder, or the run that it starts from, has saved.

    The same tokens stand for the same texts then, even where captions have been added.
    """
    if run.data.vocabulary:
        return run
    # A run that goes on does not need the one that it started from.
    origin = before or (load_config(paths.path(run.start_from)) if run.start_from else None)
    kept = origin.data.vocabulary if origin else ()
    return replace(run, data=replace(run.data, vocabulary=kept))


def untrained_classes(example: Example, names: Sequence[str]) -> list[str]:
    """Return a sentence where a model has more classes than its data have names."""
    classes = example["label"].count if "label" in example else 0
    if not names or classes <= len(names):
        return []
    rest = f"class {len(names)}" if classes == len(names) + 1 else f"classes {len(names)} to {classes - 1}"
    return [f"The model has {classes} classes, the data {len(names)}: it learns nothing of {rest}."]


def check_data(run: Run, now: dict[str, Any]) -> list[str]:
    """Return a sentence where the fingerprint `now` of a resumed run's data is not that of its last start.

    Raises InputError unless data.changed_ok is set: another number or order of examples is another run.
    """
    then = recorded_data(run.folder)
    if not (what := difference(then, now) if then else ""):
        return []
    changed = f"The data {run.data.source} have changed since the last start of {run.folder}: {what}"
    if run.data.changed_ok:
        return [f"{changed}."]
    raise InputError(f"{changed}. Resume over them with --data.changed-ok, or train in another folder with --out.")


def lengthened(folder: object, optim: Optim, old: int, new: int, at: int) -> str:
    """Return a sentence on a run that goes on from step `at` with more steps than it was planned for.

    Its plan is that of a run which had all these steps from the start: a schedule is a function of the step and of the
    number of steps, so the rate jumps to where the longer schedule is by now.
    """
    rates: Any = [schedule(optim, steps)(at) for steps in (old, new)]
    was, now = map(float, rates)
    text = f"{folder} is lengthened from {old} to {new} steps: what is planned over all its steps is stretched."
    return text + (f" The learning rate goes on at {now:.3g} of its highest, from {was:.3g}." if was != now else "")


def shortened_warmup(run: Run, at: int) -> list[str]:
    """Return a sentence where the warm-up is not yet over and shorter than its setting."""
    warmup = warmup_of(run.optim, run.steps)
    if at >= warmup or warmup == run.optim.warmup:
        return []
    return [f"The run has {run.steps} steps: its warm-up takes {warmup}, a tenth, not {run.optim.warmup}."]
