"""A trained model that another one learns from: its hyper-parameters, and its averaged weights as a frozen net."""

from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxgen.errors import InputError


def teacher_of(folder: str, kind: type, like: Any) -> Any:
    """Return the hyper-parameters of a run. Raises InputError where it is of another kind, or paints other pictures."""
    from jaxgen import runs

    found = runs.load(Path(folder)).model
    if not isinstance(found, kind) or (found.image, found.classes) != (like.image, like.classes):
        image = "x".join(map(str, like.image))
        raise InputError(
            f"model.teacher must be the run of an {kind.__name__} of {image} pictures and {like.classes} classes: "
            f"{folder} is of another."
        )
    return found


def weights_of(folder: str) -> Any:
    """Return what loads a run's averaged denoiser."""
    return partial(_load, Path(folder))


def _load(folder: Path) -> Any:
    from jaxgen.core import averaged
    from jaxgen.trained import open_run

    opened = open_run(folder)
    return jax.device_get(averaged(opened.state, opened.frozen)[0]["denoiser"])
