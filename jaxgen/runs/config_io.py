"""Settings of a run to JSON and back, and what differs between two runs."""

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jaxgen import zoo
from jaxgen.core import paths
from jaxgen.core.capabilities import Transform
from jaxgen.core.class_names import listed
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.ranges import check_settings
from jaxgen.core.task import Task

RENAMED = {  # settings of older versions: their present names
    "trunk": "backbone",
    "critic_width": "discriminator_width",
    "critic_layers": "discriminator_layers",
    "critic_start": "discriminator_start",
    "halvings": "downsamplings",
    "halving": "halve_every",
}
ADDED = {"rounded": False}  # settings that older versions did not have, and what these did


def to_json(run: Run) -> str:
    """Return the run as JSON; `from_json` gives an equal run back."""
    return json.dumps(dataclasses.asdict(run), indent=2) + "\n"


def from_json(text: str) -> Run:
    """Return the run that `to_json` wrote; a setting that the text lacks has its default, or is as ADDED says.

    Raises InputError for text that is no run's, or that has settings of another version.
    """
    try:
        values = json.loads(text)
        preset = zoo.load(values["preset"])
        run = _build(Run, values, {"model": type(preset.run.model)})
        check_settings(run)
        return run
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"This is not the configuration of a run of this version: {error!s}.") from error


def _build(cls: type, values: Any, types: Mapping[str, type]):
    if not isinstance(values, Mapping):
        raise ValueError(f"{cls.__name__} must be a group of settings, not {values!r}")
    hints = {**typing.get_type_hints(cls), **types}
    known = {f.name for f in dataclasses.fields(cls)}
    values = {k if k in known or RENAMED.get(k) not in known else RENAMED[k]: v for k, v in values.items()}
    values = {**{name: value for name, value in ADDED.items() if name in known}, **values}
    for name in known & set(hints):  # settings that have moved into a group since they were saved
        if dataclasses.is_dataclass(hints[name]):
            moved = {f.name for f in dataclasses.fields(hints[name])} & (set(values) - known)
            if moved:
                group = {**values.get(name, {}), **{m: values[m] for m in moved}}
                values = {**{k: v for k, v in values.items() if k not in moved}, name: group}
    if unknown := set(values) - known:
        raise ValueError(f"{cls.__name__} has no {sorted(unknown)}, only {sorted(known)}")
    new = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = _build(hints[name], value, {})  # pyright: ignore[reportArgumentType]
        new[name] = tuple(value) if isinstance(value, list) else value
    return cls(**new)


def differences(saved: Run, now: Run) -> list[str]:
    """Return a line "name: saved -> now" for each setting that would change the saved run's numbers.

    Where it runs, where its files lie (mesh, out, threads, prefetch) and how samples are drawn may differ, and a run
    may become longer. Of another preset it is that line alone.
    """
    if saved.preset != now.preset:
        return [f"preset: {saved.preset} -> {now.preset}"]
    a, b = (flat(dataclasses.asdict(run)) for run in (saved, now))
    for run in (a, b):  # one folder has many names
        run["start_from"] = run["start_from"] and paths.absolute(run["start_from"])
    free = ("mesh.", "out", "data.threads", "data.prefetch", "data.changed_ok", "model.sampling.")
    ok = ["steps"] if now.steps > saved.steps else []
    ok += [] if saved.data.classes else ["data.classes"]  # runs of older versions have not saved them
    ok += [] if saved.data.vocabulary and now.data.vocabulary else ["data.vocabulary"]  # unset: that of the run
    changed = [k for k in {**a, **b} if a.get(k) != b.get(k) and not k.startswith(free) and k not in ok]
    return [f"{k}: {a.get(k)} -> {b.get(k)}" for k in changed]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested groups of settings as one, by names such as data.source."""
    found = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return found


def load_config(folder: Path, sampling: str = "") -> Run:
    """Return the run saved in a folder, its samples drawn as `sampling` says. Raises InputError where there is none."""
    path = folder / "config.json"
    if not folder.is_dir():
        wrong = f"{folder} is a file, not a run's folder" if folder.exists() else f"There is no run folder {folder}"
        raise InputError(f"{wrong}.")
    if not path.is_file():
        raise InputError(f"{folder} is no run: it has no config.json.")
    try:
        run = from_json(path.read_text())
    except (InputError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a run's configuration: {error}") from error
    return resampled(run, sampling) if sampling else run


def task_of(folder: Path, sampling: str = "") -> Task:
    """Return the task of a run's folder, so that a mistake is reported before anything is restored."""
    run = load_config(folder, sampling)
    return named(run.model.task(run.steps), run)


def named(task: Task, run: Run) -> Task:
    """Return a run's task whose labels and tokens have the names of the run's classes and of its vocabulary.

    Those of examples and of what samples take.

    Raises InputError where another run that it uses, such as a guide, has classes of other names.
    """
    names, words = check_names(run), run.data.vocabulary
    label = lambda x: bool(names) and x.kind == "label" and x.count == task.classes and not x.names  # noqa: E731
    text = lambda x: bool(words) and x.kind == "tokens" and x.count >= len(words)  # noqa: E731
    of = lambda x: names if label(x) else words if text(x) else x.names  # noqa: E731
    by_name = lambda specs: {k: replace(x, names=of(x)) for k, x in specs.items()}  # noqa: E731
    if not words and not (names and task.classes):
        return task
    transform = task.find(Transform)
    task = replace(task, example=by_name(task.example))
    return task.having(replace(transform, inputs=by_name(transform.inputs))) if transform else task


def check_names(run: Run) -> tuple[str, ...]:
    """Return the names of a run's classes, or of those of the runs that it uses: teacher, guide and classifier.

    Raises InputError where they differ.
    """
    names, how = run.data.classes, getattr(run.model, "sampling", None)
    for folder in (getattr(x, name, "") for x in (run.model, how) for name in ("teacher", "guide", "classifier")):
        found = load_config(paths.path(folder)).data.classes if isinstance(folder, str) and folder else ()
        if found and names and found != names:
            raise InputError(f"The classes of {folder} are {listed(found)}, those of this run {listed(names)}.")
        names = names or found
    return names


def resampled(run: Run, sampling: str) -> Run:
    """Return a run with other settings of model.sampling, such as "steps=10,guidance=2,interval=0.2:5".

    Raises InputError for a model that has none, an unknown name, and a value that is not of its kind or out of range.
    """
    how = getattr(run.model, "sampling", None)
    if how is None:
        raise InputError("This model's samples are drawn in one way: it has no settings of sampling.")
    new, known = {}, {f.name: getattr(how, f.name) for f in fields(how)}
    for part in sampling.split(","):
        name, equals, text = (word.strip() for word in part.partition("="))
        if not equals:
            raise InputError(f"sampling must be settings such as steps=10,guidance=2, not {part!r}.")
        old = known[choose(name, known, "setting of sampling")]
        try:
            new[name] = _read(text, old)
        except ValueError:
            kind = {int: "a whole number", float: "a number", bool: "true or false", tuple: "two numbers, as 0.2:5"}
            raise InputError(f"sampling: {name} must be {kind[type(old)]}, not {text!r}.") from None
    how = replace(how, **new)
    check_settings(how, "sampling.")
    return replace(run, model=replace(run.model, sampling=how))


def lengthened(run: Run, frames: int) -> Run:
    """Return a run whose samples have another number of frames. Raises InputError where its nets make one number."""
    transform = run.model.task(run.steps).find(Transform)
    if transform is None or not transform.length:
        raise InputError("This model makes samples of one size: it takes no number of frames.")
    at_least(1, frames=frames)
    return replace(run, model=replace(run.model, **{transform.length: frames}))


def _read(text: str, old: Any) -> Any:
    """Return the value of a setting whose value was `old`. Raises ValueError for another kind."""
    if isinstance(old, bool):
        return bool(("false", "true").index(text.lower()))
    if isinstance(old, tuple):
        low, high = text.split(":")
        return float(low), float(high)
    return type(old)(text)
