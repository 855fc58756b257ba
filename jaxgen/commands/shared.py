"""What several commands share: the types of their arguments, and checks before a run is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from jaxgen.core.errors import InputError, at_least

if TYPE_CHECKING:
    from jaxgen.core.task import Task

if TYPE_CHECKING:
    pass


PNG = (".png",)
Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


def task_of(folder: Path, sampling: str = "") -> "Task":
    """Return the task of a run's folder, so that a mistake is told before anything is restored."""
    from jaxgen.runs.config_io import load_config

    run = load_config(folder, sampling)
    return run.model.task(run.steps)


def check_walk(seed: int, strength: float):
    """Raise InputError for what no sample can be moved by."""
    at_least(0, seed=seed)
    if not np.isfinite(strength):
        raise InputError(f"strength must be a number, not {strength}.")


Picture = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PICTURE")]
