"""Trained models by one word: a run's folder, a name in the catalogue of weights, or a file of weights."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen import zoo
from jaxgen.core import paths
from jaxgen.core.config import Mesh as MeshConfig
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.errors import nearest as nearest_name
from jaxgen.core.task import Task
from jaxgen.core.types import TrainState, variables
from jaxgen.interop.convert import fitting
from jaxgen.interop.entries import Entry, Tensors, entry
from jaxgen.interop.layers import traced
from jaxgen.interop.nearest import TRIED, by_size, nearest
from jaxgen.interop.read import notes, read
from jaxgen.interop.weight_names import rule_of
from jaxgen.media import marks
from jaxgen.models.translation.fast_style import FastStyle, transposed
from jaxgen.pretrained import catalogue
from jaxgen.runs import sharding
from jaxgen.runs.config_io import from_json, lengthened, load_config, named, resampled
from jaxgen.runs.load import Trained, build_task, open_run
from jaxgen.tasks.restoration import with_divisible_patches

IMPORT = "python -m jaxgen import"


def configured(name: str, preset: str = "", sampling: str = "") -> Run | None:
    """Return the settings of a model before it is opened; None for a file of weights that does not state them.

    Raises InputError for a name of nothing.
    """
    path = paths.path(name)
    if path.is_dir():
        if preset:
            raise InputError("A preset is for a file of weights: a run's folder has its own.")
        return load_config(path, sampling)
    if path.is_file():
        run = stated(path, preset)
    else:
        if preset:
            raise InputError("A preset is for a file of weights: weights of the catalogue have their own.")
        if name not in catalogue.names():
            near = nearest_name(name, catalogue.names())
            hint = (
                f": did you mean {near!r}?" if near else ", and no weights of this name: python -m jaxgen list weights."
            )
            raise InputError(f"There is no run folder or file {path}{hint}")
        found = catalogue.entry_of(name)
        run = with_notes(Run(found.model(), preset=found.preset, steps=1), found.card)
    return resampled(run, sampling) if sampling and run else run


def stated(path: Path, preset: str = "") -> Run | None:
    """Return the settings that a file of weights states, as `export` writes them, or None.

    Raises InputError where the file states another preset than `preset`.
    """
    said = notes(path)
    try:
        run = from_json(json.dumps({"preset": said["preset"], "model": json.loads(said["model"])}))
    except (KeyError, ValueError):  # no notes, or those of another version
        return None
    if preset and preset != run.preset:
        raise InputError(f"{path} has weights of {run.preset}, not of {preset}.")
    return with_notes(run, said)


def with_notes(run: Run, said: Any) -> Run:
    """Return a run with the number of steps, the names of classes and the vocabulary that weights state."""
    stated = {name: tuple(json.loads(said.get(name, "[]"))) for name in ("classes", "vocabulary")}
    data = dataclasses.replace(run.data, **stated)
    return dataclasses.replace(run, steps=max(int(said.get("step", "1")), 1), data=data)


def task_of(name: str, sampling: str = "", frames: int | None = None) -> Task:
    """Return a model's task, so that a mistake is reported before weights are read. Raises InputError.

    frames: of its samples, in place of those that it was trained with
    """
    if (run := configured(name, sampling=sampling)) is None:
        raise InputError(f"{name} is a file that does not state its model: import it first ({IMPORT}).")
    run = run if frames is None else lengthened(run, frames)
    return named(run.model.task(run.steps), run)


def with_frames(opened: Trained, frames: int | None) -> Trained:
    """Return a trained model whose samples have another number of frames; None: the same."""
    if frames is None:
        return opened
    run = lengthened(opened.run, frames)
    return opened._replace(run=run, task=build_task(run, opened.mesh))


def open_trained(
    name: str,
    preset: str = "",
    sampling: str = "",
    average: float | None = None,
    mesh: MeshConfig | None = None,
    with_frozen: bool = True,
) -> Trained:
    """Return a trained model. Raises InputError for a name of nothing, and for weights that fit no preset.

    preset:   of a file of weights that does not state it; "": found by the weights
    sampling, average, mesh, with_frozen: as of `open_run`
    """
    run, path = configured(name, preset, sampling), paths.path(name)
    if path.is_dir():
        return open_run(path, mesh, sampling, average, with_frozen)
    if average is not None:
        raise InputError(f"{name} is one average already: --average is for a run's folder.")
    file = path if path.is_file() else catalogue.file_of(name)
    tensors = read(file)
    run, found = fitted(file, tensors, run, preset)
    run = resampled(run, sampling) if sampling else run
    grid = sharding.make_mesh(mesh or MeshConfig())
    task, whole = build_task(run, grid), sharding.replicated(grid)
    for net, one in found.items():
        if path.is_file() and one.prefix != f"{net}." and (choice := one.choice(net)):
            print(choice, file=sys.stderr)
    weights = {net: jax.device_put(one.weights(tensors), whole) for net, one in found.items()}
    rest = {net: {k: v for k, v in one.items() if k != "params"} for net, one in weights.items()}
    step = int(notes(file).get("step", "0"))
    state = TrainState(
        jnp.int32(step),
        jax.random.key(0),
        {net: one["params"] for net, one in weights.items()},
        {net: collections for net, collections in rest.items() if collections},
        {},
        {},
    )
    loads = task.frozen.items() if with_frozen else ()
    frozen = {net: jax.device_put(load(), whole) for net, load in loads}
    return Trained(run, grid, task, state, frozen, step)


def mark_of(source: str, name: str, opened: Trained, seed: int | None = None) -> marks.Mark:
    """Return the mark of files that a trained model makes, by what `open_trained` was given."""
    path = paths.path(name)
    if path.is_dir():
        return marks.of_run(source, path, opened, seed)
    file = path if path.is_file() else catalogue.file_of(name)
    return marks.of_weights(source, file, opened.run.preset).with_seed(seed)


def fitted(file: Path, tensors: Tensors, run: Run | None, preset: str) -> tuple[Run, dict[str, Entry]]:
    """Return the settings of a file's weights, and for each net in it where its weights are. Raises InputError."""
    reasons = []
    for one in [run] if run else candidates(tensors, preset):
        model = one.model
        if isinstance(model, FastStyle) and not stated(file):
            model = dataclasses.replace(model, mirror=not transposed(model, tensors))
        shapes = traced(model)
        try:
            found = {
                net: entry(rule_of(one.preset), model, net, variables(net, shapes.params, shapes.extra), tensors)
                for net in shapes.params
            }
            if fits := fitting(file, found):
                return dataclasses.replace(one, model=model), fits
        except InputError as error:
            reasons.append(str(error))
    if reasons:
        raise InputError(f"{file}: {reasons[0]}")
    if run or preset:
        what, how = (run.preset, "") if run else (preset, f" at its own settings: {IMPORT} takes others")
        raise InputError(f"{file} doesn't fit {what}{how}. {nearest(tensors, [what])}")
    raise InputError(f"{file} is of no preset at its own settings: {IMPORT} takes others. {nearest(tensors)}")


def candidates(tensors: Tensors, preset: str) -> Iterator[Run]:
    """Yield the settings that a file of weights may have: of a preset, "": of those of about its size."""
    if preset:
        zoo.load(preset)  # says where there is none
    for name in [preset] if preset else list(by_size(tensors, zoo.ZOO))[:TRIED]:
        run = zoo.load(name).run
        for model in variants(run.model):
            yield dataclasses.replace(Run(model, preset=name), data=run.data)


def variants(model: Any) -> list[Any]:
    """Return a preset's model, and those for other factors, and with its batch norm or its kernels merged.

    A factor that the model can't enlarge by is left out.
    """
    scales = (model.scale, *(s for s in (2, 3, 4, 8) if s != model.scale)) if hasattr(model, "scale") else (None,)
    part = next((part for part in ("norm", "expanded") if getattr(model, part, None) is True), "")
    merged = ({part: True}, {part: False}) if part else ({},)
    changes = [
        change if scale is None else {"scale": scale, **change} for scale, change in itertools.product(scales, merged)
    ]
    made = [with_divisible_patches(dataclasses.replace(model, **change)) for change in changes]
    return [model for model in made if enlarges(model)]


def enlarges(model: Any) -> bool:
    """Return whether a model can be made at its factor: most nets enlarge by few."""
    try:
        model.task(1)
    except InputError:
        return False
    return True
